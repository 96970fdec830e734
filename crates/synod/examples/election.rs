//! Three candidates, one leader at a time, and somebody who watches.
//!
//! Run it with `cargo run -p synod --example election`, or give it the URL of a store:
//! `cargo run -p synod --example election -- http://127.0.0.1:2379`. It prints `leader: NAME` and then
//! `leader: NAME, at work` for anna, bert and carl, in the order in which they stood for election, with
//! rising tokens; and at the end `nobody leads` (which can also be so before the next one stands).

use std::collections::BTreeSet;

use futures_util::StreamExt;
use synod::{Client, Error, LeaderEvent};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let url = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "memory:".to_owned());
    let client = Client::connect(url).await?;
    let election = client.election("example/primary");

    let mut events = election.observe();
    // The first event tells how things stand now.
    events.next().await.transpose()?;

    let mut candidates = tokio::task::JoinSet::new();
    for name in ["anna", "bert", "carl"] {
        let election = election.clone();
        candidates.spawn(async move {
            let leadership = election.campaign(name).await?;
            leadership.proclaim(format!("{name}, at work")).await?;
            leadership.resign().await
        });
    }

    let mut leaders = BTreeSet::new();
    while let Some(event) = events.next().await {
        match event? {
            LeaderEvent::Leader(leader) => {
                let value = String::from_utf8_lossy(&leader.value);
                println!("leader: {value} (token {})", leader.revision);
                leaders.insert(leader.revision);
            }
            LeaderEvent::NoLeader => {
                println!("nobody leads");
                if leaders.len() == 3 {
                    break;
                }
            }
            other => println!("{other:?}"),
        }
    }
    for resigned in candidates.join_all().await {
        resigned?;
    }
    client.close().await
}
