//! A double barrier that is used over and over, with standing watches.
//!
//! Plain: to enter, put one's key, to leave, delete it; everybody sees all keys and counts. One write
//! and one wait a phase, and as many events as there are pairs of participants.
//!
//! Leader: to enter or to leave, a Txn changes one's key and counts the keys; whoever finds all there,
//! or none, tells the others with one put, which alone they watch. One write more in a row, and one
//! event for each participant.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use synod_wire::etcdserverpb as pb;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::Bench;
use crate::args::{Connections, Variant};
use crate::measure::{PATIENCE, Row, Run};
use crate::store::{Conn, delete, is_delete, op_delete, op_put, op_range, prefix_end, put};

pub(crate) async fn rounds(bench: &Bench) -> Result<Row> {
    let options = &bench.options;
    let all = options.participants;
    let conns = bench.cluster.conns(options.connections, all).await?;
    let keys = format!("{}keys/", bench.prefix);
    let told = format!("{}told/", bench.prefix);
    let watched = match options.variant {
        Variant::Leader => told.clone(),
        _ => keys.clone(),
    };
    // On one connection one watch is enough.
    let mut sights = Vec::new();
    let mut pumps: JoinSet<Result<()>> = JoinSet::new();
    let watchers = match options.connections {
        Connections::Own => conns.len(),
        Connections::Shared => 1,
    };
    let mut senders = Vec::new();
    for conn in conns.iter().take(watchers) {
        let mut events = conn.watch(watched.clone(), prefix_end(&watched)).await?;
        let (send, _) = broadcast::channel::<Seen>(4096);
        senders.push(send.clone());
        pumps.spawn(async move {
            loop {
                let events = events.next().await?;
                let left = events.iter().filter(|event| is_delete(event)).count();
                // Nobody listens at the end.
                let _ = send.send(Seen {
                    put: events.len() - left,
                    deleted: left,
                });
            }
        });
    }
    for index in 0..conns.len() {
        let sender = senders.get(index % watchers.max(1)).context("no watch")?;
        sights.push(sender.subscribe());
    }
    let (done, mut ends) = mpsc::unbounded_channel();
    let mut workers: JoinSet<Result<()>> = JoinSet::new();
    let mut starts = Vec::new();
    for (index, (conn, sight)) in conns.into_iter().zip(sights).enumerate() {
        let (start, mut started) = mpsc::unbounded_channel::<()>();
        starts.push(start);
        let done = done.clone();
        let mut participant = Participant {
            conn,
            sight,
            all,
            leader: options.variant == Variant::Leader,
            key: format!("{keys}{index:04}"),
            keys: keys.clone(),
            told: format!("{told}all"),
            put: 0,
            deleted: 0,
        };
        workers.spawn(async move {
            while started.recv().await.is_some() {
                participant.enter().await?;
                participant.leave().await?;
                done.send(()).context("nobody counts")?;
            }
            Ok(())
        });
    }
    let run = Run::start(options);
    while !run.over() {
        let began = Instant::now();
        for start in &starts {
            start.send(()).context("a participant is gone")?;
        }
        for _ in 0..all {
            tokio::select! {
                end = timeout(PATIENCE, ends.recv()) => end.context("a participant hangs")?.context("all are gone")?,
                failed = workers.join_next() => bail!("a participant failed: {failed:?}"),
                failed = pumps.join_next() => bail!("a watch failed: {failed:?}"),
            }
        }
        run.done(began, 1);
    }
    Ok(run.row(options, "rounds", false))
}

/// What came with one message of a watch.
#[derive(Debug, Clone, Copy)]
struct Seen {
    put: usize,
    deleted: usize,
}

struct Participant {
    conn: Conn,
    sight: broadcast::Receiver<Seen>,
    all: usize,
    leader: bool,
    key: String,
    keys: String,
    /// What the leader puts.
    told: String,
    /// Events that were seen and belong to phases that are not over.
    put: usize,
    deleted: usize,
}

impl Participant {
    async fn enter(&mut self) -> Result<()> {
        if self.leader {
            let put = op_put(put(self.key.clone(), ""));
            return self.change(put, self.all).await;
        }
        self.conn.put(put(self.key.clone(), "")).await?;
        while self.put < self.all {
            self.see().await?;
        }
        self.put -= self.all;
        Ok(())
    }

    async fn leave(&mut self) -> Result<()> {
        if self.leader {
            let delete = op_delete(delete(self.key.clone()));
            return self.change(delete, 0).await;
        }
        self.conn.delete(delete(self.key.clone())).await?;
        while self.deleted < self.all {
            self.see().await?;
        }
        self.deleted -= self.all;
        Ok(())
    }

    /// Changes the own key, and tells the others when that makes so many keys.
    async fn change(&mut self, change: pb::RequestOp, complete: usize) -> Result<()> {
        let count = pb::RangeRequest {
            key: self.keys.clone().into(),
            range_end: prefix_end(&self.keys).into(),
            count_only: true,
            ..Default::default()
        };
        let done = self
            .conn
            .txn(pb::TxnRequest {
                success: vec![change, op_range(count)],
                ..Default::default()
            })
            .await?;
        let found = done.responses.into_iter().find_map(|r| match r.response {
            Some(pb::response_op::Response::ResponseRange(range)) => Some(range.count),
            _ => None,
        });
        if usize::try_from(found.context("no count")?)? == complete {
            self.conn.put(put(self.told.clone(), "")).await?;
        }
        while self.put < 1 {
            self.see().await?;
        }
        self.put -= 1;
        Ok(())
    }

    async fn see(&mut self) -> Result<()> {
        let seen = timeout(Duration::from_secs(20), self.sight.recv()).await;
        let seen = seen.context("the others do not come")??;
        self.put += seen.put;
        self.deleted += seen.deleted;
        Ok(())
    }
}
