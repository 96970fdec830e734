//! A store's life with some of everything, and all that was known of it after each step.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use synod_store::{
    Compare, CompareOp, Error, ErrorKind, KeyRange, LeaseGrantRequest, PutRequest, RangeRequest,
    Revision, Store, Txn, TxnOp, WatchItem, WatchRequest,
};

use super::super::*;
use crate::journal::{Fs, Sim};
use crate::{EngineOptions, ManualClock};

pub(super) fn options() -> EngineOptions {
    let mut options = EngineOptions::file("/d");
    options.journal.segment_bytes = 1 << 10;
    options.snapshot_bytes = 6 << 10;
    options.with_clock(Arc::new(ManualClock::new()))
}

/// Opens the store of a disk, on a clock that stands still.
pub(super) fn open<F: Fs>(disk: &F) -> Result<Engine, Error> {
    Engine::open_in(disk.clone(), options())
}

/// What was acknowledged by the time that so many calls to the disk were made.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    pub(super) calls: usize,
    pub(super) revision: Revision,
    pub(super) compacted: Revision,
    pub(super) leases: Vec<String>,
}

/// All that is known of a store's life.
#[derive(Debug)]
pub(super) struct Story {
    /// In order; the first is the empty store, before any call.
    pub(super) marks: Vec<Mark>,
    /// All pairs at each revision.
    pub(super) pairs: BTreeMap<Revision, String>,
    /// What happened in each revision.
    pub(super) events: BTreeMap<Revision, String>,
}

/// What can be seen of a store now.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) revision: Revision,
    pub(super) compacted: Revision,
    pub(super) leases: Vec<String>,
    pub(super) pairs: BTreeMap<Revision, String>,
    pub(super) events: BTreeMap<Revision, String>,
}

/// Looks at all that a store shows from revision `from` on, or from the first that it can show.
pub(super) async fn look(store: &Engine, from: Revision) -> Seen {
    let hash = store.hash_kv(Revision::ZERO).await.unwrap();
    let (revision, compacted) = (hash.hash_revision, hash.compact_revision);
    let mut pairs = BTreeMap::new();
    let mut held: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut at = compacted.max(from).max(Revision(1));
    while at <= revision {
        let found = store.range(RangeRequest::new(KeyRange::all()).at(at)).await;
        let kvs = found.unwrap().kvs;
        if at == revision {
            for kv in kvs.iter().filter(|kv| kv.lease.is_some()) {
                let lease = kv.lease.unwrap().to_string();
                held.entry(lease).or_default().push(kv.key.to_string());
            }
        }
        pairs.insert(at, format!("{kvs:?}"));
        at = at.next();
    }

    let mut events = BTreeMap::new();
    let first = compacted.next().max(from.next()).max(Revision(2));
    if first <= revision {
        let request = WatchRequest::new(KeyRange::all()).starting_at(first);
        let mut watch = store.watch(request).await.unwrap();
        while events.last_key_value().is_none_or(|(at, _)| *at < revision) {
            match next(&mut watch).await {
                WatchItem::Events(batch) => {
                    for event in batch.events {
                        let line = format!("{:?} {:?};", event.kind, event.kv);
                        let all: &mut String = events.entry(event.kv.mod_revision).or_default();
                        all.push_str(&line);
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    let mut leases = Vec::new();
    for id in store.leases().await.unwrap().leases {
        let lease = store.lease_time_to_live(id, true).await.unwrap();
        leases.push(format!("{id} {:?}", lease.granted));
        let mut keys: Vec<_> = lease.keys.iter().map(ToString::to_string).collect();
        keys.sort();
        assert_eq!(
            keys,
            held.remove(&id.to_string()).unwrap_or_default(),
            "what lease {id} holds is what says so"
        );
    }
    assert!(held.is_empty(), "keys of leases that are not: {held:?}");
    leases.sort();
    Seen {
        revision,
        compacted,
        leases,
        pairs,
        events,
    }
}

impl Story {
    pub(super) fn new() -> Story {
        let begin = Mark {
            calls: 0,
            revision: Revision(1),
            compacted: Revision::ZERO,
            leases: Vec::new(),
        };
        Story {
            marks: vec![begin],
            pairs: BTreeMap::from([(Revision(1), "[]".to_owned())]),
            events: BTreeMap::new(),
        }
    }

    pub(super) fn last(&self) -> &Mark {
        self.marks.last().unwrap()
    }

    /// Notes what is acknowledged now.
    pub(super) async fn mark(&mut self, sim: &Sim, store: &Engine) {
        let calls = sim.ops();
        let seen = look(store, self.last().revision).await;
        self.pairs.extend(seen.pairs);
        self.events.extend(seen.events);
        self.marks.push(Mark {
            calls,
            revision: seen.revision,
            compacted: seen.compacted,
            leases: seen.leases,
        });
    }

    /// What was acknowledged for certain when `calls` were made, and the most that was asked for.
    pub(super) fn bounds(&self, calls: usize) -> (&Mark, &Mark) {
        let after = self.marks.partition_point(|mark| mark.calls <= calls);
        let before = &self.marks[after.saturating_sub(1)];
        (before, self.marks.get(after).unwrap_or(before))
    }

    /// What is wrong with a store that should be one of those between two marks.
    pub(super) fn objection(&self, seen: &Seen, (before, after): (&Mark, &Mark)) -> Option<String> {
        if seen.revision < before.revision {
            return Some(format!("lost: {} of {}", seen.revision, before.revision));
        }
        if seen.revision > after.revision {
            return Some(format!("revision {} was never asked for", seen.revision));
        }
        if ![before.compacted, after.compacted].contains(&seen.compacted) {
            return Some(format!("compacted at {}", seen.compacted));
        }
        if seen.leases != before.leases && seen.leases != after.leases {
            return Some(format!("leases {:?}", seen.leases));
        }
        for (at, pairs) in &seen.pairs {
            if self.pairs.get(at) != Some(pairs) {
                return Some(format!("revision {at} holds {pairs}"));
            }
        }
        for (at, events) in &seen.events {
            if self.events.get(at) != Some(events) {
                return Some(format!("in revision {at} happened {events}"));
            }
        }
        None
    }
}

/// A whole life has so many turns: each kind of step twice.
pub(super) const TURNS: u64 = 12;

/// The steps of a store's life, up to the first that fails.
pub(super) async fn live(sim: &Sim, turns: u64) -> (Story, Result<(), Error>) {
    let clock = ManualClock::new();
    let mut story = Story::new();
    let options = options().with_clock(Arc::new(clock.clone()));
    let store = match Engine::open_in(sim.clone(), options) {
        Ok(store) => store,
        Err(error) => return (story, Err(error)),
    };
    let outcome = steps(sim, &store, &clock, &mut story, turns).await;
    (story, outcome)
}

async fn steps(
    sim: &Sim,
    store: &Engine,
    clock: &ManualClock,
    story: &mut Story,
    turns: u64,
) -> Result<(), Error> {
    for turn in 0..turns {
        let id = lease(i64::try_from(turn).unwrap() + 1);
        let grant = LeaseGrantRequest::new(Duration::from_secs(60)).with_id(id);
        store.lease_grant(grant).await?;
        story.mark(sim, store).await;

        // Both or none; and one whose condition does not hold.
        let value = turn.to_string();
        let txn = Txn::new()
            .when([Compare::version("never", CompareOp::Equal, 0)])
            .and_then([
                TxnOp::from(PutRequest::new("both/a", value.clone())),
                PutRequest::new("both/b", value.clone())
                    .with_lease(id)
                    .into(),
                Txn::new()
                    .and_then([PutRequest::new("both/c", value)])
                    .into(),
            ])
            .or_else([PutRequest::new("never", "")]);
        store.txn(txn).await?;
        story.mark(sim, store).await;

        // Several that wait together share one write.
        let puts = (0..3 + turn % 3).map(|n| {
            let value = "v".repeat(usize::try_from(turn * 17 % 90).unwrap());
            store.put(PutRequest::new(format!("many/{n}"), value))
        });
        for answer in join_all(puts).await {
            answer?;
        }
        story.mark(sim, store).await;

        match turn % 6 {
            0 => {
                store
                    .put(PutRequest::new("long", "l".repeat(1_500)))
                    .await?;
            }
            1 => {
                store
                    .delete(synod_store::DeleteRequest::new(KeyRange::prefix("many/")))
                    .await?;
            }
            2 => {
                store.lease_revoke(id).await?;
            }
            3 => {
                store.compact(story.last().revision, true).await?;
            }
            4 => match store.defragment().await {
                // A snapshot that fails does no harm: the log is whole.
                Err(error) if error.kind() == ErrorKind::Poisoned => return Err(error),
                _ => {}
            },
            _ => {
                // All that are left end, each in a revision of its own or of all: one mark a lease.
                let doomed = lease(1_000);
                let grant = LeaseGrantRequest::new(Duration::from_secs(2)).with_id(doomed);
                store.lease_grant(grant).await?;
                story.mark(sim, store).await;
                let put = PutRequest::new("doomed", "1").with_lease(doomed);
                store.put(put).await?;
                story.mark(sim, store).await;
                let mut watch = store.watch(WatchRequest::new("doomed")).await?;
                clock.advance(Duration::from_secs(3));
                match next_or_end(&mut watch, clock).await {
                    Some(Ok(WatchItem::Events(_))) => {}
                    Some(Err(error)) => return Err(error),
                    other => panic!("{other:?}"),
                }
                // The lease itself is gone with its key.
                while store
                    .lease_time_to_live(doomed, false)
                    .await?
                    .remaining
                    .is_some()
                {
                    tokio::task::yield_now().await;
                }
            }
        }
        story.mark(sim, store).await;
    }
    Ok(())
}

/// What the end of a lease brings. One that could not be stored, by a store that goes on, is tried again a second later.
async fn next_or_end(watch: &mut Watch, clock: &ManualClock) -> Option<Result<WatchItem, Error>> {
    for _ in 0..20 {
        let item = tokio::time::timeout(Duration::from_millis(500), watch.next()).await;
        match item {
            Ok(item) => return item,
            Err(_) => clock.advance(Duration::from_secs(1)),
        }
    }
    panic!("the watch stays silent")
}
