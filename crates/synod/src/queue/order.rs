//! [`Order`]: what makes one kind of queue differ from another. All else is the same mechanism.

use std::fmt::Debug;
use std::future::Future;

use synod_store::{Compare, Key, KeyRange, Revision};

use super::consumer::Core;
use super::desk::Item;
use crate::Result;
use crate::settle::Work;

/// Which keys are a queue's items, and in which order they come out.
pub(crate) trait Order: Debug + Send + Sync + Sized + 'static {
    /// Whether an item is only taken while nothing is there that comes out before it.
    ///
    /// If so, a claim carries [`Order::guards`], a look may begin at a cursor only with
    /// [`Order::proof`], and what comes back from a caller that left goes to nobody who came later.
    const EXACT: bool;

    /// How many guards an alternative of a claim has beside those of its items.
    const GUARDS: usize;

    /// The first key that an item can have.
    fn start(&self) -> &Key;

    /// The first key behind all that an item can have.
    fn end(&self) -> &Key;

    /// Everything that an item can be called, and others' keys in between.
    fn range(&self) -> KeyRange {
        self.range_from(self.start())
    }

    /// The part of [`Order::range`] from `from` on.
    fn range_from(&self, from: &Key) -> KeyRange {
        KeyRange::Between(from.clone(), self.end().clone())
    }

    /// Whether a key is an item's.
    fn is_item(&self, key: &Key) -> bool;

    /// The first key behind this one that an item can have, so that a walk skips others' keys in
    /// few steps.
    fn after(&self, key: &Key) -> Key;

    /// What items are ordered by before their keys.
    fn rank(&self, modified: Revision) -> Revision;

    /// Takes note of an item that was seen.
    fn saw(&self, key: &Key);

    /// Where later looks may begin, as a hint, when all items up to `last` are gone. `None` when
    /// hints will not do.
    fn behind(&self, last: &Key) -> Option<Key>;

    /// What must hold so that nothing has come before the item `key` since `seen`, when everything
    /// before it was known. Once false they stay false.
    fn guards(&self, key: &Key, seen: Revision) -> Vec<Compare>;

    /// What must hold so that nothing lies before `cursor`, if nothing lay there at `since`. `None`
    /// when that cannot be told.
    fn proof(&self, cursor: &Key, since: Revision) -> Option<Vec<Compare>>;

    /// The operation that puts an item back under its own key. Its guards are false when the key is in
    /// use by now.
    fn back(&self, item: &Item) -> Work;

    /// Puts an item back whose own key is in use by now; returns when that has happened.
    fn back_elsewhere(core: &Core<Self>, item: &Item) -> impl Future<Output = Result<()>> + Send;
}
