//! Mutex, readers-writer lock and semaphore: whoever holds one writes or reads a guarded key through
//! its guard, gives it back, and now and then tries to write under the token of the past.

use std::future::IntoFuture;

use rand::Rng;
use synod::Txn;
use synod::store::Compare;
use synod::txn::{get, put};

use super::{Spawner, Task, WAIT, text, value};
use crate::history::{Answer, Args, Call};
use crate::primitive::{PERMITS, Primitive};

pub(super) fn spawn(spawner: &mut Spawner<'_>) {
    match spawner.primitive {
        Primitive::Mutex => spawner.spawn("lock", mutex),
        Primitive::Rwlock => {
            spawner.spawn("read", readers);
            spawner.spawn("write", writers);
        }
        _ => spawner.spawn("acquire", semaphore),
    }
}

/// What the history says of something that was acquired, or not within the wait.
macro_rules! acquired {
    () => {
        |guard: &Option<_>| Answer {
            token: guard.as_ref().map(|guard| guard.fencing_token()),
            key: guard.as_ref().map(|guard| guard.key().to_string()),
            ..Answer::default()
        }
    };
}

fn held(token: u64, mode: &str) -> Args {
    Args {
        token: Some(token),
        mode: (!mode.is_empty()).then(|| mode.to_owned()),
        ..Args::default()
    }
}

fn mode(mode: &str, number: u64) -> Args {
    Args {
        mode: (!mode.is_empty()).then(|| mode.to_owned()),
        number: Some(number),
        ..Args::default()
    }
}

async fn mutex(mut task: Task) {
    let mutex = task.client().mutex(task.object());
    while task.goes_on().await {
        let lock = mutex.lock_timeout(WAIT);
        let locked = task.op(Call::Acquire, mode("", 1), lock, acquired!()).await;
        let Some(guard) = locked.flatten() else {
            continue;
        };
        let (token, owner) = (guard.fencing_token(), guard.is_owner());
        for _ in 0..2 {
            write(&mut task, guard.txn(), token, "").await;
            task.pause(1..30).await;
        }
        let release = guard.unlock();
        task.op(Call::Release, held(token, ""), release, |()| {
            Answer::default()
        })
        .await;
        stale(&mut task, owner, token).await;
    }
}

async fn readers(mut task: Task) {
    let lock = task.client().rwlock(task.object());
    while task.goes_on().await {
        let read = lock.read_timeout(WAIT);
        let locked = task
            .op(Call::Acquire, mode("read", 1), read, acquired!())
            .await;
        let Some(guard) = locked.flatten() else {
            continue;
        };
        let token = guard.fencing_token();
        for _ in 0..2 {
            let key = task.primitive.guarded();
            let read = guard.txn().and_then([get(key)]).into_future();
            let answer = |response: &synod::store::TxnResponse| {
                let kv = response.range(0).and_then(|range| range.kvs.first());
                Answer {
                    value: kv.map(|kv| text(&kv.value)),
                    revision: Some(response.header.revision.0),
                    ..Answer::default()
                }
            };
            task.op(Call::Read, held(token, "read"), read, answer).await;
            task.pause(1..30).await;
        }
        let release = guard.unlock();
        task.op(Call::Release, held(token, "read"), release, |()| {
            Answer::default()
        })
        .await;
    }
}

async fn writers(mut task: Task) {
    let lock = task.client().rwlock(task.object());
    while task.goes_on().await {
        let lock = lock.write_timeout(WAIT);
        let locked = task
            .op(Call::Acquire, mode("write", 1), lock, acquired!())
            .await;
        let Some(guard) = locked.flatten() else {
            continue;
        };
        let (token, owner) = (guard.fencing_token(), guard.is_owner());
        for _ in 0..2 {
            write(&mut task, guard.txn(), token, "write").await;
            task.pause(1..30).await;
        }
        let release = guard.unlock();
        task.op(Call::Release, held(token, "write"), release, |()| {
            Answer::default()
        })
        .await;
        stale(&mut task, owner, token).await;
    }
}

async fn semaphore(mut task: Task) {
    let semaphore = task.client().semaphore(task.object(), PERMITS);
    while task.goes_on().await {
        let permits = task.rng.random_range(1..=PERMITS);
        let acquire = semaphore.acquire_many_timeout(permits, WAIT);
        let args = mode("", permits.into());
        let permit = task.op(Call::Acquire, args, acquire, acquired!()).await;
        let Some(permit) = permit.flatten() else {
            continue;
        };
        let (token, owner) = (permit.fencing_token(), permit.is_owner());
        for _ in 0..2 {
            write(&mut task, permit.txn(), token, "").await;
            task.pause(1..30).await;
        }
        let release = permit.release();
        task.op(Call::Release, held(token, ""), release, |()| {
            Answer::default()
        })
        .await;
        stale(&mut task, owner, token).await;
    }
}

/// Writes the guarded key through a guard.
async fn write(task: &mut Task, txn: Txn, token: u64, mode: &str) {
    let written = task.unique();
    let args = Args {
        value: Some(written.clone()),
        ..held(token, mode)
    };
    let run = txn
        .and_then([put(task.primitive.guarded(), written)])
        .into_future();
    task.op(Call::Write, args, run, |response| Answer {
        revision: Some(response.header.revision.0),
        ..Answer::default()
    })
    .await;
}

/// Now and then, after the release, a write as it is sent by a process that was frozen before it.
async fn stale(task: &mut Task, owner: Compare, token: u64) {
    if !task.rng.random_bool(0.3) {
        return;
    }
    let written = task.unique();
    let args = Args {
        token: Some(token),
        ..value(written.clone())
    };
    let txn = task.client().txn().when([owner]);
    let run = txn
        .and_then([put(task.primitive.guarded(), written)])
        .into_future();
    task.op(Call::StaleWrite, args, run, |response| Answer {
        yes: Some(response.succeeded),
        ..Answer::default()
    })
    .await;
}
