//! [`Clock`]: the time that sessions and queues go by, as an argument.
//!
//! A lease runs on while a machine is suspended, but Rust's `Instant` does not count that time on
//! Linux. [`SystemClock`] does; tests pass a [`ManualClock`], which moves only when told.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use synod_store::BoxFuture;
use tokio::sync::watch;

/// A source of time.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Time since a fixed moment. Never goes back, and counts while the machine is suspended.
    fn now(&self) -> Duration;

    /// The wall clock, in nanoseconds since 1970. May jump, also back.
    fn unix_nanos(&self) -> u64;

    /// Waits until [`Clock::now`] has reached `at`.
    fn sleep_until(&self, at: Duration) -> BoxFuture<'static, ()>;
}

/// The operating system's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

/// A sleep wakes this often to compare the clock, which a suspended machine moves on unseen.
const SLICE: Duration = Duration::from_secs(1);

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        since_boot()
    }

    fn unix_nanos(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| {
                u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
            })
    }

    fn sleep_until(&self, at: Duration) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            while let Some(rest) = at.checked_sub(since_boot()).filter(|rest| !rest.is_zero()) {
                tokio::time::sleep(rest.min(SLICE)).await;
            }
        })
    }
}

#[cfg(unix)]
fn since_boot() -> Duration {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    let id = rustix::time::ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    let id = rustix::time::ClockId::Monotonic;
    let time = rustix::time::clock_gettime(id);
    let secs = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(secs, nanos)
}

#[cfg(not(unix))]
fn since_boot() -> Duration {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

/// A clock that moves only when told, for tests.
///
/// ```
/// use std::time::Duration;
/// use synod::clock::{Clock, ManualClock};
///
/// let clock = ManualClock::new();
/// clock.advance(Duration::from_secs(5));
/// assert_eq!(clock.now(), Duration::from_secs(5));
/// ```
#[derive(Debug)]
pub struct ManualClock {
    now: watch::Sender<Duration>,
    unix_nanos: AtomicU64,
}

impl ManualClock {
    /// A clock at zero, whose wall clock stands somewhere in 2026.
    #[must_use]
    pub fn new() -> ManualClock {
        ManualClock {
            now: watch::Sender::new(Duration::ZERO),
            unix_nanos: AtomicU64::new(1_790_000_000_000_000_000),
        }
    }

    /// Moves time on, the wall clock too, and wakes the sleeps that have ended.
    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.unix_nanos.fetch_add(nanos, Ordering::SeqCst);
        self.now.send_modify(|now| *now = now.saturating_add(by));
    }

    /// Sets the wall clock alone, also back.
    pub fn set_unix_nanos(&self, nanos: u64) {
        self.unix_nanos.store(nanos, Ordering::SeqCst);
    }

    /// How many sleeps are under way.
    #[must_use]
    pub fn sleepers(&self) -> usize {
        self.now.receiver_count()
    }
}

impl Default for ManualClock {
    fn default() -> ManualClock {
        ManualClock::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Duration {
        *self.now.borrow()
    }

    fn unix_nanos(&self) -> u64 {
        self.unix_nanos.load(Ordering::SeqCst)
    }

    fn sleep_until(&self, at: Duration) -> BoxFuture<'static, ()> {
        let mut now = self.now.subscribe();
        Box::pin(async move {
            // The clock itself may be dropped: nobody can move it then, and the sleep never ends.
            if now.wait_for(|now| *now >= at).await.is_err() {
                std::future::pending::<()>().await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_moves_on() {
        let first = SystemClock.now();
        while SystemClock.now() == first {
            std::hint::spin_loop();
        }
        assert!(SystemClock.now() > first);
        assert!(SystemClock.unix_nanos() > 1_600_000_000_000_000_000);
    }

    #[tokio::test]
    async fn a_manual_clock_wakes_those_whose_time_has_come() {
        let clock = ManualClock::new();
        let early = tokio::spawn(clock.sleep_until(Duration::from_secs(1)));
        let late = tokio::spawn(clock.sleep_until(Duration::from_secs(3)));
        assert_eq!(clock.sleepers(), 2);
        clock.advance(Duration::from_secs(1));
        early.await.unwrap();
        assert!(!late.is_finished());
        clock.advance(Duration::from_secs(2));
        late.await.unwrap();
    }
}
