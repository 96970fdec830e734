//! [`Attempt`]: one attempt of a transaction: what its closure has read and written, the turn that it
//! may have, and why it has to be made anew.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use synod_store::{ErrorKind, Key, KeyRange};
use tokio::sync::Mutex;

use super::Tx;
use super::fetch::{Source, fetch};
use super::hall::{Hall, Place};
use super::sets::{Fetched, Sets};
use crate::slot::Slot;
use crate::{Client, Error, Result};

/// What the closure and whoever runs it share.
pub(super) struct Attempt {
    pub(super) client: Client,
    /// Gone when the attempt has ended.
    sets: Slot<Option<Sets>>,
    /// Why the attempt cannot go on, and has to be made anew.
    restart: Slot<Option<Restart>>,
    /// Held for the first read, which says what state the others are of.
    first: Mutex<()>,
    /// How it runs in turn with others, if it does.
    turns: Option<Turns>,
    /// The turn, while the attempt has it.
    place: Slot<Option<Place>>,
    /// How many reads wait for the store.
    reading: AtomicUsize,
    /// Whether a read has failed.
    trouble: AtomicBool,
}

/// How an attempt runs in turn with the client's others.
#[derive(Debug, Clone)]
pub(super) struct Turns {
    pub(super) hall: Arc<Hall>,
    /// Which attempt it is, the first being 1.
    pub(super) attempt: u32,
    /// It has been overtaken so often that it keeps the turn while the store answers.
    pub(super) patient: bool,
}

/// Why an attempt has to be made anew.
#[derive(Debug)]
pub(super) enum Restart {
    /// The state that it reads is gone from the store.
    Gone(Error),
    /// Another transaction of the client has changed what it reads.
    Stale,
}

/// How an attempt has ended.
pub(super) struct Ended {
    pub(super) sets: Sets,
    pub(super) restart: Option<Restart>,
    /// The turn, if it has it still.
    pub(super) place: Option<Place>,
    /// Whether a read has failed.
    pub(super) trouble: bool,
    /// Whether it is to be committed with others.
    pub(super) joined: bool,
}

/// Counts a read that waits for the store.
struct Reading<'a>(&'a AtomicUsize);

impl<'a> Reading<'a> {
    fn new(count: &'a AtomicUsize) -> Reading<'a> {
        count.fetch_add(1, Ordering::SeqCst);
        Reading(count)
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Gives the turn back when a closure is dropped in the middle.
struct Leave<'a>(Option<&'a Attempt>);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        if let Some(attempt) = self.0 {
            drop(attempt.place.lock().take());
        }
    }
}

impl Attempt {
    pub(super) fn begin(client: &Client, sets: Sets, turns: Option<Turns>) -> (Arc<Attempt>, Tx) {
        let attempt = Arc::new(Attempt {
            client: client.clone(),
            sets: Slot::new(Some(sets)),
            restart: Slot::default(),
            first: Mutex::new(()),
            turns,
            place: Slot::default(),
            reading: AtomicUsize::new(0),
            trouble: AtomicBool::new(false),
        });
        let tx = Tx::of(Arc::clone(&attempt));
        (attempt, tx)
    }

    /// Runs the closure's future. The turn ends when it is pending.
    pub(super) async fn run<R>(&self, closure: impl Future<Output = R>) -> R {
        let mut leave = Leave(Some(self));
        let mut closure = pin!(closure);
        let returned = poll_fn(|context| {
            let polled = closure.as_mut().poll(context);
            let patient = || self.turns.as_ref().is_some_and(|turns| turns.patient);
            if polled.is_pending() && !(patient() && self.reading.load(Ordering::SeqCst) > 0) {
                let place = self.place.lock().take();
                drop(place);
            }
            polled
        });
        let returned = returned.await;
        leave.0 = None;
        returned
    }

    pub(super) fn end(&self) -> Ended {
        Ended {
            sets: self.sets.lock().take().unwrap_or_default(),
            restart: self.restart.lock().take(),
            place: self.place.lock().take(),
            trouble: self.trouble.load(Ordering::SeqCst),
            joined: self.turns.is_some(),
        }
    }

    pub(super) fn with<R>(&self, work: impl FnOnce(&mut Sets) -> R) -> Result<R> {
        let mut sets = self.sets.lock();
        sets.as_mut().map(work).ok_or_else(|| {
            Error::InvalidArgument(
                "this attempt of the transaction has ended: use it inside its closure only"
                    .to_owned(),
            )
        })
    }

    /// The attempt has been overtaken. What the closure is told, if it asks.
    fn stale(&self, attempts: u32) -> Error {
        *self.restart.lock() = Some(Restart::Stale);
        Error::Conflict { attempts }
    }

    /// Reads what `missing` says, if anything, so that it is known.
    pub(super) async fn read(&self, missing: impl Fn(&mut Sets) -> Vec<KeyRange>) -> Result<()> {
        if self.with(&missing)?.is_empty() {
            return Ok(());
        }
        // Only the first read has to be alone.
        let mut alone = None;
        let mut state = self.with(|sets| (sets.isolation(), sets.snapshot()))?;
        if state.0.is_snapshot() && state.1.is_none() {
            alone = Some(self.first.lock().await);
            if self.with(|sets| sets.snapshot())?.is_none() {
                let ranges = self.with(&missing)?;
                self.begin_on_board(&ranges).await?;
            }
            state = self.with(|sets| (sets.isolation(), sets.snapshot()))?;
        }
        let (isolation, snapshot) = state;
        // Whoever was before us here may have read it.
        let mut ranges = self.with(missing)?;
        if ranges.is_empty() {
            return Ok(());
        }
        self.with(|sets| sets.check_count(ranges.len()))??;
        let board = self.with(|sets| sets.step().is_some())?;
        let board = self.turns.as_ref().filter(|_| board);
        if let Some(turns) = board {
            let taken = self.with(|sets| turns.hall.take(sets, ranges))?;
            ranges = taken.ok_or_else(|| self.stale(turns.attempt))?;
            self.with(|sets| sets.check_count(0))??;
            if ranges.is_empty() {
                return Ok(());
            }
        }
        let source = Source {
            at: snapshot,
            stale: !isolation.is_snapshot(),
            bounded: isolation.validates(),
        };
        let fetched = self.fetch(ranges, source).await?;
        self.with(|sets| sets.check_room(&fetched))??;
        match board {
            Some(turns) => {
                if !self.with(|sets| turns.hall.add(sets, fetched))? {
                    return Err(self.stale(turns.attempt));
                }
                self.with(|sets| sets.check_count(0))??;
            }
            None => {
                if let Some(turns) = &self.turns {
                    turns.hall.learn(&fetched);
                }
                self.with(|sets| sets.note(fetched))?;
            }
        }
        drop(alone);
        Ok(())
    }

    /// Asks the store; notes why the attempt cannot go on, when it cannot.
    async fn fetch(&self, ranges: Vec<KeyRange>, source: Source) -> Result<Fetched> {
        let reading = Reading::new(&self.reading);
        let fetched = fetch(&self.client, ranges, source).await;
        drop(reading);
        fetched.inspect_err(|error| {
            self.trouble.store(true, Ordering::SeqCst);
            // The state that the attempt reads has been compacted away, or the store knows nothing of
            // it any more.
            let gone = [ErrorKind::Compacted, ErrorKind::FutureRevision];
            if error.kind().is_some_and(|kind| gone.contains(&kind)) {
                if let (Some(turns), Some(at)) = (&self.turns, source.at) {
                    turns.hall.forget_state(at);
                }
                *self.restart.lock() = Some(Restart::Gone(error.clone()));
            }
        })
    }

    /// Begins on the client's board, if that is the place for an attempt that reads this first.
    async fn begin_on_board(&self, first: &[KeyRange]) -> Result<()> {
        let Some(turns) = &self.turns else {
            return Ok(());
        };
        let hall = &turns.hall;
        if !hall.invites(first, turns.attempt > 1) {
            return Ok(());
        }
        let mut place = Some(hall.line_up().await);
        hall.landing(turns.patient).await;
        let mut begun = self.with(|sets| hall.begin(sets, first, false))?;
        if begun.is_none() {
            // Nothing is known yet, but a group gathers: it will know.
            hall.landing(true).await;
            begun = self.with(|sets| hall.begin(sets, first, false))?;
        }
        if let Some((base, unknown)) = begun.filter(|(_, unknown)| !unknown.is_empty()) {
            // What is not known would be asked for in the middle of the turn.
            if !turns.patient {
                place = None;
            }
            self.with(|sets| sets.check_count(unknown.len()))??;
            let source = Source {
                at: Some(base),
                stale: false,
                bounded: true,
            };
            let fetched = self.fetch(unknown, source).await?;
            hall.learn(&fetched);
            if place.is_none() {
                place = Some(hall.line_up().await);
                hall.landing(false).await;
            }
            // When it has been forgotten meanwhile, the attempt begins on the store.
            self.with(|sets| hall.begin(sets, first, true))?;
        }
        if self.with(|sets| sets.step().is_some())? {
            *self.place.lock() = place;
        }
        Ok(())
    }

    /// Reads keys that the closure is going to read. They do not count as read before it does.
    pub(super) async fn prefetch(&self, keys: &[Key]) -> Result<()> {
        let ranges: Vec<KeyRange> = keys.iter().map(KeyRange::one).collect();
        self.begin_on_board(&ranges).await?;
        if self.with(|sets| sets.step().is_some())? {
            return Ok(());
        }
        let source = Source {
            at: None,
            stale: false,
            bounded: true,
        };
        let fetched = self.fetch(ranges, source).await?;
        if let Some(turns) = &self.turns {
            turns.hall.learn(&fetched);
        }
        self.with(|sets| sets.read_ahead(fetched))
    }

    /// Reads the keys that are not known yet.
    pub(super) async fn read_keys(
        &self,
        keys: &[Key],
        known: impl Fn(&mut Sets, &Key) -> bool,
    ) -> Result<()> {
        self.read(|sets| {
            let missing: BTreeSet<&Key> = keys.iter().filter(|key| !known(sets, key)).collect();
            missing.into_iter().map(KeyRange::one).collect()
        })
        .await
    }

    /// Waits until the key's revision is known, if another transaction is just about to put it.
    pub(super) async fn settle(&self, key: &Key) -> Result<()> {
        let pending = self.with(|sets| sets.is_pending(key))?;
        let Some(turns) = self.turns.as_ref().filter(|_| pending) else {
            return Ok(());
        };
        let settled = turns.hall.settle(key, |work| self.with(|sets| work(sets)));
        if settled.await? {
            return Ok(());
        }
        Err(self.stale(turns.attempt))
    }
}
