//! [`Linger`]: what nobody needs at present is kept for a moment, since whoever needed it may come again.
//!
//! It belongs to whoever owns the [`Linger`], and ends with it; so does the task that looks after it. When the
//! client closes, all ends that is kept, before the store does.

use std::future::Future;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::time::Instant;

use crate::settle::Settle;
use crate::slot::Slot;

/// For how long a thing is kept.
const LINGER: Duration = Duration::from_secs(1);

/// How many are kept at most.
const MOST: usize = 64;

/// Whether tasks of this runtime get on by themselves. Those of a runtime with one thread do only while
/// somebody waits in it, which may be never again: what others may come to need must not depend on them.
pub(crate) fn is_driven(runtime: &Handle) -> bool {
    !matches!(runtime.runtime_flavor(), RuntimeFlavor::CurrentThread)
}

/// What can be kept.
pub(crate) trait Ends: Send + Sync + 'static {
    /// Ends it; returns when nothing of it is left.
    fn end(&self) -> impl Future<Output = ()> + Send;
}

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

impl<T: Ends> Linger<T> {
    /// Keeps it for a moment from now on, if there is room; `runtime` looks after it.
    pub(crate) fn keep(self: &Arc<Self>, settle: &Settle, runtime: &Handle, thing: Arc<T>) {
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
            // It must not keep the client, nor its store.
            let closing = settle.closing();
            settle.spawn(runtime, "linger", tidy.run(closing));
        }
    }
}

/// The task that ends what was kept long enough, as long as there is any. Its end, whatever the cause,
/// ends all that is left: with a runtime that is gone, things of that runtime may be.
struct Tidy<T>(Weak<Linger<T>>);

impl<T: Ends> Tidy<T> {
    async fn run(self, closing: impl Future<Output = ()>) {
        let mut closing = std::pin::pin!(closing);
        loop {
            let closes = tokio::select! {
                () = &mut closing => true,
                () = tokio::time::sleep(LINGER) => false,
            };
            let Some(linger) = self.0.upgrade() else {
                return;
            };
            if closes {
                let kept = std::mem::take(&mut linger.0.lock().kept);
                drop(linger);
                for Kept { thing, .. } in kept {
                    thing.end().await;
                }
                return;
            }
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
    use crate::Client;
    use crate::testing::{engine, until};

    /// Ends as soon as it is told to.
    struct Thing;

    impl Ends for Thing {
        async fn end(&self) {}
    }

    #[tokio::test(start_paused = true)]
    async fn a_thing_is_kept_for_a_moment_and_again_when_it_was_used() {
        let client = Client::from_store(engine());
        let linger = Arc::new(Linger::default());
        let thing = Arc::new(Thing);
        let keep = || linger.keep(&client.settle(), &Handle::current(), Arc::clone(&thing));
        let gone = || Arc::strong_count(&thing) == 1;
        for _ in 0..5 {
            keep();
            tokio::time::sleep(LINGER.mul_f64(0.9)).await;
            assert!(!gone());
        }
        until(gone).await;
        keep();
        assert!(!gone(), "another task looks after it");
        until(gone).await;
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_an_end_to_what_is_kept() {
        let client = Client::from_store(engine());
        let linger = Arc::new(Linger::default());
        let things: Vec<_> = (0..MOST + 1).map(|_| Arc::new(Thing)).collect();
        let kept = || {
            things
                .iter()
                .filter(|thing| Arc::strong_count(thing) > 1)
                .count()
        };
        let keep = || {
            for thing in &things {
                linger.keep(&client.settle(), &Handle::current(), Arc::clone(thing));
            }
        };
        keep();
        assert_eq!(kept(), MOST);
        client.clone().close().await.unwrap();
        assert_eq!(kept(), 0, "the client has closed");
        keep();
        assert_eq!(kept(), MOST);
        drop(linger);
        assert_eq!(kept(), 0);
    }

    #[test]
    fn nothing_is_kept_beyond_the_runtime() {
        let client = Client::from_store(engine());
        let linger = Arc::new(Linger::default());
        let thing = Arc::new(Thing);
        let runtime = tokio::runtime::Runtime::new().unwrap();
        linger.keep(&client.settle(), runtime.handle(), Arc::clone(&thing));
        assert_eq!(Arc::strong_count(&thing), 2);
        drop(runtime);
        assert_eq!(Arc::strong_count(&thing), 1);
    }
}
