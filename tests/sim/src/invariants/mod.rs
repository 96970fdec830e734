//! What must hold, one file each. All of them look at the history after the run.

mod barrier;
mod double_barrier;
mod fence;
mod holds;
mod kv;
mod priority;
mod progress;
mod queue;
mod stm;
mod take;

use crate::history::History;
use crate::workloads::Workload;

/// The first of what was broken in this run.
pub(crate) fn check(history: &History, workload: Workload) -> Result<(), String> {
    if let Some(violation) = history.violations.first() {
        return Err(format!("store: {violation}"));
    }
    let named = |name: &str, result: Result<(), String>| {
        result.map_err(|violation| format!("{name}: {violation}"))
    };
    named("kv", kv::check(history))?;
    match workload {
        Workload::Queue => named("queue", queue::check(history))?,
        Workload::PriorityQueue => {
            named("queue", queue::check_values(history))?;
            named("priority", priority::check(history))?;
        }
        Workload::Take => named("take", take::check(history))?,
        Workload::Mutex | Workload::Election => {
            named("holds", holds::exclusive(history))?;
            named("fence", fence::check(history))?;
        }
        Workload::RwLock => {
            named("holds", holds::readers_or_writer(history))?;
            named("fence", fence::check(history))?;
        }
        Workload::Semaphore => named("holds", holds::permits(history, 2))?,
        Workload::Barrier => named("barrier", barrier::check(history))?,
        Workload::DoubleBarrier => named("double barrier", double_barrier::check(history))?,
        Workload::Stm => named("stm", stm::check(history))?,
    }
    named("progress", progress::check(history, workload))
}
