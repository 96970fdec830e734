//! [`errand`]: work in the background that is done although the runtime which does it may end.
//!
//! A client may be used in several runtimes, and whoever has a key may keep its lease alive in another one than the
//! one that is to delete the key. A task that goes with its runtime would leave the key for as long as the lease lives.

use std::future::Future;

use tokio::runtime::Handle;

use crate::linger::is_driven;
use crate::settle::Settle;

/// Where work is done: in the first of these, and when that has ended, or ends in the middle, in the second.
#[derive(Debug, Clone)]
pub(crate) struct Runtimes {
    pub(crate) first: Handle,
    pub(crate) second: Option<Handle>,
}

impl Runtimes {
    /// Where to work for keys of a session that is kept at `home`: there, since as long as the lease is kept alive
    /// tasks get on there. In a runtime of one thread they do only while somebody waits in it: then the runtime of this
    /// moment comes first.
    pub(crate) fn of(home: &Handle) -> Runtimes {
        let here = Handle::try_current().ok();
        let here = here.filter(|here| here.id() != home.id());
        match here {
            Some(here) if !is_driven(home) => Runtimes {
                first: here,
                second: Some(home.clone()),
            },
            here => Runtimes {
                first: home.clone(),
                second: here,
            },
        }
    }

    /// Both, in their order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Handle> {
        [&self.first].into_iter().chain(&self.second)
    }
}

/// Does what `work` makes, under a name; [`Settle::close`] waits for it. When its runtime ends, `work` makes it
/// anew for the next one: it must do no harm twice.
pub(crate) fn errand<W, F>(settle: &Settle, runtimes: Runtimes, name: &'static str, work: W)
where
    W: FnMut() -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    let Runtimes { first, second } = runtimes;
    let errand = Errand {
        settle: settle.clone(),
        name,
        next: second,
        work: Some(work),
    };
    errand.run_in(&first);
}

/// Work that is not done yet. Dropping it begins it anew in the next runtime.
struct Errand<W, F>
where
    W: FnMut() -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    settle: Settle,
    name: &'static str,
    next: Option<Handle>,
    /// Taken once it is done, or passed on.
    work: Option<W>,
}

impl<W, F> Errand<W, F>
where
    W: FnMut() -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    fn run_in(mut self, runtime: &Handle) {
        let (settle, name) = (self.settle.clone(), self.name);
        settle.spawn(runtime, name, async move {
            if let Some(work) = self.work.as_mut().map(|work| work()) {
                work.await;
            }
            // Done: not to begin anew.
            drop(self.work.take());
        });
    }
}

impl<W, F> Drop for Errand<W, F>
where
    W: FnMut() -> F + Send + 'static,
    F: Future<Output = ()> + Send + 'static,
{
    fn drop(&mut self) {
        if let Some(runtime) = self.next.take()
            && let Some(work) = self.work.take()
        {
            let again = Errand {
                settle: self.settle.clone(),
                name: self.name,
                next: None,
                work: Some(work),
            };
            again.run_in(&runtime);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::runtime::Runtime;
    use tokio::sync::Notify;

    use super::*;
    use crate::Client;
    use crate::testing::{engine, soon, until};

    #[test]
    fn an_errand_outlives_the_runtimes_that_end() {
        let (first, second) = (Runtime::new().unwrap(), Runtime::new().unwrap());
        let settle = second.block_on(async { Client::from_store(engine()).settle() });
        let runtimes = Runtimes {
            first: first.handle().clone(),
            second: Some(second.handle().clone()),
        };
        let (begun, go_on) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let work = || {
            let (begun, go_on) = (Arc::clone(&begun), Arc::clone(&go_on));
            move || {
                begun.fetch_add(1, Ordering::SeqCst);
                let go_on = Arc::clone(&go_on);
                async move { go_on.notified().await }
            }
        };
        let begun_are = |count| move |begun: &AtomicUsize| begun.load(Ordering::SeqCst) == count;
        errand(&settle, runtimes.clone(), "test", work());
        second.block_on(async {
            until(|| begun_are(1)(&begun)).await;
            // It ends in the middle of the one, and before the other.
            first.shutdown_background();
            until(|| begun_are(2)(&begun)).await;
            errand(&settle, runtimes, "test", work());
            until(|| begun_are(3)(&begun)).await;
            go_on.notify_waiters();
            soon(settle.close()).await.unwrap();
            assert!(begun_are(3)(&begun), "done, and not anew");
        });
        assert_eq!(Arc::strong_count(&begun), 1);
    }
}
