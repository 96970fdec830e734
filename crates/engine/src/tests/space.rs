//! Bounds: the quota, the retention of history, a full disk.

use std::sync::Arc;
use std::time::Duration;

use synod_store::{
    AlarmKind, ErrorKind, KeyRange, LeaseGrantRequest, PutRequest, RangeRequest, Revision, Store,
    Txn, TxnOp,
};

use super::*;
use crate::journal::Sim;
use crate::{EngineOptions, ManualClock, Retention};

async fn refusal(store: &Engine, key: &str, bytes: usize) -> Option<ErrorKind> {
    let put = PutRequest::new(key, vec![b'v'; bytes]);
    store.put(put).await.err().map(|error| error.kind())
}

/// Puts keys of so many bytes until one is refused, which must be before there are `most`; how many there are.
async fn fill(store: &Engine, bytes: usize, most: u64) -> u64 {
    let mut stored = 0;
    while refusal(store, &format!("k{stored:04}"), bytes)
        .await
        .is_none()
    {
        stored += 1;
        assert!(stored < most, "never refused");
    }
    stored
}

#[tokio::test]
async fn leases_count_towards_the_quota_and_give_back_what_they_took() {
    let store = Engine::open(EngineOptions::memory().with_quota_bytes(100_000)).unwrap();
    let request = || LeaseGrantRequest::new(Duration::from_secs(900));
    let mut leases = Vec::new();
    let refused = loop {
        match store.lease_grant(request()).await {
            Ok(granted) => leases.push(granted.id),
            Err(error) => break error.kind(),
        }
        assert!(leases.len() < 1000, "leases without a bound");
    };
    assert_eq!(refused, ErrorKind::NoSpace);
    assert!(leases.len() > 300, "{}", leases.len());
    assert_eq!(refusal(&store, "small", 0).await, Some(ErrorKind::NoSpace));
    assert_eq!(store.alarms().await.unwrap().len(), 1);
    for id in leases.drain(..100) {
        store.lease_revoke(id).await.unwrap();
    }
    assert!(store.alarms().await.unwrap().is_empty());
    assert_eq!(refusal(&store, "small", 0).await, None);
    store.lease_grant(request()).await.unwrap();
}

#[tokio::test]
async fn the_quota_refuses_puts_until_enough_is_deleted_and_compacted() {
    let options = EngineOptions::memory()
        .with_quota_bytes(100_000)
        .with_retention(Retention::Unbounded);
    let store = Engine::open(options).unwrap();
    let mut stored = 0;
    while refusal(&store, &format!("k{stored}"), 1000).await.is_none() {
        stored += 1;
        assert!(stored < 200);
    }
    assert!(stored > 80, "{stored}");
    let no_space = Some(ErrorKind::NoSpace);
    assert_eq!(store.alarms().await.unwrap()[0].kind, AlarmKind::NoSpace);
    assert_eq!(refusal(&store, "small", 0).await, no_space);
    let grant = LeaseGrantRequest::new(Duration::from_secs(9));
    assert_eq!(
        store.lease_grant(grant).await.unwrap_err().kind(),
        ErrorKind::NoSpace
    );
    // A transaction with a put is refused even if the other branch runs; one without is not.
    let put = || TxnOp::from(PutRequest::new("x", "1"));
    assert!(store.txn(Txn::new().or_else([put()])).await.is_err());
    store.range(RangeRequest::new("k0")).await.unwrap();
    assert_eq!(delete(&store, KeyRange::prefix("k1")).await, 11);
    assert_eq!(
        refusal(&store, "small", 0).await,
        no_space,
        "history counts, too"
    );
    let head = store.status().await.unwrap().header.revision;
    store.compact(head, true).await.unwrap();
    assert_eq!(refusal(&store, "small", 0).await, None);
    assert!(
        store.alarms().await.unwrap().is_empty(),
        "the alarm took itself back"
    );

    while refusal(&store, &format!("more{stored}"), 1000)
        .await
        .is_none()
    {
        stored += 1;
    }
    // Not enough for the alarm to take itself back, but for something small.
    assert_eq!(delete(&store, KeyRange::between("k20", "k23")).await, 3);
    let head = store.status().await.unwrap().header.revision;
    store.compact(head, true).await.unwrap();
    assert_eq!(refusal(&store, "small", 0).await, no_space);
    let stood = store.disarm(AlarmKind::NoSpace).await.unwrap();
    assert_eq!(stood.len(), 1);
    assert!(store.alarms().await.unwrap().is_empty());
    assert_eq!(refusal(&store, "small", 0).await, None, "it fits");
    assert_eq!(refusal(&store, "k", 9000).await, no_space);
    assert_eq!(store.alarms().await.unwrap().len(), 1);
}

#[tokio::test]
async fn history_is_bounded_by_revisions() {
    let options = EngineOptions::memory().with_retention(Retention::Revisions(100));
    let store = Engine::open(options).unwrap();
    for value in 0..1_000 {
        put(&store, "k", &value.to_string()).await;
        assert!(store.stats().revisions <= 110);
    }
    assert!(store.stats().revisions >= 100);
    let compacted = store
        .hash_kv(Revision::ZERO)
        .await
        .unwrap()
        .compact_revision;
    assert!(compacted > Revision(800), "{compacted}");
}

#[tokio::test]
async fn history_is_bounded_by_bytes() {
    let options = EngineOptions::memory().with_quota_bytes(400_000);
    let store = Engine::open(options).unwrap();
    let value = "v".repeat(1000);
    for _ in 0..2_000 {
        put(&store, "k", &value).await;
    }
    // A turn later the last page is forgotten.
    let history = store.stats().history_bytes;
    assert!((50_000..120_000).contains(&history), "{history}");
    assert_eq!(store.stats().keys, 1);
}

#[tokio::test]
async fn history_is_bounded_by_time() {
    let clock = ManualClock::new();
    let period = Duration::from_secs(160);
    let options = EngineOptions::memory()
        .with_retention(Retention::Period(period))
        .with_clock(Arc::new(clock.clone()));
    let store = Engine::open(options).unwrap();
    for second in 0..1_000_u64 {
        let revision = put(&store, "k", "v").await;
        assert_eq!(revision.0, second + 2);
        clock.advance(Duration::from_secs(1));
        let compacted = store
            .hash_kv(Revision::ZERO)
            .await
            .unwrap()
            .compact_revision
            .0;
        // What was current 160 s ago is readable, what was 181 s ago is not.
        assert!(
            compacted <= (second + 2).saturating_sub(159).max(1),
            "{compacted}"
        );
        assert!(compacted + 181 >= second, "{compacted} at {second}");
    }
}

#[tokio::test]
async fn a_full_disk_leaves_room_for_what_frees_space() {
    let sim = Sim::default();
    let mut options = EngineOptions::file("/d");
    options.journal.segment_bytes = 8 << 10;
    let store = Engine::open_in(sim.clone(), options.clone()).unwrap();
    sim.set_capacity(Some(100_000));
    let stored = fill(&store, 100, 2000).await;
    assert!(stored > 100, "{stored}");
    assert_eq!(store.alarms().await.unwrap().len(), 1);
    assert_eq!(refusal(&store, "k", 100).await, Some(ErrorKind::NoSpace));
    let found = store
        .range(RangeRequest::new(KeyRange::all()))
        .await
        .unwrap();
    assert_eq!(found.count, stored);
    // Nothing acknowledged is lost by a crash now.
    let image = Engine::open_in(sim.power_loss(), options.clone()).unwrap();
    assert_eq!(image.stats().keys, stored);
    drop(image);
    assert_eq!(
        delete(&store, KeyRange::prefix("k")).await,
        stored,
        "deleting works"
    );
    let head = store.status().await.unwrap().header.revision;
    store.compact(head, true).await.unwrap();
    sim.set_capacity(None);
    store.defragment().await.unwrap();
    assert_eq!(refusal(&store, "again", 100).await, None);
    assert!(store.alarms().await.unwrap().is_empty());
    store.close().await.unwrap();
    let store = Engine::open_in(sim, options).unwrap();
    assert_eq!(store.stats().keys, 1);
}

fn has(sim: &Sim, ending: &str) -> bool {
    let ends = |path: &std::path::PathBuf| path.to_string_lossy().ends_with(ending);
    sim.files().keys().any(ends)
}

/// Waits until no snapshot is being written.
async fn no_snapshot(store: &Engine, sim: &Sim) {
    // Its answer comes when what followed the turn before is over.
    store.disarm(AlarmKind::Corrupt).await.unwrap();
    until("the snapshot's end", async || !has(sim, ".snap.tmp")).await;
}

#[tokio::test]
async fn a_snapshot_that_failed_is_tried_again_when_the_log_has_grown_by_a_sixteenth() {
    let sim = Sim::default();
    let mut options = EngineOptions::file("/d").with_retention(Retention::Revisions(1));
    options.journal.segment_bytes = 1 << 10;
    options.snapshot_bytes = 32 << 10;
    let store = Engine::open_in(sim.clone(), options).unwrap();
    // The log fits, and a quarter more; a snapshot of all keys does not.
    sim.set_capacity(Some(56 << 10));
    let (mut puts, mut tried) = (0, Vec::new());
    while !has(&sim, ".snap") {
        let put = PutRequest::new(format!("k{}", puts % 60), vec![b'v'; 300]);
        store.put(put).await.unwrap();
        puts += 1;
        no_snapshot(&store, &sim).await;
        if sim.creations(".snap.tmp") > tried.len() {
            tried.push(puts);
            if tried.len() == 3 {
                sim.set_capacity(None);
            }
        }
        assert!(puts < 300, "tried after so many puts: {tried:?}");
    }
    // A sixteenth of the log is about six puts.
    assert_eq!(tried.len(), 4, "{tried:?}");
    let pauses: Vec<usize> = tried.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(
        pauses.iter().all(|puts| (3..12).contains(puts)),
        "{tried:?}"
    );
}

/// Until the store says so by itself: nothing is asked that it would have to do a turn for.
async fn no_alarm(store: &Engine) {
    until("the alarm's end", async || {
        store.alarms().await.unwrap().is_empty()
    })
    .await;
}

/// Who waits for the alarm to end sends no changes until then.
#[tokio::test]
async fn an_idle_store_notices_that_there_is_space_again() {
    let sim = Sim::default();
    let mut options = EngineOptions::file("/d");
    options.journal.segment_bytes = 8 << 10;
    let store = Engine::open_in(sim.clone(), options).unwrap();
    let put = refusal(&store, "large", 8 << 10).await;
    assert_eq!(put, None);
    sim.set_capacity(Some(sim.used() + (12 << 10)));
    // There is no room for a segment that holds this; but one is in reserve, and there is room for the next.
    let put = refusal(&store, "large", 16 << 10).await;
    assert_eq!(put, Some(ErrorKind::NoSpace));
    no_alarm(&store).await;
    assert_eq!(refusal(&store, "small", 100).await, None);

    for full in 0..3 {
        while refusal(&store, "k", 1000).await.is_none() {}
        assert_eq!(store.alarms().await.unwrap().len(), 1, "{full}");
        sim.set_capacity(Some(sim.used() + (20 << 10)));
        no_alarm(&store).await;
        assert_eq!(refusal(&store, "k", 1000).await, None);
    }
}

/// Deleting and compacting is a way out, although a segment of the usual size does not fit any more.
#[tokio::test]
async fn on_a_full_disk_the_log_shrinks_when_what_it_holds_was_deleted() {
    for restarted in [false, true] {
        let sim = Sim::default();
        let mut options = EngineOptions::file("/d").with_clock(Arc::new(ManualClock::new()));
        options.journal.segment_bytes = 8 << 10;
        let mut store = Engine::open_in(sim.clone(), options.clone()).unwrap();
        sim.set_capacity(Some(100_000));
        let stored = fill(&store, 500, 1000).await;
        sim.set_capacity(Some(sim.used() + (4 << 10)));
        let full = sim.used();
        assert_eq!(refusal(&store, "k", 1).await, Some(ErrorKind::NoSpace));
        store.defragment().await.unwrap_err();
        if restarted {
            store.close().await.unwrap();
            store = Engine::open_in(sim.clone(), options.clone()).unwrap();
        }
        assert_eq!(delete(&store, KeyRange::prefix("k")).await, stored);
        // Its history is as large, and still readable.
        store.defragment().await.unwrap_err();
        let head = store.status().await.unwrap().header.revision;
        store.compact(head, true).await.unwrap();
        if restarted {
            store.defragment().await.unwrap();
        }
        assert_eq!(refusal(&store, "again", 100).await, None);
        assert!(store.alarms().await.unwrap().is_empty());
        assert!(sim.used() < full / 2, "{} of {full}", sim.used());
        for _ in 0..20 {
            assert_eq!(refusal(&store, "again", 500).await, None);
        }
        for image in [sim.power_loss(), sim.copy()] {
            let image = Engine::open_in(image, options.clone()).unwrap();
            assert_eq!(everything(&image).await[1..], everything(&store).await[1..]);
        }
    }
}

/// Others may make a little room: too little for a segment, enough for a small snapshot.
#[tokio::test]
async fn on_a_full_disk_the_log_shrinks_after_a_while_though_nothing_changes_in_the_store() {
    let sim = Sim::default();
    let clock = ManualClock::new();
    let mut options = EngineOptions::file("/d").with_clock(Arc::new(clock.clone()));
    options.journal.segment_bytes = 8 << 10;
    let store = Engine::open_in(sim.clone(), options).unwrap();
    sim.set_capacity(Some(100_000));
    let stored = fill(&store, 500, 1000).await;
    sim.set_capacity(Some(sim.used()));
    let full = sim.used();
    assert_eq!(delete(&store, KeyRange::prefix("k")).await, stored);
    let head = store.status().await.unwrap().header.revision;
    store.compact(head, true).await.unwrap();
    store.defragment().await.unwrap_err();
    sim.set_capacity(Some(sim.used() + (4 << 10)));
    // It has failed as things are, so it is not tried for each turn.
    let tried = sim.creations("next.tmp");
    for _ in 0..5 {
        assert_eq!(refusal(&store, "k", 1).await, Some(ErrorKind::NoSpace));
    }
    assert_eq!(sim.creations("next.tmp"), tried);
    assert!(sim.used() > full / 2);
    clock.advance(Duration::from_secs(30));
    let mut turns = 0;
    while refusal(&store, "again", 100).await.is_some() {
        turns += 1;
        assert!(turns < 100, "it is not tried again");
    }
    assert!(sim.used() < full / 2, "{} of {full}", sim.used());
}

/// What the runbook says of a restart.
#[tokio::test]
async fn a_log_that_is_full_to_the_end_opens_again_when_there_is_space() {
    let sim = Sim::default();
    let mut options = EngineOptions::file("/d").with_clock(Arc::new(ManualClock::new()));
    options.journal.segment_bytes = 4 << 10;
    let store = Engine::open_in(sim.clone(), options.clone()).unwrap();
    sim.set_capacity(Some(40_000));
    let mut left = fill(&store, 1, 2000).await;
    sim.set_capacity(Some(sim.used()));
    let refused = loop {
        let last = DeleteRequest::new(format!("k{:04}", left - 1));
        match store.delete(last).await {
            Ok(_) => left -= 1,
            Err(error) => break error.kind(),
        }
    };
    assert_eq!(refused, ErrorKind::NoSpace);
    store.close().await.unwrap();
    // Each opening leaves a small record, for which there may be room a few times.
    let mut openings = (0..100).map(|_| Engine::open_in(sim.clone(), options.clone()));
    let error = openings.find_map(Result::err).unwrap();
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    assert!(error.message().contains("no space left on the disk"));
    sim.set_capacity(None);
    let store = Engine::open_in(sim, options).unwrap();
    assert_eq!(store.stats().keys, left);
}
