//! How takers find offers: by a look, and through the watch of an empty queue.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use synod_store::{EventKind, Key, Revision, WatchRequest};
use tokio::time::Instant;

use super::gate::Gate;
use super::taker::Taker;
use super::tender::BRIEFLY;
use crate::queue::look::{Candidate, WINDOW, look};
use crate::queue::{Core, Order};
use crate::watch::{Lookout, Nudge};
use crate::{Result, retry};

/// Looks read values along while none of the last was larger.
pub(super) const SMALL: usize = 4096;

/// A look from the very start is due after this long.
const FULL_LOOK: Duration = Duration::from_secs(5);

/// Where the next look begins, and what the last one saw.
#[derive(Debug)]
pub(super) struct Looker {
    /// Below this all items were gone when last seen: a hint.
    cursor: Key,
    /// Where the cursor moves once what was seen is used up.
    next_cursor: Option<Key>,
    full_due: Instant,
}

/// What the last look and the claims after it have found out.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Where each item must be the first one there is: nothing lay before this key at this revision.
    pub(super) proven: Option<(Key, Revision)>,
    /// The largest value among those seen last; `None` while nothing is known.
    pub(super) largest: Option<usize>,
}

impl Looker {
    pub(super) fn new(start: Key) -> Looker {
        Looker {
            cursor: start,
            next_cursor: None,
            full_due: Instant::now(),
        }
    }
}

/// The watch of an empty queue, and the look from which it goes on.
pub(super) type Watching = Option<(Lookout, Seen)>;

/// A look that saw the whole queue.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// The revision up to which the stock knows everything.
    revision: Revision,
    /// Which of the stock's looks it was: after a later one, which may have seen only the first items,
    /// an event does not tell what else there is.
    look: u64,
}

impl<O: Order> Taker<O>
where
    Core<O>: Gate,
{
    /// Finds something to take. False when the queue is empty and the caller does not wait.
    pub(super) async fn find(&self, waits: bool) -> Result<bool> {
        // Whatever is due, or has lost its owner, belongs to what is there.
        if self.look().await? || self.depot.round().await?.moved > 0 {
            return Ok(true);
        }
        if waits {
            self.wait().await?;
        }
        Ok(waits)
    }

    /// Whether there are items; looks for them unless some are known.
    async fn look(&self) -> Result<bool> {
        let mut looker = self.looker.lock().await;
        if !self.stock.lock().is_empty() {
            return Ok(true);
        }
        let dropped = self.stock.lock().take_dropped();
        if let Some(cursor) = looker.next_cursor.take().filter(|_| !dropped) {
            looker.cursor = cursor;
        }
        let start = self.core.order.start();
        let full = Instant::now() >= looker.full_due || looker.cursor == *start;
        let from = if full {
            start.clone()
        } else {
            looker.cursor.clone()
        };
        self.look_from(&mut looker, &from).await?;
        if self.stock.lock().is_empty() && !full {
            // The cursor is a hint: only the whole queue can be empty.
            self.look_from(&mut looker, start).await?;
        }
        Ok(!self.stock.lock().is_empty())
    }

    /// Looks once. Returns at which revision, if it has seen all that there is from there on.
    async fn look_from(&self, looker: &mut Looker, from: &Key) -> Result<Option<Seen>> {
        let core = &self.core;
        // The store checks that nothing has come before it since; if so the look begins at the start.
        let proven = {
            let proven = self.known.lock().proven.take();
            proven.filter(|_| from == core.order.start())
        };
        let proof = proven
            .as_ref()
            .and_then(|(cursor, since)| core.order.proof(cursor, *since));
        let begin = match (&proven, &proof) {
            (Some((cursor, _)), Some(_)) => cursor,
            _ => from,
        };
        let with_values = self
            .known
            .lock()
            .largest
            .is_some_and(|largest| largest <= SMALL);
        self.stock.lock().look();
        let seen = look(
            &*core.store,
            &core.order,
            begin,
            proof.as_deref().unwrap_or_default(),
            with_values,
            core.patience,
        )
        .await?;
        if from == core.order.start() {
            looker.full_due = Instant::now() + FULL_LOOK;
        }
        looker.next_cursor = seen.last.as_ref().and_then(|last| core.order.behind(last));
        let sizes = seen
            .items
            .iter()
            .filter_map(|item| item.value.as_ref().map(Bytes::len));
        {
            let mut known = self.known.lock();
            known.largest = sizes.max().or(known.largest);
        }
        for item in &seen.items {
            core.order.saw(&item.key);
        }
        let whole = seen.items.len() < WINDOW;
        let mut stock = self.stock.lock();
        stock.looked(seen.items, seen.revision);
        Ok(whole.then_some(Seen {
            revision: seen.revision,
            look: stock.looks(),
        }))
    }

    /// Waits until there may be something to take.
    async fn wait(&self) -> Result<()> {
        let _waiting = Waiting::new(self);
        let mut tended = self.depot.tended(BRIEFLY)?;
        let mut watching = self.watching.lock().await;
        // Whoever waited before may have left something.
        while self.stock.lock().is_empty() {
            let doubt = self.stock.lock().take_doubt();
            let (lookout, seen) = match watching.as_mut() {
                Some((lookout, seen)) if !doubt => (lookout, seen),
                _ => {
                    let lookout = match watching.take() {
                        Some((lookout, _)) => lookout,
                        None => self.open().await?,
                    };
                    // A watch tells nothing of what lies behind the first items.
                    let seen = self.look_at_all().await?;
                    *watching = seen.map(|seen| (lookout, seen));
                    continue;
                }
            };
            let nudge = tokio::select! {
                nudge = lookout.next(seen.revision) => nudge,
                () = self.stocked.notified() => continue,
            };
            match nudge {
                Ok(Nudge::Events(events)) => {
                    self.race.lock().fresh = true;
                    if self.stock.lock().looks() != seen.look {
                        // Another has looked meanwhile: what came is no more than a part.
                        self.stock.lock().doubt();
                        continue;
                    }
                    for event in events {
                        seen.revision = seen.revision.max(event.kv.mod_revision);
                        self.heard(event.kind, event.kv);
                    }
                }
                Ok(Nudge::Read) => {
                    // It may have ended with its runtime.
                    drop(std::mem::replace(&mut tended, self.depot.tended(BRIEFLY)?));
                    self.stock.lock().doubt();
                }
                Err(error) => {
                    // Nothing is concluded: the look that follows tells, or bears the trouble.
                    *watching = None;
                    return if error.is_transient() {
                        Ok(())
                    } else {
                        Err(error)
                    };
                }
            }
        }
        Ok(())
    }

    /// Takes in what came through the watch.
    fn heard(&self, kind: EventKind, kv: synod_store::KeyValue) {
        let order = &self.core.order;
        let mut stock = self.stock.lock();
        stock.seen(kv.mod_revision);
        if !order.is_item(&kv.key) {
            return;
        }
        if kind == EventKind::Delete {
            stock.left(&kv.key);
            return;
        }
        order.saw(&kv.key);
        stock.came(Candidate::new(kv, true));
    }

    /// A look from the very start, which a watch goes on from if it saw everything.
    async fn look_at_all(&self) -> Result<Option<Seen>> {
        let mut looker = self.looker.lock().await;
        self.look_from(&mut looker, self.core.order.start()).await
    }

    async fn open(&self) -> Result<Lookout> {
        let request = WatchRequest::new(self.core.order.range());
        retry::insist(self.core.patience, || {
            Lookout::open(Arc::clone(&self.core.store), request.clone())
        })
        .await
    }
}

/// A caller that waits for an item; after the last one the watch ends.
struct Waiting<'t, O: Order>(&'t Taker<O>);

impl<'t, O: Order> Waiting<'t, O> {
    fn new(taker: &'t Taker<O>) -> Waiting<'t, O> {
        taker.waiting.fetch_add(1, Ordering::Relaxed);
        Waiting(taker)
    }
}

impl<O: Order> Drop for Waiting<'_, O> {
    fn drop(&mut self) {
        if self.0.waiting.fetch_sub(1, Ordering::Relaxed) == 1
            && let Ok(mut watching) = self.0.watching.try_lock()
        {
            *watching = None;
        }
    }
}
