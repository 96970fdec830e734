//! Waiting for conditions: tests never wait for time to pass, and never without a bound.

use std::fmt::Display;
use std::future::Future;
use std::time::{Duration, Instant};

/// How long a single wait may take before the test fails. It says that something is stuck, so it is generous: it costs
/// nothing when all is well, and a busy machine is no reason to fail.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The life of a session whose end a test waits for, or a timeout that it lets run out. What has to happen before is well
/// within it: a renewal may be late by two thirds of it, and that is longer than a busy machine stops for.
pub const BRIEF: Duration = Duration::from_secs(6);

/// How long a whole test may take before it fails.
pub const TEST_LIMIT: Duration = Duration::from_secs(300);

/// Asks `condition` again and again until it is true.
///
/// # Panics
///
/// With `what` when it is not after [`PATIENCE`].
pub async fn until<F: Future<Output = bool>>(what: impl Display, mut condition: impl FnMut() -> F) {
    until_some(what, || {
        let asked = condition();
        async { asked.await.then_some(()) }
    })
    .await;
}

/// Asks `condition` again and again until it gives something.
///
/// # Panics
///
/// With `what` when it has not after [`PATIENCE`].
pub async fn until_some<T, F: Future<Output = Option<T>>>(
    what: impl Display,
    mut condition: impl FnMut() -> F,
) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(
            begin.elapsed() < PATIENCE,
            "waited {PATIENCE:?} in vain: {what}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The future's result, within [`PATIENCE`].
///
/// # Panics
///
/// With `what` when it takes longer.
pub async fn soon<T>(what: impl Display, future: impl Future<Output = T>) -> T {
    within(PATIENCE, what, future).await
}

/// The future's result, within `limit`.
///
/// # Panics
///
/// With `what` when it takes longer.
pub async fn within<T>(limit: Duration, what: impl Display, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, future).await {
        Ok(result) => result,
        Err(_) => panic!("not within {limit:?}: {what}"),
    }
}
