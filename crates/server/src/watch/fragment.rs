//! Cuts what is too large for one answer into several: between revisions always, since a store may tell many at once and
//! most clients take messages of 4 MiB at most; within one revision only when the client asked for that.

use prost::Message;
use prost::encoding::{encoded_len_varint, key_len};
use synod_store::{Event as StoreEvent, WatchBatch};
use synod_wire::etcdserverpb::WatchResponse;
use synod_wire::mvccpb::Event;

/// The number of the field that holds the events.
const EVENTS_TAG: u32 = 11;

/// What an event's numbers take up at most.
const NUMBERS: usize = 64;

/// `batch` in as many parts as it takes to keep each below `most` bytes; a single revision is never cut.
pub(super) fn at_revisions(batch: WatchBatch, most: usize) -> Vec<WatchBatch> {
    let all = batch.events.iter().map(size).fold(0, usize::saturating_add);
    if all < most {
        return vec![batch];
    }
    let mut parts: Vec<WatchBatch> = Vec::new();
    let mut bytes = 0_usize;
    for events in batch
        .events
        .chunk_by(|a, b| a.kv.mod_revision == b.kv.mod_revision)
    {
        let more = events.iter().map(size).fold(0, usize::saturating_add);
        let revision = events
            .first()
            .map(|event| event.kv.mod_revision)
            .unwrap_or_default();
        bytes = bytes.saturating_add(more);
        match parts.last_mut() {
            Some(part) if bytes < most => {
                part.revision = revision;
                part.events.extend_from_slice(events);
            }
            _ => {
                bytes = more;
                let events = events.to_vec();
                parts.push(WatchBatch { revision, events });
            }
        }
    }
    if let Some(last) = parts.last_mut() {
        last.revision = batch.revision;
    }
    parts
}

/// About what an event takes up in an answer, rather more than less.
fn size(event: &StoreEvent) -> usize {
    let prev = event.prev_kv.as_ref();
    [Some(&event.kv), prev]
        .into_iter()
        .flatten()
        .fold(0, |sum: usize, kv| {
            sum.saturating_add(kv.key.len())
                .saturating_add(kv.value.len())
                .saturating_add(NUMBERS)
        })
}

/// `answer` in as many parts as it takes to keep each below `most` bytes; a single event is never
/// cut. All parts but the last say that more follows.
pub(super) fn fragment(answer: WatchResponse, most: usize) -> Vec<WatchResponse> {
    if answer.events.len() < 2 || answer.encoded_len() < most {
        return vec![answer];
    }
    let WatchResponse { events, .. } = answer;
    let empty = WatchResponse {
        fragment: true,
        events: Vec::new(),
        ..answer
    };
    let empty_size = empty.encoded_len();
    let mut parts = Vec::new();
    let mut part = empty.clone();
    let mut size = empty_size;
    for event in events {
        let event_size = size_in_answer(&event);
        if !part.events.is_empty() && size.saturating_add(event_size) >= most {
            parts.push(std::mem::replace(&mut part, empty.clone()));
            size = empty_size;
        }
        size = size.saturating_add(event_size);
        part.events.push(event);
    }
    part.fragment = false;
    parts.push(part);
    parts
}

/// How much an event adds to the size of the answer that holds it.
fn size_in_answer(event: &Event) -> usize {
    let size = event.encoded_len();
    let length = encoded_len_varint(u64::try_from(size).unwrap_or(u64::MAX));
    key_len(EVENTS_TAG)
        .saturating_add(length)
        .saturating_add(size)
}

#[cfg(test)]
mod tests {
    use synod_store::{EventKind, Revision};
    use synod_wire::etcdserverpb::ResponseHeader;
    use synod_wire::mvccpb::KeyValue;

    use super::*;

    fn answer(sizes: &[usize]) -> WatchResponse {
        let event = |(index, size): (usize, &usize)| Event {
            kv: Some(KeyValue {
                key: format!("key-{index}").into(),
                value: vec![b'v'; *size].into(),
                mod_revision: 7,
                ..KeyValue::default()
            }),
            ..Event::default()
        };
        WatchResponse {
            header: Some(ResponseHeader {
                cluster_id: 1,
                member_id: 2,
                revision: 7,
                raft_term: 3,
            }),
            watch_id: 5,
            events: sizes.iter().enumerate().map(event).collect(),
            ..WatchResponse::default()
        }
    }

    #[test]
    fn what_is_small_enough_stays_whole() {
        let whole = answer(&[10, 20, 30]);
        assert_eq!(fragment(whole.clone(), 1000), vec![whole]);
        let single = answer(&[5000]);
        assert_eq!(fragment(single.clone(), 1000), vec![single]);
    }

    #[test]
    fn parts_stay_below_the_limit_and_hold_every_event_once_and_in_order() {
        let sizes: Vec<usize> = (0..200).map(|index| index * 7 % 400).collect();
        let whole = answer(&sizes);
        for most in [300, 1000, 4096] {
            let parts = fragment(whole.clone(), most);
            assert!(parts.len() > 1);
            let (last, before) = parts.split_last().unwrap();
            assert!(!last.fragment && before.iter().all(|part| part.fragment));
            for part in &parts {
                assert!(part.encoded_len() < most || part.events.len() == 1);
                assert_eq!(part.watch_id, 5);
                assert_eq!(part.header, whole.header);
            }
            // No part could have taken the next one's first event too.
            for (part, next) in parts.iter().zip(&parts[1..]) {
                let mut larger = part.clone();
                larger.events.push(next.events[0].clone());
                assert!(larger.encoded_len() >= most);
            }
            let events: Vec<_> = parts.into_iter().flat_map(|part| part.events).collect();
            assert_eq!(events, whole.events);
        }
    }

    #[test]
    fn batches_are_cut_between_revisions_alone() {
        let event = |revision: u64, size: usize| StoreEvent {
            kind: EventKind::Put,
            kv: synod_store::KeyValue {
                key: "k".into(),
                value: vec![0; size].into(),
                mod_revision: Revision(revision),
                ..synod_store::KeyValue::default()
            },
            prev_kv: None,
        };
        let batch = WatchBatch {
            revision: Revision(20),
            events: vec![
                event(3, 300),
                event(4, 300),
                event(4, 2000),
                event(4, 10),
                event(5, 10),
                event(6, 10),
                event(9, 900),
            ],
        };
        assert_eq!(at_revisions(batch.clone(), 10_000), vec![batch.clone()]);
        let parts = at_revisions(batch.clone(), 1000);
        let told: Vec<(u64, usize)> = parts
            .iter()
            .map(|part| (part.revision.0, part.events.len()))
            .collect();
        assert_eq!(told, [(3, 1), (4, 3), (6, 2), (20, 1)]);
        let events: Vec<_> = parts.into_iter().flat_map(|part| part.events).collect();
        assert_eq!(events, batch.events);
    }
}
