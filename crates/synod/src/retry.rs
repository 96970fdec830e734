//! Asking again: the delays between attempts, and reads that bear a store's transient trouble.

use std::future::Future;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use synod_store::{Applied, ErrorKind, Store, Txn, TxnResponse};
use tokio::time::Instant;

use crate::{Error, Result};

/// The delays between attempts: short at first, at most a second, jittered, without end.
#[derive(Debug)]
pub(crate) struct Backoff(ExponentialBackoff);

/// What is waited when the series of delays has no more to say.
const LONGEST: Duration = Duration::from_secs(1);

impl Backoff {
    pub(crate) fn new() -> Backoff {
        Backoff(
            ExponentialBuilder::default()
                .with_min_delay(Duration::from_millis(5))
                .with_max_delay(LONGEST)
                .with_jitter()
                .without_max_times()
                .build(),
        )
    }

    /// Waits before the next attempt.
    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.pause()).await;
    }

    /// What is to be waited before the next attempt.
    pub(crate) fn pause(&mut self) -> Duration {
        self.0.next().unwrap_or(LONGEST)
    }
}

/// Repeats a read of the store, as [`insist`].
pub(crate) async fn read<T, F>(patience: Duration, mut ask: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = synod_store::Result<T>>,
{
    insist(patience, || {
        let asked = ask();
        async { asked.await.map_err(Error::from) }
    })
    .await
}

/// Repeats something that changes nothing until it succeeds, fails for good, or has failed for
/// `patience`.
pub(crate) async fn insist<T, F>(patience: Duration, mut ask: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    // The timer would panic without one.
    crate::runtime()?;
    let deadline = Instant::now() + patience;
    let mut backoff = Backoff::new();
    loop {
        match tokio::time::timeout_at(deadline, ask()).await {
            Ok(Err(error)) if error.is_transient() && Instant::now() < deadline => {
                tracing::debug!(%error, "a request failed; trying again");
                backoff.wait().await;
            }
            Ok(answer) => return answer,
            Err(_) => return Err(Error::Timeout { after: patience }),
        }
    }
}

/// What became of a Txn that was sent until it was answered.
#[derive(Debug)]
pub(crate) struct Sent {
    /// The answer to the last copy. An error says whether any copy may have been applied.
    pub(crate) answer: synod_store::Result<TxnResponse>,
    /// Whether a copy got no answer: it may have been applied before the last one, or may come later.
    pub(crate) doubt: bool,
}

/// Sends a Txn until it is answered, fails for good, or has failed for `patience`. For Txns that do no
/// harm when they come twice, or late.
pub(crate) async fn txn(store: &dyn Store, txn: &Txn, patience: Duration) -> Sent {
    let deadline = Instant::now() + patience;
    let mut backoff = Backoff::new();
    let mut doubt = false;
    loop {
        let error = match tokio::time::timeout_at(deadline, store.txn(txn.clone())).await {
            Ok(Ok(response)) => {
                let answer = Ok(response);
                return Sent { answer, doubt };
            }
            Ok(Err(error)) => error,
            Err(_) => {
                synod_store::Error::from_kind(ErrorKind::Timeout).with_applied(Applied::Maybe)
            }
        };
        doubt |= error.is_maybe_applied();
        if !error.is_transient() || Instant::now() >= deadline {
            let applied = if doubt { Applied::Maybe } else { Applied::No };
            let answer = Err(error.with_applied(applied));
            return Sent { answer, doubt };
        }
        tracing::debug!(%error, "a transaction failed; sending it again");
        backoff.wait().await;
    }
}
