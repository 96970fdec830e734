//! Cuts an answer that is too large for a client into several, when the client asked for that.

use prost::Message;
use prost::encoding::{encoded_len_varint, key_len};
use synod_wire::etcdserverpb::WatchResponse;
use synod_wire::mvccpb::Event;

/// The number of the field that holds the events.
const EVENTS_TAG: u32 = 11;

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
}
