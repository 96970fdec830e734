//! A queue that is nearly empty: one item at a time, to consumers that already wait.

use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::super::clock::now;
use super::super::items;
use super::super::part::Part;
use super::{Errors, Line, Workers, finish, unless_stopped};

/// The time until the next item, in milliseconds: time for the consumers to wait again, and drawn at
/// random, so that no clock of the server's is always met at the same distance.
const PAUSE: std::ops::Range<u64> = 2..102;

pub(super) async fn run(part: &Arc<Part>, workers: Workers) {
    let (out, mut came) = mpsc::unbounded_channel();
    let mut consumers = JoinSet::new();
    for (_, client) in workers.second {
        let (part, out) = (part.clone(), out.clone());
        consumers.spawn(async move {
            let line = Line::of(&part.spec, &client);
            let mut errors = Errors::default();
            loop {
                match unless_stopped(&part, line.dequeue()).await {
                    None => return,
                    Some(Ok(value)) => {
                        let time = now();
                        part.ledger(|ledger| ledger.out(&value));
                        if out.send(time).is_err() {
                            return;
                        }
                    }
                    Some(Err(error)) => {
                        part.ledger(|ledger| ledger.failed = ledger.failed.saturating_add(1));
                        if !errors.one(&part, &error).await {
                            return;
                        }
                    }
                }
            }
        });
    }
    drop(out);
    for (producer, client) in workers.first {
        let line = Line::of(&part.spec, &client);
        produce(part, producer, &line, &mut came).await;
    }
    part.ended();
    finish(part, &mut consumers).await;
}

async fn produce(part: &Part, producer: u32, line: &Line, came: &mut mpsc::UnboundedReceiver<u64>) {
    let size = usize::try_from(part.spec.value_size.unwrap_or(0)).unwrap_or(0);
    let mut errors = Errors::default();
    let mut number = 0u32;
    loop {
        let pause = rand::rng().random_range(PAUSE);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        let Some(turn) = part.turns.next().await else {
            return;
        };
        let value = items::value(size, producer, number, turn.begin);
        let put = unless_stopped(part, line.enqueue(number, value)).await;
        let certain = matches!(put, Some(Ok(())));
        number = number.saturating_add(1);
        part.ledger(|ledger| ledger.put(producer, number, 1, certain));
        match put {
            None => return,
            Some(Ok(())) => {
                errors.none();
                match unless_stopped(part, came.recv()).await.flatten() {
                    // Stopped, or all consumers have given up.
                    None => return,
                    Some(time) => {
                        part.meter
                            .completed(turn, 1, time.saturating_sub(turn.begin), time);
                    }
                }
            }
            Some(Err(error)) => {
                if !errors.one(part, &error).await {
                    return;
                }
            }
        }
    }
}
