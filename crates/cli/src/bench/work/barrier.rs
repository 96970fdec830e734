//! A barrier: from the release's call until the last waiter has returned.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::super::clock::now;
use super::super::part::Part;
use super::{Errors, Workers, unless_stopped};

/// Time for the waiters to wait, beside what each of them adds: they read the barrier, and watch it.
const SETTLE: Duration = Duration::from_millis(20);
const SETTLE_EACH: Duration = Duration::from_millis(1);

pub(super) async fn run(part: &Arc<Part>, workers: Workers) {
    let Some((_, releaser)) = workers.first.into_iter().next() else {
        return;
    };
    let name = format!("{}/barrier", part.spec.name);
    let gate = releaser.barrier(name.as_str());
    let waiters: Vec<_> = workers
        .second
        .iter()
        .map(|(_, client)| client.barrier(name.as_str()))
        .collect();
    let count = u32::try_from(waiters.len()).unwrap_or(u32::MAX);
    let settle = SETTLE.saturating_add(SETTLE_EACH.saturating_mul(count));
    let mut errors = Errors::default();
    loop {
        match unless_stopped(part, gate.hold()).await {
            None => return,
            Some(Ok(())) => {}
            Some(Err(error)) => {
                if !errors.one(part, &error).await {
                    return;
                }
                continue;
            }
        }
        let mut waiting = JoinSet::new();
        for waiter in &waiters {
            let waiter = waiter.clone();
            waiting.spawn(async move { waiter.wait().await.map(|()| now()) });
        }
        tokio::time::sleep(settle).await;
        if let Some(Ok(early)) = waiting.try_join_next() {
            match early {
                Ok(_) => part
                    .meter
                    .violated("a waiter returned while the barrier was held"),
                Err(error) => part.meter.failed(&error),
            }
        }
        let turn = part.turns.next().await;
        let released = now();
        let done = unless_stopped(part, async {
            gate.release().await?;
            let mut last = released;
            while let Some(returned) = waiting.join_next().await {
                match returned {
                    Ok(returned) => last = last.max(returned?),
                    Err(error) => part.meter.violated(format!("a waiter broke off: {error}")),
                }
            }
            Ok::<u64, synod::Error>(last)
        })
        .await;
        match (turn, done) {
            (None, _) | (_, None) => return,
            (Some(turn), Some(Ok(last))) => {
                errors.none();
                part.meter
                    .completed(turn, 1, last.saturating_sub(released), last);
            }
            (Some(_), Some(Err(error))) => {
                if !errors.one(part, &error).await {
                    return;
                }
            }
        }
    }
}
