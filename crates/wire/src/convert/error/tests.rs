//! Each failure to the wire and back, and what is in doubt.

use super::*;

fn both(code: Code, text: &str) -> (ErrorKind, Applied) {
    let error = from_status(&Status::new(code, text), Call::Mutation);
    let read = from_status(&Status::new(code, text), Call::Read);
    assert_eq!((read.kind(), read.applied()), (error.kind(), Applied::No));
    (error.kind(), error.applied())
}

#[test]
fn every_kind_comes_back() {
    let kinds = KINDS.iter().map(|(kind, ..)| kind);
    for kind in kinds.chain(OWN_KINDS.iter().map(|(kind, _)| kind)) {
        let status = to_status(&Error::from_kind(*kind));
        let back = from_status(&status, Call::Mutation);
        let expected = match kind {
            // Another member of a cluster may answer.
            ErrorKind::Closed => ErrorKind::Unavailable,
            kind => *kind,
        };
        assert_eq!(back.kind(), expected, "{status:?}");
        assert_eq!(
            back.is_maybe_applied(),
            !is_definite(status.code()),
            "{kind:?}"
        );
    }
    let other = to_status(&Error::new(ErrorKind::Other, "surprise"));
    assert_eq!(
        (other.code(), other.message()),
        (Code::Unknown, "synod: the store failed: surprise")
    );
    assert_eq!(from_status(&other, Call::Read).kind(), ErrorKind::Other);
}

#[test]
fn texts_are_etcds_own() {
    let status = |kind| to_status(&Error::new(kind, "a text of the store's"));
    let compacted = status(ErrorKind::Compacted);
    assert_eq!(compacted.code(), Code::OutOfRange);
    assert_eq!(
        compacted.message(),
        "etcdserver: mvcc: required revision has been compacted"
    );
    let poisoned = status(ErrorKind::Poisoned);
    assert_eq!(poisoned.code(), Code::Unavailable);
    assert!(poisoned.message().starts_with("synod: the store stopped"));
    assert!(poisoned.message().ends_with(": a text of the store's"));
}

#[test]
fn a_message_loses_what_all_texts_begin_with() {
    let message = |code, text: &str| {
        from_status(&Status::new(code, text), Call::Read)
            .message()
            .to_string()
    };
    assert_eq!(
        message(Code::NotFound, "etcdserver: requested lease not found"),
        "requested lease not found"
    );
    assert_eq!(
        message(Code::Unavailable, "etcdserver: no leader"),
        "no leader"
    );
    assert_eq!(
        message(Code::InvalidArgument, "synod: invalid request: x"),
        "invalid request: x"
    );
    assert_eq!(message(Code::Unknown, "something"), "something");
}

#[test]
fn doubt_is_told_from_certainty() {
    use Applied::{Maybe, No};
    for (code, text, kind, applied) in [
        (
            Code::Unavailable,
            "etcdserver: request timed out",
            ErrorKind::Timeout,
            Maybe,
        ),
        (
            Code::Unavailable,
            "etcdserver: request timed out, possibly due to connection lost",
            ErrorKind::Timeout,
            Maybe,
        ),
        (
            Code::Unavailable,
            "etcdserver: no leader",
            ErrorKind::Unavailable,
            Maybe,
        ),
        (
            Code::Unavailable,
            "etcdserver: leader changed",
            ErrorKind::Unavailable,
            Maybe,
        ),
        (
            Code::DeadlineExceeded,
            "context deadline exceeded",
            ErrorKind::Timeout,
            Maybe,
        ),
        (
            Code::Cancelled,
            "context canceled",
            ErrorKind::Cancelled,
            Maybe,
        ),
        (
            Code::Unknown,
            "etcdserver: raft stopped",
            ErrorKind::Other,
            Maybe,
        ),
        (
            Code::Unknown,
            "etcdserver: requested lease not found",
            ErrorKind::LeaseNotFound,
            Maybe,
        ),
        (Code::Internal, "h2 protocol error", ErrorKind::Other, Maybe),
        (
            Code::DataLoss,
            "etcdserver: corrupt cluster",
            ErrorKind::Corrupt,
            Maybe,
        ),
        (
            Code::NotFound,
            "etcdserver: requested lease not found",
            ErrorKind::LeaseNotFound,
            No,
        ),
        (
            Code::InvalidArgument,
            "etcdserver: member ID",
            ErrorKind::InvalidArgument,
            No,
        ),
        (
            Code::InvalidArgument,
            "etcdserver: authentication failed, invalid user ID or password",
            ErrorKind::Unauthenticated,
            No,
        ),
        (
            Code::Unauthenticated,
            "etcdserver: invalid auth token",
            ErrorKind::Unauthenticated,
            No,
        ),
        (
            Code::PermissionDenied,
            "etcdserver: permission denied",
            ErrorKind::PermissionDenied,
            No,
        ),
        (
            Code::FailedPrecondition,
            "etcdserver: not leader",
            ErrorKind::Other,
            No,
        ),
        (
            Code::ResourceExhausted,
            "etcdserver: too many requests",
            ErrorKind::TooManyRequests,
            No,
        ),
        (
            Code::ResourceExhausted,
            "grpc: received message larger than max (3 vs. 2)",
            ErrorKind::TooLarge,
            No,
        ),
        (
            Code::Unimplemented,
            "unknown service",
            ErrorKind::Unsupported,
            No,
        ),
        // Made on this side, when the answer was there already.
        (
            Code::OutOfRange,
            "Error, decoded message length too large: found 9 bytes",
            ErrorKind::Other,
            Maybe,
        ),
    ] {
        assert_eq!(both(code, text), (kind, applied), "{code:?} {text}");
    }
}

#[test]
fn what_may_have_been_applied_is_never_called_definite() {
    let error = Error::from_kind(ErrorKind::NoSpace).with_applied(Applied::Maybe);
    let status = to_status(&error);
    assert_eq!(status.code(), Code::Unavailable);
    assert!(from_status(&status, Call::Mutation).is_maybe_applied());
}

/// A status as the client's side makes it from such an error.
fn on_the_way(error: impl StdError + Send + Sync + 'static) -> Status {
    Status::from_error(Box::new(error))
}

#[test]
fn a_connection_that_was_never_made_sent_nothing() {
    let refused = |kind: io::ErrorKind| {
        let cause = io::Error::new(kind, "why");
        from_status(&on_the_way(ConnectError(Box::new(cause))), Call::Mutation)
    };
    for (cause, kind) in [
        (
            io::ErrorKind::ConnectionRefused,
            ErrorKind::ConnectionRefused,
        ),
        (io::ErrorKind::InvalidData, ErrorKind::Tls),
        (io::ErrorKind::TimedOut, ErrorKind::Unavailable),
    ] {
        let error = refused(cause);
        assert_eq!((error.kind(), error.applied()), (kind, Applied::No));
        assert_eq!(error.message(), format!("{}: why", kind.text()));
    }
}

#[test]
fn a_connection_that_broke_leaves_doubt() {
    let reset = io::Error::from(io::ErrorKind::ConnectionReset);
    let error = from_status(&on_the_way(reset), Call::Mutation);
    assert_eq!(
        (error.kind(), error.applied()),
        (ErrorKind::Unavailable, Applied::Maybe)
    );
    assert!(from_status(&on_the_way(TimeoutExpired(())), Call::Read).is_retryable());
    let late = from_status(&on_the_way(TimeoutExpired(())), Call::Mutation);
    assert_eq!(
        (late.kind(), late.applied()),
        (ErrorKind::Timeout, Applied::Maybe)
    );
}
