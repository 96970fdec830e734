//! When the delayed items of this client become due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::PAUSE;
use super::depot::Depot;
use crate::slot::Slot;

/// The most alarms of one client for one queue; beyond, others find what is due.
const ALARMS: usize = 4096;

/// An item that is due within this time is waited for by whoever has just looked.
const CLOSE: Duration = Duration::from_secs(1);

/// The alarms of one queue in one client.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    set: Notify,
    state: Slot<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By the clock.
    times: BinaryHeap<Reverse<Duration>>,
    /// Whether somebody waits for them.
    waited_for: bool,
}

/// Says that nobody waits any more, also when a runtime ended the task, or never began it.
struct Waiting {
    depot: Arc<Depot>,
    retired: bool,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if !self.retired {
            self.depot.alarms.state.lock().waited_for = false;
        }
    }
}

impl Depot {
    /// Has a round when a delayed item that this client has put in is due. Should the client die
    /// before, others find it.
    pub(super) fn alarm(self: &Arc<Depot>, delay: Duration) {
        let at = self.clock.now().saturating_add(delay);
        let start = {
            let mut state = self.alarms.state.lock();
            if state.times.len() < ALARMS {
                state.times.push(Reverse(at));
            }
            !std::mem::replace(&mut state.waited_for, true)
        };
        self.alarms.set.notify_one();
        if start {
            match crate::runtime() {
                Ok(runtime) => {
                    let waiting = Waiting {
                        depot: Arc::clone(self),
                        retired: false,
                    };
                    self.settle
                        .spawn(&runtime, "delivery.delayed", Depot::ring(waiting));
                }
                Err(_) => self.alarms.state.lock().waited_for = false,
            }
        }
    }

    /// Runs while there are alarms.
    async fn ring(mut waiting: Waiting) {
        let depot = Arc::clone(&waiting.depot);
        loop {
            let next = {
                let mut state = depot.alarms.state.lock();
                match state.times.peek() {
                    Some(Reverse(next)) => *next,
                    None => {
                        state.waited_for = false;
                        waiting.retired = true;
                        return;
                    }
                }
            };
            tokio::select! {
                () = depot.settle.closing() => return,
                () = depot.alarms.set.notified() => continue,
                () = depot.clock.sleep_until(next) => {}
            }
            let now = depot.clock.now();
            {
                let mut state = depot.alarms.state.lock();
                while state.times.peek().is_some_and(|Reverse(at)| *at <= now) {
                    state.times.pop();
                }
            }
            let due = match depot.round().await {
                // More are due than one round moves.
                Ok(round) if round.more => Some(depot.clock.unix_nanos()),
                Ok(round) => round.due,
                Err(error) => {
                    tracing::debug!(%error, "delayed items could not be looked at");
                    Some(depot.clock.unix_nanos())
                }
            };
            // The two clocks need not agree to the nanosecond.
            let rest =
                due.map(|due| Duration::from_nanos(due.saturating_sub(depot.clock.unix_nanos())));
            if let Some(rest) = rest.filter(|rest| *rest < CLOSE) {
                let again = depot.clock.now().saturating_add(rest.max(PAUSE));
                depot.alarms.state.lock().times.push(Reverse(again));
            }
        }
    }
}
