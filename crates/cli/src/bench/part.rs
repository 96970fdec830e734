//! [`Part`]: what one process does of a measurement. The coordinator tells it when to go and when to
//! stop, and it tells how far it is: over a channel in the same process, over pipes between two.

use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use synod::Client;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::clients::Clients;
use super::items::Ledger;
use super::meter::{Measured, Meter};
use super::spec::{Case, Spec};
use super::turns::{Turns, Window};
use super::work;
use crate::way::Way;

/// What rises from holder to holder of a lock: its fencing token, and the turn under that.
pub(crate) type Token = (u64, u64);

/// Which process of how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Share {
    pub(crate) index: u64,
    pub(crate) of: u64,
}

impl Share {
    /// The numbers below `all` that are this process's.
    pub(crate) fn of(self, all: u64) -> impl Iterator<Item = u32> {
        let step = usize::try_from(self.of.max(1)).unwrap_or(usize::MAX);
        let numbers = (self.index..all).step_by(step);
        numbers.filter_map(|number| u32::try_from(number).ok())
    }

    /// How many of `all` are this process's.
    pub(crate) fn count(self, all: u64) -> u64 {
        let of = self.of.max(1);
        (all / of).saturating_add(u64::from(self.index < all % of))
    }
}

/// What the coordinator tells a part.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Order {
    /// Begin then.
    Go { start: u64 },
    /// Give up what is under way.
    Stop,
}

/// What a part tells the coordinator.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Report {
    /// It is connected.
    Ready,
    /// So far. Of a queue also what went in and came out.
    Progress(Progress),
    /// What bounds its work has come to its end: there will be no more items or rounds from here.
    Ended(Progress),
    /// All has ended.
    Done(Box<Outcome>),
    /// It could not begin.
    Failed(String),
}

/// How far a part is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    pub(crate) operations: u64,
    pub(crate) errors: u64,
    pub(crate) put: u64,
    pub(crate) unsure: u64,
    pub(crate) out: u64,
}

/// What a part has done.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) measured: Measured,
    pub(crate) ledger: Ledger,
    /// Of a lock held by several processes: token, from, to.
    pub(crate) holds: Vec<(Token, u64, u64)>,
}

/// What the workers of a process share.
pub(crate) struct Part {
    pub(crate) spec: Spec,
    pub(crate) share: Share,
    pub(crate) window: Window,
    pub(crate) turns: Turns,
    pub(crate) meter: Meter,
    /// What is under way should be given up.
    pub(crate) stop: CancellationToken,
    ledger: Mutex<Ledger>,
    holds: Mutex<Vec<(Token, u64, u64)>>,
    reports: mpsc::UnboundedSender<Report>,
}

impl Part {
    /// The books of the queue.
    pub(crate) fn ledger<T>(&self, with: impl FnOnce(&mut Ledger) -> T) -> T {
        with(&mut self.ledger.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A lock was held.
    pub(crate) fn held(&self, token: Token, from: u64, to: u64) {
        let mut holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
        holds.push((token, from, to));
    }

    pub(crate) fn progress(&self) -> Progress {
        let (operations, errors) = self.meter.so_far();
        self.ledger(|ledger| Progress {
            operations,
            errors,
            put: ledger.put,
            unsure: ledger.unsure,
            out: ledger.out,
        })
    }

    /// Tells that no more items or rounds will come from here.
    pub(crate) fn ended(&self) {
        // A coordinator that is gone has dropped us, or is about to.
        let _ = self.reports.send(Report::Ended(self.progress()));
    }

    fn outcome(&self) -> Outcome {
        if let Some(late) = self.turns.late() {
            self.meter.count("late", late);
        }
        Outcome {
            measured: self.meter.measured(),
            ledger: self.ledger(|ledger| ledger.clone()),
            holds: std::mem::take(&mut self.holds.lock().unwrap_or_else(PoisonError::into_inner)),
        }
    }
}

/// Does one process's share: connects, waits to be told to go, works, and tells what came of it.
pub(crate) async fn run(
    spec: Spec,
    share: Share,
    way: Way,
    first: Client,
    mut orders: mpsc::UnboundedReceiver<Order>,
    reports: mpsc::UnboundedSender<Report>,
) {
    let mut clients = Clients::new(way, spec.connections, first);
    let workers = match work::Workers::connect(&spec, share, &mut clients).await {
        Ok(workers) => workers,
        Err(error) => {
            let _ = reports.send(Report::Failed(error.to_string()));
            clients.close().await;
            return;
        }
    };
    let _ = reports.send(Report::Ready);
    let start = match orders.recv().await {
        Some(Order::Go { start }) => start,
        Some(Order::Stop) | None => {
            clients.close().await;
            return;
        }
    };
    let window = Window::new(start, spec.warm_up, spec.duration);
    let stop = CancellationToken::new();
    let limit = spec.limit().map(|limit| match spec.case {
        // The first participant alone draws turns.
        Case::Rounds => limit,
        _ => share.count(limit),
    });
    let rate = spec.rate.map(|rate| rate / share.of.max(1) as f64);
    let turns = match Turns::new(window, limit, rate, stop.clone()) {
        Ok(turns) => turns,
        Err(error) => {
            let _ = reports.send(Report::Failed(error.to_string()));
            return;
        }
    };
    let part = std::sync::Arc::new(Part {
        meter: Meter::new(window.measured),
        spec,
        share,
        window,
        turns,
        stop: stop.clone(),
        ledger: Mutex::default(),
        holds: Mutex::default(),
        reports: reports.clone(),
    });
    super::clock::sleep_until(start).await;
    let mut working = std::pin::pin!(work::run(&part, workers));
    let mut tick = tokio::time::interval(super::TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut told = false;
    loop {
        tokio::select! {
            () = &mut working => break,
            order = orders.recv(), if !told => match order {
                Some(Order::Go { .. }) => {}
                // Whoever coordinates is gone, or says so.
                Some(Order::Stop) | None => {
                    told = true;
                    stop.cancel();
                }
            },
            _ = tick.tick() => {
                let _ = reports.send(Report::Progress(part.progress()));
            }
        }
    }
    // What was given up is put back before the books are closed.
    clients.close().await;
    let _ = reports.send(Report::Done(Box::new(part.outcome())));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_are_all_and_overlap_nowhere() {
        for (all, of) in [(10u64, 3u64), (2, 4), (7, 1), (0, 2)] {
            let mut numbers: Vec<u32> = Vec::new();
            for index in 0..of {
                let share = Share { index, of };
                let mine: Vec<u32> = share.of(all).collect();
                assert_eq!(mine.len() as u64, share.count(all));
                numbers.extend(mine);
            }
            numbers.sort_unstable();
            assert_eq!(numbers, (0..all as u32).collect::<Vec<_>>());
        }
    }
}
