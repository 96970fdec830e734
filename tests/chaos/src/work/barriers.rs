//! Barrier: every process holds and releases it in turns, and every process waits at it. Double
//! barrier: three processes go through round after round, a fourth tries to get in beside them.

use std::time::Duration;

use synod::DoubleBarrier;

use super::{Spawner, Task, WAIT};
use crate::history::{Answer, Args, Call};
use crate::primitive::{MEMBERS, Primitive};

pub(super) fn spawn(spawner: &mut Spawner<'_>) {
    match spawner.primitive {
        Primitive::Barrier => {
            spawner.spawn("hold", holder);
            spawner.spawn("wait", waiter);
        }
        _ if spawner.index < MEMBERS => spawner.spawn("member", member),
        _ => spawner.spawn("intruder", intruder),
    }
}

fn yes(yes: &bool) -> Answer {
    Answer {
        yes: Some(*yes),
        ..Answer::default()
    }
}

async fn holder(mut task: Task) {
    let barrier = task.client().barrier(task.object());
    while task.goes_on().await {
        let hold = barrier.hold();
        let held = task.op(Call::Hold, Args::default(), hold, |()| Answer::default());
        if held.await.is_some() {
            task.pause(20..150).await;
        } else {
            let wait = barrier.wait_timeout(Duration::from_secs(2));
            if task.op(Call::Wait, Args::default(), wait, yes).await != Some(false) {
                continue;
            }
            // Its holder is dead, it seems: anybody may release it.
        }
        task.op(Call::Open, Args::default(), barrier.release(), yes)
            .await;
        task.pause(50..300).await;
    }
}

async fn waiter(mut task: Task) {
    let barrier = task.client().barrier(task.object());
    while task.goes_on().await {
        let wait = barrier.wait_timeout(WAIT);
        task.op(Call::Wait, Args::default(), wait, yes).await;
    }
}

async fn member(task: Task) {
    go_through(task, WAIT, 1..100).await;
}

async fn intruder(task: Task) {
    go_through(task, Duration::from_millis(300), 500..1500).await;
}

async fn go_through(mut task: Task, patience: Duration, pause: std::ops::Range<u64>) {
    while task.goes_on().await {
        task.pause(pause.clone()).await;
        // A handle of its own each time: one whose call was given up waits for that first.
        let barrier: DoubleBarrier = task.client().double_barrier(task.object(), MEMBERS);
        let enter = barrier.enter_timeout(patience);
        let answer = |entered: &bool| Answer {
            token: barrier.round(),
            ..yes(entered)
        };
        if task.op(Call::Enter, Args::default(), enter, answer).await != Some(true) {
            continue;
        }
        let args = Args {
            token: barrier.round(),
            ..Args::default()
        };
        task.pause(1..60).await;
        task.op(Call::Leave, args, barrier.leave_timeout(WAIT), yes)
            .await;
    }
}
