//! The two directions of a watch stream: commands ([`WatchCommand`]) and answers ([`WatchAnswer`]).
//! Many watches share a stream, so both carry the watch's id.

use bytes::Bytes;
use synod_store::{
    Error, ErrorKind, Event, EventFilter, EventKind, Header, Key, KeyRange, KeyValue, Result,
    Revision, WatchBatch, WatchRequest,
};

use super::kv::{key_and_end, key_range};
use super::{header, invalid, malformed, revision};
use crate::etcdserverpb as pb;
use crate::etcdserverpb::watch_create_request::FilterType;
use crate::etcdserverpb::watch_request::RequestUnion;
use crate::mvccpb;
use crate::mvccpb::event::EventType;

/// The id of no watch: answers to what was not made, and progress of all watches of the stream.
pub const NO_WATCH: i64 = -1;

/// Why a watch whose id is in use is refused.
pub const DUPLICATE_ID: &str = "mvcc: duplicate watch ID provided on the WatchStream";

/// Why a watch of a range without keys is refused.
pub const EMPTY_RANGE: &str = "mvcc: watcher range is empty";

/// What an empty key means in a watch.
const SMALLEST: &[u8] = b"\0";

/// What a client asks on a watch stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchCommand {
    /// Make a watch.
    Create(WatchCreate),
    /// End the watch with this id.
    Cancel(i64),
    /// Say how far all watches of the stream are.
    Progress,
}

/// A watch to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchCreate {
    /// What to watch. An [empty range](KeyRange::is_empty) is answered with [`EMPTY_RANGE`].
    pub request: WatchRequest,
    /// The id to give it; 0 lets the server choose.
    pub watch_id: i64,
    /// Whether one revision's events may come in several answers.
    pub fragment: bool,
}

impl From<&WatchCommand> for pb::WatchRequest {
    fn from(command: &WatchCommand) -> pb::WatchRequest {
        let union = match command {
            WatchCommand::Create(create) => RequestUnion::CreateRequest(create.into()),
            WatchCommand::Cancel(watch_id) => RequestUnion::CancelRequest(pb::WatchCancelRequest {
                watch_id: *watch_id,
            }),
            WatchCommand::Progress => RequestUnion::ProgressRequest(pb::WatchProgressRequest {}),
        };
        pb::WatchRequest {
            request_union: Some(union),
        }
    }
}

/// etcd ignores a command that is none.
///
/// # Errors
///
/// [`ErrorKind::Compacted`] for a watch from a negative revision, which etcd makes and ends as
/// compacted at once; [`ErrorKind::InvalidArgument`] for what is unknown.
impl TryFrom<pb::WatchRequest> for WatchCommand {
    type Error = Error;

    fn try_from(request: pb::WatchRequest) -> Result<WatchCommand> {
        Ok(match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => WatchCommand::Create(create.try_into()?),
            Some(RequestUnion::CancelRequest(cancel)) => WatchCommand::Cancel(cancel.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => WatchCommand::Progress,
            None => return Err(invalid("a watch stream's command is missing")),
        })
    }
}

impl From<&WatchCreate> for pb::WatchCreateRequest {
    fn from(create: &WatchCreate) -> pb::WatchCreateRequest {
        let request = &create.request;
        let (key, range_end) = match &request.range {
            // Said outright: an empty start would hide that such a range can be empty.
            KeyRange::Between(start, end) if start.is_empty() => {
                key_and_end(&KeyRange::Between(Key::from_static(SMALLEST), end.clone()))
            }
            range => key_and_end(range),
        };
        let filter = |filter: &EventFilter| match filter {
            EventFilter::NoPut => FilterType::Noput.into(),
            EventFilter::NoDelete => FilterType::Nodelete.into(),
        };
        pb::WatchCreateRequest {
            key,
            range_end,
            start_revision: request.start_revision.as_i64(),
            progress_notify: request.progress_notify,
            filters: request.filters.iter().map(filter).collect(),
            prev_kv: request.prev_kv,
            watch_id: create.watch_id,
            fragment: create.fragment,
        }
    }
}

/// An empty key means the smallest key here, unlike in other requests.
impl TryFrom<pb::WatchCreateRequest> for WatchCreate {
    type Error = Error;

    fn try_from(create: pb::WatchCreateRequest) -> Result<WatchCreate> {
        if create.start_revision < 0 {
            return Err(ErrorKind::Compacted.into());
        }
        // Each kind once, however often it was sent: they are looked at for every event, for as long as the watch stands.
        let mut filters: Vec<EventFilter> = Vec::new();
        for number in &create.filters {
            let filter = match FilterType::try_from(*number) {
                Ok(FilterType::Noput) => EventFilter::NoPut,
                Ok(FilterType::Nodelete) => EventFilter::NoDelete,
                Err(_) => return Err(invalid(format_args!("unknown filter {number}"))),
            };
            if !filters.contains(&filter) {
                filters.push(filter);
            }
        }
        let key = if create.key.is_empty() {
            Bytes::from_static(SMALLEST)
        } else {
            create.key
        };
        let range: KeyRange = key_range(key, create.range_end);
        Ok(WatchCreate {
            request: WatchRequest {
                range,
                start_revision: Revision::from_i64(create.start_revision),
                prev_kv: create.prev_kv,
                progress_notify: create.progress_notify,
                filters,
            },
            watch_id: create.watch_id,
            fragment: create.fragment,
        })
    }
}

/// What a server says on a watch stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchAnswer {
    /// Who says so. For events and progress the revision is theirs; with [`WatchNews::Compacted`]
    /// etcd leaves it 0.
    pub header: Header,
    /// Which watch it is about; [`NO_WATCH`] for none or all.
    pub watch_id: i64,
    /// What.
    pub news: WatchNews,
}

/// What a [`WatchAnswer`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchNews {
    /// The watch stands; it sees everything after the header's revision.
    Created,
    /// The watch was not made.
    Refused {
        /// Why.
        reason: String,
    },
    /// Changes.
    Events {
        /// The changes, of one revision or more.
        events: Vec<Event>,
        /// Whether more changes of the last revision follow in the next answer.
        fragment: bool,
    },
    /// Every change up to the header's revision has been delivered.
    Progress,
    /// The watch has ended because history that it needs is gone.
    Compacted {
        /// The oldest revision that can still be watched from.
        compact_revision: Revision,
    },
    /// The watch has ended: as its client asked when there is no reason, else because of it.
    Canceled {
        /// Why.
        reason: String,
    },
}

impl WatchAnswer {
    /// Changes that a watch delivers at once.
    #[must_use]
    pub fn events(header: Header, watch_id: i64, batch: WatchBatch) -> WatchAnswer {
        WatchAnswer {
            header: Header {
                revision: batch.revision,
                ..header
            },
            watch_id,
            news: WatchNews::Events {
                events: batch.events,
                fragment: false,
            },
        }
    }
}

impl From<WatchAnswer> for pb::WatchResponse {
    fn from(answer: WatchAnswer) -> pb::WatchResponse {
        let response = pb::WatchResponse {
            header: Some(answer.header.into()),
            watch_id: answer.watch_id,
            ..pb::WatchResponse::default()
        };
        match answer.news {
            WatchNews::Created => pb::WatchResponse {
                created: true,
                ..response
            },
            WatchNews::Refused { reason } => pb::WatchResponse {
                created: true,
                canceled: true,
                cancel_reason: reason,
                ..response
            },
            WatchNews::Events { events, fragment } => pb::WatchResponse {
                events: events.into_iter().map(Into::into).collect(),
                fragment,
                ..response
            },
            WatchNews::Progress => response,
            WatchNews::Compacted { compact_revision } => pb::WatchResponse {
                canceled: true,
                compact_revision: compact_revision.as_i64(),
                ..response
            },
            WatchNews::Canceled { reason } => pb::WatchResponse {
                canceled: true,
                cancel_reason: reason,
                ..response
            },
        }
    }
}

impl TryFrom<pb::WatchResponse> for WatchAnswer {
    type Error = Error;

    fn try_from(response: pb::WatchResponse) -> Result<WatchAnswer> {
        let reason = response.cancel_reason;
        let news = if response.canceled && response.compact_revision != 0 {
            WatchNews::Compacted {
                compact_revision: revision("a compact revision", response.compact_revision)?,
            }
        } else if response.canceled && response.created {
            WatchNews::Refused { reason }
        } else if response.canceled {
            WatchNews::Canceled { reason }
        } else if response.created {
            WatchNews::Created
        } else if response.events.is_empty() && !response.fragment {
            WatchNews::Progress
        } else {
            WatchNews::Events {
                events: response
                    .events
                    .into_iter()
                    .map(Event::try_from)
                    .collect::<Result<_>>()?,
                fragment: response.fragment,
            }
        };
        Ok(WatchAnswer {
            header: header(response.header)?,
            watch_id: response.watch_id,
            news,
        })
    }
}

impl From<Event> for mvccpb::Event {
    fn from(event: Event) -> mvccpb::Event {
        let kind = match event.kind {
            EventKind::Put => EventType::Put,
            EventKind::Delete => EventType::Delete,
        };
        mvccpb::Event {
            r#type: kind.into(),
            kv: Some(event.kv.into()),
            prev_kv: event.prev_kv.map(Into::into),
        }
    }
}

impl TryFrom<mvccpb::Event> for Event {
    type Error = Error;

    fn try_from(event: mvccpb::Event) -> Result<Event> {
        let kind = match EventType::try_from(event.r#type) {
            Ok(EventType::Put) => EventKind::Put,
            Ok(EventType::Delete) => EventKind::Delete,
            Err(_) => return Err(malformed(format_args!("unknown event {}", event.r#type))),
        };
        let kv = event
            .kv
            .ok_or_else(|| malformed("an event without a key"))?;
        Ok(Event {
            kind,
            kv: kv.try_into()?,
            prev_kv: event.prev_kv.map(KeyValue::try_from).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(create: pb::WatchCreateRequest) -> Result<WatchCreate> {
        WatchCreate::try_from(create)
    }

    #[test]
    fn an_empty_key_is_the_smallest() {
        let all = pb::WatchCreateRequest {
            range_end: Bytes::from_static(b"\0"),
            ..pb::WatchCreateRequest::default()
        };
        assert_eq!(create(all).unwrap().request.range, KeyRange::all());
        let one = create(pb::WatchCreateRequest::default()).unwrap();
        assert_eq!(one.request.range, KeyRange::one("\0"));
    }

    #[test]
    fn a_range_below_every_key_stays_empty() {
        for end in ["", "\0"] {
            let request = WatchRequest::new(KeyRange::between("", end));
            let word = WatchCreate {
                request,
                watch_id: 0,
                fragment: false,
            };
            let sent = pb::WatchCreateRequest::from(&word);
            let range = create(sent).unwrap().request.range;
            assert!(range.is_empty(), "{range:?}");
        }
    }

    #[test]
    fn commands_that_make_no_sense_are_refused() {
        let kind = |request: pb::WatchCreateRequest| create(request).unwrap_err().kind();
        let past = pb::WatchCreateRequest {
            start_revision: -1,
            ..pb::WatchCreateRequest::default()
        };
        let filter = pb::WatchCreateRequest {
            filters: vec![2],
            ..pb::WatchCreateRequest::default()
        };
        assert_eq!(kind(past), ErrorKind::Compacted);
        assert_eq!(kind(filter), ErrorKind::InvalidArgument);
        assert!(WatchCommand::try_from(pb::WatchRequest::default()).is_err());
    }

    #[test]
    fn a_filter_that_is_sent_a_million_times_is_kept_once() {
        let (no_put, no_delete) = (FilterType::Noput.into(), FilterType::Nodelete.into());
        let create = pb::WatchCreateRequest {
            filters: [no_delete, no_put].repeat(500_000),
            ..pb::WatchCreateRequest::default()
        };
        let kept = WatchCreate::try_from(create).unwrap().request.filters;
        assert_eq!(kept, [EventFilter::NoDelete, EventFilter::NoPut]);
        assert!(kept.capacity() < 10);
    }

    #[test]
    fn answers_survive() {
        let compact_revision = Revision(5);
        let events = vec![Event {
            kind: EventKind::Put,
            kv: KeyValue::default(),
            prev_kv: None,
        }];
        for news in [
            WatchNews::Created,
            WatchNews::Progress,
            WatchNews::Compacted { compact_revision },
            WatchNews::Refused {
                reason: DUPLICATE_ID.to_string(),
            },
            WatchNews::Canceled {
                reason: String::new(),
            },
            WatchNews::Events {
                events: events.clone(),
                fragment: false,
            },
            WatchNews::Events {
                events,
                fragment: true,
            },
            // Nothing, but more follows: no sign of progress.
            WatchNews::Events {
                events: vec![],
                fragment: true,
            },
        ] {
            let answer = WatchAnswer {
                header: Header::default(),
                watch_id: 3,
                news,
            };
            let message = pb::WatchResponse::from(answer.clone());
            assert_eq!(WatchAnswer::try_from(message).unwrap(), answer);
        }
    }

    #[test]
    fn a_batch_brings_its_revision() {
        let batch = WatchBatch {
            revision: Revision(9),
            events: vec![],
        };
        let answer = WatchAnswer::events(Header::default(), 1, batch);
        assert_eq!(answer.header.revision, Revision(9));
    }

    #[test]
    fn answers_that_make_no_sense_are_refused() {
        let full = || pb::WatchResponse {
            header: Some(pb::ResponseHeader::default()),
            ..pb::WatchResponse::default()
        };
        let event = |event: mvccpb::Event| pb::WatchResponse {
            events: vec![event],
            ..full()
        };
        let unknown = mvccpb::Event {
            r#type: 2,
            kv: Some(mvccpb::KeyValue::default()),
            prev_kv: None,
        };
        let negative = pb::WatchResponse {
            canceled: true,
            compact_revision: -1,
            ..full()
        };
        for response in [
            pb::WatchResponse::default(),
            event(mvccpb::Event::default()),
            event(unknown),
            negative,
        ] {
            assert_eq!(
                WatchAnswer::try_from(response).unwrap_err().kind(),
                ErrorKind::Other
            );
        }
    }
}
