//! `pop`: takes items as many as were asked for, or as come.
//!
//! An item is taken when the one before it is printed, and not while nobody reads the output any more: so
//! it is at most one whose printing fails. It goes back, to the end of the queue.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, timeout_at};

use super::Context;
use super::ops::Ops;
use crate::args::PopArgs;
use crate::cmd::work::{show, unless_stopped};
use crate::failure::{Exit, Failure, Result};
use crate::hangup::Hangup;

pub(super) async fn run(
    ops: &Ops,
    args: &PopArgs,
    patience: Option<Duration>,
    context: &mut Context,
) -> Result<()> {
    let mut hangup = Hangup::watch()?;
    let mut taken: u64 = 0;
    let mut deadline = patience.map(from_now);
    while args.follow || taken < args.count {
        let item = tokio::select! {
            biased;
            stop = context.signals.stop() => return Err(stop.failure()),
            () = hangup.gone() => return Err(Failure::silent(Exit::Done)),
            item = take(ops, deadline) => item?,
        };
        let Some(item) = item else {
            let late = late(ops, args, taken, patience);
            return unless_stopped(&mut context.signals, late).await;
        };
        ops.show(item, &mut context.out).await?;
        taken = taken.saturating_add(1);
        if args.follow {
            deadline = patience.map(from_now);
        }
    }
    Ok(())
}

/// The next item; `None` when it has not come by `deadline`.
pub(super) async fn take(ops: &Ops, deadline: Option<Instant>) -> Result<Option<Bytes>> {
    match deadline {
        None => ops.take().await.map(Some),
        Some(deadline) => match ops.try_take().await? {
            // Also when no time is left, what is there is taken.
            Some(item) => Ok(Some(item)),
            None => timeout_at(deadline, ops.take()).await.ok().transpose(),
        },
    }
}

/// What is said when nothing has come in time: once the store has answered, that nothing has.
pub(super) async fn nothing_came(ops: &Ops, patience: Option<Duration>) -> Result<Failure> {
    let patience = patience.unwrap_or_default();
    // Without any waiting, it has answered just now.
    if !patience.is_zero() {
        ops.answers().await?;
    }
    Ok(Failure::new(
        Exit::Nothing,
        format!("nothing came into {} within {}", ops.name(), show(patience)),
    ))
}

/// What comes of it when nothing more has come in time.
pub(super) async fn late(
    ops: &Ops,
    args: &PopArgs,
    taken: u64,
    patience: Option<Duration>,
) -> Result<()> {
    let nothing = nothing_came(ops, patience).await?;
    match (taken, args.follow) {
        (0, _) => Err(nothing),
        (_, true) => Ok(()),
        (_, false) => Err(Failure::new(
            Exit::Nothing,
            format!(
                "only {taken} of {} items came into {} within {}",
                args.count,
                ops.name(),
                show(patience.unwrap_or_default())
            ),
        )),
    }
}

pub(super) fn from_now(patience: Duration) -> Instant {
    let now = Instant::now();
    // Too far away to be told from for ever.
    now.checked_add(patience)
        .unwrap_or_else(|| now + Duration::from_secs(100 * 365 * 24 * 3600))
}
