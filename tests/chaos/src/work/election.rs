//! Elections: a task that stands, proclaims and resigns, one that asks who leads, one that observes.

use std::time::Duration;

use futures_util::StreamExt;
use synod::{Leader, LeaderEvent, Leadership};

use super::{Spawner, Task, WAIT, text, value};
use crate::history::{Answer, Args, Call};

pub(super) fn spawn(spawner: &mut Spawner<'_>) {
    spawner.spawn("stand", candidate);
    spawner.spawn("ask", asker);
    spawner.spawn("observe", observer);
}

async fn candidate(mut task: Task) {
    let election = task.client().election(task.object());
    while task.goes_on().await {
        let proposal = task.unique();
        let stand = election.campaign_timeout(&proposal, WAIT);
        let answer = |leadership: &Option<Leadership>| Answer {
            token: leadership.as_ref().map(Leadership::fencing_token),
            key: leadership
                .as_ref()
                .map(|leadership| leadership.key().to_string()),
            ..Answer::default()
        };
        let args = value(proposal.clone());
        let Some(Some(leadership)) = task.op(Call::Acquire, args, stand, answer).await else {
            continue;
        };
        let token = Some(leadership.fencing_token());
        for _ in 0..2 {
            let words = task.unique();
            let args = Args {
                token,
                ..value(words.clone())
            };
            let run = leadership.proclaim(&words);
            task.op(Call::Proclaim, args, run, |()| Answer::default())
                .await;
            task.pause(10..60).await;
        }
        let args = Args {
            token,
            ..Args::default()
        };
        task.op(Call::Release, args, leadership.resign(), |()| {
            Answer::default()
        })
        .await;
    }
}

fn shown(leader: Option<&Leader>) -> Answer {
    Answer {
        value: leader.map(|leader| text(&leader.value)),
        token: leader.map(|leader| leader.revision.0),
        key: leader.map(|leader| leader.key.to_string()),
        ..Answer::default()
    }
}

async fn asker(mut task: Task) {
    let election = task.client().election(task.object());
    while task.goes_on().await {
        let ask = election.leader();
        task.op(Call::Leader, Args::default(), ask, |leader| {
            shown(leader.as_ref())
        })
        .await;
        task.pause(50..200).await;
    }
}

async fn observer(mut task: Task) {
    let election = task.client().election(task.object());
    let mut streams = 0;
    while task.goes_on().await {
        let mut leaders = election.observe();
        streams += 1;
        let args = Args {
            number: Some(streams),
            ..Args::default()
        };
        loop {
            let next = tokio::time::timeout(Duration::from_millis(500), leaders.next()).await;
            if *task.stopping.borrow() {
                return;
            }
            let event = match next {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(_) => continue,
            };
            let shown_event = async { event };
            task.op(
                Call::Observe,
                args.clone(),
                shown_event,
                |event| match event {
                    LeaderEvent::Leader(leader) => shown(Some(leader)),
                    LeaderEvent::Lost(_) => Answer {
                        yes: Some(false),
                        ..Answer::default()
                    },
                    _ => Answer::default(),
                },
            )
            .await;
        }
    }
}
