//! [`Registry`]: what all handles of one object in one client share, found by the object's name.

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Weak};

use synod_store::Key;

use crate::slot::Slot;

type Shared = Weak<dyn Any + Send + Sync>;

/// Shared things by kind and name. It keeps none of them alive: each lives as long as a handle.
#[derive(Default)]
pub(crate) struct Registry(Slot<HashMap<(&'static str, Key), Shared>>);

impl Registry {
    /// The thing of this kind and name; made if nobody has it. One kind has one type.
    pub(crate) fn get<T: Any + Send + Sync>(
        &self,
        kind: &'static str,
        name: &Key,
        make: impl FnOnce() -> T,
    ) -> Arc<T> {
        self.get_if(kind, name, |_| true, make)
    }

    /// As [`Registry::get`]; made anew also when the one that somebody has is not `good` any more.
    pub(crate) fn get_if<T: Any + Send + Sync>(
        &self,
        kind: &'static str,
        name: &Key,
        good: impl FnOnce(&T) -> bool,
        make: impl FnOnce() -> T,
    ) -> Arc<T> {
        let mut shared = self.0.lock();
        let found = shared
            .get(&(kind, name.clone()))
            .and_then(Weak::upgrade)
            .and_then(|found| found.downcast::<T>().ok())
            .filter(|found| good(found));
        if let Some(found) = found {
            return found;
        }
        shared.retain(|_, thing| thing.strong_count() > 0);
        let made = Arc::new(make());
        let weak: Weak<T> = Arc::downgrade(&made);
        shared.insert((kind, name.clone()), weak);
        made
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_somebody_holds_is_shared_and_the_rest_is_made_anew() {
        let registry = Registry::default();
        let name = Key::from("a");
        let first = registry.get("kind", &name, || 1);
        assert_eq!(*registry.get("kind", &name, || 2), 1);
        assert_eq!(*registry.get("another", &name, || 3), 3);
        assert_eq!(*registry.get("kind", &Key::from("b"), || 4), 4);
        drop(first);
        assert_eq!(*registry.get("kind", &name, || 5), 5);
    }

    #[test]
    fn what_is_no_good_any_more_is_made_anew() {
        let registry = Registry::default();
        let name = Key::from("a");
        let first = registry.get("kind", &name, || 1);
        let second = registry.get_if("kind", &name, |thing| *thing > 1, || 2);
        assert_eq!((*first, *second), (1, 2));
        assert_eq!(*registry.get("kind", &name, || 3), 2);
    }
}
