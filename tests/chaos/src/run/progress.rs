//! What must progress once the faults are over: each call that a primitive is made of, and each worker.

use std::collections::BTreeMap;

use crate::history::{Call, Entry};
use crate::primitive::Primitive;

/// Whether an operation has got something done: not a wait that was given up, nor a look at nothing.
pub(super) fn is_progress(entry: &Entry) -> bool {
    !matches!(entry.call, Call::Observe | Call::Leader) && is_done(entry)
}

/// The same, with questions that were answered.
fn is_done(entry: &Entry) -> bool {
    let Some(answer) = entry.ok() else {
        return false;
    };
    match entry.call {
        Call::Dequeue | Call::Take => answer.value.is_some(),
        Call::Acquire => answer.token.is_some(),
        Call::Wait | Call::Enter | Call::Leave | Call::Open => answer.yes == Some(true),
        Call::StaleWrite => false,
        Call::Swap => answer.yes == Some(true),
        _ => true,
    }
}

/// What must be done by somebody: the call, and in which mode if there are several.
fn calls(primitive: Primitive) -> &'static [(Call, Option<&'static str>)] {
    match primitive {
        Primitive::Queue | Primitive::PriorityQueue => {
            &[(Call::Enqueue, None), (Call::Dequeue, None)]
        }
        Primitive::Delivery => &[(Call::Enqueue, None), (Call::Take, None), (Call::Ack, None)],
        Primitive::Rwlock => &[
            (Call::Acquire, Some("read")),
            (Call::Read, None),
            (Call::Acquire, Some("write")),
            (Call::Write, None),
        ],
        Primitive::Mutex | Primitive::Semaphore => &[
            (Call::Acquire, None),
            (Call::Write, None),
            (Call::Release, None),
        ],
        Primitive::Election => &[
            (Call::Acquire, None),
            (Call::Proclaim, None),
            (Call::Leader, None),
            (Call::Observe, None),
        ],
        Primitive::Barrier => &[(Call::Hold, None), (Call::Open, None), (Call::Wait, None)],
        Primitive::DoubleBarrier => &[(Call::Enter, None), (Call::Leave, None)],
        Primitive::Stm => &[(Call::Transfer, None), (Call::Audit, None)],
        Primitive::Txn => &[(Call::Swap, None), (Call::Read, None)],
    }
}

/// What has not been done within a time, in words.
pub(super) fn missing(
    primitive: Primitive,
    entries: &[Entry],
    (from, until): (u64, u64),
) -> Vec<String> {
    let own = || entries.iter().filter(|entry| entry.primitive == primitive);
    let done = || {
        own().filter(|entry| {
            is_done(entry) && entry.ended.is_some_and(|at| at > from && at <= until)
        })
    };
    let mut missing = Vec::new();
    for (call, mode) in calls(primitive) {
        let fits = |entry: &Entry| {
            entry.call == *call && (mode.is_none() || entry.args.mode.as_deref() == *mode)
        };
        if !done().any(fits) {
            let mode = mode.unwrap_or_default();
            missing.push(
                format!("nobody has done {call:?} {mode}")
                    .trim_end()
                    .to_owned(),
            );
        }
    }
    // Each worker of the safety phase has an index, `wINDEX.INCARNATION`; who drains comes later, and who intrudes
    // into rounds of others may be kept out for ever.
    let mut workers: BTreeMap<&str, bool> = BTreeMap::new();
    for entry in own().filter(|entry| !matches!(entry.task.as_str(), "drain" | "intruder")) {
        let index = entry.worker.split('.').next().unwrap_or_default();
        workers.entry(index).or_insert(false);
    }
    for entry in done().filter(|entry| match primitive {
        // Whoever has lost sight of the others is shown nothing.
        Primitive::Election => entry.call == Call::Observe,
        _ => true,
    }) {
        let index = entry.worker.split('.').next().unwrap_or_default();
        workers.entry(index).and_modify(|done| *done = true);
    }
    for (worker, _) in workers.into_iter().filter(|(_, done)| !done) {
        missing.push(format!("worker {worker} has done nothing"));
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Answer, Args, Outcome};

    fn op(worker: &str, call: Call, at: u64, value: Option<&str>) -> Entry {
        Entry {
            worker: worker.to_owned(),
            task: "t".to_owned(),
            id: at,
            primitive: Primitive::Queue,
            call,
            args: Args::default(),
            began: at - 1,
            ended: Some(at),
            outcome: Some(Outcome::Ok(Answer {
                value: value.map(str::to_owned),
                ..Answer::default()
            })),
            settled: None,
        }
    }

    #[test]
    fn each_call_and_each_worker_must_progress() {
        let queue = |entries: &[Entry]| missing(Primitive::Queue, entries, (100, 200));
        let good = [
            op("w0.0", Call::Enqueue, 50, None),
            op("w0.1", Call::Enqueue, 150, None),
            op("w1.0", Call::Dequeue, 160, Some("a")),
            op("w9.0", Call::Dequeue, 300, Some("b")),
        ];
        assert_eq!(queue(&good[..3]), [""; 0]);
        let mut drained = good.clone();
        drained[3].task = "drain".to_owned();
        assert_eq!(queue(&drained), [""; 0]);
        // An enqueue is no excuse for consumers that sleep.
        let mut asleep = good[..3].to_vec();
        asleep[2] = op("w1.0", Call::Dequeue, 160, None);
        let text = queue(&asleep).join(", ");
        assert_eq!(text, "nobody has done Dequeue, worker w1 has done nothing");
        // Nor is one worker for another.
        let mut silent = good[..3].to_vec();
        silent.push(op("w2.0", Call::Dequeue, 50, Some("c")));
        assert_eq!(queue(&silent), ["worker w2 has done nothing"]);
        let mut late = good[..3].to_vec();
        late[1].ended = Some(201);
        assert_eq!(queue(&late).len(), 2);
    }
}
