//! The passage of one operation through lanes, until it is settled; see the parent for the protocol.

use std::sync::Arc;
use std::time::Duration;

use synod_store::{Applied, ErrorKind, Revision};

use super::epoch::{self, Epoch, Lane};
use super::token::{OpId, Token};
use super::txn::{Answer, Standing, Ticket};
use super::work::Job;
use super::{ATTEMPT, Inner, Outcome, Phase, Resolution};
use crate::retry::Backoff;
use crate::slot::Slot;
use crate::span;
use crate::{Error, Result};

/// Waits for others are interrupted no more often than this.
const SHORTEST: Duration = Duration::from_millis(20);

/// How one passage through a lane ended.
enum Passage {
    /// The operation is settled.
    Settled(Outcome),
    /// It has not happened and never will; on another lane it may be tried anew.
    Again,
}

/// The operation is settled: its lane is free again, unless its caller has gone with a token, whom
/// the lane must still tell.
fn give_back(lane: Lane, mod_revision: Revision, phase: Option<&Slot<Phase>>) {
    if let Some(phase) = phase {
        let mut phase = phase.lock();
        match *phase {
            // Withdrawn for good, by being dropped.
            Phase::Told => return,
            Phase::Left => {}
            _ => *phase = Phase::Settled,
        }
    }
    lane.release(mod_revision);
}

impl Inner {
    /// The epoch to begin operations in.
    async fn epoch(self: &Arc<Inner>) -> Result<Arc<Epoch>> {
        // Whoever is before us here may wait for a dead store: not to be waited for by those whose
        // callers have left.
        let mut current = tokio::time::timeout(self.pace(), self.epoch.lock())
            .await
            .map_err(|_| self.late())?;
        if let Some(epoch) = current.as_ref().filter(|epoch| epoch.is_usable()) {
            return Ok(Arc::clone(epoch));
        }
        let first = current.is_none();
        let epoch = Arc::new(Epoch::begin(&self.store, &self.settings).await?);
        *current = Some(Arc::clone(&epoch));
        if first {
            let (store, settings) = (Arc::clone(&self.store), self.settings.clone());
            // Not tracked: nobody waits for other clients' rubbish.
            crate::runtime()?.spawn(span::task("settle.sweep", async move {
                match epoch::sweep(&*store, &settings).await {
                    Ok(0) => {}
                    Ok(epochs) => tracing::debug!(epochs, "lanes of dead clients were swept"),
                    Err(error) => tracing::debug!(%error, "the sweep of dead lanes failed"),
                }
            }));
        }
        Ok(epoch)
    }

    /// Passes an operation through lanes until it is settled.
    pub(super) async fn drive(
        self: &Arc<Inner>,
        job: Job<'_>,
        op: OpId,
        phase: Option<&Slot<Phase>>,
    ) -> Result<Outcome> {
        let mut backoff = Backoff::new();
        loop {
            // Nothing is on its way here: whoever left wants nothing to begin.
            if let Some(phase) = phase
                && phase.lock().is_left()
            {
                return Ok(Outcome::GuardsFalse);
            }
            let lane = match self.epoch().await {
                // Likewise.
                Ok(epoch) => match tokio::time::timeout(self.pace(), epoch.lane()).await {
                    Ok(lane) => lane,
                    Err(_) => {
                        self.bear(self.late(), phase)?;
                        continue;
                    }
                },
                Err(error) if error.is_transient() => {
                    self.bear(error, phase)?;
                    backoff.wait().await;
                    continue;
                }
                Err(error) => return Err(self.certain(error)),
            };
            let Some(lane) = lane else { continue };
            match self.pass(lane, job, op, phase).await? {
                Passage::Settled(outcome) => return Ok(outcome),
                Passage::Again => {}
            }
        }
    }

    /// How often a wait for others is interrupted, to see whether it still makes sense.
    fn pace(&self) -> Duration {
        self.settings.patience.clamp(SHORTEST, ATTEMPT)
    }

    pub(super) fn late(&self) -> Error {
        Error::Timeout {
            after: self.settings.patience,
        }
    }

    /// The error of what was needed before an operation could be sent, as the operation's own: what may
    /// have happened then is a lease or a fence, and not the operation.
    fn certain(&self, error: Error) -> Error {
        match error {
            Error::Store(error) if error.is_maybe_applied() => {
                let message = error.message().to_owned();
                let certain = synod_store::Error::new(error.kind(), message);
                Error::Store(Arc::new(certain.with_source(error)))
            }
            error if error.is_maybe_committed() => self.late(),
            error => error,
        }
    }

    /// Notes trouble while nothing is on its way; an error once nobody waits for the end of it.
    fn bear(&self, error: Error, phase: Option<&Slot<Phase>>) -> Result<()> {
        if self.is_abandoned() {
            return Err(self.certain(error));
        }
        if let Some(phase) = phase {
            let mut phase = phase.lock();
            if let Phase::Quiet(trouble) = &mut *phase {
                *trouble = Some(self.certain(error));
            }
        }
        Ok(())
    }

    /// Passes an operation through one lane.
    async fn pass(
        self: &Arc<Inner>,
        lane: Lane,
        job: Job<'_>,
        op: OpId,
        phase: Option<&Slot<Phase>>,
    ) -> Result<Passage> {
        let token = Token {
            epoch: lane.epoch.id,
            fence_created: lane.epoch.created,
            lane: lane.number,
            lane_mod: lane.mod_revision,
            begun: self.settings.clock.unix_nanos() / 1_000_000_000,
            op,
        };
        let ticket = Ticket {
            fence: lane.epoch.fence.clone(),
            fence_created: token.fence_created,
            lane: lane.key(),
            lane_mod: token.lane_mod,
            op,
            begun: token.begun,
        };
        let request = job.txn(Some(&ticket));
        let mut doubt = false;
        let mut backoff = Backoff::new();
        loop {
            if let Some(slot) = phase {
                let mut phase = slot.lock();
                if !phase.is_left() {
                    *phase = Phase::Doubt(token.clone());
                } else if !doubt {
                    drop(phase);
                    give_back(lane, ticket.lane_mod, Some(slot));
                    return Ok(Passage::Settled(Outcome::GuardsFalse));
                }
            }
            let sent = tokio::time::timeout(ATTEMPT, self.store.txn(request.clone())).await;
            let error = match sent {
                Ok(Ok(response)) => {
                    let revision = response.header.revision;
                    match job.read(Some(&ticket), response) {
                        Answer::Done {
                            alternative,
                            responses,
                        } => {
                            give_back(lane, revision, phase);
                            let responses = Some(responses);
                            let done = Outcome::Done {
                                alternative,
                                revision,
                                responses,
                            };
                            return Ok(Passage::Settled(done));
                        }
                        Answer::Refused(standing) => {
                            return self.refused(lane, &ticket, standing, doubt, phase).await;
                        }
                        Answer::GuardsFalse if !doubt => {
                            give_back(lane, ticket.lane_mod, phase);
                            return Ok(Passage::Settled(Outcome::GuardsFalse));
                        }
                        Answer::GuardsFalse => {
                            return self.void(lane, &ticket, phase).await;
                        }
                        // A store that answers so cannot be believed: treated as no answer.
                        Answer::Malformed => {
                            synod_store::Error::new(ErrorKind::Other, "the answer makes no sense")
                                .with_applied(Applied::Maybe)
                        }
                    }
                }
                // This copy is refused for good, and so would be the next. An earlier one may have applied,
                // or still may when the cause goes away: the lane tells, and is closed.
                Ok(Err(error)) if doubt && !error.is_transient() && !error.is_maybe_applied() => {
                    return match self.void(lane, &ticket, phase).await? {
                        Passage::Settled(Outcome::GuardsFalse) => Err(error.into()),
                        passage => Ok(passage),
                    };
                }
                Ok(Err(error)) => error,
                Err(_) => synod_store::Error::new(ErrorKind::Timeout, "no answer in time")
                    .with_applied(Applied::Maybe),
            };
            tracing::debug!(%error, %token, "an operation was not answered; sending it again");
            doubt |= error.is_maybe_applied();
            if !doubt {
                if !error.is_transient() {
                    give_back(lane, ticket.lane_mod, phase);
                    return Err(error.into());
                }
                if let Some(phase) = phase {
                    let mut phase = phase.lock();
                    if !phase.is_left() {
                        *phase = Phase::Quiet(Some(error.into()));
                    }
                }
                if self.is_abandoned() {
                    return Err(Error::Timeout {
                        after: self.settings.patience,
                    });
                }
            } else if self.is_abandoned() {
                // The lane stays in use for ever: its word must not be overwritten.
                return Err(Error::Unknown {
                    token,
                    after: self.settings.patience,
                });
            }
            backoff.wait().await;
        }
    }

    /// Fence or lane were not as the Txn expected: no copy of it can apply any more.
    async fn refused(
        &self,
        lane: Lane,
        ticket: &Ticket,
        standing: Standing,
        doubt: bool,
        phase: Option<&Slot<Phase>>,
    ) -> Result<Passage> {
        let fence_gone = standing.fence_created != ticket.fence_created;
        let record = standing.record_of(ticket.op);
        let lost = doubt && record.is_none() && !self.never_passed(ticket, &standing);
        let token = ticket.token(lane.epoch.id, lane.number);
        if fence_gone {
            lane.epoch.retire();
        } else if record.is_some() {
            give_back(lane, standing.lane_mod, phase);
        } else {
            lane.release(standing.lane_mod);
        }
        Ok(match record {
            Some(record) => Passage::Settled(match record.alternative {
                Some(alternative) => Outcome::Done {
                    alternative,
                    revision: standing.lane_mod,
                    responses: None,
                },
                None => Outcome::GuardsFalse,
            }),
            // The record was swept: to do it again might be to do it twice.
            None if lost => {
                return Err(Error::Unknown {
                    token,
                    after: self.settings.patience,
                });
            }
            None => Passage::Again,
        })
    }

    /// Whether it is certain that nothing has passed through a lane that holds no record of the
    /// operation. A lane that never was could also have been swept, but not before its time.
    fn never_passed(&self, ticket: &Ticket, standing: &Standing) -> bool {
        let now = self.settings.clock.unix_nanos() / 1_000_000_000;
        let young = now.saturating_sub(ticket.begun) < epoch::KEEP_SECONDS / 2;
        standing.lane_mod == ticket.lane_mod && (!ticket.lane_mod.is_zero() || young)
    }

    /// Makes sure that no earlier copy can still apply, then reports that the guards were false.
    async fn void(
        &self,
        lane: Lane,
        ticket: &Ticket,
        phase: Option<&Slot<Phase>>,
    ) -> Result<Passage> {
        let mut backoff = Backoff::new();
        loop {
            let sent = tokio::time::timeout(ATTEMPT, self.store.txn(ticket.void())).await;
            let answer = sent.unwrap_or_else(|_| {
                let error = synod_store::Error::new(ErrorKind::Timeout, "no answer in time");
                Err(error.with_applied(Applied::Maybe))
            });
            match answer {
                Ok(response) if response.succeeded => {
                    give_back(lane, response.header.revision, phase);
                    return Ok(Passage::Settled(Outcome::GuardsFalse));
                }
                Ok(response) => {
                    if let Some(standing) = Standing::from_reads(response) {
                        let passage = self.refused(lane, ticket, standing, true, phase).await?;
                        return Ok(match passage {
                            Passage::Again => Passage::Settled(Outcome::GuardsFalse),
                            settled @ Passage::Settled(_) => settled,
                        });
                    }
                }
                Err(error) => tracing::debug!(%error, "a lane could not be closed; trying again"),
            }
            if self.is_abandoned() {
                // An earlier copy may still arrive.
                return Err(Error::Unknown {
                    token: ticket.token(lane.epoch.id, lane.number),
                    after: self.settings.patience,
                });
            }
            backoff.wait().await;
        }
    }

    /// Resolves a token from the lane, and closes the lane if nothing has passed through it.
    pub(super) async fn look_up(&self, token: &Token) -> Result<Resolution> {
        let (fence, lane) = epoch::keys_of(&self.settings.prefix, token.epoch, token.lane);
        let ticket = Ticket {
            fence,
            fence_created: token.fence_created,
            lane,
            lane_mod: token.lane_mod,
            op: token.op,
            begun: token.begun,
        };
        let mut backoff = Backoff::new();
        loop {
            // The first Txn closes the lane, or tells why it need not be closed.
            let standing = match self.store.txn(ticket.void()).await {
                Ok(response) if response.succeeded => return Ok(Resolution::NeverWill),
                Ok(response) => Standing::from_reads(response),
                Err(error) if error.is_transient() || error.is_maybe_applied() => None,
                Err(error) => return Err(error.into()),
            };
            let Some(standing) = standing else {
                backoff.wait().await;
                continue;
            };
            if let Some(record) = standing.record_of(token.op) {
                return Ok(record.resolution());
            }
            // The fence is gone.
            return Ok(if self.never_passed(&ticket, &standing) {
                Resolution::NeverWill
            } else {
                Resolution::Forgotten
            });
        }
    }
}
