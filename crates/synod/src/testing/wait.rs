//! Waiting for conditions, for Synod's own tests, and the faults that they go through.

use std::future::{Future, IntoFuture};
use std::sync::Arc;
use std::time::{Duration, Instant};

use synod_store::Store;
use tokio::runtime::{Builder, Runtime};

use super::{Fault, Faulty};

/// How long a wait may take before its test fails: long, since it costs nothing when all is well, and a busy machine is
/// no reason to fail.
const PATIENCE: Duration = Duration::from_secs(60);

/// Longer than the timeout of any client in these tests.
const TOO_LONG: Duration = Duration::from_secs(90);

/// All that can go wrong with one call.
pub(crate) const FAULTS: [Fault; 5] = [
    Fault::Refuse,
    Fault::Drop,
    Fault::Lose,
    Fault::Late,
    Fault::Overtaken,
];

/// A runtime that gets on by itself, for tests of clients in several.
pub(crate) fn runtime() -> Runtime {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(1).enable_all().build().unwrap()
}

/// A runtime that gets on only while somebody waits in it.
pub(crate) fn idle_runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Waits for a condition; fails when it does not come.
pub(crate) async fn until(condition: impl Fn() -> bool) {
    until_async(async || condition()).await;
}

/// Waits for a condition that has to be asked for; fails when it does not come.
pub(crate) async fn until_async(condition: impl AsyncFn() -> bool) {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if condition().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    panic!("the condition has not come");
}

/// Lets this much time pass at once for all that waits in this runtime, and for nobody else: timeouts end early, however
/// long they were. So a test can have a timeout that cannot end by itself on a busy machine, and end it when what it waits
/// for has come. Time of [`std`] and of the clocks that sessions go by stands still meanwhile. For runtimes with one thread.
pub(crate) async fn pass(time: Duration) {
    /// Dropped in the middle, time goes on all the same.
    struct GoesOn;
    impl Drop for GoesOn {
        fn drop(&mut self) {
            tokio::time::resume();
        }
    }
    tokio::time::pause();
    let _goes_on = GoesOn;
    tokio::time::advance(time).await;
}

/// What a call comes to whose time is over when `reached` is, and not before. Its timeout is the client's own, at most
/// [`TOO_LONG`].
pub(crate) async fn overdue<F: IntoFuture>(
    call: F,
    reached: impl Future<Output = ()>,
) -> F::Output {
    within(TOO_LONG + PATIENCE, async {
        let mut call = std::pin::pin!(call.into_future());
        tokio::select! {
            output = &mut call => return output,
            () = reached => {}
        }
        tokio::join!(call, pass(TOO_LONG)).0
    })
    .await
}

/// What a call comes to whose time is over when a request stands before the closed gate.
pub(crate) async fn overdue_at_gate<F: IntoFuture>(faulty: &Faulty, call: F) -> F::Output {
    overdue(call, async { assert!(faulty.wait_at_gate().await) }).await
}

/// What a call comes to whose time is over when it has sent something, and again after it was told of trouble.
pub(crate) async fn overdue_in_trouble<F: IntoFuture>(faulty: &Faulty, call: F) -> F::Output {
    let before = faulty.calls();
    overdue(call, until(|| faulty.calls() >= before + 2)).await
}

/// Whether a request comes to the closed gate within half a second. For tests that hold either way, and look into more
/// when it does.
pub(crate) async fn stops_at_gate(faulty: &Faulty) -> bool {
    faulty.wait_at_gate_for(Duration::from_millis(500)).await
}

/// What a future comes to; fails when it does not come to anything.
pub(crate) async fn soon<F: IntoFuture>(future: F) -> F::Output {
    within(PATIENCE, future).await
}

async fn within<F: IntoFuture>(bound: Duration, future: F) -> F::Output {
    match tokio::time::timeout(bound, future).await {
        Ok(output) => output,
        Err(_) => panic!("not within {bound:?}"),
    }
}

/// A new embedded store in memory.
pub(crate) fn engine() -> Arc<dyn Store> {
    super::faulty::engine()
}

/// Waits until a Txn stands at the closed gate, after which so many were sent; what is read before it gets through.
pub(crate) async fn txn_at_gate(faulty: &Faulty, before: usize) {
    loop {
        assert!(faulty.wait_at_gate().await, "no Txn comes");
        if faulty.txns() > before {
            return;
        }
        faulty.let_one_more_through();
    }
}
