//! [`MutexGuard`]: the lock, while it is held.

use super::held::Held;
use crate::waiters::guard;

guard! {
    /// The lock, while it is held. Dropping it unlocks in the background; [`MutexGuard::unlock`] also
    /// says whether it was held to the end.
    ///
    /// It may be sent to other tasks, and outlives the [`Mutex`](super::Mutex) and the client that it
    /// was made from. *Holding it is no proof*: a process that was stopped for longer than its session
    /// lives holds a guard of a lock that another has by now. Give [`MutexGuard::fencing_token`] to
    /// whatever the lock protects, or write with [`MutexGuard::is_owner`] as a condition.
    #[must_use = "the lock is released when this is dropped"]
    MutexGuard(Held), unlock as "synod.mutex.unlock"
}

impl MutexGuard {
    /// How many guards have had the lock before this one under the same
    /// [`fencing_token`](MutexGuard::fencing_token): rises from 0 while the lock is
    /// [handed over](super::Mutex::local_handover) between the tasks of one client, and is 0 without that.
    ///
    /// The pair of the fencing token and this rises from guard to guard, the token compared first. What
    /// compares plain tokens must take an equal one too.
    #[must_use]
    pub fn turn(&self) -> u64 {
        self.hold.turn()
    }
}
