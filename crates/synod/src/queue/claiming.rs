//! How the consumer's task claims: which items, in which Txn, and what follows from the answer.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use synod_store::{ErrorKind, Key, KeyValue, RangeRequest, Revision};
use tokio::time::Instant;

use super::aim::Candidates;
use super::claim::{Plan, before, delete, fill_in};
use super::consumer::Core;
use super::desk::{Demand, Item};
use super::intake::Intake;
use super::look::{Candidate, WINDOW, in_order};
use super::order::Order;
use super::run::{APART, FEW, Run, deleted};
use crate::settle::{Outcome, Search};
use crate::{Error, Result, retry};

/// The most items that one claim takes.
const BATCH: usize = 100;

/// The most bytes that one claim asks for, by what is known of the values' sizes.
const CLAIM_BYTES: usize = 8 << 20;

/// How many items a claim takes while their size is not known.
const UNKNOWN_BATCH: usize = 8;

/// How many candidates a claim of one item tries: at first, and at most. Each is a Txn inside the
/// one before, which are two messages, and protobuf decoders stop at 100.
pub(super) const CHAIN: (usize, usize) = (1, 32);

/// How many it tries when it cannot tell how far others have got.
const WIDE_CHAIN: usize = 12;

/// How much longer, or shorter, a consumer holds back after a claim that it lost, or won: with
/// these it loses about one in six. And the longest time.
const SPREAD: (f64, f64, Duration) = (2.0, 0.87, Duration::from_millis(100));

/// How to claim.
enum Way {
    /// By one deletion of many.
    Run(Run),
    /// Key by key, and how the store searches among the alternatives, if it does.
    Plan(Plan, Option<Search>),
    /// Not: others are expected to have taken all that is known.
    Look,
}

impl Way {
    /// How many of the window's first it may take.
    fn reach(&self) -> usize {
        match self {
            Way::Run(run) => run.count,
            Way::Plan(plan, _) => plan.reach(),
            Way::Look => 0,
        }
    }
}

impl<O: Order> Core<O> {
    /// How to claim what is wanted now.
    fn way(&self, intake: &mut Intake, demand: &Demand) -> Way {
        if let Some(run) = self.run_of(intake, demand.wanted) {
            return Way::Run(run);
        }
        match self.plan(intake, demand.wanted) {
            Some((plan, search)) => Way::Plan(plan, search),
            None => Way::Look,
        }
    }

    /// Takes the first items of the window, and hands them out.
    pub(super) async fn claim(
        &self,
        intake: &mut Intake,
        demand: &Demand,
        begun: Instant,
    ) -> Result<()> {
        self.absorb(intake);
        intake.fresh = false;
        if intake.window.is_empty() {
            return Ok(());
        }
        let mut way = self.way(intake, demand);
        if self.lacks_values(intake, demand, way.reach()) {
            self.look_anew(intake, demand).await?;
            way = self.way(intake, demand);
        }
        if intake.window.is_empty() {
            return Ok(());
        }
        let (plan, search) = match way {
            Way::Run(run) => return self.claim_run(intake, run, demand, begun).await,
            Way::Plan(plan, search) => (plan, search),
            Way::Look => {
                // By now others have taken all of it.
                intake.look_again();
                return Ok(());
            }
        };
        let guards = |item: &Candidate| self.order.guards(&item.key, intake.seen);
        let work = plan.work(&intake.window, guards, delete);
        let claim = self.settle.search_to_end(work, search);
        let watched = intake.lookout.is_some();
        let (mut taken, revision, responses) = match self.attend(claim, begun).await {
            Ok(Outcome::Done {
                alternative,
                revision,
                responses,
            }) => {
                hold_back_less(intake);
                intake.chain = match alternative {
                    0 => intake.chain.saturating_sub(1).max(CHAIN.0),
                    late if late > intake.chain / 2 => intake.chain.saturating_mul(2).min(CHAIN.1),
                    _ => intake.chain,
                };
                intake.claimed(revision);
                if !watched {
                    intake.aim.hit(plan.gone(alternative));
                }
                let taken = plan.taken(&mut intake.window, alternative);
                self.stats.claim(taken.len());
                (taken, revision, responses)
            }
            Ok(Outcome::GuardsFalse) => {
                self.stats.claim(0);
                intake.met();
                if watched {
                    hold_back_more(intake, begun);
                }
                intake.chain = intake.chain.saturating_mul(2).min(CHAIN.1);
                if O::EXACT {
                    // They may still be there, behind something that has come.
                    intake.doubted = true;
                } else {
                    if !watched {
                        intake.aim.miss();
                    }
                    plan.missed(&mut intake.window);
                }
                return Ok(());
            }
            // The store's limit is lower than etcd's.
            Err(error)
                if error.kind() == Some(ErrorKind::TooManyOperations) && intake.max_ops > 8 =>
            {
                intake.max_ops /= 2;
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if let Some(responses) = responses {
            fill_in(&mut taken, responses);
        }
        if let Some(last) = taken
            .last()
            .filter(|_| O::EXACT && intake.window.is_empty())
        {
            // It came out as the last of those that were known, and nothing had come before it.
            intake.next_cursor = Some((last.key.successor(), revision));
        }
        let mut items = VecDeque::with_capacity(taken.len());
        for candidate in taken {
            let value = match candidate.value {
                Some(value) => value,
                None => match self.read_back(&candidate.key, revision, begun).await {
                    Some(value) => value,
                    None => {
                        let error = Error::ItemLost {
                            key: candidate.key.to_string(),
                        };
                        tracing::error!(%error, "an item that was taken cannot be told any more");
                        self.desk.lock().fail(&error, begun, Duration::ZERO);
                        continue;
                    }
                },
            };
            intake.taken = Some(intake.taken.unwrap_or(0).max(value.len()));
            items.push_back(Item {
                key: candidate.key,
                value,
            });
        }
        self.deliver(intake, items, demand);
        Ok(())
    }

    /// Hands out what was taken.
    fn deliver(&self, intake: &mut Intake, items: VecDeque<Item>, demand: &Demand) {
        let mut desk = self.desk.lock();
        let left = desk.hand_out(items, demand.before);
        if !left.is_empty() {
            // The callers have left meanwhile: the next turn puts these back.
            desk.give_back(left.into());
        }
        drop(desk);
        if !intake.keeps_watch::<O>() {
            // There is more than is wanted: events would only repeat what the next look sees.
            intake.close_watch(&self.order);
        }
    }

    /// The first items of the window, for whom so many are wanted, when one deletion can take them.
    fn run_of(&self, intake: &mut Intake, wanted: usize) -> Option<Run> {
        let count = wanted
            .min(intake.window.len())
            .min(WINDOW)
            .min(by_size(intake));
        if O::EXACT || count <= 1 || intake.strangers {
            return None;
        }
        let mut first = intake.window.iter().take(count);
        if count <= FEW && self.is_lossy() && first.all(|item| item.value.is_some()) {
            // Taken by their keys they are told without the answer.
            return None;
        }
        if intake.apart > 0 {
            intake.apart = intake.apart.saturating_sub(1);
            return None;
        }
        Run::of(&intake.window, count)
    }

    /// Takes a run of the window, as far as others have left it, and hands it out.
    async fn claim_run(
        &self,
        intake: &mut Intake,
        run: Run,
        demand: &Demand,
        begun: Instant,
    ) -> Result<()> {
        let claim = self.settle.run_to_end(run.work(intake.seen));
        let (revision, responses) = match self.attend(claim, begun).await? {
            Outcome::Done {
                revision,
                responses,
                ..
            } => (revision, responses),
            Outcome::GuardsFalse => {
                // Something has come in between: it is there, and what is known of the others still holds.
                self.stats.claim(0);
                intake.apart = APART;
                return Ok(());
            }
        };
        let kvs = match responses {
            Some(responses) => Some(deleted(responses)),
            None => {
                let request = RangeRequest::new(run.range.clone());
                self.attend(self.recover(request, revision), begun).await
            }
        };
        intake.claimed(revision);
        let known: Vec<Candidate> = intake.window.drain(..run.count).collect();
        let Some(kvs) = kvs else {
            // Which of them they were nobody knows any more.
            let key = known.first().map(|item| item.key.to_string());
            let error = Error::ItemLost {
                key: key.unwrap_or_default(),
            };
            tracing::error!(%error, count = run.count, "a claim of several cannot be told any more");
            self.desk.lock().fail(&error, begun, Duration::ZERO);
            return Ok(());
        };
        let mut taken: Vec<Candidate> =
            kvs.into_iter().map(|kv| Candidate::new(kv, true)).collect();
        in_order(&self.order, &mut taken);
        self.stats.claim(taken.len());
        let gone = run.count.saturating_sub(taken.len());
        if gone > 0 {
            intake.met();
        }
        match (taken.is_empty(), intake.lookout.is_some()) {
            (true, true) => hold_back_more(intake, begun),
            (false, true) => hold_back_less(intake),
            (_, false) => intake.aim.hit(gone),
        }
        let mut items = VecDeque::with_capacity(taken.len());
        for Candidate { key, value, .. } in taken {
            let value = value.unwrap_or_default();
            intake.taken = Some(intake.taken.unwrap_or(0).max(value.len()));
            items.push_back(Item { key, value });
        }
        self.deliver(intake, items, demand);
        Ok(())
    }

    /// How to claim, and how the store searches among the alternatives, if it does; `None` when others are expected
    /// to have taken all that is known.
    fn plan(&self, intake: &mut Intake, wanted: usize) -> Option<(Plan, Option<Search>)> {
        let by_limit = intake.max_ops.saturating_sub(8);
        let batch = wanted
            .min(intake.window.len())
            .min(BATCH)
            .min(by_size(intake))
            .min(by_limit)
            .max(1);
        let guards = batch.saturating_add(O::GUARDS);
        let each = (O::GUARDS.saturating_add(1), 1);
        let room = self.settle.room(intake.max_ops, (guards, batch), each);
        if batch > 1 {
            let singles = room.min(intake.chain).min(batch);
            return Some((Plan::in_turn(batch, singles), None));
        }
        let behind = intake.window.len().saturating_sub(1);
        if O::EXACT {
            let singles = intake.chain.saturating_sub(1).min(room).min(behind);
            return Some((Plan::in_turn(1, singles), None));
        }
        let in_turn = Plan::in_turn(1, WIDE_CHAIN.min(room).min(behind));
        if intake.lookout.is_some() && intake.is_alone() {
            return Some((Plan::in_turn(1, 0), None));
        }
        if intake.lookout.is_some() {
            // What the watch tells is no older than what others know, and little.
            return Some((in_turn, None));
        }
        let (skipped, count) = match intake.aim.candidates() {
            Candidates::First => return Some((Plan::in_turn(1, 0), None)),
            Candidates::InTurn => return Some((in_turn, None)),
            Candidates::Unknown => return None,
            Candidates::Among { skipped, count } => (skipped, count),
        };
        // The one that is left may lie behind the window's end, unless that is the queue's.
        let wanted = skipped.saturating_add(count);
        if intake.more && !intake.aim.has_just_looked() && wanted > intake.window.len() {
            return None;
        }
        let skipped = skipped.min(behind);
        let singles = count.saturating_sub(1).min(behind.saturating_sub(skipped));
        let plan = Plan {
            batch: 1,
            singles,
            skipped: Some(skipped),
        };
        let search = plan.search(&intake.window);
        let weight = search.as_ref().map_or(0, |search| search.weight(1));
        if weight > intake.max_ops {
            // The keys are in no order at all.
            return Some((in_turn, None));
        }
        Some((plan, search))
    }

    /// Reads what was taken at `revision`, when the answer that carried it was lost. `None` when that
    /// history is gone.
    async fn recover(&self, request: RangeRequest, revision: Revision) -> Option<Vec<KeyValue>> {
        let request = request.at(before(revision));
        loop {
            match retry::read(self.patience, || self.store.range(request.clone())).await {
                Ok(response) => return Some(response.kvs),
                Err(error) if error.is_transient() && !self.settle.is_abandoned() => {}
                Err(_) => return None,
            }
        }
    }

    /// Reads the value of an item that was taken at `revision`.
    async fn read_back(&self, key: &Key, revision: Revision, begun: Instant) -> Option<Bytes> {
        let request = RangeRequest::new(key.clone());
        let kvs = self.attend(self.recover(request, revision), begun).await?;
        kvs.into_iter().next().map(|kv| kv.value)
    }
}

/// A claim of what came just now was lost: at first hold back for as long as a claim takes.
fn hold_back_more(intake: &mut Intake, begun: Instant) {
    let longer = begun.elapsed().max(intake.spread.mul_f64(SPREAD.0));
    intake.spread = longer.min(SPREAD.2);
}

/// A claim was won.
fn hold_back_less(intake: &mut Intake) {
    intake.spread = intake.spread.mul_f64(SPREAD.1);
}

/// How many items a claim may ask for, by what is known of the sizes of their values.
fn by_size(intake: &Intake) -> usize {
    match intake.size() {
        Some(size) => CLAIM_BYTES / size.max(1),
        None => UNKNOWN_BATCH,
    }
}
