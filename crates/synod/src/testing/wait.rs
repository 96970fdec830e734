//! Waiting for conditions, for Synod's own tests, and the faults that they go through.

use std::future::IntoFuture;
use std::sync::Arc;
use std::time::Duration;

use synod_store::Store;

use super::Fault;

/// All that can go wrong with one call.
pub(crate) const FAULTS: [Fault; 5] = [
    Fault::Refuse,
    Fault::Drop,
    Fault::Lose,
    Fault::Late,
    Fault::Overtaken,
];

/// Waits for a condition; fails when it does not come.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    until_async(async || condition()).await;
}

/// Waits for a condition that has to be asked for; fails when it does not come.
pub(crate) async fn until_async(condition: impl AsyncFn() -> bool) {
    for _ in 0..4000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("the condition has not come");
}

/// What a future comes to; fails when it does not come to anything.
pub(crate) async fn soon<F: IntoFuture>(future: F) -> F::Output {
    let bound = Duration::from_secs(30);
    match tokio::time::timeout(bound, future).await {
        Ok(output) => output,
        Err(_) => panic!("not within {bound:?}"),
    }
}

/// A new embedded store in memory.
pub(crate) fn engine() -> Arc<dyn Store> {
    super::faulty::engine()
}
