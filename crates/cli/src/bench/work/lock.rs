//! A lock: taken and given back by contenders. Mutual exclusion is checked while it is measured.

use std::sync::{Arc, Mutex, PoisonError};

use super::super::clock::now;
use super::super::part::{Part, Token};
use super::super::turns::Turn;
use super::{Errors, Workers, all, unless_stopped};

/// Who holds it, as far as this process can see.
#[derive(Debug, Default)]
pub(super) struct Exclusion(Mutex<(bool, Token)>);

impl Exclusion {
    /// Somebody has it now, under this token.
    fn enter(&self, part: &Part, token: Token) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (held, last) = *state;
        if held {
            part.meter.violated("two held it at the same time");
        }
        if token <= last {
            part.meter
                .violated(format!("its token {token:?} came after {last:?}"));
        }
        *state = (true, token);
    }

    /// Whoever had it is about to give it back.
    fn leave(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

/// Somebody has it: checks that nobody else does, gives it back, and counts that. False when its
/// worker is to end.
pub(super) async fn cycle(
    part: &Part,
    exclusion: &Exclusion,
    errors: &mut Errors,
    turn: Turn,
    token: Token,
    giving_back: impl Future<Output = synod::Result<()>>,
) -> bool {
    let from = now();
    exclusion.enter(part, token);
    exclusion.leave();
    if part.share.of > 1 {
        part.held(token, from, now());
    }
    match giving_back.await {
        Ok(()) => {
            errors.none();
            let latency = from.saturating_sub(turn.begin);
            part.meter.completed(turn, 1, latency, now());
            true
        }
        Err(error) => errors.one(part, &error).await,
    }
}

pub(super) async fn run(part: &Arc<Part>, workers: Workers) {
    let exclusion = Arc::new(Exclusion::default());
    all(part, workers.first, |part, _, client| {
        let exclusion = exclusion.clone();
        async move {
            let mut mutex = client.mutex(format!("{}/lock", part.spec.name).as_str());
            if part.spec.local_handover {
                mutex = mutex.local_handover();
            }
            let mut errors = Errors::default();
            while let Some(turn) = part.turns.next().await {
                let guard = match unless_stopped(&part, mutex.lock()).await {
                    None => return,
                    Some(Ok(guard)) => guard,
                    Some(Err(error)) => {
                        if !errors.one(&part, &error).await {
                            return;
                        }
                        continue;
                    }
                };
                let token = (guard.fencing_token(), guard.turn());
                if !cycle(&part, &exclusion, &mut errors, turn, token, guard.unlock()).await {
                    return;
                }
            }
        }
    })
    .await;
}
