//! `pop`: takes items as many as were asked for, or as come.
//!
//! An item is taken when the one before it is printed, and not when nobody reads the output any more: so it is at most
//! one whose printing fails, since its reader went away meanwhile. It goes back, which is told: in the layout of a
//! queue the order is that of the writes, so that what is put back comes last.

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
        let next = tokio::select! {
            biased;
            stop = context.signals.stop() => return Err(stop.failure()),
            next = next(ops, deadline, &mut hangup) => next?,
        };
        let item = match next {
            Next::Item(item) => item,
            Next::Gone => return Err(Failure::silent(Exit::Done)),
            Next::Late => {
                let late = late(ops, args, taken, patience);
                return unless_stopped(&mut context.signals, late).await;
            }
        };
        ops.show(item, &mut context.out).await?;
        taken = taken.saturating_add(1);
        if args.follow {
            deadline = patience.map(from_now);
        }
    }
    Ok(())
}

/// What comes next.
enum Next {
    Item(Bytes),
    /// Nothing has come in time.
    Late,
    /// Nobody reads the output any more, and nothing was taken.
    Gone,
}

/// The next item, as long as somebody reads.
async fn next(ops: &Ops, deadline: Option<Instant>, hangup: &mut Hangup) -> Result<Next> {
    tokio::select! {
        biased;
        () = hangup.gone() => return Ok(Next::Gone),
        () = std::future::ready(()) => {}
    }
    // This goes on when the reader goes away: given up on the way, the item would come out behind those that are there,
    // and nobody would know.
    if let Some(item) = ops.try_take().await? {
        return Ok(Next::Item(item));
    }
    tokio::select! {
        biased;
        () = hangup.gone() => Ok(Next::Gone),
        item = wait(ops, deadline) => Ok(item?.map_or(Next::Late, Next::Item)),
    }
}

/// The next item; `None` when it has not come by `deadline`.
pub(super) async fn take(ops: &Ops, deadline: Option<Instant>) -> Result<Option<Bytes>> {
    // Also when no time is left, what is there is taken.
    match ops.try_take().await? {
        Some(item) => Ok(Some(item)),
        None => wait(ops, deadline).await,
    }
}

/// The same, where nothing was there just now.
async fn wait(ops: &Ops, deadline: Option<Instant>) -> Result<Option<Bytes>> {
    match deadline {
        None => ops.take().await.map(Some),
        Some(deadline) => timeout_at(deadline, ops.take()).await.ok().transpose(),
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
