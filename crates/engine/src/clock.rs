//! The clock that leases live by: an argument, so that tests need not sleep.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A clock that never goes back.
///
/// Only differences count. It should go on while the machine is suspended, since leases do.
pub trait Clock: Debug + Send + Sync + 'static {
    /// The time since some fixed moment.
    fn now(&self) -> Duration;

    /// Whether time passes by itself. When it does not, an engine sleeps until it is woken, and does not take a jump for
    /// a stall of its own.
    fn is_running(&self) -> bool {
        true
    }

    /// Asks to call `wake` whenever the time was changed by hand, until it returns false. A running clock has nothing to
    /// do here.
    fn on_change(&self, wake: Wake) {
        drop(wake);
    }
}

/// What a [`Clock`] calls when its time was changed by hand; false once nobody listens any more.
pub type Wake = Box<dyn Fn() -> bool + Send + Sync>;

/// The system's clock that counts suspended time too (`CLOCK_BOOTTIME`) where there is one, else the monotonic one.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        #[cfg(any(target_os = "linux", target_os = "android", target_os = "fuchsia"))]
        let clock = rustix::time::ClockId::Boottime;
        #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "fuchsia")))]
        let clock = rustix::time::ClockId::Monotonic;
        let time = rustix::time::clock_gettime(clock);
        Duration::new(
            u64::try_from(time.tv_sec).unwrap_or(0),
            u32::try_from(time.tv_nsec).unwrap_or(0),
        )
    }
}

/// A clock that stands still until it is moved by hand.
///
/// Clones show the same time.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use synod_engine::{Engine, EngineOptions, ManualClock};
///
/// let clock = ManualClock::new();
/// let engine = Engine::open(EngineOptions::memory().with_clock(Arc::new(clock.clone())))?;
/// clock.advance(Duration::from_secs(10));
/// # Ok::<(), synod_store::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct ManualClock(Arc<Mutex<Manual>>);

#[derive(Default)]
struct Manual {
    now: Duration,
    wakes: Vec<Arc<Wake>>,
}

impl ManualClock {
    /// A clock that shows zero.
    #[must_use]
    pub fn new() -> ManualClock {
        ManualClock::default()
    }

    /// Moves the clock on, and wakes the engines that live by it. What follows from it, such as the end of a lease,
    /// happens soon after this returns.
    pub fn advance(&self, by: Duration) {
        let wakes = {
            let mut manual = self.lock();
            manual.now = manual.now.saturating_add(by);
            manual.wakes.clone()
        };
        // Called without the lock: who is woken may ask for the time.
        let dead: Vec<_> = wakes.into_iter().filter(|wake| !wake()).collect();
        if !dead.is_empty() {
            let is_dead = |wake: &Arc<Wake>| dead.iter().any(|dead| Arc::ptr_eq(dead, wake));
            self.lock().wakes.retain(|wake| !is_dead(wake));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Manual> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        self.lock().now
    }

    fn is_running(&self) -> bool {
        false
    }

    fn on_change(&self, wake: Wake) {
        self.lock().wakes.push(Arc::new(wake));
    }
}

impl Debug for ManualClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ManualClock").field(&self.now()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn the_system_clock_does_not_go_back() {
        let first = SystemClock.now();
        assert!(first > Duration::ZERO);
        assert!(SystemClock.now() >= first);
    }

    #[test]
    fn a_manual_clock_wakes_who_listens_and_forgets_who_does_not() {
        let clock = ManualClock::new();
        let woken = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&woken);
        clock.on_change(Box::new(move || count.fetch_add(1, Ordering::SeqCst) == 0));
        for _ in 0..3 {
            clock.advance(Duration::from_secs(2));
        }
        assert_eq!(woken.load(Ordering::SeqCst), 2);
        assert_eq!(clock.now(), Duration::from_secs(6));
    }
}
