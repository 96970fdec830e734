//! [`SemaphorePermit`]: permits that are held.

use crate::waiters::{Hold, guard};

guard! {
    /// Permits of a [`Semaphore`](super::Semaphore), while they are held. Dropping them gives them back in
    /// the background; [`SemaphorePermit::release`] also says whether they were held to the end.
    ///
    /// It may be sent to other tasks, and outlives the [`Semaphore`](super::Semaphore) and the client that it
    /// was made from. *Holding it is no proof*: a process that was stopped for longer than its session
    /// lives has permits that another was given by now.
    #[must_use = "the permits are given back when this is dropped"]
    SemaphorePermit(Hold) {
        permits: u32,
    },
    release as "synod.semaphore.release"
}

impl SemaphorePermit {
    /// How many permits these are.
    #[must_use]
    pub fn num_permits(&self) -> u32 {
        self.permits
    }
}
