//! [`Lingering`]: sights that nobody needs at present.
//!
//! Who waits at the same place again and again would open a watch and read each time, and end that watch
//! at the very moment when all others are told of the same event. So a sight outlives the last who
//! waited by a second or two; at most 64 do in a client. They end with it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;

use crate::sight::Sight;
use crate::slot::Slot;

/// How long a sight outlives the last who waited, at least.
const LINGER: Duration = Duration::from_secs(1);

/// How many there may be.
const MOST: usize = 64;

/// The sights of one client. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lingering(Arc<Slot<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    sights: Vec<(Arc<Sight>, Instant)>,
    /// Whether a task ends them in time.
    tidying: bool,
}

impl Lingering {
    /// Keeps a sight for whoever needs it next.
    pub(crate) fn keep(&self, sight: &Arc<Sight>, runtime: &Handle) {
        self.keep_for(LINGER, sight, runtime);
    }

    fn keep_for(&self, linger: Duration, sight: &Arc<Sight>, runtime: &Handle) {
        let until = Instant::now() + linger;
        let mut kept = self.0.lock();
        let known = kept
            .sights
            .iter_mut()
            .find(|(known, _)| Arc::ptr_eq(known, sight));
        if let Some((_, known)) = known {
            *known = until;
            return;
        }
        if kept.sights.len() >= MOST {
            return;
        }
        kept.sights.push((Arc::clone(sight), until));
        let tidying = std::mem::replace(&mut kept.tidying, true);
        drop(kept);
        if !tidying {
            let kept = Arc::downgrade(&self.0);
            runtime.spawn(Tidy { kept, over: false }.run(linger));
        }
    }

    /// Lets those go that are blind, as their runtime has ended: they are to be made anew.
    pub(crate) fn drop_blind(&self) {
        let mut kept = self.0.lock();
        let blind: Vec<_> = kept
            .sights
            .extract_if(.., |(sight, _)| sight.is_blind())
            .collect();
        drop(kept);
        // Outside of the lock's scope.
        drop(blind);
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.lock().sights.len()
    }
}

/// The task that lets sights go which nobody has needed for a while. Its end, whatever the cause, lets
/// another begin.
struct Tidy {
    kept: Weak<Slot<Kept>>,
    /// Whether it has ended by itself.
    over: bool,
}

impl Tidy {
    async fn run(mut self, linger: Duration) {
        loop {
            tokio::time::sleep(linger).await;
            let Some(all) = self.kept.upgrade() else {
                return;
            };
            let now = Instant::now();
            let mut kept = all.lock();
            let gone: Vec<_> = kept
                .sights
                .extract_if(.., |(_, until)| *until <= now)
                .collect();
            self.over = kept.sights.is_empty();
            if self.over {
                kept.tidying = false;
            }
            drop(kept);
            // Outside of the lock's scope.
            drop(gone);
            if self.over {
                return;
            }
        }
    }
}

impl Drop for Tidy {
    fn drop(&mut self) {
        // Also when its runtime ends in the middle.
        if !self.over
            && let Some(kept) = self.kept.upgrade()
        {
            kept.lock().tidying = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use synod_store::KeyRange;

    use super::*;
    use crate::testing::{engine, until};

    fn sight(runtime: &Handle) -> Arc<Sight> {
        let patience = Duration::from_secs(10);
        let range = KeyRange::one("a");
        Arc::new(Sight::open(engine(), runtime, range, patience))
    }

    #[tokio::test]
    async fn sights_that_linger_are_few_and_go() {
        let (lingering, runtime) = (Lingering::default(), Handle::current());
        let linger = Duration::from_millis(20);
        for _ in 0..2 {
            let first = sight(&runtime);
            for _ in 0..3 {
                lingering.keep_for(linger, &first, &runtime);
            }
            assert_eq!(lingering.len(), 1);
            for _ in 0..100 {
                lingering.keep_for(linger, &sight(&runtime), &runtime);
            }
            assert!(lingering.len() <= MOST);
            until(|| lingering.len() == 0).await;
            assert_eq!(Arc::strong_count(&first), 1);
        }
    }

    #[test]
    fn a_sight_whose_runtime_has_ended_does_not_linger() {
        let runtime = || tokio::runtime::Runtime::new().unwrap();
        let lingering = Lingering::default();
        let first = runtime();
        lingering.keep(&sight(first.handle()), first.handle());
        lingering.drop_blind();
        assert_eq!(lingering.len(), 1);
        drop(first);
        lingering.drop_blind();
        assert_eq!(lingering.len(), 0);
        // And the next is let go in time again.
        let second = runtime();
        let linger = Duration::from_millis(10);
        lingering.keep_for(linger, &sight(second.handle()), second.handle());
        second.block_on(until(|| lingering.len() == 0));
    }
}
