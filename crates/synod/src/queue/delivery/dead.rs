//! [`DeadLetters`]: items that were handed out as often as they may be.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use synod_store::{Compare, DeleteRequest, Key, KeyRange, KeyValue, RangeRequest, Revision, TxnOp};

use super::depot::{Depot, PLACES};
use super::record::Record;
use crate::settle::{Outcome, Work};
use crate::span::traced;
use crate::{Client, Error, Result, retry};

/// How many dead letters are read at once.
const PAGE: u64 = 64;

/// The items of a queue that were handed out as often as they may be and came back each time.
///
/// They lie beside the queue until somebody [requeues](DeadLetters::requeue) or
/// [clears](DeadLetters::clear) them.
#[derive(Clone)]
pub struct DeadLetters {
    depot: Arc<Depot>,
    /// Keeps the client from ending.
    _client: Client,
    allowed: Result<()>,
}

/// One of the [`DeadLetters`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// Its key among the dead letters, which [`DeadLetters::requeue`] takes.
    pub key: Key,
    /// The key that it had in its queue.
    pub item: Key,
    /// What was put in.
    pub value: Bytes,
    /// How often it was handed out.
    pub attempts: u32,
    /// When it died, by the clock of the client that saw it.
    pub died: SystemTime,
}

impl DeadLetters {
    pub(crate) fn new(depot: Arc<Depot>, client: Client, allowed: Result<()>) -> DeadLetters {
        DeadLetters {
            depot,
            _client: client,
            allowed,
        }
    }

    /// How many there are. One round trip.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves nothing behind.
    ///
    /// # Errors
    ///
    /// What the store answered.
    pub async fn len(&self) -> Result<usize> {
        traced!(
            "synod.dead_letters.len",
            object = self.depot.name,
            async move {
                self.allowed.clone()?;
                let request = RangeRequest::new(self.depot.beside.all_dead()).count_only();
                let depot = &self.depot;
                let answer =
                    retry::read(depot.patience, || depot.store.range(request.clone())).await?;
                Ok(usize::try_from(answer.count).unwrap_or(usize::MAX))
            }
        )
        .await
    }

    /// Whether there is none. One round trip.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves nothing behind.
    ///
    /// # Errors
    ///
    /// What the store answered.
    pub async fn is_empty(&self) -> Result<bool> {
        Ok(self.len().await? == 0)
    }

    /// The first `limit` of them, in the order in which they died. One round trip for every 64.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves nothing behind.
    ///
    /// # Errors
    ///
    /// What the store answered.
    pub async fn list(&self, limit: usize) -> Result<Vec<DeadLetter>> {
        traced!(
            "synod.dead_letters.list",
            object = self.depot.name,
            async move {
                self.allowed.clone()?;
                let mut letters = Vec::new();
                let mut walk = Walk::new(&self.depot);
                while letters.len() < limit {
                    let rest = u64::try_from(limit.saturating_sub(letters.len())).unwrap_or(PAGE);
                    let Some(kvs) = walk.next(&self.depot, rest.min(PAGE)).await? else {
                        break;
                    };
                    letters.extend(kvs.iter().filter_map(|kv| self.letter(kv)));
                }
                Ok(letters)
            }
        )
        .await
    }

    fn letter(&self, kv: &KeyValue) -> Option<DeadLetter> {
        let died = self.depot.beside.died(&kv.key)?;
        let record = readable(kv)?;
        Some(DeadLetter {
            key: kv.key.clone(),
            item: self.depot.prefix.join(&record.place),
            value: record.payload,
            attempts: record.attempts,
            died: UNIX_EPOCH
                .checked_add(Duration::from_nanos(died))
                .unwrap_or(UNIX_EPOCH),
        })
    }

    /// Puts one back into its queue, as if it had never been taken; a [capacity](crate::Queue::with_capacity)
    /// is not asked. False when it is not there any more. Two round trips.
    ///
    /// In a queue it goes behind what is there, in a priority queue to its old place.
    ///
    /// # Cancel safety
    ///
    /// When this is dropped, the item is where it was or in the queue.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidArgument`] when the key is none of a dead letter of this queue.
    /// [`Error::Unknown`] when no answer came within the client's timeout: the item is in one of the
    /// two places. Else what the store answered.
    pub async fn requeue(&self, key: &Key) -> Result<bool> {
        traced!(
            "synod.dead_letters.requeue",
            object = self.depot.name,
            async move {
                self.allowed.clone()?;
                if self.depot.beside.died(key).is_none() {
                    return Err(Error::InvalidArgument(format!(
                        "{:?} is not the key of a dead letter of {:?}; `list` shows those",
                        key.to_string(),
                        self.depot.name.to_string(),
                    )));
                }
                let depot = &self.depot;
                let request = RangeRequest::new(key.clone());
                let answer =
                    retry::read(depot.patience, || depot.store.range(request.clone())).await?;
                match answer.kvs.into_iter().next() {
                    Some(kv) => self.revive(&kv).await,
                    None => Ok(false),
                }
            }
        )
        .await
    }

    /// Puts back all that are there when it begins; returns how many it has put back.
    ///
    /// # Cancel safety
    ///
    /// When this is dropped, any number of them may be back.
    ///
    /// # Errors
    ///
    /// As [`DeadLetters::requeue`]; some of them may be back then. Those that cannot be read stay, and
    /// hold no other back.
    pub async fn requeue_all(&self) -> Result<usize> {
        traced!(
            "synod.dead_letters.requeue_all",
            object = self.depot.name,
            async move {
                self.allowed.clone()?;
                let mut done = 0usize;
                let mut unreadable = None;
                let mut walk = Walk::new(&self.depot);
                while let Some(kvs) = walk.next(&self.depot, PAGE).await? {
                    for kv in kvs {
                        if readable(&kv).is_none() {
                            unreadable = Some(kv);
                            continue;
                        }
                        done = done.saturating_add(usize::from(self.revive(&kv).await?));
                    }
                }
                match unreadable {
                    Some(kv) => Err(cannot_be_read(&kv)),
                    None => Ok(done),
                }
            }
        )
        .await
    }

    async fn revive(&self, kv: &KeyValue) -> Result<bool> {
        let Some(record) = readable(kv) else {
            return Err(cannot_be_read(kv));
        };
        let depot = &self.depot;
        let record = Record {
            attempts: 0,
            ..record
        };
        let there = Compare::modified_at(kv.key.clone(), kv.mod_revision);
        for anew in (0..PLACES).map(|tried| tried > 0) {
            let landing = depot.entry(&record, anew).await?;
            let mut guards = vec![there.clone()];
            guards.extend(landing.guards);
            let mut ops: Vec<TxnOp> = vec![DeleteRequest::new(kv.key.clone()).into()];
            ops.extend(landing.ops);
            if let Outcome::Done { .. } = depot.settle.run(Work::new(guards, ops)).await? {
                return Ok(true);
            }
            let request = RangeRequest::new(kv.key.clone()).keys_only();
            let answer = retry::read(depot.patience, || depot.store.range(request.clone())).await?;
            if answer
                .kvs
                .first()
                .is_none_or(|now| now.mod_revision != kv.mod_revision)
            {
                return Ok(false);
            }
        }
        Err(Error::Timeout {
            after: depot.patience,
        })
    }

    /// Deletes all that are there when it begins; returns how many it has deleted.
    ///
    /// # Cancel safety
    ///
    /// When this is dropped, any number of them may be deleted.
    ///
    /// # Errors
    ///
    /// What the store answered; some of them may be deleted then.
    pub async fn clear(&self) -> Result<usize> {
        traced!(
            "synod.dead_letters.clear",
            object = self.depot.name,
            async move {
                self.allowed.clone()?;
                let mut cleared = 0usize;
                let mut walk = Walk::new(&self.depot).keys_only();
                while let Some(kvs) = walk.next(&self.depot, PAGE).await? {
                    cleared = cleared.saturating_add(self.delete(&kvs).await?);
                }
                Ok(cleared)
            }
        )
        .await
    }

    /// Deletes these, or if one of them is gone, those of them that are not, one after the other.
    async fn delete(&self, kvs: &[KeyValue]) -> Result<usize> {
        let delete = |kvs: &[KeyValue]| {
            let guards = kvs
                .iter()
                .map(|kv| Compare::modified_at(kv.key.clone(), kv.mod_revision));
            let ops = kvs
                .iter()
                .map(|kv| DeleteRequest::new(kv.key.clone()).into());
            Work::new(guards.collect(), ops.collect())
        };
        let settle = &self.depot.settle;
        if let Outcome::Done { .. } = settle.run(delete(kvs)).await? {
            return Ok(kvs.len());
        }
        let mut deleted = 0usize;
        for kv in kvs {
            let outcome = settle.run(delete(std::slice::from_ref(kv))).await?;
            deleted = deleted.saturating_add(usize::from(matches!(outcome, Outcome::Done { .. })));
        }
        Ok(deleted)
    }
}

/// What is written there; says so when it cannot be read.
fn readable(kv: &KeyValue) -> Option<Record> {
    let record = Record::decode(&kv.value);
    if record.is_none() {
        tracing::warn!(key = %kv.key, "a dead letter cannot be read: is it of a later version?");
    }
    record
}

fn cannot_be_read(kv: &KeyValue) -> Error {
    Error::InvalidArgument(format!(
        "{:?} cannot be read: it may have been written by a later version",
        kv.key.to_string()
    ))
}

/// A walk over the dead letters that were there when it began.
struct Walk {
    range: Option<KeyRange>,
    until: Option<Revision>,
    keys_only: bool,
}

impl Walk {
    fn new(depot: &Depot) -> Walk {
        Walk {
            range: Some(depot.beside.all_dead()),
            until: None,
            keys_only: false,
        }
    }

    fn keys_only(mut self) -> Walk {
        self.keys_only = true;
        self
    }

    /// The next page; `None` at the end.
    async fn next(&mut self, depot: &Depot, limit: u64) -> Result<Option<Vec<KeyValue>>> {
        let Some(range) = self.range.take() else {
            return Ok(None);
        };
        let mut request = RangeRequest::new(range.clone()).with_limit(limit);
        request.keys_only = self.keys_only;
        let page = retry::read(depot.patience, || depot.store.range(request.clone())).await?;
        let until = *self.until.get_or_insert(page.header.revision);
        let last = page.kvs.last().filter(|_| page.more);
        self.range = last.map(|last| rest(&range, &last.key));
        let mut kvs = page.kvs;
        // Each is written once: a later one was not there at the beginning.
        kvs.retain(|kv| kv.mod_revision <= until && depot.beside.died(&kv.key).is_some());
        Ok(Some(kvs))
    }
}

/// The part of a range behind a key.
fn rest(range: &KeyRange, last: &Key) -> KeyRange {
    match range {
        KeyRange::Between(_, end) => KeyRange::Between(last.successor(), end.clone()),
        other => other.clone(),
    }
}

impl fmt::Debug for DeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetters")
            .field("queue", &self.depot.name)
            .finish_non_exhaustive()
    }
}
