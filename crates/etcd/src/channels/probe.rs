//! One question that shows whether an endpoint is fit to work: `Status`, which every member answers
//! by itself, without the others and without a user.

use std::time::Duration;

use synod_store::{Error, ErrorKind};
use synod_wire::convert::error::Call;
use synod_wire::etcdserverpb::maintenance_client::MaintenanceClient;
use synod_wire::etcdserverpb::{StatusRequest, StatusResponse};
use tonic::{Code, Request, Status};

use super::Line;
use crate::auth::{Token, attach};
use crate::error::{Cause, cause, error};

/// What an endpoint answered.
#[derive(Debug)]
pub(crate) enum Finding {
    /// It is a member of a cluster that has a leader.
    Fit(Identity),
    /// It is a member, but knows of no leader.
    NoLeader(Identity),
    /// It did not answer, or is no etcd.
    Failed(Error),
}

/// Who answered. Unknown where only users are told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) cluster: Option<u64>,
    pub(crate) member: Option<u64>,
    /// Whether a progress that was asked for comes in its place among the events.
    pub(crate) ordered_progress: bool,
}

/// Asks an endpoint, for at most `limit`.
pub(crate) async fn probe(line: &Line, token: Option<Token>, limit: Duration) -> Finding {
    let mut client = MaintenanceClient::new(line.channel().clone());
    let mut request = Request::new(StatusRequest {});
    attach(request.metadata_mut(), &token.flatten());
    match tokio::time::timeout(limit, client.status(request)).await {
        Ok(Ok(response)) => found(response.into_inner()),
        Ok(Err(status)) => refused(status, line.url()),
        Err(_) => Finding::Failed(Error::new(
            ErrorKind::Timeout,
            format!("no answer from {} within {limit:?}", line.url()),
        )),
    }
}

fn found(status: StatusResponse) -> Finding {
    let header = status.header.unwrap_or_default();
    let identity = Identity {
        cluster: Some(header.cluster_id).filter(|id| *id != 0),
        member: Some(header.member_id).filter(|id| *id != 0),
        ordered_progress: has_ordered_progress(&status.version),
    };
    if status.leader == 0 {
        Finding::NoLeader(identity)
    } else {
        Finding::Fit(identity)
    }
}

fn refused(status: Status, url: &str) -> Finding {
    match cause(&status) {
        // Only users may ask: whoever knows that is a member.
        Cause::Token => Finding::Fit(Identity::default()),
        Cause::Definite if status.code() == Code::PermissionDenied => {
            Finding::Fit(Identity::default())
        }
        Cause::Definite => Finding::Failed(Error::new(
            ErrorKind::Unsupported,
            format!("what answers at {url} is no etcd: {}", status.message()),
        )),
        Cause::Broken if url.starts_with("http://") => hinted(
            error(status, Call::Read, url),
            "it may be no etcd; if TLS is spoken there, give its address with https://",
        ),
        _ => Finding::Failed(error(status, Call::Read, url)),
    }
}

/// A failure with a way out.
fn hinted(error: Error, hint: &str) -> Finding {
    let message = format!("{} ({hint})", error.message());
    Finding::Failed(Error::new(error.kind(), message).with_source(error))
}

/// Releases before 3.4.25 and 3.5.8 answer a request for progress beside the events, with a
/// revision whose events may not have been sent yet (etcd-io/etcd#15220).
fn has_ordered_progress(version: &str) -> bool {
    let mut numbers = version.split(['.', '-', '+']).map(str::parse::<u32>);
    let mut next = || numbers.next().and_then(Result::ok);
    let (Some(major), Some(minor), patch) = (next(), next(), next().unwrap_or(0)) else {
        return false;
    };
    match (major, minor) {
        (3, 4) => patch >= 25,
        (3, 5) => patch >= 8,
        (major, minor) => (major, minor) > (3, 5),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_with_ordered_progress() {
        for (version, expected) in [
            ("3.4.24", false),
            ("3.4.25", true),
            ("3.5.1", false),
            ("3.5.8", true),
            ("3.6.0-rc.1", true),
            ("4.0.0", true),
            ("3.3.27", false),
            ("", false),
            ("x.y", false),
        ] {
            assert_eq!(has_ordered_progress(version), expected, "{version}");
        }
    }

    #[test]
    fn who_asks_for_a_user_is_a_member_and_who_knows_nothing_is_none() {
        let asked = Status::unauthenticated("etcdserver: invalid auth token");
        assert!(matches!(refused(asked, "u"), Finding::Fit(_)));
        let denied = Status::permission_denied("etcdserver: permission denied");
        assert!(matches!(refused(denied, "u"), Finding::Fit(_)));
        let Finding::Failed(error) = refused(Status::unimplemented(""), "http://h:1") else {
            panic!("no etcd");
        };
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains("http://h:1"), "{error}");
    }

    #[test]
    fn a_member_without_a_leader_is_found_out() {
        let status = |leader| StatusResponse {
            leader,
            ..StatusResponse::default()
        };
        assert!(matches!(found(status(0)), Finding::NoLeader(_)));
        assert!(matches!(found(status(7)), Finding::Fit(_)));
    }
}
