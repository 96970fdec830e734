//! The time of measurements: nanoseconds of the machine's monotonic clock, which all processes on it
//! share.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds since some moment before this machine's processes began.
pub(crate) fn now() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// Waits until then.
pub(crate) async fn sleep_until(then: u64) {
    let left = then.saturating_sub(now());
    if left > 0 {
        tokio::time::sleep(std::time::Duration::from_nanos(left)).await;
    }
}
