//! [`Linger`]: what nobody needs at present is kept for a moment, since whoever needed it may come again.
//!
//! It belongs to whoever owns the [`Linger`], and ends with it; so does the task that looks after it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::slot::Slot;
use crate::span;

/// For how long a thing is kept.
pub(crate) const LINGER: Duration = Duration::from_secs(1);

/// How many are kept at most.
const MOST: usize = 64;

/// Things that are kept for a moment more.
#[derive(Debug)]
pub(crate) struct Linger<T>(Slot<Shelf<T>>);

#[derive(Debug)]
struct Shelf<T> {
    kept: Vec<Kept<T>>,
    /// Whether a task ends them in time.
    tidying: bool,
}

#[derive(Debug)]
struct Kept<T> {
    thing: Arc<T>,
    until: Instant,
}

impl<T> Default for Linger<T> {
    fn default() -> Linger<T> {
        Linger(Slot::new(Shelf {
            kept: Vec::new(),
            tidying: false,
        }))
    }
}

impl<T: Send + Sync + 'static> Linger<T> {
    /// Keeps it for a moment from now on, if there is room.
    pub(crate) fn keep(self: &Arc<Self>, runtime: &Handle, thing: Arc<T>) {
        let until = Instant::now() + LINGER;
        let mut shelf = self.0.lock();
        let mut kept = shelf.kept.iter_mut();
        if let Some(kept) = kept.find(|kept| Arc::ptr_eq(&kept.thing, &thing)) {
            kept.until = until;
            return;
        }
        if shelf.kept.len() >= MOST {
            return;
        }
        shelf.kept.push(Kept { thing, until });
        let tidying = std::mem::replace(&mut shelf.tidying, true);
        drop(shelf);
        if !tidying {
            let tidy = Tidy(Arc::downgrade(self));
            runtime.spawn(span::task("linger", tidy.run()));
        }
    }
}

/// The task that ends what was kept long enough, as long as there is any. Its end, whatever the cause,
/// ends all that is left: with a runtime that is gone, things of that runtime may be.
struct Tidy<T>(Weak<Linger<T>>);

impl<T> Tidy<T> {
    async fn run(self) {
        loop {
            tokio::time::sleep(LINGER).await;
            let Some(linger) = self.0.upgrade() else {
                return;
            };
            let mut shelf = linger.0.lock();
            let now = Instant::now();
            // Dropped outside of the lock's scope.
            let over = shelf.kept.extract_if(.., |kept| kept.until <= now);
            let over: Vec<_> = over.collect();
            let done = shelf.kept.is_empty();
            drop(shelf);
            drop(over);
            if done {
                return;
            }
        }
    }
}

impl<T> Drop for Tidy<T> {
    fn drop(&mut self) {
        if let Some(linger) = self.0.upgrade() {
            let mut shelf = linger.0.lock();
            shelf.tidying = false;
            let rest = std::mem::take(&mut shelf.kept);
            drop(shelf);
            drop(rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::until;

    #[tokio::test(start_paused = true)]
    async fn a_thing_is_kept_for_a_moment_and_again_when_it_was_used() {
        let linger = Arc::new(Linger::default());
        let thing = Arc::new(());
        let gone = || Arc::strong_count(&thing) == 1;
        for _ in 0..5 {
            linger.keep(&Handle::current(), Arc::clone(&thing));
            tokio::time::sleep(LINGER.mul_f64(0.9)).await;
            assert!(!gone());
        }
        until(gone).await;
        linger.keep(&Handle::current(), Arc::clone(&thing));
        assert!(!gone(), "another task looks after it");
        until(gone).await;
    }

    #[tokio::test]
    async fn there_is_an_end_to_what_is_kept() {
        let linger = Arc::new(Linger::default());
        let things: Vec<_> = (0..MOST + 1).map(Arc::new).collect();
        for thing in &things {
            linger.keep(&Handle::current(), Arc::clone(thing));
        }
        let kept = things.iter().filter(|thing| Arc::strong_count(thing) > 1);
        assert_eq!(kept.count(), MOST);
        drop(linger);
        assert!(things.iter().all(|thing| Arc::strong_count(thing) == 1));
    }

    #[test]
    fn nothing_is_kept_beyond_the_runtime() {
        let linger = Arc::new(Linger::default());
        let thing = Arc::new(());
        let runtime = tokio::runtime::Runtime::new().unwrap();
        linger.keep(runtime.handle(), Arc::clone(&thing));
        assert_eq!(Arc::strong_count(&thing), 2);
        drop(runtime);
        assert_eq!(Arc::strong_count(&thing), 1);
    }
}
