//! Leases: grant, revoke, keep alive, time to live, list. On the wire times are whole seconds.

use std::time::Duration;

use synod_store::{
    Error, ErrorKind, Header, Key, LeaseGrantRequest, LeaseGrantResponse, LeaseId,
    LeaseKeepAliveResponse, LeaseListResponse, LeaseRevokeResponse, LeaseTimeToLiveResponse,
    Result,
};

use super::{header, malformed, served, signed, unsigned};
use crate::etcdserverpb as pb;

/// The lease that a request names; 0 names none.
///
/// # Errors
///
/// [`ErrorKind::LeaseNotFound`] for 0, which is what etcd says of it.
pub fn lease_id(id: i64) -> Result<LeaseId> {
    LeaseId::new(id).ok_or_else(|| ErrorKind::LeaseNotFound.into())
}

/// Whole seconds, rounded up: a lease may live longer than asked for, never shorter.
fn seconds_up(time: Duration) -> i64 {
    let started = u64::from(time.subsec_nanos() > 0);
    signed(time.as_secs().saturating_add(started))
}

/// A time of an answer.
fn seconds(what: &str, number: i64) -> Result<Duration> {
    unsigned(what, number).map(Duration::from_secs)
}

impl From<&LeaseGrantRequest> for pb::LeaseGrantRequest {
    fn from(request: &LeaseGrantRequest) -> pb::LeaseGrantRequest {
        pb::LeaseGrantRequest {
            ttl: seconds_up(request.ttl),
            id: LeaseId::to_i64(request.id),
        }
    }
}

/// A negative time to live becomes 0, and both become the shortest that the store grants.
impl From<pb::LeaseGrantRequest> for LeaseGrantRequest {
    fn from(request: pb::LeaseGrantRequest) -> LeaseGrantRequest {
        LeaseGrantRequest {
            id: LeaseId::new(request.id),
            ttl: Duration::from_secs(u64::try_from(request.ttl).unwrap_or(0)),
        }
    }
}

impl From<LeaseGrantResponse> for pb::LeaseGrantResponse {
    fn from(response: LeaseGrantResponse) -> pb::LeaseGrantResponse {
        pb::LeaseGrantResponse {
            header: Some(response.header.into()),
            id: response.id.get(),
            ttl: seconds_up(response.ttl),
            error: String::new(),
        }
    }
}

impl TryFrom<pb::LeaseGrantResponse> for LeaseGrantResponse {
    type Error = Error;

    fn try_from(response: pb::LeaseGrantResponse) -> Result<LeaseGrantResponse> {
        grant_response(response).map_err(served)
    }
}

fn grant_response(response: pb::LeaseGrantResponse) -> Result<LeaseGrantResponse> {
    if !response.error.is_empty() {
        return Err(Error::new(ErrorKind::Other, response.error));
    }
    Ok(LeaseGrantResponse {
        header: header(response.header)?,
        id: LeaseId::new(response.id).ok_or_else(|| malformed("the lease granted is 0"))?,
        ttl: seconds("the time to live", response.ttl)?,
    })
}

/// Asks to end a lease.
#[must_use]
pub fn revoke_request(id: LeaseId) -> pb::LeaseRevokeRequest {
    pb::LeaseRevokeRequest { id: id.get() }
}

impl From<LeaseRevokeResponse> for pb::LeaseRevokeResponse {
    fn from(response: LeaseRevokeResponse) -> pb::LeaseRevokeResponse {
        pb::LeaseRevokeResponse {
            header: Some(response.header.into()),
        }
    }
}

impl TryFrom<pb::LeaseRevokeResponse> for LeaseRevokeResponse {
    type Error = Error;

    fn try_from(response: pb::LeaseRevokeResponse) -> Result<LeaseRevokeResponse> {
        let header = header(response.header).map_err(served)?;
        Ok(LeaseRevokeResponse { header })
    }
}

/// Asks to renew a lease once.
#[must_use]
pub fn keep_alive_request(id: LeaseId) -> pb::LeaseKeepAliveRequest {
    pb::LeaseKeepAliveRequest { id: id.get() }
}

/// The answer to a keep-alive of `id`.
#[must_use]
pub fn keep_alive_response(
    id: LeaseId,
    response: LeaseKeepAliveResponse,
) -> pb::LeaseKeepAliveResponse {
    pb::LeaseKeepAliveResponse {
        header: Some(response.header.into()),
        id: id.get(),
        ttl: seconds_up(response.ttl),
    }
}

/// The answer to a keep-alive of a lease that is gone, or never was: no error, but a time to live
/// of 0.
#[must_use]
pub fn keep_alive_gone(id: i64, header: Header) -> pb::LeaseKeepAliveResponse {
    pb::LeaseKeepAliveResponse {
        header: Some(header.into()),
        id,
        ttl: 0,
    }
}

/// The lease that the answer is about is in the message's `id`.
///
/// # Errors
///
/// [`ErrorKind::LeaseNotFound`] when the time to live is 0.
impl TryFrom<pb::LeaseKeepAliveResponse> for LeaseKeepAliveResponse {
    type Error = Error;

    fn try_from(response: pb::LeaseKeepAliveResponse) -> Result<LeaseKeepAliveResponse> {
        if response.ttl <= 0 {
            return Err(ErrorKind::LeaseNotFound.into());
        }
        Ok(LeaseKeepAliveResponse {
            header: header(response.header)?,
            ttl: seconds("the time to live", response.ttl)?,
        })
    }
}

/// Asks how long a lease still lives and, with `keys`, which keys it has.
#[must_use]
pub fn time_to_live_request(id: LeaseId, keys: bool) -> pb::LeaseTimeToLiveRequest {
    pb::LeaseTimeToLiveRequest { id: id.get(), keys }
}

/// The answer about a lease that does not exist.
#[must_use]
pub fn time_to_live_gone(id: i64, header: Header) -> pb::LeaseTimeToLiveResponse {
    pb::LeaseTimeToLiveResponse {
        header: Some(header.into()),
        id,
        ttl: -1,
        granted_ttl: 0,
        keys: Vec::new(),
    }
}

/// What remains is rounded down: the lease ends within the second after it.
impl From<LeaseTimeToLiveResponse> for pb::LeaseTimeToLiveResponse {
    fn from(response: LeaseTimeToLiveResponse) -> pb::LeaseTimeToLiveResponse {
        let Some(remaining) = response.remaining else {
            return time_to_live_gone(response.id.get(), response.header);
        };
        pb::LeaseTimeToLiveResponse {
            header: Some(response.header.into()),
            id: response.id.get(),
            ttl: signed(remaining.as_secs()),
            granted_ttl: seconds_up(response.granted),
            keys: response.keys.into_iter().map(Key::into_bytes).collect(),
        }
    }
}

/// etcd gives a lease's keys in no order; here they are sorted.
impl TryFrom<pb::LeaseTimeToLiveResponse> for LeaseTimeToLiveResponse {
    type Error = Error;

    fn try_from(response: pb::LeaseTimeToLiveResponse) -> Result<LeaseTimeToLiveResponse> {
        let remaining = u64::try_from(response.ttl).ok().map(Duration::from_secs);
        let granted = match remaining {
            Some(_) => seconds("the time to live granted", response.granted_ttl)?,
            None => Duration::ZERO,
        };
        let mut keys: Vec<Key> = response.keys.into_iter().map(Key::from).collect();
        keys.sort();
        Ok(LeaseTimeToLiveResponse {
            header: header(response.header)?,
            id: LeaseId::new(response.id).ok_or_else(|| malformed("the lease is 0"))?,
            remaining,
            granted,
            keys,
        })
    }
}

impl From<LeaseListResponse> for pb::LeaseLeasesResponse {
    fn from(response: LeaseListResponse) -> pb::LeaseLeasesResponse {
        pb::LeaseLeasesResponse {
            header: Some(response.header.into()),
            leases: response
                .leases
                .into_iter()
                .map(|id| pb::LeaseStatus { id: id.get() })
                .collect(),
        }
    }
}

impl TryFrom<pb::LeaseLeasesResponse> for LeaseListResponse {
    type Error = Error;

    fn try_from(response: pb::LeaseLeasesResponse) -> Result<LeaseListResponse> {
        let leases = response
            .leases
            .into_iter()
            .map(|lease| LeaseId::new(lease.id).ok_or_else(|| malformed("a lease is 0")))
            .collect::<Result<_>>()?;
        Ok(LeaseListResponse {
            header: header(response.header)?,
            leases,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Option<pb::ResponseHeader> {
        Some(pb::ResponseHeader::default())
    }

    #[test]
    fn times_are_whole_seconds_and_never_shorter_than_asked() {
        let asked = |ttl| pb::LeaseGrantRequest::from(&LeaseGrantRequest::new(ttl)).ttl;
        assert_eq!(asked(Duration::from_millis(1)), 1);
        assert_eq!(asked(Duration::from_millis(2001)), 3);
        assert_eq!(asked(Duration::from_secs(2)), 2);
        assert_eq!(asked(Duration::MAX), i64::MAX);
    }

    #[test]
    fn a_negative_time_asked_for_is_none() {
        let request = LeaseGrantRequest::from(pb::LeaseGrantRequest { ttl: -5, id: 0 });
        assert_eq!((request.id, request.ttl), (None, Duration::ZERO));
    }

    #[test]
    fn lease_0_is_not_found() {
        assert!(lease_id(0).unwrap_err().is_lease_gone());
        assert_eq!(lease_id(-1).unwrap().get(), -1);
    }

    #[test]
    fn a_keep_alive_of_a_lease_that_is_gone_says_so() {
        let gone = keep_alive_gone(0, Header::default());
        let error = LeaseKeepAliveResponse::try_from(gone).unwrap_err();
        assert!(error.is_lease_gone() && !error.is_maybe_applied());
    }

    #[test]
    fn time_to_live_tells_what_is_left_and_what_is_gone() {
        let alive = LeaseTimeToLiveResponse {
            header: Header::default(),
            id: LeaseId::new(7).unwrap(),
            remaining: Some(Duration::from_millis(900)),
            granted: Duration::from_secs(2),
            keys: vec![],
        };
        let message = pb::LeaseTimeToLiveResponse::from(alive.clone());
        assert_eq!((message.ttl, message.granted_ttl), (0, 2));
        let back = LeaseTimeToLiveResponse::try_from(message).unwrap();
        assert_eq!(back.remaining, Some(Duration::ZERO));

        let gone = LeaseTimeToLiveResponse {
            remaining: None,
            granted: Duration::ZERO,
            ..alive
        };
        let message = pb::LeaseTimeToLiveResponse::from(gone.clone());
        assert_eq!((message.ttl, message.granted_ttl), (-1, 0));
        assert_eq!(LeaseTimeToLiveResponse::try_from(message).unwrap(), gone);
    }

    #[test]
    fn keys_of_a_lease_are_sorted() {
        let message = pb::LeaseTimeToLiveResponse {
            header: full(),
            id: 7,
            ttl: 1,
            granted_ttl: 2,
            keys: vec!["b".into(), "a".into()],
        };
        let keys = LeaseTimeToLiveResponse::try_from(message).unwrap().keys;
        assert_eq!(keys, [Key::from("a"), Key::from("b")]);
    }

    #[test]
    fn an_answer_must_make_sense() {
        let grant = |id, ttl, error: &str| {
            LeaseGrantResponse::try_from(pb::LeaseGrantResponse {
                header: full(),
                id,
                ttl,
                error: error.to_string(),
            })
        };
        assert!(grant(1, 2, "").is_ok());
        for refused in [grant(0, 2, ""), grant(1, -2, ""), grant(1, 2, "no")] {
            assert!(refused.unwrap_err().is_maybe_applied());
        }
        let list = pb::LeaseLeasesResponse {
            header: full(),
            leases: vec![pb::LeaseStatus { id: 0 }],
        };
        assert!(LeaseListResponse::try_from(list).is_err());
        let revoke = pb::LeaseRevokeResponse { header: None };
        assert!(
            LeaseRevokeResponse::try_from(revoke)
                .unwrap_err()
                .is_maybe_applied()
        );
    }
}
