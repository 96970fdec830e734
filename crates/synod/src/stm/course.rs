//! [`Course`]: the attempts of one transaction, each on its way from the first read to the commit.

use std::future::Future;
use std::sync::Arc;

use synod_store::{KeyRange, Revision, TxnOpResponse};
use tokio::time::Instant;

use super::Stm;
use super::Tx;
use super::attempt::{Attempt, Ended, Restart, Turns};
use super::fetch::{Source, fetch};
use super::hall::{Answer, Hall, Place, Presence};
use super::sets::{Fetched, Sets, bounded};
use crate::span::traced;
use crate::{Error, Result};

/// How often in a row an attempt may find the state compacted away that it reads.
const RESTARTS: u32 = 16;

/// How often in a row a transaction is overtaken by the client's others, before it asks for patience.
const OVERTAKEN: u32 = 2;

/// The attempts of one transaction.
pub(super) struct Course<'s> {
    stm: &'s Stm,
    deadline: Option<Instant>,
    attempts: u32,
    /// Conflicts in a row.
    conflicts: u32,
    restarts: u32,
    /// How often in a row the client's other transactions have changed what it had read.
    overtaken: u32,
    /// Whether the store has refused what it was joined with: the next attempt is made alone.
    alone: bool,
    /// That others know of it, when it may be joined with them.
    presence: Option<Presence>,
    /// What the next attempt alone knows before it begins.
    ahead: Option<Fetched>,
    /// What the last attempt alone has read, when that was in its way.
    rereads: Vec<KeyRange>,
}

impl<'s> Course<'s> {
    pub(super) fn begin(stm: &'s Stm) -> Result<Course<'s>> {
        if stm.max_attempts == Some(0) {
            return Err(Error::InvalidArgument(
                "a transaction needs at least one attempt".to_owned(),
            ));
        }
        let deadline = stm.timeout;
        // Somebody has to bring a group through its commit when its callers have left.
        let hall = stm.hall.as_ref();
        let hall = hall.filter(|_| stm.joined && crate::runtime().is_ok());
        Ok(Course {
            stm,
            deadline: deadline.and_then(|timeout| Instant::now().checked_add(timeout)),
            attempts: 0,
            conflicts: 0,
            restarts: 0,
            overtaken: 0,
            alone: false,
            presence: hall.map(Hall::enter),
            ahead: None,
            rereads: Vec::new(),
        })
    }

    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Whether others of the client are at work with which it can be joined: then they come and go as
    /// one, and who has just been answered is waited for.
    fn in_company(&self) -> bool {
        let hall = self.stm.hall.as_ref();
        self.presence.is_some() && hall.is_some_and(|hall| hall.is_shared())
    }

    /// How the attempt that begins runs in turn with others, if it does.
    fn turns(&self) -> Option<Turns> {
        let hall = self.stm.hall.as_ref()?;
        // The last one fails for its own conflicts only.
        let last = self.stm.max_attempts == Some(self.attempts);
        let joined = self.presence.is_some() && !last && !self.alone;
        joined.then(|| Turns {
            hall: Arc::clone(hall),
            attempt: self.attempts,
            patient: self.overtaken >= OVERTAKEN,
        })
    }

    /// The next attempt, when there may be one.
    pub(super) async fn next(&mut self) -> Result<(Arc<Attempt>, Tx)> {
        if self.stm.max_attempts == Some(self.attempts) {
            return Err(Error::Conflict {
                attempts: self.attempts,
            });
        }
        self.attempts = self.attempts.saturating_add(1);
        if self.attempts == 1 && !self.in_company() {
            self.in_time(self.stm.spacing.wait(0)).await?;
        }
        let turns = self.turns();
        self.alone = false;
        let Some(turns) = turns else {
            return self.next_alone().await;
        };
        let sets = Sets::new(self.stm.isolation, None);
        let (attempt, tx) = Attempt::begin(&self.stm.client, sets, Some(turns));
        if !self.stm.prefetch.is_empty() {
            self.in_time(attempt.prefetch(&self.stm.prefetch)).await??;
        }
        Ok((attempt, tx))
    }

    /// The next attempt, which has nothing to do with other transactions of the client.
    async fn next_alone(&mut self) -> Result<(Arc<Attempt>, Tx)> {
        let mut ranges = Vec::new();
        if self.attempts > 1 {
            let delay = self.stm.spacing.wait(self.conflicts);
            if self.in_time(delay).await? {
                // What came with the refusal is old by now, and would be refused for sure where
                // others commit all the time.
                self.ahead = None;
                ranges = std::mem::take(&mut self.rereads);
            }
        }
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
        Ok(Attempt::begin(&self.stm.client, sets, None))
    }

    /// Waits for something as long as the transaction may last.
    pub(super) async fn in_time<R>(&self, work: impl Future<Output = R>) -> Result<R> {
        let Some(deadline) = self.deadline else {
            return Ok(work.await);
        };
        tokio::time::timeout_at(deadline, work)
            .await
            .map_err(|_| self.late())
    }

    /// The time is over.
    fn late(&self) -> Error {
        match self.attempts {
            attempts if self.conflicts > 0 => Error::Conflict { attempts },
            _ => Error::Timeout {
                after: self.stm.timeout.unwrap_or_default(),
            },
        }
    }

    /// An attempt could not go on for this reason; an error once that has been so too often.
    pub(super) fn restart(&mut self, reason: Restart) -> Result<()> {
        self.conflicts = self.conflicts.saturating_add(1);
        match reason {
            Restart::Stale => self.overtaken = self.overtaken.saturating_add(1),
            Restart::Gone(error) => {
                self.restarts = self.restarts.saturating_add(1);
                if self.restarts > RESTARTS {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Commits what an attempt has done: at which revision, and at which place among those who committed
    /// with it. `None` when it has to be made again.
    pub(super) async fn commit(&mut self, ended: Ended) -> Result<Option<(Revision, Option<u32>)>> {
        traced!("synod.stm.commit", async move {
            self.restarts = 0;
            let sets = ended.sets;
            if sets.is_read_only() && sets.is_one_read() {
                return Ok(Some((sets.snapshot().unwrap_or_default(), None)));
            }
            if ended.joined {
                return self.commit_joined(sets, ended.place).await;
            }
            let place = (!sets.is_read_only()).then_some(0);
            let committed = self.commit_alone(sets).await?;
            Ok(committed.map(|revision| (revision, place)))
        })
        .await
    }

    /// Commits an attempt together with others of the client.
    async fn commit_joined(
        &mut self,
        sets: Sets,
        place: Option<Place>,
    ) -> Result<Option<(Revision, Option<u32>)>> {
        let Some(hall) = &self.stm.hall else {
            return Ok(None);
        };
        let seat = self.in_time(hall.join(&self.stm.client, &sets)).await??;
        drop(place);
        let Some(seat) = seat else {
            self.restart(Restart::Stale)?;
            return Ok(None);
        };
        let Some(answer) = seat.answer(self.deadline).await else {
            return Err(self.late());
        };
        match answer {
            Answer::Committed { revision, place } => return Ok(Some((revision, place))),
            Answer::Failed(error) => return Err(error),
            Answer::Stale => self.restart(Restart::Stale)?,
            Answer::Alone => self.alone = true,
            Answer::Conflict => {
                self.conflicts = self.conflicts.saturating_add(1);
                self.overtaken = 0;
            }
        }
        Ok(None)
    }

    /// Commits an attempt with a Txn of its own.
    async fn commit_alone(&mut self, sets: Sets) -> Result<Option<Revision>> {
        let rereads = sets.rereads();
        let txn = self.stm.client.txn();
        let begun = Instant::now();
        let sent = txn
            .when(sets.compares())
            .and_then(sets.ops())
            .or_else(rereads.iter().map(bounded))
            .send()
            .await?;
        if sent.succeeded {
            self.stm.spacing.committed(begun.elapsed());
            return Ok(Some(sent.revision));
        }
        self.stm.spacing.refused(begun.elapsed());
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
