//! Nobody passes a barrier that was held all the while.

use crate::history::{End, History};

pub(super) fn check(history: &History) -> Result<(), String> {
    for wait in history.all("wait") {
        let (End::Done(passed), Some(end)) = (&wait.outcome, wait.end) else {
            continue;
        };
        if passed != "true" {
            continue;
        }
        // Its holder's process may be gone: the barrier stays held, but nobody here knows until when.
        let held = history
            .holds
            .iter()
            .find(|hold| hold.from <= wait.begin && hold.to.is_some_and(|released| released > end));
        if let Some(hold) = held {
            return Err(format!("{wait:?} passed, though {hold:?}"));
        }
    }
    Ok(())
}
