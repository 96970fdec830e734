//! Deliveries: one task puts in, two take, and acknowledge or give back.

use std::time::Duration;

use rand::Rng;
use synod::{Delivery, Queue};

use super::{Spawner, Task, WAIT, text, value};
use crate::history::{Answer, Args, Call};

pub(super) fn spawn(spawner: &mut Spawner<'_>) {
    spawner.spawn("put", produce);
    for name in ["take-a", "take-b"] {
        spawner.spawn(name, consume);
    }
}

fn queue(task: &Task) -> Queue {
    let queue = task.client().queue(task.object());
    queue
        .with_visibility(task.shared.ttl)
        .with_max_attempts(None)
}

async fn produce(mut task: Task) {
    let queue = queue(&task);
    while task.goes_on().await {
        let item = task.unique();
        let put = queue.enqueue(&item);
        task.op(Call::Enqueue, value(item.clone()), put, |()| {
            Answer::default()
        })
        .await;
    }
}

async fn consume(mut task: Task) {
    let queue = queue(&task);
    while task.goes_on().await {
        if let Some(Some(delivery)) = take(&mut task, &queue, WAIT / 3).await {
            task.pause(1..60).await;
            let back = task.rng.random_bool(0.15);
            finish(&mut task, delivery, back).await;
        }
    }
}

async fn take(task: &mut Task, queue: &Queue, wait: Duration) -> Option<Option<Delivery>> {
    let answer = |delivery: &Option<Delivery>| Answer {
        value: delivery.as_ref().map(|delivery| text(delivery.value())),
        token: delivery.as_ref().map(|delivery| delivery.attempt().into()),
        ..Answer::default()
    };
    task.op(
        Call::Take,
        Args::default(),
        queue.take_timeout(wait),
        answer,
    )
    .await
}

async fn finish(task: &mut Task, delivery: Delivery, back: bool) {
    let args = Args {
        token: Some(delivery.attempt().into()),
        ..value(text(delivery.value()))
    };
    let done = |(): &()| Answer::default();
    if back {
        task.op(Call::Nack, args, delivery.nack(), done).await;
    } else {
        task.op(Call::Ack, args, delivery.ack(), done).await;
    }
}

pub(super) async fn drain(task: &mut Task) {
    let queue = queue(task);
    // What the dead had taken comes back when its bound has run out.
    let wait = task.shared.ttl * 2 + Duration::from_secs(4);
    let mut failures = 0;
    while failures < 20 {
        match take(task, &queue, wait).await {
            Some(Some(delivery)) => finish(task, delivery, false).await,
            Some(None) => return,
            None => failures += 1,
        }
    }
}
