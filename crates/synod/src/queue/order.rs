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
        KeyRange::Between(self.start().clone(), self.end().clone())
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

    /// Where a look may end, as a hint: if items go on behind `last` as they lie from `first` to it,
    /// that many times as far. `None` when that cannot be told.
    fn beyond(&self, first: &Key, last: &Key, times: u64) -> Option<Key>;

    /// What must hold so that nothing has come before the item `key` since `seen`, when everything
    /// before it was known. Once false they stay false.
    fn guards(&self, key: &Key, seen: Revision) -> Vec<Compare>;

    /// What must hold so that nothing lies before `cursor`, if nothing lay there at `since`. `None`
    /// when that cannot be told.
    fn proof(&self, cursor: &Key, since: Revision) -> Option<Vec<Compare>>;

    /// How many Txns with the values of joined callers may be on their way at a time.
    const FLYING: usize;

    /// What a producer puts in.
    type Entry: Debug + Send + Sync + 'static;

    /// How large the value of an entry is, in bytes.
    fn size(entry: &Self::Entry) -> usize;

    /// How many entries, from the first on, fit into one Txn of at most `most` operations and this
    /// many bytes; at least one, if there is one.
    fn fitting<'e>(
        entries: impl Iterator<Item = &'e Self::Entry>,
        most: usize,
        bytes: usize,
    ) -> usize;

    /// Puts entries in, all in one Txn, so that they come out in this order where nothing else
    /// decides.
    fn put_in(
        core: &Core<Self>,
        entries: &[Self::Entry],
    ) -> impl Future<Output = Result<()>> + Send;

    /// The operation that puts an item back under its own key. Its guards are false when the key is in
    /// use by now.
    fn back(&self, item: &Item) -> Work;

    /// Puts an item back whose own key is in use by now; returns when that has happened.
    fn back_elsewhere(core: &Core<Self>, item: &Item) -> impl Future<Output = Result<()>> + Send;
}
