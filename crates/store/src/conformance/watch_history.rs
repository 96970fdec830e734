//! Watches from a revision in the past or the future, and what compaction does to them.

use futures_util::StreamExt;

use crate::{Event, EventKind, KeyRange, Revision, Txn, TxnOp, WatchItem, WatchRequest};

use super::case::{Case, case};
use super::check::{Checked, Failure, holds, same};
use super::ctx::Ctx;
use super::factory::{Needs, Quirk};

pub(super) const CASES: &[Case] = &[
    case!(the_past_is_replayed_in_order),
    case!(the_start_belongs_to_the_watch),
    case!(a_replay_goes_over_into_what_happens_next),
    case!(a_replay_while_others_write_has_no_gap_or_repetition),
    case!(a_replayed_revision_comes_in_one_batch),
    case!(a_replay_knows_the_pairs_before),
    case!(a_replay_shows_keys_that_are_gone),
    case!(a_replay_obeys_its_range_and_filters),
    case!(everything_is_replayed_from_revision_one).needing(Needs::Fresh),
    case!(a_large_past_is_replayed_whole),
    case!(the_current_revision_can_be_the_start),
    case!(a_future_start_is_waited_for_in_silence).excused_by(Quirk::FutureWatchNotSilent),
    case!(a_future_start_gets_what_comes_then).excused_by(Quirk::FutureWatchNotSilent),
    case!(a_compacted_start_ends_the_watch),
    case!(the_compact_revision_can_be_the_start),
    case!(a_delete_at_the_compact_revision_is_told)
        .excused_by(Quirk::DeleteMissingAtCompactRevision),
    case!(a_range_deleted_at_the_compact_revision_is_told).excused_by(Quirk::CompactionDropsDelete),
    case!(a_pair_before_that_was_compacted_is_absent),
    case!(a_watch_that_stands_survives_compaction),
    case!(a_watch_without_a_start_survives_compaction),
];

fn revisions(events: &[Event]) -> Vec<Revision> {
    events.iter().map(|event| event.kv.mod_revision).collect()
}

async fn the_past_is_replayed_in_order(t: Ctx) -> Checked {
    let first = t.put("a", "1").await?;
    let second = t.put("b", "1").await?;
    let third = t.delete(t.one("a")).await?.header.revision;
    let fourth = t.put("a", "2").await?;
    let mut watch = t.watch_from(first).await?;
    let events = watch.events(4).await?;
    same(
        "revisions",
        revisions(&events),
        [first, second, third, fourth],
    )?;
    let kinds: Vec<EventKind> = events.iter().map(|event| event.kind).collect();
    let (put, delete) = (EventKind::Put, EventKind::Delete);
    same("kinds", kinds, [put, put, delete, put])
}

async fn the_start_belongs_to_the_watch(t: Ctx) -> Checked {
    t.put("a", "1").await?;
    let second = t.put("a", "2").await?;
    let third = t.put("a", "3").await?;
    let mut watch = t.watch_from(second).await?;
    same(
        "revisions",
        revisions(&watch.events(2).await?),
        [second, third],
    )
}

async fn a_replay_goes_over_into_what_happens_next(t: Ctx) -> Checked {
    let first = t.put("a", "1").await?;
    let mut expected = vec![first, t.put("a", "2").await?];
    let mut watch = t.watch_from(first).await?;
    expected.push(t.put("a", "3").await?);
    expected.push(t.put("a", "4").await?);
    same("revisions", revisions(&watch.events(4).await?), expected)
}

async fn a_replay_while_others_write_has_no_gap_or_repetition(t: Ctx) -> Checked {
    let first = t.put("a", "0").await?;
    for _ in 0..50 {
        t.put("a", "1").await?;
    }
    let writes = async {
        for _ in 0..50 {
            t.put("a", "2").await?;
        }
        Ok::<_, Failure>(())
    };
    let reads = async {
        let mut watch = t.watch_from(first).await?;
        let events = watch.events(101).await?;
        let expected: Vec<Revision> = (0..101).map(|number| Revision(first.0 + number)).collect();
        same("revisions", revisions(&events), expected)
    };
    futures_util::future::try_join(writes, reads).await?;
    Ok(())
}

async fn a_replayed_revision_comes_in_one_batch(t: Ctx) -> Checked {
    let before = t.revision().await?;
    for round in 0..20 {
        let puts = (0..50).map(|number| t.putting(&format!("{number:02}"), round.to_string()));
        t.txn(Txn::new().and_then(puts)).await?;
    }
    let mut watch = t.watch_from(before.next()).await?;
    let mut told = 0;
    let mut last = before;
    while told < 1000 {
        let batch = watch.batch().await?;
        told += batch.len();
        for events in batch.chunk_by(|a, b| a.kv.mod_revision == b.kv.mod_revision) {
            let at = events.first().map(|event| event.kv.mod_revision);
            same("revision", at, Some(last.next()))?;
            same("events of one revision in one batch", events.len(), 50)?;
            last = last.next();
        }
    }
    same("events", told, 1000)
}

async fn a_replay_knows_the_pairs_before(t: Ctx) -> Checked {
    let first = t.put("a", "1").await?;
    let one = t.get("a").await?;
    t.put("a", "2").await?;
    let two = t.get("a").await?;
    t.delete(t.one("a")).await?;
    t.put("a", "3").await?;
    let request = WatchRequest::new(t.all()).starting_at(first).with_prev_kv();
    let events = t.watch(request).await?.events(4).await?;
    let found: Vec<_> = events.into_iter().map(|event| event.prev_kv).collect();
    same("pairs before", found, [None, one, two, None])
}

async fn a_replay_shows_keys_that_are_gone(t: Ctx) -> Checked {
    let first = t.put("a", "1").await?;
    t.delete(t.one("a")).await?;
    let events = t.watch_from(first).await?.events(2).await?;
    let values: Vec<_> = events
        .iter()
        .map(|event| (event.kind, event.kv.value.len()))
        .collect();
    same(
        "events",
        values,
        [(EventKind::Put, 1), (EventKind::Delete, 0)],
    )
}

async fn a_replay_obeys_its_range_and_filters(t: Ctx) -> Checked {
    let first = t.put("a", "1").await?;
    t.put_all(&["b", "c"]).await?;
    t.delete(t.all()).await?;
    t.put("b", "2").await?;
    let request = WatchRequest::new(t.between("b", "d"))
        .starting_at(first)
        .without(crate::EventFilter::NoPut);
    let mut watch = t.watch(request).await?;
    let events = watch.events(2).await?;
    let names: Vec<String> = events
        .iter()
        .map(|event| t.name_of(&event.kv.key))
        .collect();
    same("deleted keys", names, ["b", "c"])
}

async fn everything_is_replayed_from_revision_one(t: Ctx) -> Checked {
    t.put_all(&["b", "a"]).await?;
    let request = WatchRequest::new(KeyRange::all()).starting_at(Revision(1));
    let events = t.watch(request).await?.events(2).await?;
    same("revisions", revisions(&events), [Revision(2), Revision(3)])
}

async fn a_large_past_is_replayed_whole(t: Ctx) -> Checked {
    let before = t.revision().await?;
    let value = "x".repeat(1_000_000);
    for _ in 0..8 {
        t.put("a", &value).await?;
    }
    let mut watch = t.watch_from(before.next()).await?;
    let events = watch.events(8).await?;
    let bytes: usize = events.iter().map(|event| event.kv.value.len()).sum();
    same("bytes", bytes, 8_000_000)?;
    t.delete(t.all()).await?;
    Ok(())
}

async fn the_current_revision_can_be_the_start(t: Ctx) -> Checked {
    let now = t.put("a", "1").await?;
    let mut watch = t.watch_from(now).await?;
    let next = t.put("a", "2").await?;
    same("revisions", revisions(&watch.events(2).await?), [now, next])
}

async fn a_future_start_is_waited_for_in_silence(t: Ctx) -> Checked {
    let now = t.put("a", "1").await?;
    let mut watch = t.watch_from(Revision(now.0 + 3)).await?;
    // Two watches of the same keys, so that there is something to see when nothing comes.
    let mut other = t.watch_from(now.next()).await?;
    for number in 2..=3 {
        t.put("a", &number.to_string()).await?;
        other.events(1).await?;
        watch.watch.request_progress();
    }
    let wanted = t.put("a", "4").await?;
    same("the awaited revision", wanted, Revision(now.0 + 3))?;
    loop {
        match watch.item().await? {
            WatchItem::Events(batch) => {
                return same("revisions", revisions(&batch.events), [wanted]);
            }
            // That nothing is left to tell before the start is all that may be said of it.
            WatchItem::Progress(at) if at == wanted.prev() => {}
            other => {
                return Err(Failure::new(format!(
                    "expected silence until {wanted}, found {other:?}"
                )));
            }
        }
    }
}

async fn a_future_start_gets_what_comes_then(t: Ctx) -> Checked {
    let now = t.put("a", "1").await?;
    let start = Revision(now.0 + 5);
    let mut watch = t.watch_from(start).await?;
    for _ in 0..8 {
        t.put("a", "2").await?;
    }
    let events = watch.events(4).await?;
    let expected: Vec<Revision> = (0..4).map(|number| Revision(start.0 + number)).collect();
    same("revisions", revisions(&events), expected)
}

async fn a_compacted_start_ends_the_watch(t: Ctx) -> Checked {
    let first = t.put("a", "1").await?;
    t.put("a", "2").await?;
    let last = t.put("a", "3").await?;
    t.store.compact(last, false).await?;
    for start in [first, last.prev(), Revision(1)] {
        let mut watch = t.watch_from(start).await?;
        match watch.item().await? {
            WatchItem::Compacted { compact_revision } => {
                same("compact revision", compact_revision, last)?;
            }
            other => return Err(Failure::new(format!("expected Compacted, found {other:?}"))),
        }
        let end = watch.watch.next().await;
        holds(
            end.is_none(),
            format!("nothing comes after Compacted, found {end:?}"),
        )?;
    }
    Ok(())
}

async fn the_compact_revision_can_be_the_start(t: Ctx) -> Checked {
    t.put("a", "1").await?;
    let at = t.put("a", "2").await?;
    t.store.compact(at, false).await?;
    let mut watch = t.watch_from(at).await?;
    let next = t.put("a", "3").await?;
    same("revisions", revisions(&watch.events(2).await?), [at, next])
}

/// What a watch from `start` tells before the put of `end`.
async fn told_before_end(t: &Ctx, start: Revision) -> Checked<Vec<String>> {
    t.put("end", "1").await?;
    let mut watch = t.watch_from(start).await?;
    let mut told = Vec::new();
    loop {
        let event = watch.event().await?;
        let name = t.name_of(&event.kv.key);
        if name == "end" {
            return Ok(told);
        }
        told.push(format!(
            "{:?} {name} at +{}",
            event.kind,
            event.kv.mod_revision.0 - start.0
        ));
    }
}

async fn a_delete_at_the_compact_revision_is_told(t: Ctx) -> Checked {
    t.put("a", "1").await?;
    let deleted = t.delete(t.one("a")).await?.header.revision;
    t.put("b", "1").await?;
    t.store.compact(deleted, true).await?;
    let told = told_before_end(&t, deleted).await?;
    same("events", told, ["Delete a at +0", "Put b at +1"])
}

async fn a_range_deleted_at_the_compact_revision_is_told(t: Ctx) -> Checked {
    t.put_all(&["a", "b", "c", "d"]).await?;
    t.put("a", "2").await?;
    let ops = [
        TxnOp::from(crate::DeleteRequest::new(t.between("a", "c"))),
        t.putting("e", "1").into(),
    ];
    let deleted = t.txn(Txn::new().and_then(ops)).await?.header.revision;
    t.put("a", "3").await?;
    t.store.compact(deleted, true).await?;
    let told = told_before_end(&t, deleted).await?;
    let expected = [
        "Delete a at +0",
        "Delete b at +0",
        "Put e at +0",
        "Put a at +1",
    ];
    same("events", told, expected)
}

async fn a_pair_before_that_was_compacted_is_absent(t: Ctx) -> Checked {
    t.put("a", "1").await?;
    let second = t.put("a", "2").await?;
    let two = t.get("a").await?;
    t.put("a", "3").await?;
    t.store.compact(second, true).await?;
    let request = WatchRequest::new(t.all())
        .starting_at(second)
        .with_prev_kv();
    let events = t.watch(request).await?.events(2).await?;
    let found: Vec<_> = events.into_iter().map(|event| event.prev_kv).collect();
    same("pairs before", found, [None, two])
}

async fn a_watch_that_stands_survives_compaction(t: Ctx) -> Checked {
    let first = t.put("a", "1").await?;
    let mut watch = t.watch_from(first).await?;
    same("revisions", revisions(&watch.events(1).await?), [first])?;
    let second = t.put("a", "2").await?;
    same("revisions", revisions(&watch.events(1).await?), [second])?;
    t.store.compact(second, true).await?;
    let third = t.put("a", "3").await?;
    same("revisions", revisions(&watch.events(1).await?), [third])
}

async fn a_watch_without_a_start_survives_compaction(t: Ctx) -> Checked {
    t.put("a", "1").await?;
    let mut watch = t.watch(WatchRequest::new(t.one("a"))).await?;
    let now = t.put("other", "1").await?;
    t.store.compact(now, true).await?;
    let next = t.put("a", "2").await?;
    // Of a member that lags behind, the first put may still come.
    let mut events = watch.events(1).await?;
    if events
        .first()
        .is_some_and(|event| event.kv.mod_revision < next)
    {
        events = watch.events(1).await?;
    }
    same("revisions", revisions(&events), [next])
}
