//! What a failed call says about the connection, the member and the request.
//!
//! The words for users come from `synod_wire::convert::error`; here is what the client itself has
//! to know: may it ask again, and whom.

use std::error::Error as StdError;
use std::io;

use synod_store::{Error, ErrorKind};
use synod_wire::convert::error::{Call, from_status};
use tonic::{Code, ConnectError, Status};

/// What a status comes to for the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// No connection was made: nothing was sent.
    NotSent,
    /// The connection broke, at a moment that cannot be told.
    Broken,
    /// The member answers but cannot serve: it has no leader, stops, or waited in vain. Another
    /// one may.
    Unfit,
    /// The cluster cannot serve just now, whichever member is asked.
    Busy,
    /// The token was refused, before anything was done.
    Token,
    /// The answer stands.
    Definite,
}

/// How etcd begins the message of a call that it dropped because the leader changed.
const LEADER_CHANGED: &str = "etcdserver: leader changed";
const TOO_MANY: &str = "etcdserver: too many requests";
const NO_USER: &str = "etcdserver: user name is empty";
const OLD_AUTH: &str = "etcdserver: revision of auth store is old";
const INVALID_TOKEN: &str = "etcdserver: invalid auth token";
/// Of tonic, when a channel's task is gone.
const NOT_READY: &str = "Service was not ready";

/// What a status comes to.
pub(crate) fn cause(status: &Status) -> Cause {
    if sources(status).any(|source| source.is::<ConnectError>()) {
        return Cause::NotSent;
    }
    if status.source().is_some() {
        return Cause::Broken;
    }
    let text = status.message();
    match status.code() {
        // The lock and election services give the text alone.
        _ if [NO_USER, OLD_AUTH, INVALID_TOKEN].contains(&text) => Cause::Token,
        Code::Unauthenticated => Cause::Token,
        Code::Unavailable if text == LEADER_CHANGED => Cause::Busy,
        Code::ResourceExhausted if text == TOO_MANY => Cause::Busy,
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Aborted => {
            Cause::Unfit
        }
        Code::Unknown if text.starts_with(NOT_READY) => Cause::Broken,
        _ => Cause::Definite,
    }
}

/// The error for a caller. `endpoint` is named where the failure was on the way there.
pub(crate) fn error(status: Status, call: Call, endpoint: &str) -> Error {
    match cause(&status) {
        Cause::NotSent => unreachable_error(status, endpoint),
        Cause::Broken => {
            let refused = sources(&status).find_map(tls_refusal);
            let error = from_status(&status, call);
            let (kind, why) = match refused {
                Some(reason) => (ErrorKind::Tls, reason),
                None => (error.kind(), reason(&status)),
            };
            Error::new(kind, format!("the connection to {endpoint} broke: {why}"))
                .with_applied(error.applied())
                .with_source(status)
        }
        Cause::Token if status.message() == NO_USER => Error::new(
            ErrorKind::Unauthenticated,
            "the cluster asks for a user and a password",
        ),
        _ => from_status(&status, call),
    }
}

/// The first cause, which says most.
fn reason(status: &Status) -> String {
    sources(status)
        .last()
        .map_or_else(|| status.message().to_string(), ToString::to_string)
}

/// The error for an endpoint to which no connection could be made.
fn unreachable_error(status: Status, endpoint: &str) -> Error {
    let io_kind = |wanted| {
        sources(&status)
            .filter_map(|source| source.downcast_ref::<io::Error>())
            .any(|error| error.kind() == wanted)
    };
    let reason = reason(&status);
    let error = if io_kind(io::ErrorKind::ConnectionRefused) {
        Error::new(
            ErrorKind::ConnectionRefused,
            format!("nothing listens at {endpoint}"),
        )
    } else if io_kind(io::ErrorKind::TimedOut) {
        let why = format!("no answer from {endpoint} to the attempt to connect");
        Error::new(ErrorKind::Timeout, why)
    } else if io_kind(io::ErrorKind::InvalidData) || sources(&status).any(is_handshake) {
        // Of the TLS library: certificates, and peers that speak no TLS.
        let hint = if speaks_no_tls(&reason) {
            " (it seems to speak no TLS: if so, give its address with http://)"
        } else {
            ""
        };
        let why = format!("no secure connection to {endpoint}: {reason}{hint}");
        Error::new(ErrorKind::Tls, why)
    } else {
        let why = format!("no connection to {endpoint}: {reason}");
        Error::new(ErrorKind::Unavailable, why)
    };
    error.with_source(status)
}

/// Whether the other side's answer to a TLS greeting was no TLS.
fn speaks_no_tls(reason: &str) -> bool {
    ["handshake eof", "InvalidContentType"]
        .iter()
        .any(|sign| reason.contains(sign))
}

/// Whether the other side ended the connection while TLS was being agreed on.
fn is_handshake(error: &(dyn StdError + 'static)) -> bool {
    error.to_string().contains("tls handshake")
}

/// The reason when the other side refused us by a TLS alert, which for a client's certificate comes
/// only after the connection was made.
fn tls_refusal(error: &(dyn StdError + 'static)) -> Option<String> {
    const ALERT: &str = "received fatal alert: ";
    let text = error.to_string();
    let (_, rest) = text.split_once(ALERT)?;
    // What follows are the quotes and brackets of whoever has wrapped it.
    let end = rest.find(|letter: char| !letter.is_alphanumeric());
    let name = rest.get(..end.unwrap_or(rest.len()))?;
    Some(format!("{ALERT}{name}"))
}

/// An error and its causes, outermost first.
pub(crate) fn sources<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

/// The status behind a reason that etcd gives for ending a watch: the text of one, when it has one.
pub(crate) fn status_of_reason(reason: &str) -> Status {
    let parts = reason
        .strip_prefix("rpc error: code = ")
        .and_then(|rest| rest.split_once(" desc = "));
    let Some((code, text)) = parts else {
        return Status::unknown(reason);
    };
    let code = match code {
        "PermissionDenied" => Code::PermissionDenied,
        "Unauthenticated" => Code::Unauthenticated,
        "InvalidArgument" => Code::InvalidArgument,
        "Unavailable" => Code::Unavailable,
        "OutOfRange" => Code::OutOfRange,
        "FailedPrecondition" => Code::FailedPrecondition,
        "NotFound" => Code::NotFound,
        _ => Code::Unknown,
    };
    Status::new(code, text)
}

/// A copy of an error, for one more of those who wait for the same thing.
pub(crate) fn copy(error: &Error) -> Error {
    Error::new(error.kind(), error.message()).with_applied(error.applied())
}

#[cfg(test)]
mod tests {
    use super::*;
    use synod_store::Applied;

    fn caused(source: impl Into<Box<dyn StdError + Send + Sync>>) -> Status {
        Status::from_error(source.into())
    }

    fn refused() -> Status {
        let error = io::Error::from(io::ErrorKind::ConnectionRefused);
        caused(ConnectError(error.into()))
    }

    #[test]
    fn only_a_connection_that_was_never_made_is_proof() {
        assert_eq!(cause(&refused()), Cause::NotSent);
        let reset = io::Error::from(io::ErrorKind::ConnectionReset);
        assert_eq!(cause(&caused(reset)), Cause::Broken);
    }

    #[test]
    fn a_refusal_by_tls_is_told_without_what_wraps_it() {
        let wrapped = r#"io(Custom { error: "received fatal alert: CertificateRequired" }))"#;
        let error = error(caused(io::Error::other(wrapped)), Call::Read, "https://h:1");
        assert_eq!(error.kind(), ErrorKind::Tls);
        assert_eq!(
            error.message(),
            "the connection to https://h:1 broke: received fatal alert: CertificateRequired"
        );
    }

    #[test]
    fn answers_are_sorted_by_what_to_do_next() {
        for (code, text, expected) in [
            (Code::Unavailable, "etcdserver: no leader", Cause::Unfit),
            (
                Code::Unavailable,
                "etcdserver: request timed out",
                Cause::Unfit,
            ),
            (
                Code::Unavailable,
                "etcdserver: server stopped",
                Cause::Unfit,
            ),
            (Code::Unavailable, LEADER_CHANGED, Cause::Busy),
            (Code::ResourceExhausted, TOO_MANY, Cause::Busy),
            (
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
                Cause::Definite,
            ),
            (Code::Unauthenticated, INVALID_TOKEN, Cause::Token),
            (Code::InvalidArgument, NO_USER, Cause::Token),
            (Code::InvalidArgument, OLD_AUTH, Cause::Token),
            (Code::Unknown, INVALID_TOKEN, Cause::Token),
            (
                Code::InvalidArgument,
                "etcdserver: key is not provided",
                Cause::Definite,
            ),
            (Code::Unimplemented, "", Cause::Definite),
        ] {
            assert_eq!(cause(&Status::new(code, text)), expected, "{text}");
        }
    }

    #[test]
    fn a_refused_connection_names_the_endpoint() {
        let error = error(refused(), Call::Mutation, "http://h:1");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(error.message(), "nothing listens at http://h:1");
        assert_eq!(error.applied(), Applied::No);
    }

    #[test]
    fn a_broken_connection_leaves_a_mutation_in_doubt() {
        let broken = || caused(io::Error::from(io::ErrorKind::ConnectionReset));
        let put = error(broken(), Call::Mutation, "http://h:1");
        assert_eq!(put.applied(), Applied::Maybe);
        assert_eq!(
            error(broken(), Call::Read, "http://h:1").applied(),
            Applied::No
        );
    }

    #[test]
    fn reasons_are_statuses_in_text() {
        let status = status_of_reason(
            "rpc error: code = PermissionDenied desc = etcdserver: permission denied",
        );
        assert_eq!(status.code(), Code::PermissionDenied);
        assert_eq!(status.message(), "etcdserver: permission denied");
        assert_eq!(status_of_reason("mvcc: x").code(), Code::Unknown);
    }
}
