//! What must hold at every revision, read off the store's whole history.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use synod_store::{Event, EventKind, Key, Revision, WatchItem, WatchRequest};

use super::*;
use crate::double_barrier::keys::Round;

pub(super) fn is_place(key: &Key) -> bool {
    let text = key.to_string();
    text.contains("/place/") || text.contains("/waiters/")
}

/// All that ever happened, by revision.
async fn history(engine: &Arc<dyn Store>) -> Vec<Event> {
    let all = RangeRequest::new(KeyRange::all()).keys_only();
    let now = engine.range(all).await.unwrap().header.revision;
    let request = WatchRequest::new(KeyRange::all()).starting_at(Revision(1));
    let mut watch = engine.watch(request).await.unwrap();
    let mut history: Vec<Event> = Vec::new();
    while history.last().is_none_or(|last| last.kv.mod_revision < now) {
        let item = tokio::time::timeout(LONG, watch.next()).await;
        match item.unwrap().unwrap().unwrap() {
            WatchItem::Events(batch) => history.extend(batch.events),
            WatchItem::Progress(_) => {}
            item => panic!("{item:?}"),
        }
    }
    history
}

/// Checks every revision, and returns when each round was full.
///
/// At most as many places as the count; a round becomes full at a revision at which exactly as
/// many live places as the count were taken after the round before; the last one to leave says so
/// when nobody of its round is inside.
pub(super) async fn check(engine: &Arc<dyn Store>, count: usize, go: bool) -> Vec<Revision> {
    let history = history(engine).await;
    let mut places: BTreeMap<Key, Revision> = BTreeMap::new();
    let mut full = Vec::new();
    // When the flag that stands was put.
    let mut since = Revision::ZERO;
    let mut number = 0;
    for revision in history.chunk_by(|a, b| a.kv.mod_revision == b.kv.mod_revision) {
        let now = revision[0].kv.mod_revision;
        for event in revision.iter().filter(|event| is_place(&event.kv.key)) {
            match event.kind {
                EventKind::Put => drop(places.insert(event.kv.key.clone(), now)),
                EventKind::Delete => drop(places.remove(&event.kv.key)),
            }
        }
        if !go {
            assert!(places.len() <= count, "{} places at {now}", places.len());
        }
        for event in revision {
            let key = event.kv.key.to_string();
            let put = event.kind == EventKind::Put;
            let fresh = || places.values().filter(|created| **created > since).count();
            if key == "d/ready" {
                if put {
                    assert!(fresh() >= count, "{} at {now}", fresh());
                    full.push(now);
                }
                since = if put { now } else { Revision::ZERO };
            } else if key.ends_with("/at/round") {
                let round = Round::decode(&event.kv.value);
                let next = round.map_or(0, |round| round.number);
                if put && next > number {
                    assert_eq!(fresh(), count, "at {now}");
                    assert_eq!(places.len(), count, "nobody else is inside at {now}");
                    assert_eq!(next, number + 1);
                    full.push(now);
                }
                number = next;
                since = if put { now } else { Revision::ZERO };
            } else if key.ends_with("/at/done") && put {
                let inside = places.values().filter(|created| **created <= since);
                assert_eq!(inside.count(), 0, "somebody is inside at {now}");
            }
        }
    }
    full
}
