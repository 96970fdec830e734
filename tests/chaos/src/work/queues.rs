//! The queue and the priority queue: one task puts in, two take out.

use bytes::Bytes;
use rand::Rng;

use super::{Spawner, Task, WAIT, text, value};
use crate::history::{Answer, Args, Call};
use crate::primitive::Primitive;

pub(super) fn spawn(spawner: &mut Spawner<'_>) {
    spawner.spawn("put", produce);
    for name in ["get-a", "get-b"] {
        spawner.spawn(name, consume);
    }
}

async fn produce(mut task: Task) {
    let (fifo, priority) = (
        task.client().queue(task.object()),
        task.client().priority_queue(task.object()),
    );
    while task.goes_on().await {
        let item = task.unique();
        match task.primitive {
            Primitive::Queue => {
                let put = fifo.enqueue(&item);
                task.op(Call::Enqueue, value(item.clone()), put, |()| {
                    Answer::default()
                })
                .await;
            }
            _ => {
                let urgency: u16 = task.rng.random_range(0..4);
                let args = Args {
                    number: Some(urgency.into()),
                    ..value(item.clone())
                };
                let put = priority.enqueue(&item, urgency);
                task.op(Call::Enqueue, args, put, |()| Answer::default())
                    .await;
            }
        }
    }
}

async fn consume(mut task: Task) {
    while task.goes_on().await {
        take_one(&mut task, false).await;
    }
}

async fn take_one(task: &mut Task, at_once: bool) -> Option<Option<Bytes>> {
    let wait = WAIT / 3;
    let answer = |item: &Option<Bytes>| Answer {
        value: item.as_ref().map(|item| text(item)),
        ..Answer::default()
    };
    let (name, client) = (task.object(), task.client().clone());
    let fifo = task.primitive == Primitive::Queue;
    let next = async move {
        match (fifo, at_once) {
            (true, true) => client.queue(name).try_dequeue().await,
            (true, false) => client.queue(name).dequeue_timeout(wait).await,
            (false, true) => client.priority_queue(name).try_dequeue().await,
            (false, false) => client.priority_queue(name).dequeue_timeout(wait).await,
        }
    };
    task.op(Call::Dequeue, Args::default(), next, answer).await
}

pub(super) async fn drain(task: &mut Task) {
    // Failures are tried again, but not for ever.
    let mut failures = 0;
    while failures < 20 {
        match take_one(task, true).await {
            Some(Some(_)) => {}
            Some(None) => return,
            None => failures += 1,
        }
    }
}
