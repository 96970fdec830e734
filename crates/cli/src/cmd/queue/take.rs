//! `take --exec`: runs a command on items, which are gone only when it has succeeded.
//!
//! While the command runs, its delivery is extended every third of `--visibility`. When that fails
//! for so long that the item may be another's by now, the command is ended.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use std::time::Duration;

use serde_json::{Map, Value};
use synod::{Delivery, Error};
use tokio::time::{Instant, sleep, timeout_at};

use super::Context;
use super::ops::{Any, Ops, either};
use super::pop::{from_now, late};
use crate::args::{Format, TakeArgs};
use crate::child::{Child, Ended, result_of};
use crate::cmd::work::unless_stopped;
use crate::explain::explain;
use crate::failure::{Exit, Failure, Result};
use crate::output::{insert_bytes, notice};

/// What a shell says of a command that it cannot run, or does not find.
const CANNOT_RUN: [u8; 2] = [126, 127];

pub(super) async fn run(
    ops: &Ops,
    args: &TakeArgs,
    patience: Option<Duration>,
    context: &mut Context,
) -> Result<()> {
    let queue = ops.taking(args);
    let mut taken: u64 = 0;
    let mut failed = None;
    let mut deadline = patience.map(from_now);
    while args.many.follow || taken < args.many.count {
        let delivery = tokio::select! {
            biased;
            stop = context.signals.stop() => return Err(stop.failure()),
            delivery = next(&queue, deadline) => {
                delivery.map_err(|error| explain(&format!("cannot take from {}", ops.name()), &error))?
            }
        };
        let Some(delivery) = delivery else {
            let late = late(ops, &args.many, taken, patience);
            unless_stopped(&mut context.signals, late).await?;
            break;
        };
        taken = taken.saturating_add(1);
        let code = deliver(delivery, args, context).await?;
        if code != 0 {
            failed.get_or_insert(code);
        }
        if args.many.follow {
            deadline = patience.map(from_now);
        }
    }
    result_of(failed.unwrap_or(0))
}

/// The next item; `None` when it has not come by `deadline`.
async fn next(queue: &Any, deadline: Option<Instant>) -> synod::Result<Option<Delivery>> {
    let Some(deadline) = deadline else {
        return either!(queue, queue => queue.take().await).map(Some);
    };
    // Also when no time is left, what is there is taken.
    if let Some(delivery) = either!(queue, queue => queue.try_take().await)? {
        return Ok(Some(delivery));
    }
    let waited = timeout_at(deadline, async {
        either!(queue, queue => queue.take().await)
    });
    waited.await.ok().transpose()
}

/// Runs the command on one item, and settles what becomes of it. Returns the command's code.
async fn deliver(delivery: Delivery, args: &TakeArgs, context: &mut Context) -> Result<u8> {
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(&args.exec)
        .env("SYNOD_ITEM_KEY", OsStr::from_bytes(delivery.key()))
        .env("SYNOD_ITEM_ATTEMPT", delivery.attempt().to_string());
    let key = delivery.key().clone();
    let attempt = delivery.attempt();
    let ended = match Child::spawn(command, Some(delivery.value())) {
        Ok(child) => {
            let lost = lost(&delivery, args.visibility);
            child.stay(lost, args.grace, &mut context.signals).await?
        }
        Err(failure) => {
            give_back(delivery, args).await?;
            return Err(failure);
        }
    };
    let outcome = settle(delivery, ended, args).await?;
    if context.out.format() == Format::Json {
        let mut fields = Map::new();
        insert_bytes(&mut fields, "key", &key);
        fields.insert("attempt".into(), attempt.into());
        fields.insert("code".into(), ended.code.into());
        fields.insert("outcome".into(), outcome.into());
        context.out.line("", Value::Object(fields))?;
    }
    if let Some(stop) = ended.stopped {
        return Err(stop.failure());
    }
    if CANNOT_RUN.contains(&ended.code) {
        // It would fail for each of the items.
        return Err(Failure::new(
            Exit::Command(ended.code),
            "the command cannot be run: nothing more is taken",
        ));
    }
    Ok(match outcome {
        ENDED => Exit::Lost.code(),
        _ => ended.code,
    })
}

/// What becomes of an item.
const ACKED: &str = "acked";
const NACKED: &str = "nacked";
const ENDED: &str = "ended";

async fn settle(delivery: Delivery, ended: Ended, args: &TakeArgs) -> Result<&'static str> {
    if ended.lost {
        return Ok(ENDED);
    }
    if ended.code != 0 {
        return give_back(delivery, args).await;
    }
    let key = delivery.key().clone();
    match delivery.ack().await {
        Ok(()) => Ok(ACKED),
        Err(Error::DeliveryEnded { .. }) => {
            notice(&format!(
                "the time for {key} had run out before the command ended: it is delivered again"
            ));
            Ok(ENDED)
        }
        Err(error) => Err(explain(&format!("cannot acknowledge {key}"), &error)),
    }
}

async fn give_back(delivery: Delivery, args: &TakeArgs) -> Result<&'static str> {
    let key = delivery.key().clone();
    let back = match args.retry_after {
        None => delivery.nack().await,
        Some(delay) => delivery.nack_after(delay).await,
    };
    match back {
        Ok(()) => Ok(NACKED),
        // Then it is back already.
        Err(Error::DeliveryEnded { .. }) => Ok(ENDED),
        Err(error) => Err(explain(&format!("cannot give {key} back"), &error)),
    }
}

/// Extends the delivery again and again; completes, with words for it, when the item may be
/// another's.
async fn lost(delivery: &Delivery, visibility: Duration) -> String {
    let text = |why: &str| {
        format!(
            "{why}: {} is delivered to another, and the command is being ended",
            delivery.key()
        )
    };
    let pause = visibility / 3;
    loop {
        sleep(pause.min(delivery.remaining() / 2)).await;
        match delivery.extend(visibility).await {
            Ok(()) => {}
            Err(Error::DeliveryEnded { .. }) => return text("the delivery has ended"),
            Err(_) if delivery.remaining().is_zero() => {
                return text("the delivery could not be extended in time");
            }
            // As long as time is left, the next attempt may succeed.
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}
