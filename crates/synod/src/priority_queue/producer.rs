//! Putting values into a priority queue: one at a time, or many of several priorities in few Txns.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use synod_store::{Compare, ErrorKind, PutRequest};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::Instant;

use super::keys::{ByPriority, LAST};
use super::numbers::{Tail, look_up};
use crate::queue::{Core, PAIR_BYTES, TXN_BYTES, too_large};
use crate::settle::{MAX_OPS, Outcome, Work};
use crate::{Error, Result};

/// The longest wait after another producer was first.
const LONGEST: Duration = Duration::from_millis(100);

/// A value and its priority.
pub(super) type Entry = (u16, Bytes);

/// The ends of some priorities, which nobody else in this client changes meanwhile.
type Ends = BTreeMap<u16, OwnedMutexGuard<Tail>>;

impl Core<ByPriority> {
    pub(super) async fn enqueue_many(&self, entries: Vec<Entry>) -> Result<()> {
        // A lane takes one operation and two compares beside those of the entries.
        let mut most = MAX_OPS.saturating_sub(3);
        let mut bytes = TXN_BYTES;
        let mut done = 0usize;
        while let Some(rest) = entries.get(done..).filter(|rest| !rest.is_empty()) {
            let chunk = chunk(rest, most, bytes);
            self.stats.puts(chunk.len());
            let error = match self.append(chunk).await {
                Ok(()) => {
                    done = done.saturating_add(chunk.len());
                    continue;
                }
                Err(error) => error,
            };
            match error.kind() {
                // The store's limits are lower than etcd's.
                Some(ErrorKind::TooManyOperations) if chunk.len() > 1 => most = chunk.len() / 2,
                Some(ErrorKind::TooLarge) if chunk.len() > 1 => bytes /= 2,
                _ => {
                    let size = chunk.first().map_or(0, |(_, value)| value.len());
                    let source = too_large(error, size);
                    return Err(if done == 0 && chunk.len() == entries.len() {
                        source
                    } else {
                        Error::Partial {
                            done,
                            source: Box::new(source),
                        }
                    });
                }
            }
        }
        Ok(())
    }

    /// Puts values at the ends of their priorities, in one Txn.
    pub(super) async fn append(&self, entries: &[Entry]) -> Result<()> {
        let begun = Instant::now();
        let late = || Error::Timeout {
            after: self.patience,
        };
        let mut ends = tokio::time::timeout(self.patience, self.ends(entries))
            .await
            .map_err(|_| late())?;
        let mut conflicts = 0u32;
        loop {
            let attempt = Instant::now();
            let patience = self.patience.saturating_sub(begun.elapsed());
            let work = self.appending(entries, &mut ends, patience).await?;
            match self.settle.run(work).await? {
                Outcome::Done { revision, .. } => {
                    appended(entries, &mut ends, revision);
                    return Ok(());
                }
                Outcome::GuardsFalse => forget(&mut ends),
            }
            if begun.elapsed() >= self.patience {
                return Err(late());
            }
            // Each conflict is the success of another.
            conflicts = conflicts.saturating_add(1);
            pause(attempt.elapsed(), conflicts).await;
        }
    }

    /// Puts values at the ends of their priorities, however long the store cannot be reached.
    pub(super) async fn append_for_certain(&self, entries: &[Entry]) -> Result<()> {
        let mut ends = self.ends(entries).await;
        let mut conflicts = 0u32;
        loop {
            let attempt = Instant::now();
            match self.appending(entries, &mut ends, self.patience).await {
                Ok(work) => match self.settle.run_to_end(work).await? {
                    Outcome::Done { revision, .. } => {
                        appended(entries, &mut ends, revision);
                        return Ok(());
                    }
                    Outcome::GuardsFalse => forget(&mut ends),
                },
                Err(error) if error.is_transient() && !self.settle.is_abandoned() => {}
                Err(error) => return Err(error),
            }
            conflicts = conflicts.saturating_add(1);
            pause(attempt.elapsed(), conflicts).await;
        }
    }

    /// Waits for one's turn at the ends of the priorities, always in the same order.
    async fn ends(&self, entries: &[Entry]) -> Ends {
        let tails: BTreeMap<u16, Arc<Mutex<Tail>>> = {
            let mut tails = self.order.tails.lock();
            let tail = |(priority, _): &Entry| {
                (*priority, Arc::clone(tails.entry(*priority).or_default()))
            };
            entries.iter().map(tail).collect()
        };
        let mut ends = Ends::new();
        for (priority, tail) in tails {
            ends.insert(priority, tail.lock_owned().await);
        }
        ends
    }

    /// The operation that puts values at the ends of their priorities, which are looked up where they
    /// are not known.
    async fn appending(
        &self,
        entries: &[Entry],
        ends: &mut Ends,
        patience: Duration,
    ) -> Result<Work> {
        let unknown = |ends: &Ends| -> Vec<(u16, u64)> {
            let unknown = ends.iter().filter(|(_, tail)| tail.base.is_none());
            unknown
                .map(|(&priority, tail)| (priority, tail.next))
                .collect()
        };
        for _ in 0..2 {
            let hints = unknown(ends);
            if !hints.is_empty() {
                let found = look_up(&*self.store, &self.order, &hints, patience).await?;
                for ((priority, _), tail) in hints.into_iter().zip(found) {
                    if let Some(end) = ends.get_mut(&priority) {
                        **end = tail;
                    }
                }
            }
            let most = LAST.saturating_sub(u64::try_from(entries.len()).unwrap_or(LAST));
            // A priority that has been emptied since may begin anew.
            for end in ends.values_mut().filter(|end| end.next > most) {
                **end = Tail::default();
            }
        }
        let mut guards = Vec::with_capacity(entries.len().saturating_add(ends.len()));
        let mut ops = Vec::with_capacity(guards.capacity());
        let mut next = BTreeMap::new();
        for (&priority, end) in ends.iter() {
            let Some(base) = end.base else {
                return Err(Error::InvalidArgument(format!(
                    "the numbers of priority {priority} are used up: the queue holds an item under \
                     {:?} or close before it, which must be taken out first",
                    self.order.item(priority, LAST),
                )));
            };
            guards.push(Compare::modified_at(self.order.base(priority), base));
            ops.push(PutRequest::new(self.order.base(priority), "").into());
            next.insert(priority, end.next);
        }
        for (priority, value) in entries {
            let number = next.entry(*priority).or_default();
            let key = self.order.item(*priority, *number);
            *number = number.saturating_add(1);
            guards.push(Compare::absent(key.clone()));
            ops.push(PutRequest::new(key, value.clone()).into());
        }
        Ok(Work::new(guards, ops))
    }
}

/// The values are in: their numbers are used.
fn appended(entries: &[Entry], ends: &mut Ends, revision: synod_store::Revision) {
    for end in ends.values_mut() {
        end.base = Some(revision);
    }
    for (priority, _) in entries {
        if let Some(end) = ends.get_mut(priority) {
            end.next = end.next.saturating_add(1);
        }
    }
}

/// Somebody else was first: what is known of the ends is old.
fn forget(ends: &mut Ends) {
    for end in ends.values_mut() {
        end.base = None;
    }
}

/// Waits a random while, longer with each conflict.
async fn pause(attempt: Duration, conflicts: u32) {
    let most = attempt.saturating_mul(conflicts.min(8)).min(LONGEST);
    tokio::time::sleep(most.mul_f64(rand::random::<f64>())).await;
}

/// How many of the first entries fit into one Txn; at least one.
pub(super) fn fitting<'e>(
    entries: impl Iterator<Item = &'e Entry>,
    most: usize,
    bytes: usize,
) -> usize {
    let mut priorities = std::collections::BTreeSet::new();
    let (mut ops, mut total) = (0usize, 0usize);
    let fits = |(priority, value): &&Entry| {
        // The base of a priority goes with its first item.
        let pairs = if priorities.insert(*priority) { 2 } else { 1 };
        ops = ops.saturating_add(pairs);
        total = total
            .saturating_add(value.len())
            .saturating_add(pairs.saturating_mul(PAIR_BYTES));
        ops <= most && total <= bytes
    };
    entries.take_while(fits).count().max(1)
}

/// The first entries that fit into one Txn; at least one.
fn chunk(entries: &[Entry], most: usize, bytes: usize) -> &[Entry] {
    let count = fitting(entries.iter(), most, bytes);
    entries.get(..count).unwrap_or(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_keep_within_the_limits_and_are_never_empty() {
        let entry = |priority: u16| (priority, Bytes::from(vec![0; 1000]));
        let same: Vec<Entry> = (0..10).map(|_| entry(1)).collect();
        let other: Vec<Entry> = (0..10).map(entry).collect();
        // Each priority takes one more.
        assert_eq!(chunk(&same, 4, usize::MAX).len(), 3);
        assert_eq!(chunk(&other, 4, usize::MAX).len(), 2);
        assert_eq!(chunk(&same, 100, usize::MAX).len(), 10);
        assert_eq!(chunk(&same, 100, 3 * (1000 + 2 * PAIR_BYTES)).len(), 3);
        assert_eq!(chunk(&same, 0, 1).len(), 1);
    }
}
