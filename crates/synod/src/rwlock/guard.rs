//! [`RwLockReadGuard`] and [`RwLockWriteGuard`]: the lock, while it is held.

use crate::waiters::{Hold, guard};

guard! {
    /// The lock for reading, while it is held. Dropping it unlocks in the background;
    /// [`RwLockReadGuard::unlock`] also says whether it was held to the end.
    ///
    /// It may be sent to other tasks, and outlives the [`RwLock`](super::RwLock) and the client that
    /// it was made from. Holding it is no proof, as with a [`MutexGuard`](crate::MutexGuard).
    #[must_use = "the lock is released when this is dropped"]
    RwLockReadGuard(Hold), unlock as "synod.rwlock.unlock"
}

guard! {
    /// The lock for writing, while it is held. Dropping it unlocks in the background;
    /// [`RwLockWriteGuard::unlock`] also says whether it was held to the end.
    ///
    /// It may be sent to other tasks, and outlives the [`RwLock`](super::RwLock) and the client that
    /// it was made from. Holding it is no proof, as with a [`MutexGuard`](crate::MutexGuard).
    #[must_use = "the lock is released when this is dropped"]
    RwLockWriteGuard(Hold), unlock as "synod.rwlock.unlock"
}
