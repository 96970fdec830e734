//! [`Stm`]: runs a closure again and again, until an attempt commits.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use synod_store::{Key, Revision};

use super::course::Course;
use super::delays::Spacing;
use super::hall::Hall;
use super::{Isolation, Tx};
use crate::span::{Told, Traced};
use crate::{Client, Error, Result};

/// Transactions to be, with their options. Handles are cheap to clone, and can run any number.
#[derive(Debug, Clone)]
pub struct Stm {
    pub(super) client: Client,
    pub(super) isolation: Isolation,
    pub(super) max_attempts: Option<u32>,
    pub(super) timeout: Option<Duration>,
    pub(super) prefetch: Vec<Key>,
    /// Where its transactions meet the client's others, at the levels that have such a place.
    pub(super) hall: Option<Arc<Hall>>,
    pub(super) joined: bool,
    /// What the client has learned about those that want the same keys.
    pub(super) spacing: Arc<Spacing>,
}

/// A transaction that has committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Committed<T> {
    /// What the closure returned.
    pub value: T,
    /// When the writes happened; what was read was so right before, after those that committed at the
    /// same revision at an earlier [`place`](Committed::place). Without a place: a revision at which all
    /// that was read was so. [`Revision::ZERO`] when nothing was read either, or nothing
    /// says so, as with [`Isolation::ReadCommitted`].
    pub revision: Revision,
    /// Its place among the transactions that were committed together at this revision, from 0: each
    /// of them has seen what those before it wrote. `None` when none of them wrote anything.
    pub place: Option<u32>,
    /// How many attempts it took: runs of its closure.
    pub attempts: u32,
}

impl Client {
    /// Transactions on this store; see [`stm`](crate::stm).
    #[must_use]
    pub fn stm(&self) -> Stm {
        let isolation = Isolation::default();
        Stm {
            client: self.clone(),
            isolation,
            max_attempts: None,
            timeout: None,
            prefetch: Vec::new(),
            hall: Hall::of(self, isolation),
            joined: true,
            spacing: Spacing::of(self),
        }
    }
}

impl Stm {
    /// How much the transactions are shielded from each other; [`Isolation::SerializableSnapshot`]
    /// unless this says otherwise.
    #[must_use]
    pub fn with_isolation(mut self, isolation: Isolation) -> Stm {
        self.isolation = isolation;
        self.hall = Hall::of(&self.client, isolation);
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

    /// Whether its transactions are run in turn with others of this client at the same level, and
    /// committed together with them; they are unless this says otherwise.
    ///
    /// Joined, transactions that want the same keys at once cost one round trip together instead of one each
    /// and one more for each loser; their closures may see, at the levels
    /// [`SerializableSnapshot`](Isolation::SerializableSnapshot) and
    /// [`Serializable`](Isolation::Serializable), what others are about to commit. What is guaranteed is
    /// the same. Switch it off for a closure that must see nothing but what was committed (one that
    /// panics or does something else at once about what it sees), or for transactions so long that they
    /// hold back others; the other levels never join.
    #[must_use]
    pub fn with_joined_commits(mut self, joined: bool) -> Stm {
        self.joined = joined;
        self
    }

    /// Runs a transaction. Its closure may run several times, also on a state that is never committed, and
    /// must not do anything but read and write through its argument.
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
        let work = async {
            let mut course = Course::begin(self)?;
            loop {
                let (attempt, tx) = course.next().await?;
                let returned = course.in_time(attempt.run(closure(tx))).await?;
                let mut ended = attempt.end();
                if let Some(restart) = ended.restart.take() {
                    course.restart(restart)?;
                    continue;
                }
                if returned.is_err() {
                    // It may be owed to a state that never comes to be: to be confirmed like a result.
                    ended.sets.discard_writes();
                }
                let sure = returned.is_err() && (ended.trouble || ended.sets.step().is_none());
                let committed = if sure {
                    Ok(Some((Revision::ZERO, None)))
                } else {
                    course.commit(ended).await
                };
                match (returned, committed) {
                    (Ok(value), Ok(Some((revision, place)))) => {
                        return Ok(Committed {
                            value,
                            revision,
                            place,
                            attempts: course.attempts(),
                        });
                    }
                    (_, Ok(None)) => {}
                    (Err(error), _) => return Err(error),
                    (Ok(_), Err(error)) => return Err(error.into()),
                }
            }
        };
        let span = tracing::debug_span!(
            "synod.stm.run",
            outcome = tracing::field::Empty,
            revision = tracing::field::Empty,
            attempts = tracing::field::Empty,
        );
        Traced::telling(span, work, |answer, span| match answer {
            Ok(committed) => {
                committed.revision.tell(span);
                span.record("attempts", committed.attempts);
            }
            // Its form is the caller's, and may hold anything.
            Err(_) => {
                span.record("outcome", "error");
            }
        })
        .await
    }
}
