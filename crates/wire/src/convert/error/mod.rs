//! Failures on the wire: gRPC codes and etcd's texts, which clients of every language match on, and
//! the question that a client has to answer after each of them: may the request have been applied?
//!
//! Neither code nor text can tell a request that was applied from one that was not once
//! UNAVAILABLE, DEADLINE_EXCEEDED, CANCELLED, UNKNOWN or INTERNAL is answered: etcd gives `request
//! timed out` for both, and a connection breaks the same way before and after. So these are in
//! doubt, everything that did not come from the server is in doubt, and what the server refused
//! with another status is definite. One failure on the way is definite too: a connection that was
//! never made sent nothing.
//!
//! Kinds that etcd does not have travel as `synod: ` and the kind's text; etcd's clients show it,
//! and ours finds the kind again.

use std::error::Error as StdError;
use std::io;

use synod_store::{Applied, Error, ErrorKind};
use tonic::{Code, ConnectError, Status, TimeoutExpired};

/// How etcd begins its texts.
const ETCD: &str = "etcdserver: ";

/// How Synod begins texts that etcd does not have.
const SYNOD: &str = "synod: ";

/// How gRPC's Go library begins the text for a request above the server's limit.
const GRPC_TOO_LARGE: &str = "grpc: received message larger than max";

/// What a failed call would have done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// It changes nothing (a renewed lease counts as nothing): it is never in doubt.
    Read,
    /// It changes the store.
    Mutation,
}

/// The kinds that etcd has, with its code and its text for each.
const KINDS: &[(ErrorKind, Code, &str)] = &[
    (
        ErrorKind::EmptyKey,
        Code::InvalidArgument,
        "etcdserver: key is not provided",
    ),
    (
        ErrorKind::ValueProvided,
        Code::InvalidArgument,
        "etcdserver: value is provided",
    ),
    (
        ErrorKind::LeaseProvided,
        Code::InvalidArgument,
        "etcdserver: lease is provided",
    ),
    (
        ErrorKind::KeyNotFound,
        Code::InvalidArgument,
        "etcdserver: key not found",
    ),
    (
        ErrorKind::DuplicateKey,
        Code::InvalidArgument,
        "etcdserver: duplicate key given in txn request",
    ),
    (
        ErrorKind::TooManyOperations,
        Code::InvalidArgument,
        "etcdserver: too many operations in txn request",
    ),
    (
        ErrorKind::InvalidSort,
        Code::InvalidArgument,
        "etcdserver: invalid sort option",
    ),
    (
        ErrorKind::TooLarge,
        Code::InvalidArgument,
        "etcdserver: request is too large",
    ),
    (
        ErrorKind::FutureRevision,
        Code::OutOfRange,
        "etcdserver: mvcc: required revision is a future revision",
    ),
    (
        ErrorKind::Compacted,
        Code::OutOfRange,
        "etcdserver: mvcc: required revision has been compacted",
    ),
    (
        ErrorKind::LeaseNotFound,
        Code::NotFound,
        "etcdserver: requested lease not found",
    ),
    (
        ErrorKind::LeaseExists,
        Code::FailedPrecondition,
        "etcdserver: lease already exists",
    ),
    (
        ErrorKind::LeaseTtlTooLarge,
        Code::OutOfRange,
        "etcdserver: too large lease TTL",
    ),
    (
        ErrorKind::NoSpace,
        Code::ResourceExhausted,
        "etcdserver: mvcc: database space exceeded",
    ),
    (
        ErrorKind::TooManyRequests,
        Code::ResourceExhausted,
        "etcdserver: too many requests",
    ),
    (
        ErrorKind::Corrupt,
        Code::DataLoss,
        "etcdserver: corrupt cluster",
    ),
    (
        ErrorKind::Closed,
        Code::Unavailable,
        "etcdserver: server stopped",
    ),
    (
        ErrorKind::Timeout,
        Code::Unavailable,
        "etcdserver: request timed out",
    ),
    (
        ErrorKind::Unauthenticated,
        Code::Unauthenticated,
        "etcdserver: invalid auth token",
    ),
    (
        ErrorKind::PermissionDenied,
        Code::PermissionDenied,
        "etcdserver: permission denied",
    ),
    (
        ErrorKind::AuthNotEnabled,
        Code::FailedPrecondition,
        "etcdserver: authentication is not enabled",
    ),
];

/// Texts that etcd has besides, and what they come to for a client.
const MORE_TEXTS: &[(&str, ErrorKind)] = &[
    // Of a member that stops; another one answers.
    ("etcdserver: server stopped", ErrorKind::Unavailable),
    (
        "etcdserver: request timed out, possibly due to previous leader failure",
        ErrorKind::Timeout,
    ),
    (
        "etcdserver: request timed out, possibly due to connection lost",
        ErrorKind::Timeout,
    ),
    (
        "etcdserver: authentication failed, invalid user ID or password",
        ErrorKind::Unauthenticated,
    ),
    (
        "etcdserver: revision of auth store is old",
        ErrorKind::Unauthenticated,
    ),
    (
        "etcdserver: user name not found",
        ErrorKind::Unauthenticated,
    ),
];

/// The kinds that etcd does not have, with the code for each. [`Error::message`] travels along.
const OWN_KINDS: &[(ErrorKind, Code)] = &[
    (ErrorKind::InvalidArgument, Code::InvalidArgument),
    // What was being written may be on the disk.
    (ErrorKind::Poisoned, Code::Unavailable),
    (ErrorKind::InUse, Code::FailedPrecondition),
    (ErrorKind::NewerFormat, Code::FailedPrecondition),
    (ErrorKind::Unsupported, Code::Unimplemented),
    (ErrorKind::Cancelled, Code::Cancelled),
    // Of a server whose own store is a cluster.
    (ErrorKind::Unavailable, Code::Unavailable),
    (ErrorKind::ConnectionRefused, Code::Unavailable),
    (ErrorKind::InvalidAddress, Code::Unavailable),
    (ErrorKind::Tls, Code::Unavailable),
];

/// The status with which a server answers a request that failed.
///
/// A failure that may have been applied never gets a code that clients take for definite.
#[must_use]
pub fn to_status(error: &Error) -> Status {
    let (code, text) = code_and_text(error);
    if error.is_maybe_applied() && is_definite(code) {
        return Status::unavailable(format!("{SYNOD}it may have been applied: {text}"));
    }
    Status::new(code, text)
}

fn code_and_text(error: &Error) -> (Code, String) {
    let kind = error.kind();
    if let Some((_, code, text)) = KINDS.iter().find(|(known, ..)| *known == kind) {
        return (*code, (*text).to_string());
    }
    let own = OWN_KINDS.iter().find(|(known, _)| *known == kind);
    let code = own.map_or(Code::Unknown, |(_, code)| *code);
    let message = error.message();
    if message.starts_with(kind.text()) {
        (code, format!("{SYNOD}{message}"))
    } else {
        (code, format!("{SYNOD}{}: {message}", kind.text()))
    }
}

/// The failure that a client reports when it got this status.
#[must_use]
pub fn from_status(status: &Status, call: Call) -> Error {
    let on_the_way = status.source().is_some();
    let (kind, message) = if on_the_way {
        let kind = way_kind(status);
        (kind, with_cause(kind, status))
    } else {
        server_kind(status)
    };
    let applied = match call {
        Call::Read => Applied::No,
        Call::Mutation if never_connected(status) => Applied::No,
        Call::Mutation if !on_the_way && is_answer(status) => Applied::No,
        Call::Mutation => Applied::Maybe,
    };
    Error::new(kind, message).with_applied(applied)
}

/// The failure to make a connection, before anything was asked.
#[must_use]
pub fn from_connect_error(error: &tonic::transport::Error) -> Error {
    let kind = connect_kind(error);
    Error::new(kind, with_cause(kind, error))
}

/// Whether a server that answers with this code has not applied the request and will not.
fn is_definite(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument
            | Code::OutOfRange
            | Code::NotFound
            | Code::FailedPrecondition
            | Code::ResourceExhausted
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented
    )
}

/// Whether the status is a server's definite refusal. Two codes are also made on this side, for an
/// answer that is larger than the client takes: with them only a server's text is proof.
fn is_answer(status: &Status) -> bool {
    let text = status.message();
    let said_by_server = [ETCD, SYNOD, GRPC_TOO_LARGE]
        .iter()
        .any(|beginning| text.starts_with(beginning));
    match status.code() {
        Code::OutOfRange | Code::ResourceExhausted => said_by_server,
        code => is_definite(code),
    }
}

/// What a server's status means, and its text without what it begins with.
fn server_kind(status: &Status) -> (ErrorKind, String) {
    let text = status.message();
    if let Some((_, kind)) = MORE_TEXTS.iter().find(|(known, _)| *known == text) {
        return (*kind, text.trim_start_matches(ETCD).to_string());
    }
    if let Some((kind, ..)) = KINDS.iter().find(|(_, _, known)| *known == text) {
        return (*kind, kind.text().to_string());
    }
    if text.starts_with(GRPC_TOO_LARGE) {
        return (ErrorKind::TooLarge, text.to_string());
    }
    if let Some(text) = text.strip_prefix(SYNOD) {
        let own = OWN_KINDS
            .iter()
            .find(|(kind, _)| text.starts_with(kind.text()));
        let kind = own.map_or_else(|| code_kind(status.code()), |(kind, _)| *kind);
        return (kind, text.to_string());
    }
    (
        code_kind(status.code()),
        text.trim_start_matches(ETCD).to_string(),
    )
}

/// What a code means when the text is unknown.
fn code_kind(code: Code) -> ErrorKind {
    match code {
        Code::InvalidArgument => ErrorKind::InvalidArgument,
        Code::DeadlineExceeded => ErrorKind::Timeout,
        Code::Cancelled => ErrorKind::Cancelled,
        Code::PermissionDenied => ErrorKind::PermissionDenied,
        Code::Unauthenticated => ErrorKind::Unauthenticated,
        Code::ResourceExhausted => ErrorKind::TooManyRequests,
        Code::Unimplemented => ErrorKind::Unsupported,
        Code::Unavailable => ErrorKind::Unavailable,
        Code::DataLoss => ErrorKind::Corrupt,
        _ => ErrorKind::Other,
    }
}

/// What a failure on the way means: the connection was not made, or broke, or the client's own
/// deadline passed.
fn way_kind(status: &Status) -> ErrorKind {
    if any_source(status, |error| error.is::<TimeoutExpired>()) {
        ErrorKind::Timeout
    } else if never_connected(status) {
        connect_kind(status)
    } else {
        ErrorKind::Unavailable
    }
}

/// Whether the failure was to connect: nothing was sent.
fn never_connected(error: &(dyn StdError + 'static)) -> bool {
    any_source(error, |error| error.is::<ConnectError>())
}

/// What kept a connection from being made.
fn connect_kind(error: &(dyn StdError + 'static)) -> ErrorKind {
    let io_kind = |wanted: io::ErrorKind| {
        any_source(error, |error| {
            error
                .downcast_ref::<io::Error>()
                .is_some_and(|error| error.kind() == wanted)
        })
    };
    if io_kind(io::ErrorKind::ConnectionRefused) {
        ErrorKind::ConnectionRefused
    } else if io_kind(io::ErrorKind::InvalidData) {
        // What the TLS library says of certificates, and of a peer that does not speak TLS.
        ErrorKind::Tls
    } else {
        ErrorKind::Unavailable
    }
}

/// Whether an error or one of its causes is such a one.
fn any_source(
    error: &(dyn StdError + 'static),
    is_one: impl Fn(&(dyn StdError + 'static)) -> bool,
) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if is_one(error) {
            return true;
        }
        next = error.source();
    }
    false
}

/// What a kind means, and the text of the first cause, which says most: those between name layers
/// of libraries.
fn with_cause(kind: ErrorKind, error: &(dyn StdError + 'static)) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    let (text, cause) = (kind.text(), deepest.to_string());
    if cause.to_lowercase().starts_with(text) {
        return text.to_string();
    }
    format!("{text}: {cause}")
}

#[cfg(test)]
mod tests;
