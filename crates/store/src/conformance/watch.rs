//! Watches of what happens next: which keys, which events, in which order and in which pieces.

use bytes::Bytes;

use crate::{
    Compare, DeleteRequest, Event, EventFilter, EventKind, Key, KeyRange, KeyValue, Revision, Txn,
    TxnOp, WatchItem, WatchRequest,
};

use super::case::{Case, case};
use super::check::{Checked, Failure, holds, same};
use super::ctx::Ctx;
use super::factory::Quirk;

pub(super) const CASES: &[Case] = &[
    case!(a_watch_stands_when_it_is_returned),
    case!(a_watch_from_now_tells_nothing_older),
    case!(a_put_event_has_the_whole_pair),
    case!(a_delete_event_has_key_and_revision_only),
    case!(a_created_key_can_be_told_from_a_changed_one),
    case!(a_put_of_the_same_value_is_an_event),
    case!(the_pair_before_comes_when_asked_for),
    case!(the_pair_before_does_not_come_unasked),
    case!(one_key_is_watched_without_its_neighbours),
    case!(a_range_is_watched_without_its_end),
    case!(a_prefix_is_watched),
    case!(from_a_key_all_greater_ones_are_watched),
    case!(an_empty_key_means_the_first_one),
    case!(an_empty_range_is_refused),
    case!(one_revision_comes_in_one_batch),
    case!(events_of_a_txn_come_in_the_order_of_operations),
    case!(events_of_a_delete_come_in_key_order),
    case!(only_the_watched_part_of_a_txn_is_told),
    case!(revisions_come_in_order_without_gap_or_repetition),
    case!(what_changes_nothing_is_no_event),
    case!(puts_can_be_left_out),
    case!(deletes_can_be_left_out),
    case!(puts_and_deletes_can_both_be_left_out),
    case!(a_txn_is_filtered_event_by_event),
    case!(a_revoked_lease_deletes_in_one_batch),
    case!(two_watches_are_told_the_same),
    case!(a_dropped_watch_leaves_others_alone),
    case!(many_watches_stand_at_once),
    case!(progress_is_told_when_asked_for),
    // Of an old server the etcd store cannot know when such a watch has caught up, and before that
    // an answer would prove nothing.
    case!(progress_is_told_when_the_past_holds_nothing).excused_by(Quirk::ProgressOvertakesEvents),
    case!(progress_does_not_overtake_events).excused_by(Quirk::ProgressOvertakesEvents),
    case!(large_events_come_whole),
    case!(a_large_txn_comes_in_one_batch),
];

fn kinds(t: &Ctx, events: &[Event]) -> Vec<String> {
    events
        .iter()
        .map(|event| {
            let sign = match event.kind {
                EventKind::Put => '+',
                EventKind::Delete => '-',
            };
            format!("{sign}{}", t.name_of(&event.kv.key))
        })
        .collect()
}

async fn a_watch_stands_when_it_is_returned(t: Ctx) -> Checked {
    // From now, without a start: whatever is put after it returned must come.
    for round in 0..10 {
        let mut watch = t.watch(WatchRequest::new(t.all())).await?;
        let put = t.put("a", &round.to_string()).await?;
        let mut last = watch.event().await?;
        // A member that lags behind may tell of the rounds before, but never of less than this.
        while last.kv.mod_revision < put {
            holds(
                last.kv.mod_revision > watch.watch.header().revision,
                format!("{last:?} is not after {:?}", watch.watch.header()),
            )?;
            last = watch.event().await?;
        }
        same("revision of the event", last.kv.mod_revision, put)?;
    }
    Ok(())
}

async fn a_watch_from_now_tells_nothing_older(t: Ctx) -> Checked {
    t.put_all(&["a", "b"]).await?;
    let mut watch = t.watch(WatchRequest::new(t.all())).await?;
    let stands = watch.watch.header().revision;
    let put = t.put("c", "1").await?;
    let event = watch.event().await?;
    holds(
        event.kv.mod_revision > stands,
        "an event from before the watch",
    )?;
    holds(event.kv.mod_revision <= put, "an event from nowhere")
}

async fn a_put_event_has_the_whole_pair(t: Ctx) -> Checked {
    let lease = t.lease(60).await?;
    let now = t.put("a", "1").await?;
    let mut watch = t.watch_from(now.next()).await?;
    t.put_leased("a", "2", lease).await?;
    let event = watch.event().await?;
    same("kind", event.kind, EventKind::Put)?;
    same("pair", event.kv, t.existing("a").await?)
}

async fn a_delete_event_has_key_and_revision_only(t: Ctx) -> Checked {
    let now = t.put("a", "1").await?;
    let mut watch = t.watch_from(now.next()).await?;
    let deleted = t.delete(t.one("a")).await?.header.revision;
    let event = watch.event().await?;
    same("kind", event.kind, EventKind::Delete)?;
    let expected = KeyValue {
        key: t.key("a"),
        mod_revision: deleted,
        ..KeyValue::default()
    };
    same("pair", event.kv, expected)
}

async fn a_created_key_can_be_told_from_a_changed_one(t: Ctx) -> Checked {
    let now = t.revision().await?;
    let mut watch = t.watch_from(now.next()).await?;
    t.put_all(&["a", "a"]).await?;
    t.delete(t.one("a")).await?;
    t.put("a", "again").await?;
    let events = watch.events(4).await?;
    let created: Vec<bool> = events.iter().map(Event::is_create).collect();
    same("created", created, [true, false, false, true])
}

async fn a_put_of_the_same_value_is_an_event(t: Ctx) -> Checked {
    let now = t.put("a", "1").await?;
    let mut watch = t.watch_from(now.next()).await?;
    let again = t.put("a", "1").await?;
    let event = watch.event().await?;
    same("revision", event.kv.mod_revision, again)?;
    same("version", event.kv.version, 2)
}

async fn the_pair_before_comes_when_asked_for(t: Ctx) -> Checked {
    let now = t.revision().await?;
    let request = WatchRequest::new(t.all())
        .starting_at(now.next())
        .with_prev_kv();
    let mut watch = t.watch(request).await?;
    let mut expected = vec![None];
    t.put("a", "1").await?;
    expected.push(t.get("a").await?);
    t.put("a", "2").await?;
    expected.push(t.get("a").await?);
    t.delete(t.one("a")).await?;
    expected.push(None);
    t.put("a", "3").await?;
    let events = watch.events(4).await?;
    let found: Vec<_> = events.into_iter().map(|event| event.prev_kv).collect();
    same("pairs before", found, expected)
}

async fn the_pair_before_does_not_come_unasked(t: Ctx) -> Checked {
    let now = t.put("a", "1").await?;
    let mut watch = t.watch_from(now.next()).await?;
    t.put("a", "2").await?;
    t.delete(t.one("a")).await?;
    for event in watch.events(2).await? {
        same("pair before", event.prev_kv, None)?;
    }
    Ok(())
}

/// Puts several keys, then `done`, and gives the names that a watch of `range` tells before it.
async fn told(t: &Ctx, range: KeyRange) -> Checked<Vec<String>> {
    let now = t.revision().await?;
    let mut watch = t
        .watch(WatchRequest::new(range).starting_at(now.next()))
        .await?;
    t.put_all(&["a", "ab", "a\0", "b", "bb", "c"]).await?;
    let last = t.revision().await?;
    let mut names = Vec::new();
    loop {
        watch.watch.request_progress();
        match watch.item().await? {
            WatchItem::Events(batch) => {
                names.extend(batch.events.iter().map(|event| t.name_of(&event.kv.key)));
            }
            WatchItem::Progress(at) if at >= last => return Ok(names),
            WatchItem::Progress(_) => {}
            WatchItem::Compacted { .. } => return Err(Failure::new("nothing was compacted")),
        }
    }
}

async fn one_key_is_watched_without_its_neighbours(t: Ctx) -> Checked {
    same("keys", told(&t, t.one("a")).await?, ["a"])
}

async fn a_range_is_watched_without_its_end(t: Ctx) -> Checked {
    same(
        "keys",
        told(&t, t.between("ab", "c")).await?,
        ["ab", "b", "bb"],
    )
}

async fn a_prefix_is_watched(t: Ctx) -> Checked {
    same("keys", told(&t, t.prefix("a")).await?, ["a", "ab", "a\0"])
}

async fn from_a_key_all_greater_ones_are_watched(t: Ctx) -> Checked {
    same(
        "keys",
        told(&t, KeyRange::From(t.key("b"))).await?,
        ["b", "bb", "c"],
    )
}

async fn an_empty_key_means_the_first_one(t: Ctx) -> Checked {
    let now = t.revision().await?;
    let everything = WatchRequest::new(KeyRange::from("")).starting_at(now.next());
    let mut everything = t.watch(everything).await?;
    let up_to = WatchRequest::new(KeyRange::between("", t.key("b"))).starting_at(now.next());
    let mut up_to = t.watch(up_to).await?;
    // A single empty key is the key of one zero byte, which is a strange one but a key.
    let single = t
        .watch(WatchRequest::new(KeyRange::one("")).starting_at(now.next()))
        .await?;
    drop(single);
    t.put_all(&["b", "a"]).await?;
    same(
        "all keys",
        kinds(&t, &everything.events(2).await?),
        ["+b", "+a"],
    )?;
    same("keys below b", kinds(&t, &up_to.events(1).await?), ["+a"])
}

async fn an_empty_range_is_refused(t: Ctx) -> Checked {
    let below_all = KeyRange::between("", "\0");
    for range in [t.between("b", "a"), t.between("a", "a"), below_all] {
        let request = WatchRequest::new(range);
        let refusal = match t.watch(request).await {
            Err(error) => error,
            Ok(mut watch) => match futures_util::StreamExt::next(&mut watch.watch).await {
                Some(Err(error)) => error,
                other => return Err(Failure::new(format!("expected an error, found {other:?}"))),
            },
        };
        holds(
            !refusal.is_transient(),
            format!("no retry helps: {refusal:?}"),
        )?;
    }
    // The store goes on watching other things.
    let now = t.revision().await?;
    let mut watch = t.watch_from(now.next()).await?;
    t.put("a", "1").await?;
    same("event", kinds(&t, &watch.events(1).await?), ["+a"])
}

async fn one_revision_comes_in_one_batch(t: Ctx) -> Checked {
    let now = t.revision().await?;
    let mut watch = t.watch_from(now.next()).await?;
    for round in 0..10 {
        let puts = (0..20).map(|number| t.putting(&format!("{number:02}"), round.to_string()));
        let revision = t.txn(Txn::new().and_then(puts)).await?.header.revision;
        let batch = watch.batch().await?;
        let of_this = batch
            .iter()
            .filter(|event| event.kv.mod_revision == revision);
        same("events of the revision", of_this.count(), 20)?;
        same("events of the batch", batch.len(), 20)?;
    }
    Ok(())
}

async fn events_of_a_txn_come_in_the_order_of_operations(t: Ctx) -> Checked {
    t.put_all(&["m", "x"]).await?;
    let now = t.revision().await?;
    let mut watch = t.watch_from(now.next()).await?;
    let txn = Txn::new().and_then([
        TxnOp::from(t.putting("z", "1")),
        DeleteRequest::new(t.one("m")).into(),
        t.putting("a", "1").into(),
        Txn::new().and_then([t.putting("k", "1")]).into(),
        DeleteRequest::new(t.one("x")).into(),
    ]);
    t.txn(txn).await?;
    same(
        "events",
        kinds(&t, &watch.batch().await?),
        ["+z", "-m", "+a", "+k", "-x"],
    )
}

async fn events_of_a_delete_come_in_key_order(t: Ctx) -> Checked {
    t.put_all(&["c", "a", "b"]).await?;
    let now = t.revision().await?;
    let mut watch = t.watch_from(now.next()).await?;
    t.delete(t.all()).await?;
    same(
        "events",
        kinds(&t, &watch.batch().await?),
        ["-a", "-b", "-c"],
    )
}

async fn only_the_watched_part_of_a_txn_is_told(t: Ctx) -> Checked {
    let now = t.revision().await?;
    let request = WatchRequest::new(t.prefix("in/")).starting_at(now.next());
    let mut watch = t.watch(request).await?;
    let puts = ["out/1", "in/2", "in/1", "out/2"].map(|name| t.putting(name, "1"));
    t.txn(Txn::new().and_then(puts)).await?;
    same(
        "events",
        kinds(&t, &watch.batch().await?),
        ["+in/2", "+in/1"],
    )
}

async fn revisions_come_in_order_without_gap_or_repetition(t: Ctx) -> Checked {
    let now = t.revision().await?;
    let mut watch = t.watch_from(now.next()).await?;
    let mut expected = Vec::new();
    for number in 0..100 {
        expected.push(t.put(&format!("{}", number % 7), "1").await?);
    }
    let events = watch.events(100).await?;
    let found: Vec<Revision> = events.iter().map(|event| event.kv.mod_revision).collect();
    same("revisions", found, expected)
}

async fn what_changes_nothing_is_no_event(t: Ctx) -> Checked {
    let now = t.put("a", "1").await?;
    let mut watch = t.watch_from(now.next()).await?;
    t.delete(t.one("none")).await?;
    let never = Compare::absent(t.one("a"));
    t.txn(Txn::new().when([never]).and_then([t.putting("b", "1")]))
        .await?;
    let twice = Txn::new().and_then([t.putting("b", "1"), t.putting("b", "2")]);
    holds(t.txn(twice).await.is_err(), "a key was put twice")?;
    t.lease(60).await?;
    t.put("c", "1").await?;
    same("events", kinds(&t, &watch.batch().await?), ["+c"])
}

/// What a watch with a filter tells of a put, a delete, and a put and a delete in one.
async fn filtered(t: &Ctx, filters: &[EventFilter]) -> Checked<Vec<String>> {
    t.put_all(&["a", "b"]).await?;
    let now = t.revision().await?;
    let mut request = WatchRequest::new(t.all()).starting_at(now.next());
    for filter in filters {
        request = request.without(*filter);
    }
    let mut watch = t.watch(request).await?;
    t.put("a", "2").await?;
    t.delete(t.one("a")).await?;
    let both = [
        TxnOp::from(DeleteRequest::new(t.one("b"))),
        t.putting("c", "1").into(),
    ];
    let last = t.txn(Txn::new().and_then(both)).await?.header.revision;
    let expected = 4 - 2 * filters.len();
    let events = watch.events(expected).await?;
    watch.silent_until(last).await?;
    Ok(kinds(t, &events))
}

async fn puts_can_be_left_out(t: Ctx) -> Checked {
    same(
        "events",
        filtered(&t, &[EventFilter::NoPut]).await?,
        ["-a", "-b"],
    )
}

async fn deletes_can_be_left_out(t: Ctx) -> Checked {
    same(
        "events",
        filtered(&t, &[EventFilter::NoDelete]).await?,
        ["+a", "+c"],
    )
}

async fn puts_and_deletes_can_both_be_left_out(t: Ctx) -> Checked {
    let both = [EventFilter::NoPut, EventFilter::NoDelete];
    same("events", filtered(&t, &both).await?, Vec::<String>::new())
}

async fn a_txn_is_filtered_event_by_event(t: Ctx) -> Checked {
    same("events", filtered(&t, &[]).await?, ["+a", "-a", "-b", "+c"])
}

async fn a_revoked_lease_deletes_in_one_batch(t: Ctx) -> Checked {
    let lease = t.lease(60).await?;
    for name in ["c", "a", "b"] {
        t.put_leased(name, "1", lease).await?;
    }
    t.put("d", "1").await?;
    let now = t.revision().await?;
    let mut watch = t.watch_from(now.next()).await?;
    let revoked = t.store.lease_revoke(lease).await?.header.revision;
    let batch = watch.batch().await?;
    same("events", kinds(&t, &batch), ["-a", "-b", "-c"])?;
    let revisions = batch.iter().map(|event| event.kv.mod_revision);
    holds(
        revisions.eq([revoked; 3]),
        "all deletes have the revision of the revoke",
    )
}

async fn two_watches_are_told_the_same(t: Ctx) -> Checked {
    let now = t.revision().await?;
    let mut first = t.watch_from(now.next()).await?;
    let mut second = t.watch_from(now.next()).await?;
    t.put_all(&["a", "b"]).await?;
    t.delete(t.one("a")).await?;
    same("events", first.events(3).await?, second.events(3).await?)
}

async fn a_dropped_watch_leaves_others_alone(t: Ctx) -> Checked {
    let now = t.revision().await?;
    let first = t.watch_from(now.next()).await?;
    let mut second = t.watch_from(now.next()).await?;
    t.put("a", "1").await?;
    drop(first);
    t.put("b", "1").await?;
    let mut third = t.watch_from(now.next()).await?;
    t.put("c", "1").await?;
    same(
        "events",
        kinds(&t, &second.events(3).await?),
        ["+a", "+b", "+c"],
    )?;
    same(
        "events",
        kinds(&t, &third.events(3).await?),
        ["+a", "+b", "+c"],
    )
}

async fn many_watches_stand_at_once(t: Ctx) -> Checked {
    let now = t.revision().await?;
    let mut watches = Vec::new();
    for number in 0..100 {
        let range = t.one(format!("{}", number % 10));
        watches.push(
            t.watch(WatchRequest::new(range).starting_at(now.next()))
                .await?,
        );
    }
    for number in 0..10 {
        t.put(&number.to_string(), "1").await?;
    }
    for (number, watch) in watches.iter_mut().enumerate() {
        same(
            "event",
            kinds(&t, &watch.events(1).await?),
            [format!("+{}", number % 10)],
        )?;
    }
    Ok(())
}

async fn progress_is_told_when_asked_for(t: Ctx) -> Checked {
    let now = t.put("a", "1").await?;
    let mut watch = t.watch_from(now).await?;
    same("event", kinds(&t, &watch.events(1).await?), ["+a"])?;
    watch.silent_until(now).await?;
    let mut watch = t.watch(WatchRequest::new(t.one("b"))).await?;
    // What happens to other keys is progress too.
    let later = t.put("a", "2").await?;
    watch.silent_until(later).await
}

async fn progress_is_told_when_the_past_holds_nothing(t: Ctx) -> Checked {
    let now = t.put("a", "1").await?;
    let request = WatchRequest::new(t.one("b")).starting_at(now);
    t.watch(request).await?.silent_until(now).await
}

async fn progress_does_not_overtake_events(t: Ctx) -> Checked {
    let now = t.revision().await?;
    for _ in 0..100 {
        t.put("a", "1").await?;
    }
    // Behind, and asked at once.
    let mut watch = t.watch_from(now.next()).await?;
    let mut told = now;
    let mut events = 0;
    while events < 200 {
        watch.watch.request_progress();
        if told >= Revision(now.0 + 100) {
            t.put("a", "1").await?;
        }
        match watch.item().await? {
            WatchItem::Events(batch) => {
                for event in batch.events {
                    let at = event.kv.mod_revision;
                    same("revision of the next event", at, told.next())?;
                    told = at;
                    events += 1;
                }
            }
            WatchItem::Progress(at) => {
                holds(
                    at <= told,
                    format!("progress at {at}, but events up to {told}"),
                )?;
            }
            WatchItem::Compacted { .. } => return Err(Failure::new("nothing was compacted")),
        }
    }
    Ok(())
}

async fn large_events_come_whole(t: Ctx) -> Checked {
    // With the pair before, an event is larger than any request.
    let now = t.revision().await?;
    let request = WatchRequest::new(t.all())
        .starting_at(now.next())
        .with_prev_kv();
    let mut watch = t.watch(request).await?;
    let sizes = [1_500_000, 1_400_000, 1_300_000];
    for size in sizes {
        t.put("a", &"x".repeat(size)).await?;
    }
    let mut before = None;
    for (event, size) in watch.events(3).await?.into_iter().zip(sizes) {
        same("bytes", event.kv.value.len(), size)?;
        same(
            "bytes before",
            event.prev_kv.map(|kv| kv.value.len()),
            before,
        )?;
        before = Some(size);
    }
    t.delete(t.all()).await?;
    Ok(())
}

async fn a_large_txn_comes_in_one_batch(t: Ctx) -> Checked {
    // Together with the pairs before, more than a store sends in one piece.
    let fill = |byte: u8| -> Vec<_> {
        let value = Bytes::from(vec![byte; 14_000]);
        (0..100)
            .map(|number| t.putting(&format!("{number:02}"), value.clone()))
            .collect()
    };
    t.txn(Txn::new().and_then(fill(b'x'))).await?;
    let now = t.revision().await?;
    let request = WatchRequest::new(t.all())
        .starting_at(now.next())
        .with_prev_kv();
    let mut watch = t.watch(request).await?;
    t.txn(Txn::new().and_then(fill(b'y'))).await?;
    let batch = watch.batch().await?;
    same("events", batch.len(), 100)?;
    let keys: Vec<Key> = batch.iter().map(|event| event.kv.key.clone()).collect();
    let expected: Vec<Key> = (0..100)
        .map(|number| t.key(format!("{number:02}")))
        .collect();
    same("keys", keys, expected)?;
    let before = batch.iter().filter_map(|event| event.prev_kv.as_ref());
    same(
        "pairs before",
        before.filter(|kv| kv.value.len() == 14_000).count(),
        100,
    )
}
