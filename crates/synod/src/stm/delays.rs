//! How long a transaction waits after a conflict before its next attempt. Pure but for the sleep.
//!
//! A conflict means that another has committed, so that all together make headway whatever each of
//! them does. The first attempts follow at once: they have just been told the newest state. Who
//! still loses steps aside for a random while, longer each time, measured in commits.

use std::time::Duration;

/// How many conflicts in a row are followed by another attempt at once.
const AT_ONCE: u32 = 2;

/// The longest delay, in commits.
const MOST_COMMITS: u32 = 32;

/// The longest delay.
const LONGEST: Duration = Duration::from_secs(1);

/// A timer cannot tell shorter times.
const TICK: Duration = Duration::from_millis(1);

/// The longest delay after this many conflicts in a row, when a commit takes this long.
pub(super) fn bound(conflicts: u32, commit: Duration) -> Duration {
    let Some(exponent) = conflicts.checked_sub(AT_ONCE.saturating_add(1)) else {
        return Duration::ZERO;
    };
    let commits = 1u32.checked_shl(exponent).unwrap_or(u32::MAX);
    commit
        .saturating_mul(commits.min(MOST_COMMITS))
        .min(LONGEST)
}

/// Waits before the next attempt. True when that took so long that others may have committed.
pub(super) async fn wait(conflicts: u32, commit: Duration) -> bool {
    let delay = bound(conflicts, commit).mul_f64(rand::random());
    if delay < TICK {
        tokio::task::yield_now().await;
        false
    } else {
        tokio::time::sleep(delay).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_from_none_to_a_bound() {
        let commit = Duration::from_millis(10);
        let bounds: Vec<u128> = (0..12).map(|n| bound(n, commit).as_millis()).collect();
        assert_eq!(
            bounds,
            [0, 0, 0, 10, 20, 40, 80, 160, 320, 320, 320, 320],
            "in milliseconds"
        );
        assert_eq!(bound(u32::MAX, commit).as_millis(), 320);
        assert_eq!(bound(9, Duration::from_secs(100)), LONGEST);
    }
}
