//! [`Slot`]: a value behind a lock that is held for a few instructions, and cannot be poisoned.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A mutex whose holders never wait while they hold it.
///
/// Nothing in this crate can panic while it holds one; should it happen all the same, the value is
/// as whole as any other.
#[derive(Debug, Default)]
pub(crate) struct Slot<T>(Mutex<T>);

impl<T> Slot<T> {
    pub(crate) fn new(value: T) -> Slot<T> {
        Slot(Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
