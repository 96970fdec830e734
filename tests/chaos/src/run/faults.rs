//! The faults: each is made, held, healed, and shown to have been one: a process that died, bytes that
//! were swallowed, another leader.

use std::time::Duration;

use anyhow::{bail, ensure};
use clap::ValueEnum;
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use synod_store::{ErrorKind, KeyRange, Revision, WatchItem, WatchRequest};
use synod_tests::bridge::Mode;

use super::cluster::frozen;
use super::slow::{Slow, missing};
use super::stage::Stage;
use crate::mangle::When;

/// What is done to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, ValueEnum)]
pub enum Fault {
    /// `kill -9` of the leader, which is restarted on its data.
    KillLeader,
    /// The leader is frozen until another one leads, and a while longer.
    PauseLeader,
    /// A follower is frozen.
    PauseFollower,
    /// A worker is frozen for longer than its lease lives.
    PauseClient,
    /// The leader and the others cannot reach each other.
    PartitionLeader,
    /// A follower and the others cannot reach each other.
    PartitionFollower,
    /// What the leader sends does not arrive, what is sent to it does.
    PartitionOneWay,
    /// A worker and the servers, all or the leader alone, cannot reach each other.
    CutClient,
    /// Each sync of a member takes long.
    SlowSync,
    /// History up to now is forgotten while a worker's watches lag.
    Compaction,
    /// What a worker is answered is swallowed after the commit; then its connections are reset.
    LostReply,
    /// A worker kills itself (`kill -9`) before, during or after a random request.
    KillClient,
}

/// What became of a fault.
#[derive(Debug)]
pub(super) enum Fired {
    /// It was made, and this shows it.
    Yes(String),
    /// It cannot be made on this machine.
    Skipped(String),
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 12] = [
        Fault::KillLeader,
        Fault::PauseLeader,
        Fault::PauseFollower,
        Fault::PauseClient,
        Fault::PartitionLeader,
        Fault::PartitionFollower,
        Fault::PartitionOneWay,
        Fault::CutClient,
        Fault::SlowSync,
        Fault::Compaction,
        Fault::LostReply,
        Fault::KillClient,
    ];

    /// As on the command line and in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Fault::KillLeader => "kill-leader",
            Fault::PauseLeader => "pause-leader",
            Fault::PauseFollower => "pause-follower",
            Fault::PauseClient => "pause-client",
            Fault::PartitionLeader => "partition-leader",
            Fault::PartitionFollower => "partition-follower",
            Fault::PartitionOneWay => "partition-one-way",
            Fault::CutClient => "cut-client",
            Fault::SlowSync => "slow-sync",
            Fault::Compaction => "compaction",
            Fault::LostReply => "lost-reply",
            Fault::KillClient => "kill-client",
        }
    }

    /// Whether it needs members who can go on without one of them.
    #[must_use]
    pub fn needs_majority(self) -> bool {
        matches!(
            self,
            Fault::PauseFollower
                | Fault::PartitionLeader
                | Fault::PartitionFollower
                | Fault::PartitionOneWay
        )
    }
}

/// Makes a fault, holds it for a while, heals it. An error when it did not fire.
pub(super) async fn inject(
    fault: Fault,
    stage: &mut Stage,
    rng: &mut StdRng,
) -> anyhow::Result<Fired> {
    let hold = Duration::from_millis(rng.random_range(2000..5000));
    match fault {
        Fault::KillLeader => kill_leader(stage, rng).await,
        Fault::PauseLeader => pause_leader(stage, hold).await,
        Fault::PauseFollower => pause_follower(stage, rng, hold).await,
        Fault::PauseClient => pause_client(stage, rng).await,
        Fault::PartitionLeader | Fault::PartitionFollower | Fault::PartitionOneWay => {
            partition(fault, stage, rng, hold).await
        }
        Fault::CutClient => cut_client(stage, rng, hold).await,
        Fault::SlowSync => slow_sync(stage, rng).await,
        Fault::Compaction => compaction(stage, rng).await,
        Fault::LostReply => lost_reply(stage, rng).await,
        Fault::KillClient => kill_client(stage, rng).await,
    }
}

fn yes(evidence: String) -> anyhow::Result<Fired> {
    Ok(Fired::Yes(evidence))
}

async fn kill_leader(stage: &mut Stage, rng: &mut StdRng) -> anyhow::Result<Fired> {
    let leader = stage.cluster.leader(None).await?;
    let pid = stage.cluster.kill(leader)?;
    let mut evidence = format!("etcd {leader} (pid {pid}) is dead");
    if stage.cluster.len() >= 3 {
        let next = stage.cluster.leader(Some(leader)).await?;
        evidence += &format!(", etcd {next} leads");
    }
    tokio::time::sleep(Duration::from_millis(rng.random_range(0..2000))).await;
    stage.cluster.spawn(leader)?;
    stage.cluster.ready(leader).await?;
    yes(evidence + ", the old one is back")
}

async fn pause_leader(stage: &mut Stage, hold: Duration) -> anyhow::Result<Fired> {
    let leader = stage.cluster.leader(None).await?;
    let pid = stage.cluster.freeze(leader).await?;
    let mut evidence = format!("etcd {leader} (pid {pid}) was frozen");
    if stage.cluster.len() >= 3 {
        let next = stage.cluster.leader(Some(leader)).await;
        match next {
            Ok(next) => evidence += &format!(", etcd {next} leads"),
            Err(error) => {
                stage.cluster.thaw(leader);
                return Err(error);
            }
        }
    }
    tokio::time::sleep(hold).await;
    stage.cluster.thaw(leader);
    yes(evidence)
}

/// A member that does not lead.
async fn follower(stage: &mut Stage, rng: &mut StdRng) -> anyhow::Result<(usize, usize)> {
    let leader = stage.cluster.leader(None).await?;
    let others: Vec<usize> = (0..stage.cluster.len()).filter(|m| *m != leader).collect();
    match others.choose(rng) {
        Some(follower) => Ok((leader, *follower)),
        None => bail!("there is no follower"),
    }
}

async fn pause_follower(
    stage: &mut Stage,
    rng: &mut StdRng,
    hold: Duration,
) -> anyhow::Result<Fired> {
    let (_, follower) = follower(stage, rng).await?;
    let pid = stage.cluster.freeze(follower).await?;
    tokio::time::sleep(hold).await;
    stage.cluster.thaw(follower);
    yes(format!("etcd {follower} (pid {pid}) was frozen"))
}

async fn pause_client(stage: &mut Stage, rng: &mut StdRng) -> anyhow::Result<Fired> {
    let over = Duration::from_secs(stage.options.ttl)
        + Duration::from_millis(rng.random_range(1500..3000));
    let number = rng.random_range(0..stage.workers.len());
    let worker = &mut stage.workers[number];
    worker.process.pause();
    frozen(worker.process.pid()).await?;
    tokio::time::sleep(over).await;
    worker.process.resume();
    yes(format!(
        "worker {} (pid {}) was frozen for {over:.1?}, longer than its lease of {} s",
        worker.name(),
        worker.process.pid(),
        stage.options.ttl
    ))
}

async fn partition(
    fault: Fault,
    stage: &mut Stage,
    rng: &mut StdRng,
    hold: Duration,
) -> anyhow::Result<Fired> {
    let (leader, follower) = follower(stage, rng).await?;
    let alone = match fault {
        Fault::PartitionFollower => follower,
        _ => leader,
    };
    let others: Vec<usize> = (0..stage.cluster.len()).filter(|m| *m != alone).collect();
    let out = others.iter().map(|other| (alone, *other));
    let back = others.iter().map(|other| (*other, alone));
    let before = stage.cluster.peers.held();
    if fault == Fault::PartitionOneWay {
        stage.cluster.peers.cut(out);
    } else {
        stage.cluster.peers.cut(out.chain(back));
    }
    let mut evidence = format!("etcd {alone} was cut off");
    if alone == leader {
        match stage.cluster.leader(Some(alone)).await {
            Ok(next) => evidence += &format!(", etcd {next} leads"),
            Err(error) => {
                stage.cluster.peers.cut([]);
                return Err(error);
            }
        }
    }
    tokio::time::sleep(hold).await;
    stage.cluster.peers.cut([]);
    let held = stage.cluster.peers.held() - before;
    ensure!(
        held > 0,
        "the members sent nothing that could have been held back"
    );
    yes(format!("{evidence}, {held} bytes never arrived"))
}

async fn cut_client(stage: &mut Stage, rng: &mut StdRng, hold: Duration) -> anyhow::Result<Fired> {
    let leader = stage.cluster.leader(None).await?;
    let number = rng.random_range(0..stage.workers.len());
    let worker = &stage.workers[number];
    // Who has no connection to the leader would notice nothing.
    let all = rng.random_bool(0.5) || worker.bridges[leader].connections() == 0;
    let which: Vec<usize> = if all {
        (0..worker.bridges.len()).collect()
    } else {
        vec![leader]
    };
    let connections: usize = which
        .iter()
        .map(|at| worker.bridges[*at].connections())
        .sum();
    for at in &which {
        worker.bridges[*at].set(Mode::Hold);
    }
    // What was on its way may still pass.
    tokio::time::sleep(Duration::from_millis(300)).await;
    let passed = |at: &usize| worker.bridges[*at].requested_bytes();
    let before: u64 = which.iter().map(passed).sum();
    tokio::time::sleep(hold).await;
    let after: u64 = which.iter().map(passed).sum();
    for at in &which {
        worker.bridges[*at].reset();
        worker.bridges[*at].set(Mode::Pass);
    }
    ensure!(
        before == after,
        "{} bytes passed a bridge that holds everything",
        after - before
    );
    ensure!(connections > 0, "the worker was not connected");
    let whom = if all { "all servers" } else { "the leader" };
    yes(format!(
        "worker {} was cut off from {whom}: {connections} connections, nothing passed",
        worker.name()
    ))
}

async fn slow_sync(stage: &mut Stage, rng: &mut StdRng) -> anyhow::Result<Fired> {
    if let Some(why) = missing() {
        return Ok(Fired::Skipped(why));
    }
    let leader = stage.cluster.leader(None).await?;
    let member = if rng.random_bool(0.5) {
        leader
    } else {
        rng.random_range(0..stage.cluster.len())
    };
    let Some(pid) = stage.cluster.pid(member) else {
        bail!("etcd {member} does not run");
    };
    let slow = Slow::start(pid, &stage.directory).await?;
    tokio::time::sleep(Duration::from_millis(rng.random_range(4000..7000))).await;
    let syncs = slow.end().await?;
    ensure!(syncs > 0, "no sync of etcd {member} was held up");
    yes(format!("{syncs} syncs of etcd {member} took 150 ms longer"))
}

async fn compaction(stage: &mut Stage, rng: &mut StdRng) -> anyhow::Result<Fired> {
    let number = rng.random_range(0..stage.workers.len());
    // Its watches are where they are now; they have to come back from behind the compaction.
    stage.workers[number].set(Mode::Refuse);
    let before = stage.recorder.reach(&*stage.store).await?;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let compacted = async {
        let mut now = stage.recorder.reach(&*stage.store).await?;
        // Others have to do something that the watches miss, which a cluster in trouble may put off.
        for _ in 0..20 {
            if now > before + 20 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
            now = stage.recorder.reach(&*stage.store).await?;
        }
        stage.store.compact(Revision(now), false).await?;
        // A watch from where the worker's are finds its history gone.
        let from = WatchRequest::new(KeyRange::all()).starting_at(Revision(before));
        let mut watch = stage.store.watch(from).await?;
        let first = tokio::time::timeout(
            Duration::from_secs(10),
            futures_util::StreamExt::next(&mut watch),
        );
        match first.await? {
            Some(Ok(WatchItem::Compacted { .. })) => {}
            Some(Err(error)) if error.kind() == ErrorKind::Compacted => {}
            other => bail!("history before {now} is still there: {other:?}"),
        }
        anyhow::Ok(now)
    }
    .await;
    stage.workers[number].set(Mode::Pass);
    let now = compacted?;
    ensure!(
        now > before + 20,
        "nothing happened while the watches lagged"
    );
    yes(format!(
        "compacted at {now} while the watches of worker {} stood at {before}",
        stage.workers[number].name()
    ))
}

async fn lost_reply(stage: &mut Stage, rng: &mut StdRng) -> anyhow::Result<Fired> {
    let number = rng.random_range(0..stage.workers.len());
    let (mut swallowed, mut sent) = (0, 0);
    for _ in 0..4 {
        let worker = &stage.workers[number];
        let (requested, replied) = (worker.requested(), worker.replied());
        worker.set(Mode::SwallowReplies);
        let hold = rng.random_range(200..900);
        tokio::time::sleep(Duration::from_millis(hold)).await;
        worker.reset();
        swallowed += worker.replied() - replied;
        sent += worker.requested() - requested;
        worker.set(Mode::Pass);
        tokio::time::sleep(Duration::from_millis(rng.random_range(300..900))).await;
    }
    ensure!(swallowed > 0 && sent > 0, "no answer was swallowed");
    yes(format!(
        "{swallowed} bytes of answers to {sent} bytes of requests of worker {} were swallowed",
        stage.workers[number].name()
    ))
}

async fn kill_client(stage: &mut Stage, rng: &mut StdRng) -> anyhow::Result<Fired> {
    let number = rng.random_range(0..stage.workers.len());
    let when = *When::ALL.choose(rng).unwrap_or(&When::Before);
    let steps = rng.random_range(1..60);
    let worker = &mut stage.workers[number];
    let (name, pid) = (worker.name(), worker.process.pid());
    worker.order(&format!("die {steps} {}", when.name()))?;
    let status = worker.ended(Duration::from_secs(90)).await?;
    let signal = std::os::unix::process::ExitStatusExt::signal(&status);
    ensure!(
        signal == Some(9),
        "worker {name} ended in another way: {status}"
    );
    tokio::time::sleep(Duration::from_millis(rng.random_range(0..2000))).await;
    stage.replace(number).await?;
    yes(format!(
        "worker {name} (pid {pid}) died {} its request number {steps}, {} took its place",
        when.name(),
        stage.workers[number].name()
    ))
}
