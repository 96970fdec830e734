//! An election: candidates come to lead and resign. That only one leads is checked while it is measured.

use std::sync::Arc;

use super::super::part::Part;
use super::lock::{Exclusion, cycle};
use super::{Errors, Workers, all, unless_stopped};

pub(super) async fn run(part: &Arc<Part>, workers: Workers) {
    let exclusion = Arc::new(Exclusion::default());
    all(part, workers.first, |part, number, client| {
        let exclusion = exclusion.clone();
        async move {
            let election = client.election(format!("{}/election", part.spec.name).as_str());
            let candidate = format!("candidate {number}");
            let mut errors = Errors::default();
            while let Some(turn) = part.turns.next().await {
                let leadership = match unless_stopped(&part, election.campaign(&candidate)).await {
                    None => return,
                    Some(Ok(leadership)) => leadership,
                    Some(Err(error)) => {
                        if !errors.one(&part, &error).await {
                            return;
                        }
                        continue;
                    }
                };
                let token = (leadership.fencing_token(), 0);
                if !cycle(
                    &part,
                    &exclusion,
                    &mut errors,
                    turn,
                    token,
                    leadership.resign(),
                )
                .await
                {
                    return;
                }
            }
        }
    })
    .await;
}
