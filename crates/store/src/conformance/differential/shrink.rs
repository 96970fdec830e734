//! Makes a history that shows a difference shorter.

use std::time::Duration;

use super::{Difference, Side, Step, play};

/// How long a watch may take while a difference is made smaller: something is wrong already.
const PATIENCE: Duration = Duration::from_secs(1);

/// The most histories that are tried.
const ATTEMPTS: usize = 300;

/// Leaves out what is not needed: first large parts, then single steps.
pub(super) async fn shrink(
    left: &Side<'_>,
    right: &Side<'_>,
    seed: u64,
    mut history: Vec<Step>,
    mut what: String,
) -> Difference {
    let mut attempts = 0;
    let mut size = history.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        let mut shorter = false;
        while at < history.len() && attempts < ATTEMPTS {
            let mut candidate = history.clone();
            candidate.drain(at..history.len().min(at + size));
            attempts += 1;
            match play(left, right, seed, &candidate, PATIENCE).await {
                Ok(_) => at += size,
                Err(still) => {
                    (history, what, shorter) = (candidate, still, true);
                }
            }
        }
        if attempts >= ATTEMPTS {
            break;
        }
        // Single steps are tried until none of them can go.
        if size > 1 || !shorter {
            size /= 2;
        }
    }
    Difference {
        seed,
        history,
        what,
    }
}
