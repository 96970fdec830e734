//! Single operations on keys: range, put, delete and compaction, and how etcd writes a range of
//! keys.

use bytes::Bytes;
use synod_store::{
    CompactResponse, DeleteRequest, DeleteResponse, Error, ErrorKind, Header, Key, KeyRange,
    KeyValue, LeaseId, PutLease, PutRequest, PutResponse, PutValue, RangeRequest, RangeResponse,
    Result, Revision, SortOrder, SortTarget,
};

use super::{header, revision, served, signed, unsigned};
use crate::etcdserverpb as pb;
use crate::etcdserverpb::range_request as sort;
use crate::mvccpb;

/// A range's end that means "all keys from the start on".
const NO_END: &[u8] = b"\0";

/// The range that a `key` and a `range_end` stand for.
#[must_use]
pub fn key_range(key: Bytes, range_end: Bytes) -> KeyRange {
    match range_end.as_ref() {
        b"" => KeyRange::One(key.into()),
        NO_END => KeyRange::From(key.into()),
        _ => KeyRange::Between(key.into(), range_end.into()),
    }
}

/// The `key` and `range_end` that stand for a range.
///
/// The ends that etcd gives another meaning, no byte and one zero byte, are ends of empty ranges
/// (no key is smaller than they are); such a range is written as another empty one.
#[must_use]
pub fn key_and_end(range: &KeyRange) -> (Bytes, Bytes) {
    let bytes = |key: &Key| key.clone().into_bytes();
    match range {
        KeyRange::One(key) => (bytes(key), Bytes::new()),
        KeyRange::From(key) => (bytes(key), Bytes::from_static(NO_END)),
        KeyRange::Between(start, end) => match (start.as_bytes(), end.as_bytes()) {
            // An empty start is refused whatever the end is.
            (b"", b"" | NO_END) => (Bytes::new(), Bytes::from_static(b"\x01")),
            (NO_END, b"" | NO_END) => (Bytes::from_static(b"\0\0"), Bytes::from_static(b"\0\0")),
            (_, b"" | NO_END) => (bytes(start), bytes(start)),
            _ => (bytes(start), bytes(end)),
        },
    }
}

impl From<KeyValue> for mvccpb::KeyValue {
    fn from(kv: KeyValue) -> mvccpb::KeyValue {
        mvccpb::KeyValue {
            key: kv.key.into_bytes(),
            create_revision: kv.create_revision.as_i64(),
            mod_revision: kv.mod_revision.as_i64(),
            version: signed(kv.version),
            value: kv.value,
            lease: LeaseId::to_i64(kv.lease),
        }
    }
}

impl TryFrom<mvccpb::KeyValue> for KeyValue {
    type Error = Error;

    fn try_from(kv: mvccpb::KeyValue) -> Result<KeyValue> {
        Ok(KeyValue {
            create_revision: revision("a create revision", kv.create_revision)?,
            mod_revision: revision("a modification revision", kv.mod_revision)?,
            version: unsigned("a version", kv.version)?,
            key: kv.key.into(),
            value: kv.value,
            lease: LeaseId::new(kv.lease),
        })
    }
}

fn kvs(kvs: Vec<mvccpb::KeyValue>) -> Result<Vec<KeyValue>> {
    kvs.into_iter().map(KeyValue::try_from).collect()
}

/// The error for a request that is wrong in this way; etcd looks at the key first.
fn refuse<T>(key: &[u8], kind: ErrorKind) -> Result<T> {
    Err(if key.is_empty() {
        ErrorKind::EmptyKey
    } else {
        kind
    }
    .into())
}

impl From<&RangeRequest> for pb::RangeRequest {
    fn from(request: &RangeRequest) -> pb::RangeRequest {
        let (key, range_end) = key_and_end(&request.range);
        let sort_order = match request.sort_order {
            SortOrder::None => sort::SortOrder::None,
            SortOrder::Ascending => sort::SortOrder::Ascend,
            SortOrder::Descending => sort::SortOrder::Descend,
        };
        let sort_target = match request.sort_target {
            SortTarget::Key => sort::SortTarget::Key,
            SortTarget::Version => sort::SortTarget::Version,
            SortTarget::CreateRevision => sort::SortTarget::Create,
            SortTarget::ModRevision => sort::SortTarget::Mod,
            SortTarget::Value => sort::SortTarget::Value,
        };
        pb::RangeRequest {
            key,
            range_end,
            limit: signed(request.limit),
            revision: request.revision.as_i64(),
            sort_order: sort_order.into(),
            sort_target: sort_target.into(),
            serializable: request.serializable,
            keys_only: request.keys_only,
            count_only: request.count_only,
            min_mod_revision: at_least(request.min_mod_revision),
            max_mod_revision: at_most(request.max_mod_revision),
            min_create_revision: at_least(request.min_create_revision),
            max_create_revision: at_most(request.max_create_revision),
        }
    }
}

/// 0 is no bound, and as a lower bound keeps nothing out.
fn at_least(bound: Option<Revision>) -> i64 {
    bound.map_or(0, Revision::as_i64)
}

/// 0 is no bound; an upper bound of 0 keeps everything out, as -1 does.
fn at_most(bound: Option<Revision>) -> i64 {
    bound.map_or(0, |bound| if bound.is_zero() { -1 } else { bound.as_i64() })
}

impl TryFrom<pb::RangeRequest> for RangeRequest {
    type Error = Error;

    fn try_from(request: pb::RangeRequest) -> Result<RangeRequest> {
        let sort_order = match sort::SortOrder::try_from(request.sort_order) {
            Ok(sort::SortOrder::None) => SortOrder::None,
            Ok(sort::SortOrder::Ascend) => SortOrder::Ascending,
            Ok(sort::SortOrder::Descend) => SortOrder::Descending,
            Err(_) => return refuse(&request.key, ErrorKind::InvalidSort),
        };
        let sort_target = match sort::SortTarget::try_from(request.sort_target) {
            Ok(sort::SortTarget::Key) => SortTarget::Key,
            Ok(sort::SortTarget::Version) => SortTarget::Version,
            Ok(sort::SortTarget::Create) => SortTarget::CreateRevision,
            Ok(sort::SortTarget::Mod) => SortTarget::ModRevision,
            Ok(sort::SortTarget::Value) => SortTarget::Value,
            Err(_) => return refuse(&request.key, ErrorKind::InvalidSort),
        };
        // 0 is no bound. Below it, a lower one keeps nothing out, and an upper one everything.
        let at_most = |number: i64| (number != 0).then(|| Revision::from_i64(number));
        let at_least = |number: i64| at_most(number.max(0));
        Ok(RangeRequest {
            range: key_range(request.key, request.range_end),
            limit: u64::try_from(request.limit).unwrap_or(0),
            revision: Revision::from_i64(request.revision),
            sort_target,
            sort_order,
            serializable: request.serializable,
            keys_only: request.keys_only,
            count_only: request.count_only,
            min_mod_revision: at_least(request.min_mod_revision),
            max_mod_revision: at_most(request.max_mod_revision),
            min_create_revision: at_least(request.min_create_revision),
            max_create_revision: at_most(request.max_create_revision),
        })
    }
}

impl From<RangeResponse> for pb::RangeResponse {
    fn from(response: RangeResponse) -> pb::RangeResponse {
        pb::RangeResponse {
            header: Some(response.header.into()),
            kvs: response.kvs.into_iter().map(Into::into).collect(),
            more: response.more,
            count: signed(response.count),
        }
    }
}

impl TryFrom<pb::RangeResponse> for RangeResponse {
    type Error = Error;

    fn try_from(mut response: pb::RangeResponse) -> Result<RangeResponse> {
        let header = header(response.header.take())?;
        range_response(header, response)
    }
}

/// A range's answer whose header was read already.
pub(super) fn range_response(header: Header, response: pb::RangeResponse) -> Result<RangeResponse> {
    Ok(RangeResponse {
        header,
        kvs: kvs(response.kvs)?,
        more: response.more,
        count: unsigned("a count", response.count)?,
    })
}

impl From<&PutRequest> for pb::PutRequest {
    fn from(request: &PutRequest) -> pb::PutRequest {
        let value = match &request.value {
            PutValue::Set(value) => value.clone(),
            PutValue::Keep => Bytes::new(),
        };
        let lease = match request.lease {
            PutLease::Attach(lease) => lease.get(),
            PutLease::None | PutLease::Keep => 0,
        };
        pb::PutRequest {
            key: request.key.clone().into_bytes(),
            value,
            lease,
            prev_kv: request.prev_kv,
            ignore_value: request.value == PutValue::Keep,
            ignore_lease: request.lease == PutLease::Keep,
        }
    }
}

impl TryFrom<pb::PutRequest> for PutRequest {
    type Error = Error;

    fn try_from(request: pb::PutRequest) -> Result<PutRequest> {
        if request.ignore_value && !request.value.is_empty() {
            return refuse(&request.key, ErrorKind::ValueProvided);
        }
        if request.ignore_lease && request.lease != 0 {
            return refuse(&request.key, ErrorKind::LeaseProvided);
        }
        let value = if request.ignore_value {
            PutValue::Keep
        } else {
            PutValue::Set(request.value)
        };
        let lease = match LeaseId::new(request.lease) {
            _ if request.ignore_lease => PutLease::Keep,
            Some(lease) => PutLease::Attach(lease),
            None => PutLease::None,
        };
        Ok(PutRequest {
            key: request.key.into(),
            value,
            lease,
            prev_kv: request.prev_kv,
        })
    }
}

impl From<PutResponse> for pb::PutResponse {
    fn from(response: PutResponse) -> pb::PutResponse {
        pb::PutResponse {
            header: Some(response.header.into()),
            prev_kv: response.prev_kv.map(Into::into),
        }
    }
}

impl TryFrom<pb::PutResponse> for PutResponse {
    type Error = Error;

    fn try_from(mut response: pb::PutResponse) -> Result<PutResponse> {
        header(response.header.take())
            .and_then(|header| put_response(header, response))
            .map_err(served)
    }
}

/// A put's answer whose header was read already.
pub(super) fn put_response(header: Header, response: pb::PutResponse) -> Result<PutResponse> {
    Ok(PutResponse {
        header,
        prev_kv: response.prev_kv.map(KeyValue::try_from).transpose()?,
    })
}

impl From<&DeleteRequest> for pb::DeleteRangeRequest {
    fn from(request: &DeleteRequest) -> pb::DeleteRangeRequest {
        let (key, range_end) = key_and_end(&request.range);
        pb::DeleteRangeRequest {
            key,
            range_end,
            prev_kv: request.prev_kv,
        }
    }
}

impl From<pb::DeleteRangeRequest> for DeleteRequest {
    fn from(request: pb::DeleteRangeRequest) -> DeleteRequest {
        DeleteRequest {
            range: key_range(request.key, request.range_end),
            prev_kv: request.prev_kv,
        }
    }
}

impl From<DeleteResponse> for pb::DeleteRangeResponse {
    fn from(response: DeleteResponse) -> pb::DeleteRangeResponse {
        pb::DeleteRangeResponse {
            header: Some(response.header.into()),
            deleted: signed(response.deleted),
            prev_kvs: response.prev_kvs.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<pb::DeleteRangeResponse> for DeleteResponse {
    type Error = Error;

    fn try_from(mut response: pb::DeleteRangeResponse) -> Result<DeleteResponse> {
        header(response.header.take())
            .and_then(|header| delete_response(header, response))
            .map_err(served)
    }
}

/// A delete's answer whose header was read already.
pub(super) fn delete_response(
    header: Header,
    response: pb::DeleteRangeResponse,
) -> Result<DeleteResponse> {
    Ok(DeleteResponse {
        header,
        deleted: unsigned("the number of deleted keys", response.deleted)?,
        prev_kvs: kvs(response.prev_kvs)?,
    })
}

/// Asks to forget history before `revision`.
#[must_use]
pub fn compaction_request(revision: Revision, physical: bool) -> pb::CompactionRequest {
    pb::CompactionRequest {
        revision: revision.as_i64(),
        physical,
    }
}

/// The revision to compact at, and whether to wait until the space is free.
///
/// # Errors
///
/// [`ErrorKind::Compacted`] for a negative revision.
pub fn compaction(request: pb::CompactionRequest) -> Result<(Revision, bool)> {
    match u64::try_from(request.revision) {
        Ok(revision) => Ok((Revision(revision), request.physical)),
        Err(_) => Err(ErrorKind::Compacted.into()),
    }
}

impl From<CompactResponse> for pb::CompactionResponse {
    fn from(response: CompactResponse) -> pb::CompactionResponse {
        pb::CompactionResponse {
            header: Some(response.header.into()),
        }
    }
}

impl TryFrom<pb::CompactionResponse> for CompactResponse {
    type Error = Error;

    fn try_from(response: pb::CompactionResponse) -> Result<CompactResponse> {
        let header = header(response.header).map_err(served)?;
        Ok(CompactResponse { header })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
        result.unwrap_err().kind()
    }

    #[test]
    fn ranges_survive() {
        for range in [
            KeyRange::one("a"),
            KeyRange::one(""),
            KeyRange::from("a"),
            KeyRange::all(),
            KeyRange::prefix("a/"),
            KeyRange::between("a", "b"),
            KeyRange::between("b", "a"),
            KeyRange::between("", "a"),
        ] {
            let (key, end) = key_and_end(&range);
            assert_eq!(key_range(key, end), range);
        }
    }

    #[test]
    fn an_empty_range_stays_empty_where_its_end_means_something_else() {
        for start in ["a", "\0", "\0\0"] {
            for end in ["", "\0"] {
                let (key, range_end) = key_and_end(&KeyRange::between(start, end));
                let range = key_range(key, range_end);
                assert!(range.is_empty() && !range.start().is_empty(), "{range:?}");
            }
        }
        let (key, range_end) = key_and_end(&KeyRange::between("", "\0"));
        assert!(key_range(key, range_end).start().is_empty());
    }

    #[test]
    fn a_request_reads_negative_numbers_as_etcd_does() {
        let request = pb::RangeRequest {
            key: "k".into(),
            limit: -1,
            revision: -1,
            min_mod_revision: -1,
            max_mod_revision: -1,
            ..pb::RangeRequest::default()
        };
        let request = RangeRequest::try_from(request).unwrap();
        assert_eq!((request.limit, request.revision), (0, Revision::ZERO));
        assert_eq!(request.min_mod_revision, None, "it keeps nothing out");
        // Nothing was modified at revision 0 or before, so nothing is left.
        assert_eq!(request.max_mod_revision, Some(Revision::ZERO));
        let again = pb::RangeRequest::from(&request);
        assert_eq!((again.min_mod_revision, again.max_mod_revision), (0, -1));
    }

    #[test]
    fn a_negative_revision_was_compacted_long_ago() {
        let at = |revision| {
            compaction(pb::CompactionRequest {
                revision,
                physical: false,
            })
        };
        assert_eq!(kind(at(-1)), ErrorKind::Compacted);
        assert_eq!(at(0).unwrap(), (Revision::ZERO, false));
    }

    #[test]
    fn an_unknown_sort_is_refused_after_an_empty_key() {
        let target = |key: &'static str| pb::RangeRequest {
            key: key.into(),
            sort_target: 5,
            ..pb::RangeRequest::default()
        };
        let order = pb::RangeRequest {
            key: "k".into(),
            sort_order: -1,
            ..pb::RangeRequest::default()
        };
        assert_eq!(
            kind(RangeRequest::try_from(target("k"))),
            ErrorKind::InvalidSort
        );
        assert_eq!(
            kind(RangeRequest::try_from(target(""))),
            ErrorKind::EmptyKey
        );
        assert_eq!(kind(RangeRequest::try_from(order)), ErrorKind::InvalidSort);
    }

    #[test]
    fn what_is_kept_is_not_provided() {
        let put = |key: &'static str, value: &'static str, lease| pb::PutRequest {
            key: key.into(),
            value: value.into(),
            lease,
            prev_kv: false,
            ignore_value: true,
            ignore_lease: true,
        };
        let request = PutRequest::try_from(put("k", "", 0)).unwrap();
        assert_eq!(
            (request.value, request.lease),
            (PutValue::Keep, PutLease::Keep)
        );
        assert_eq!(
            kind(PutRequest::try_from(put("k", "v", 0))),
            ErrorKind::ValueProvided
        );
        assert_eq!(
            kind(PutRequest::try_from(put("k", "", 1))),
            ErrorKind::LeaseProvided
        );
        assert_eq!(
            kind(PutRequest::try_from(put("", "v", 1))),
            ErrorKind::EmptyKey
        );
    }

    #[test]
    fn puts_survive() {
        for put in [
            PutRequest::new("k", "v"),
            PutRequest::new("k", "").with_prev_kv(),
            PutRequest::new("k", "v").with_lease(LeaseId::new(-7).unwrap()),
            PutRequest {
                value: PutValue::Keep,
                ..PutRequest::new("k", "")
            },
            PutRequest {
                lease: PutLease::Keep,
                ..PutRequest::new("k", "v")
            },
        ] {
            assert_eq!(
                PutRequest::try_from(pb::PutRequest::from(&put)).unwrap(),
                put
            );
        }
    }

    #[test]
    fn an_answer_must_make_sense() {
        let kv = mvccpb::KeyValue {
            version: -1,
            ..mvccpb::KeyValue::default()
        };
        let range = pb::RangeResponse {
            header: Some(pb::ResponseHeader::default()),
            kvs: vec![kv.clone()],
            ..pb::RangeResponse::default()
        };
        let error = RangeResponse::try_from(range).unwrap_err();
        assert_eq!(error.to_string(), "malformed answer: a version is -1");
        assert!(!error.is_maybe_applied());

        let put = pb::PutResponse {
            header: Some(pb::ResponseHeader::default()),
            prev_kv: Some(kv),
        };
        assert!(PutResponse::try_from(put).unwrap_err().is_maybe_applied());
        assert!(
            PutResponse::try_from(pb::PutResponse::default())
                .unwrap_err()
                .is_maybe_applied()
        );
        let delete = pb::DeleteRangeResponse {
            header: Some(pb::ResponseHeader::default()),
            deleted: -1,
            prev_kvs: vec![],
        };
        assert!(
            DeleteResponse::try_from(delete)
                .unwrap_err()
                .is_maybe_applied()
        );
        let compact = pb::CompactionResponse { header: None };
        assert!(
            CompactResponse::try_from(compact)
                .unwrap_err()
                .is_maybe_applied()
        );
    }
}
