//! The queues that a client has handles of: handles of one name share their core.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use synod_store::Key;

use super::consumer::Core;
use super::keys::Fifo;
use super::order::Order;
use crate::priority_queue::ByPriority;
use crate::slot::Slot;

/// The cores of queues of one order, by name, as long as somebody has a handle.
#[derive(Debug)]
pub(crate) struct Shelf<O: Order>(Slot<HashMap<Key, Weak<Core<O>>>>);

/// The cores of all of a client's queues.
#[derive(Debug, Default)]
pub(crate) struct Cores {
    pub(crate) fifo: Shelf<Fifo>,
    pub(crate) by_priority: Shelf<ByPriority>,
}

impl<O: Order> Default for Shelf<O> {
    fn default() -> Self {
        Shelf(Slot::new(HashMap::new()))
    }
}

impl<O: Order> Shelf<O> {
    /// The core of this name; a new one when nobody has a handle.
    pub(crate) fn get(&self, name: &Key, make: impl FnOnce() -> Core<O>) -> Arc<Core<O>> {
        let mut cores = self.0.lock();
        if let Some(core) = cores.get(name).and_then(Weak::upgrade) {
            return core;
        }
        cores.retain(|_, core| core.strong_count() > 0);
        let core = Arc::new(make());
        cores.insert(name.clone(), Arc::downgrade(&core));
        core
    }
}
