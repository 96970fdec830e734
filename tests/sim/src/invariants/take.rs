//! Nothing that was put in is gone without an acknowledgement, and what was acknowledged does not come again.

use std::collections::BTreeSet;

use crate::history::{End, History};

pub(super) fn check(history: &History) -> Result<(), String> {
    let mut acked = BTreeSet::new();
    let mut maybe = BTreeSet::new();
    for op in history.all("ack") {
        match op.outcome {
            End::Done(_) => {
                if !acked.insert(op.argument.as_str()) {
                    return Err(format!("{} was acknowledged twice", op.argument));
                }
                let again = history.all("take").find(|take| {
                    take.outcome == End::Done(op.argument.clone())
                        && op.end.is_some_and(|end| take.begin > end)
                });
                if let Some(take) = again {
                    let who = take.client;
                    return Err(format!("{} came again to client {who}", op.argument));
                }
            }
            End::Doubt => drop(maybe.insert(op.argument.as_str())),
            End::Not(_) => {}
        }
    }
    let mut left = Vec::new();
    history.oracle.replay(|_, state| {
        left = state.values().map(|kv| kv.value.clone()).collect();
    });
    let left: Vec<_> = left
        .iter()
        .map(|value| String::from_utf8_lossy(value))
        .collect();
    let mut put = BTreeSet::new();
    for op in history.all("enqueue") {
        let value = op.argument.as_str();
        put.insert(value);
        // In a record it ends the record.
        let is_left = left
            .iter()
            .any(|text| *text == value || text.ends_with(&format!("\n{value}")));
        match op.outcome {
            End::Done(_) if !acked.contains(value) && !maybe.contains(value) && !is_left => {
                return Err(format!("{value} is lost"));
            }
            End::Not(_) if acked.contains(value) || is_left => {
                return Err(format!("{value} was refused, and is there"));
            }
            _ => {}
        }
        if acked.contains(value) && is_left {
            return Err(format!("{value} was acknowledged, and is still there"));
        }
    }
    for op in history.all("take") {
        if let End::Done(value) = &op.outcome
            && value != "nothing"
            && !put.contains(value.as_str())
        {
            return Err(format!("{value} came out, and was never put in"));
        }
    }
    Ok(())
}
