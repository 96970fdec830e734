//! [`Stm`]: runs a closure again and again, until an attempt commits.

use std::future::Future;
use std::time::Duration;

use synod_store::{Key, KeyRange, Revision, TxnOpResponse};
use tokio::time::Instant;

use super::sets::{Fetched, Sets, bounded};
use super::tx::{Attempt, Ended, Source, Tx, fetch};
use super::{Isolation, delays};
use crate::{Client, Error, Result};

/// How often in a row an attempt may find the state compacted away that it reads.
const RESTARTS: u32 = 16;

/// Transactions to be, with their options. Handles are cheap to clone, and can run any number.
#[derive(Debug, Clone)]
pub struct Stm {
    client: Client,
    isolation: Isolation,
    max_attempts: Option<u32>,
    timeout: Option<Duration>,
    prefetch: Vec<Key>,
}

/// A transaction that has committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Committed<T> {
    /// What the closure returned.
    pub value: T,
    /// When the writes happened; what was read was so right before. Without writes: a revision at
    /// which all that was read was so. [`Revision::ZERO`] when nothing was read either, or nothing
    /// says so, as with [`Isolation::ReadCommitted`].
    pub revision: Revision,
    /// How many attempts it took.
    pub attempts: u32,
}

impl Client {
    /// Transactions on this store; see [`stm`](crate::stm).
    #[must_use]
    pub fn stm(&self) -> Stm {
        Stm {
            client: self.clone(),
            isolation: Isolation::default(),
            max_attempts: None,
            timeout: None,
            prefetch: Vec::new(),
        }
    }
}

impl Stm {
    /// How much the transactions are shielded from each other; [`Isolation::SerializableSnapshot`]
    /// unless this says otherwise.
    #[must_use]
    pub fn with_isolation(mut self, isolation: Isolation) -> Stm {
        self.isolation = isolation;
        self
    }

    /// How often a transaction is tried, before it fails with [`Error::Conflict`]; without a bound
    /// unless this says otherwise.
    #[must_use]
    pub fn with_max_attempts(mut self, attempts: u32) -> Stm {
        self.max_attempts = Some(attempts);
        self
    }

    /// How long a transaction is tried, all attempts together, before it fails with
    /// [`Error::Conflict`], or [`Error::Timeout`] when it met none; without a bound unless this says
    /// otherwise. A commit that is on its way by then is waited for, at most the client's timeout.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Stm {
        self.timeout = Some(timeout);
        self
    }

    /// Keys that a transaction is going to read: they are read ahead, in one request.
    #[must_use]
    pub fn with_prefetch<K: Into<Key>>(mut self, keys: impl IntoIterator<Item = K>) -> Stm {
        self.prefetch.extend(keys.into_iter().map(Into::into));
        self
    }

    /// Runs a transaction. Its closure may run several times, and must not do anything but read and
    /// write through its argument.
    ///
    /// Write it as `async |tx| { .. }`, without `move`: so it borrows what it needs, and can be run again.
    /// Such a transaction can be spawned as a task, with whatever the task owns.
    ///
    /// # Cancel safety
    ///
    /// When this is dropped before it has answered, the transaction may have happened, once, or not; it
    /// may also happen a moment later. While the closure runs, nothing has.
    ///
    /// # Errors
    ///
    /// What the closure returned; [`Error::Conflict`], [`Error::Timeout`],
    /// [`Error::TooManyOperations`], or what the store answered: nothing was changed. [`Error::Unknown`]
    /// when no answer to the commit came within the client's timeout:
    /// [resolve](Client::resolve) its token before running the transaction again.
    ///
    /// # Examples
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> { tokio::runtime::Runtime::new()?.block_on(async {
    /// let client = synod::Client::connect("memory:").await?;
    /// let length = client
    ///     .stm()
    ///     .run(async |tx| {
    ///         let mut text = tx.get("log").await?.map_or_else(Vec::new, |text| text.to_vec());
    ///         text.push(b'.');
    ///         let length = text.len();
    ///         tx.put("log", text);
    ///         Ok(length)
    ///     })
    ///     .await?;
    /// assert_eq!(length, 1);
    /// # Ok(()) }) }
    /// ```
    pub async fn run<T, F, Fut>(&self, closure: F) -> Result<T>
    where
        F: FnMut(Tx) -> Fut,
        Fut: Future<Output = Result<T>>,
    {
        self.try_run(closure).await
    }

    /// [`run`](Stm::run) for closures with an error of their own, which ends the transaction without a
    /// trace when they return it.
    ///
    /// # Cancel safety
    ///
    /// As [`Stm::run`].
    ///
    /// # Errors
    ///
    /// As [`Stm::run`], as the closure's error.
    pub async fn try_run<T, E, F, Fut>(&self, closure: F) -> Result<T, E>
    where
        E: From<Error>,
        F: FnMut(Tx) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let committed = self.transact(closure).await?;
        Ok(committed.value)
    }

    /// [`try_run`](Stm::try_run) that also says when it happened, and how many attempts it took.
    ///
    /// # Cancel safety
    ///
    /// As [`Stm::run`].
    ///
    /// # Errors
    ///
    /// As [`Stm::try_run`].
    pub async fn transact<T, E, F, Fut>(&self, mut closure: F) -> Result<Committed<T>, E>
    where
        E: From<Error>,
        F: FnMut(Tx) -> Fut,
        Fut: Future<Output = Result<T, E>>,
    {
        let mut course = Course::begin(self)?;
        loop {
            let (attempt, tx) = course.next().await?;
            let returned = course.in_time(closure(tx)).await?;
            let Ended { sets, restart } = attempt.end();
            if let Some(error) = restart {
                course.restart(error)?;
                continue;
            }
            let value = returned?;
            if let Some(revision) = course.commit(sets).await? {
                return Ok(Committed {
                    value,
                    revision,
                    attempts: course.attempts,
                });
            }
        }
    }
}

/// The attempts of one transaction.
struct Course<'s> {
    stm: &'s Stm,
    deadline: Option<Instant>,
    attempts: u32,
    /// Conflicts in a row.
    conflicts: u32,
    restarts: u32,
    /// What the next attempt knows before it begins.
    ahead: Option<Fetched>,
    /// What the last attempt has read, when that was in its way.
    rereads: Vec<KeyRange>,
    /// How long the last commit took.
    commit: Duration,
}

impl<'s> Course<'s> {
    fn begin(stm: &'s Stm) -> Result<Course<'s>> {
        if stm.max_attempts == Some(0) {
            return Err(Error::InvalidArgument(
                "a transaction needs at least one attempt".to_owned(),
            ));
        }
        let deadline = stm.timeout;
        Ok(Course {
            stm,
            deadline: deadline.and_then(|timeout| Instant::now().checked_add(timeout)),
            attempts: 0,
            conflicts: 0,
            restarts: 0,
            ahead: None,
            rereads: Vec::new(),
            commit: Duration::ZERO,
        })
    }

    /// The next attempt, when there may be one.
    async fn next(&mut self) -> Result<(std::sync::Arc<Attempt>, Tx)> {
        let attempts = self.attempts;
        let mut ranges = Vec::new();
        if attempts > 0 {
            if self.stm.max_attempts == Some(attempts) {
                return Err(Error::Conflict { attempts });
            }
            let delay = delays::wait(self.conflicts, self.commit);
            if self.in_time(delay).await? {
                // What came with the refusal is old by now, and would be refused for sure where
                // others commit all the time.
                self.ahead = None;
                ranges = std::mem::take(&mut self.rereads);
            }
        }
        self.attempts = attempts.saturating_add(1);
        // A member that lags behind may answer a first attempt only.
        let stale = ranges.is_empty() && !self.stm.isolation.is_snapshot();
        if self.ahead.is_none() && ranges.is_empty() {
            ranges = self.stm.prefetch.iter().map(KeyRange::one).collect();
        }
        if !ranges.is_empty() {
            let source = Source {
                at: None,
                stale,
                bounded: true,
            };
            let fetched = self
                .in_time(fetch(&self.stm.client, ranges, source))
                .await??;
            self.ahead = Some(fetched);
        }
        let sets = Sets::new(self.stm.isolation, self.ahead.take());
        Ok(Attempt::begin(&self.stm.client, sets))
    }

    /// Waits for something as long as the transaction may last.
    async fn in_time<R>(&self, work: impl Future<Output = R>) -> Result<R> {
        let Some(deadline) = self.deadline else {
            return Ok(work.await);
        };
        let late = |_| match self.attempts {
            attempts if self.conflicts > 0 => Error::Conflict { attempts },
            _ => Error::Timeout {
                after: self.stm.timeout.unwrap_or_default(),
            },
        };
        tokio::time::timeout_at(deadline, work).await.map_err(late)
    }

    /// An attempt could not go on for this reason; an error once that has been so too often.
    fn restart(&mut self, error: Error) -> Result<()> {
        self.restarts = self.restarts.saturating_add(1);
        self.conflicts = self.conflicts.saturating_add(1);
        if self.restarts > RESTARTS {
            return Err(error);
        }
        Ok(())
    }

    /// Commits what an attempt has done; `None` when it met a conflict.
    async fn commit(&mut self, sets: Sets) -> Result<Option<Revision>> {
        self.restarts = 0;
        if sets.is_read_only() && sets.is_one_read() {
            return Ok(Some(sets.snapshot().unwrap_or_default()));
        }
        let rereads = sets.rereads();
        let txn = self.stm.client.txn();
        let begun = Instant::now();
        let sent = txn
            .when(sets.compares())
            .and_then(sets.ops())
            .or_else(rereads.iter().map(bounded))
            .send()
            .await?;
        self.commit = begun.elapsed();
        if sent.succeeded {
            return Ok(Some(sent.revision));
        }
        self.conflicts = self.conflicts.saturating_add(1);
        self.ahead = sent.responses.map(|responses| {
            let mut ahead = Fetched::at(sent.revision);
            for (range, response) in rereads.iter().cloned().zip(responses) {
                if let TxnOpResponse::Range(response) = response {
                    ahead.add(range, response);
                }
            }
            ahead
        });
        self.rereads = rereads;
        Ok(None)
    }
}
