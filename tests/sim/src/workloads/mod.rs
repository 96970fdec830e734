//! What clients do: one primitive a run, chosen by the seed.

mod barriers;
mod locks;
mod queues;
mod stm;

use crate::client::Me;
pub(crate) use locks::REGISTER;
pub(crate) use stm::LISTS;

/// A primitive under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Workload {
    Queue,
    PriorityQueue,
    Take,
    Mutex,
    RwLock,
    Semaphore,
    Election,
    Barrier,
    DoubleBarrier,
    Stm,
}

impl Workload {
    /// All of them, by name.
    pub(crate) const ALL: [(&'static str, Workload); 10] = [
        ("queue", Workload::Queue),
        ("priority-queue", Workload::PriorityQueue),
        ("take", Workload::Take),
        ("mutex", Workload::Mutex),
        ("rwlock", Workload::RwLock),
        ("semaphore", Workload::Semaphore),
        ("election", Workload::Election),
        ("barrier", Workload::Barrier),
        ("double-barrier", Workload::DoubleBarrier),
        ("stm", Workload::Stm),
    ];

    /// The one of a seed.
    pub(crate) fn of(seed: u64) -> Workload {
        Workload::ALL[(seed % Workload::ALL.len() as u64) as usize].1
    }

    /// Works until the run ends.
    pub(crate) async fn run(self, me: &Me) {
        match self {
            Workload::Queue => queues::queue(me).await,
            Workload::PriorityQueue => queues::priority_queue(me).await,
            Workload::Take => queues::take(me).await,
            Workload::Mutex => locks::mutex(me).await,
            Workload::RwLock => locks::rwlock(me).await,
            Workload::Semaphore => locks::semaphore(me).await,
            Workload::Election => locks::election(me).await,
            Workload::Barrier => barriers::barrier(me).await,
            Workload::DoubleBarrier => barriers::double_barrier(me).await,
            Workload::Stm => stm::stm(me).await,
        }
    }
}
