//! The state in the writer's hands while it carries out a group.

use std::sync::RwLockWriteGuard;

use crate::mvcc::State;
use crate::shared::Shared;

/// The state's lock, kept over several small commands and given up for a long one.
pub(super) struct Head<'a> {
    shared: &'a Shared,
    guard: Option<RwLockWriteGuard<'a, State>>,
}

impl<'a> Head<'a> {
    pub(super) fn new(shared: &'a Shared) -> Head<'a> {
        Head {
            shared,
            guard: None,
        }
    }

    /// The state, for a change or a quick look.
    pub(super) fn state(&mut self) -> &mut State {
        let shared = self.shared;
        self.guard.get_or_insert_with(|| shared.state_mut())
    }

    /// The state for a look that may take long: readers go on meanwhile, and since nobody but the writer changes it,
    /// nothing comes in between.
    pub(super) fn look<T>(&mut self, look: impl FnOnce(&State) -> T) -> T {
        self.release();
        look(&self.shared.state())
    }

    /// Lets readers in.
    pub(super) fn release(&mut self) {
        self.guard = None;
    }
}
