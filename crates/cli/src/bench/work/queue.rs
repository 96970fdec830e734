//! Queues of both kinds: filled, drained, both at once, nearly empty, and in batches.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::super::clock::now;
use super::super::items;
use super::super::part::Part;
use super::super::spec::{Case, Connections};
use super::{Errors, Line, Workers, all, finish, unless_stopped};

pub(super) async fn run(part: &Arc<Part>, workers: Workers) {
    // A client counts what all its handles do, as long as one of them lives.
    let both = workers.first.iter().chain(&workers.second);
    let clients = match part.spec.connections {
        Connections::Own => usize::MAX,
        Connections::Shared => 1,
    };
    let lines: Vec<_> = both
        .take(clients)
        .map(|(_, client)| Line::of(&part.spec, client))
        .collect();
    work(part, workers).await;
    for stats in lines.iter().map(Line::stats) {
        for (counter, count) in [
            ("claims", stats.claims),
            ("lost_claims", stats.lost_claims),
            ("taken", stats.taken),
            ("looks", stats.looks),
            ("puts", stats.puts),
        ] {
            part.meter.count(counter, count);
        }
    }
}

async fn work(part: &Arc<Part>, workers: Workers) {
    match part.spec.case {
        Case::Fill => {
            all(part, workers.first, |part, number, client| async move {
                let line = Line::of(&part.spec, &client);
                produce(&part, number, &line).await;
            })
            .await;
        }
        Case::Drain => {
            all(part, workers.second, |part, _, client| async move {
                let line = Line::of(&part.spec, &client);
                drain(&part, &line).await;
            })
            .await;
        }
        Case::Batch => {
            all(part, workers.first, |part, number, client| async move {
                let line = Line::of(&part.spec, &client);
                batches(&part, number, &line).await;
            })
            .await;
        }
        Case::Idle => super::idle::run(part, workers).await,
        _ => transfer(part, workers).await,
    }
}

fn size(part: &Part) -> usize {
    let size = part.spec.value_size.unwrap_or(0);
    usize::try_from(size).unwrap_or(0)
}

/// One item a turn.
async fn produce(part: &Part, producer: u32, line: &Line) {
    let mut errors = Errors::default();
    let mut number = 0u32;
    while let Some(turn) = part.turns.next().await {
        let value = items::value(size(part), producer, number, turn.begin);
        let put = unless_stopped(part, line.enqueue(number, value)).await;
        let certain = matches!(put, Some(Ok(())));
        number = number.saturating_add(1);
        part.ledger(|ledger| ledger.put(producer, number, 1, certain));
        match put {
            None => return,
            Some(Ok(())) => {
                errors.none();
                if part.spec.case == Case::Fill {
                    part.meter.done(turn, 1);
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

/// One item a turn; the coordinator stops it when nothing is left.
async fn drain(part: &Part, line: &Line) {
    let mut errors = Errors::default();
    while let Some(turn) = part.turns.next().await {
        match unless_stopped(part, line.dequeue()).await {
            None => return,
            Some(Ok(value)) => {
                errors.none();
                part.ledger(|ledger| ledger.out(&value));
                part.meter.done(turn, 1);
            }
            Some(Err(error)) => {
                part.ledger(|ledger| ledger.failed = ledger.failed.saturating_add(1));
                if !errors.one(part, &error).await {
                    return;
                }
            }
        }
    }
}

/// Producers have turns; consumers take out whatever comes until they are told that it was all.
async fn transfer(part: &Arc<Part>, workers: Workers) {
    let mut consumers = JoinSet::new();
    for (_, client) in workers.second {
        let part = part.clone();
        consumers.spawn(async move {
            let line = Line::of(&part.spec, &client);
            consume(&part, &line).await;
        });
    }
    all(part, workers.first, |part, number, client| async move {
        let line = Line::of(&part.spec, &client);
        produce(&part, number, &line).await;
    })
    .await;
    part.ended();
    finish(part, &mut consumers).await;
}

async fn consume(part: &Part, line: &Line) {
    let mut errors = Errors::default();
    loop {
        let asked = now();
        match unless_stopped(part, line.dequeue()).await {
            None => return,
            Some(Ok(value)) => {
                errors.none();
                part.ledger(|ledger| ledger.out(&value));
                let out = now();
                let begin = match items::read(&value).and_then(|item| item.begin) {
                    Some(0) => None,
                    Some(begin) => Some(begin),
                    // Too small to say when it was put in: the call's own time must do.
                    None => Some(asked),
                };
                // What is taken out when nothing goes in any more is no transfer; but how long it had
                // to wait counts.
                if out >= part.window.measured && !part.window.is_over(out) {
                    part.meter.came(1, out);
                }
                if let Some(begin) = begin.filter(|begin| *begin >= part.window.measured) {
                    part.meter.took(out.saturating_sub(begin));
                }
            }
            Some(Err(error)) => {
                part.ledger(|ledger| ledger.failed = ledger.failed.saturating_add(1));
                if !errors.one(part, &error).await {
                    return;
                }
            }
        }
    }
}

/// A batch in and as many items out a turn.
async fn batches(part: &Part, producer: u32, line: &Line) {
    let batch = part.spec.batch.unwrap_or(1).max(1);
    let mut errors = Errors::default();
    let mut number = 0u32;
    while let Some(turn) = part.turns.next_of(batch).await {
        let next = number.saturating_add(u32::try_from(batch).unwrap_or(u32::MAX));
        let values: Vec<_> = (number..next)
            .map(|number| items::value(size(part), producer, number, turn.begin))
            .collect();
        let put = unless_stopped(part, line.enqueue_many(number, values)).await;
        let certain = matches!(put, Some(Ok(())));
        part.ledger(|ledger| ledger.put(producer, next, batch, certain));
        number = next;
        let done = match put {
            None => return,
            Some(Ok(())) => take(part, line, batch).await,
            Some(Err(error)) => Err(error),
        };
        match done {
            Ok(false) => return,
            Ok(true) => {
                errors.none();
                part.meter.done(turn, batch);
            }
            Err(error) => {
                if !errors.one(part, &error).await {
                    return;
                }
            }
        }
    }
}

/// Takes out as many; `false` when it was told to stop.
async fn take(part: &Part, line: &Line, batch: u64) -> synod::Result<bool> {
    let mut left = batch;
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX);
        match unless_stopped(part, line.dequeue_many(most)).await {
            None => return Ok(false),
            Some(Ok(values)) => {
                left = left.saturating_sub(values.len() as u64);
                part.ledger(|ledger| values.iter().for_each(|value| ledger.out(value)));
            }
            Some(Err(error)) => {
                part.ledger(|ledger| ledger.failed = ledger.failed.saturating_add(left));
                return Err(error);
            }
        }
    }
    Ok(true)
}
