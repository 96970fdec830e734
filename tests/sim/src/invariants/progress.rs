//! Enough was done for the run to mean something, and after the last fault everybody gets on.

use std::time::Duration;

use crate::client::{TTL, is_done};
use crate::history::{End, History, Op};
use crate::workloads::Workload;
use crate::world::CLIENTS;

/// What a client may take to recover.
const SLACK: Duration = Duration::from_secs(5);
/// Fewer operations than this say nothing.
const FLOOR: usize = 12;

pub(super) fn check(history: &History, workload: Workload) -> Result<(), String> {
    let useful = |op: &&Op| {
        is_done(&op.outcome)
            && !matches!(&op.outcome, End::Done(text) if text == "nothing" || text == "false")
    };
    let done = history.ops.iter().filter(useful).count();
    if done < FLOOR {
        return Err(format!("only {done} operations were done"));
    }
    let until = history.healed + TTL + SLACK;
    for client in 0..CLIENTS {
        let mut ops = history
            .ops
            .iter()
            .filter(|op| op.client == client)
            .filter(useful);
        let gets_on = ops.any(|op| {
            op.end
                .is_some_and(|end| end > history.healed && end <= until)
        });
        if !gets_on {
            return Err(format!(
                "client {client} did nothing in {workload:?} between {:?} and {until:?}",
                history.healed
            ));
        }
    }
    // One that waits for others is not excused by what its client does beside.
    for what in calls(workload) {
        let mut ops = history.all(what).filter(useful);
        let gets_on = ops.any(|op| {
            op.end
                .is_some_and(|end| end > history.healed && end <= until)
        });
        if !gets_on {
            return Err(format!(
                "nobody has done {what:?} in {workload:?} between {:?} and {until:?}",
                history.healed
            ));
        }
    }
    Ok(())
}

/// What somebody must do once the faults are over.
fn calls(workload: Workload) -> &'static [&'static str] {
    match workload {
        Workload::Queue | Workload::PriorityQueue => &["enqueue", "dequeue"],
        Workload::Take => &["enqueue", "take", "ack"],
        Workload::Mutex | Workload::RwLock | Workload::Semaphore | Workload::Election => {
            &["lock", "release"]
        }
        Workload::Barrier => &["hold", "wait"],
        Workload::DoubleBarrier => &["enter", "leave"],
        Workload::Stm => &["append"],
    }
}
