//! [`Error`]: what went wrong, and the three answers a caller needs: may I retry, may it have been
//! applied, is the lease gone.

use std::fmt;

/// The result of asking a store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    // The request is wrong; the same one will fail again.
    /// A key is empty.
    EmptyKey,
    /// A value was given along with the wish to keep the stored one.
    ValueProvided,
    /// A lease was given along with the wish to keep the stored one.
    LeaseProvided,
    /// The key whose value or lease should be kept does not exist.
    KeyNotFound,
    /// A transaction puts one key twice, or puts and deletes it.
    DuplicateKey,
    /// A transaction has too many conditions or operations.
    TooManyOperations,
    /// A sort was asked for that does not exist.
    InvalidSort,
    /// The request is larger than the store allows.
    TooLarge,
    /// Another malformed request.
    InvalidArgument,
    /// The revision is still to come.
    FutureRevision,
    /// The revision has been compacted.
    Compacted,

    // Leases.
    /// There is no such lease: it was revoked, has expired, or never was.
    LeaseNotFound,
    /// The lease id is in use.
    LeaseExists,
    /// The time to live is too large.
    LeaseTtlTooLarge,

    // The store's state.
    /// The storage quota is used up, or the disk is full.
    NoSpace,
    /// A write or sync failed: the store has stopped, so that nothing false is acknowledged. Open
    /// it again.
    Poisoned,
    /// Stored data are damaged.
    Corrupt,
    /// Another process has the data directory.
    InUse,
    /// The stored format is newer than this program.
    NewerFormat,
    /// The store was closed.
    Closed,
    /// Too many requests at once.
    TooManyRequests,

    // Who is asking.
    /// User name or password is wrong, or the token is not valid (any more).
    Unauthenticated,
    /// The user may not do this.
    PermissionDenied,
    /// Users were asked about where there are none: authentication is off.
    AuthNotEnabled,

    // Getting there.
    /// The address is malformed or of an unknown kind.
    InvalidAddress,
    /// Nothing listens at the address.
    ConnectionRefused,
    /// The other side's certificate was not accepted, or ours was not.
    Tls,
    /// No answer, or the connection broke, or the cluster has no leader.
    Unavailable,
    /// No answer in time.
    Timeout,
    /// The call was cancelled on its way.
    Cancelled,
    /// The store cannot do this.
    Unsupported,
    /// Something else; the message says more.
    Other,
}

/// Whether a request that failed may have changed the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Applied {
    /// It has not, and will not.
    No,
    /// It may have, or may do so later.
    Maybe,
}

/// Why a store could not do what it was asked.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    applied: Applied,
    message: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error that says its request was not applied.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error(Box::new(Inner {
            kind,
            applied: Applied::No,
            message: message.into(),
            source: None,
        }))
    }

    /// An error of this kind with the kind's own text.
    #[must_use]
    pub fn from_kind(kind: ErrorKind) -> Error {
        Error::new(kind, kind.text())
    }

    /// The same error, saying whether its request may have been applied.
    #[must_use]
    pub fn with_applied(mut self, applied: Applied) -> Error {
        self.0.applied = applied;
        self
    }

    /// The same error with what caused it.
    #[must_use]
    pub fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        self.0.source = Some(source.into());
        self
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The message, without its cause.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Whether the request may have changed the store.
    #[must_use]
    pub fn applied(&self) -> Applied {
        self.0.applied
    }

    /// Whether the request may have been applied, or become so later. Always false for reads.
    #[must_use]
    pub fn is_maybe_applied(&self) -> bool {
        self.0.applied == Applied::Maybe
    }

    /// Whether the same request may be sent again as it is: its failure was not its own fault, and
    /// it was not applied. A request that [may have been applied](Error::is_maybe_applied) is not
    /// safe to repeat unless it is idempotent.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        !self.is_maybe_applied() && self.is_transient()
    }

    /// Whether the cause may go away by itself: a connection, a leader, a load.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self.0.kind,
            ErrorKind::Unavailable
                | ErrorKind::ConnectionRefused
                | ErrorKind::Timeout
                | ErrorKind::Cancelled
                | ErrorKind::TooManyRequests
        )
    }

    /// Whether the lease that the request needs is gone.
    #[must_use]
    pub fn is_lease_gone(&self) -> bool {
        self.0.kind == ErrorKind::LeaseNotFound
    }
}

impl ErrorKind {
    /// What the kind means, in a few words.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            ErrorKind::EmptyKey => "key is not provided",
            ErrorKind::ValueProvided => "value is provided",
            ErrorKind::LeaseProvided => "lease is provided",
            ErrorKind::KeyNotFound => "key not found",
            ErrorKind::DuplicateKey => "duplicate key given in txn request",
            ErrorKind::TooManyOperations => "too many operations in txn request",
            ErrorKind::InvalidSort => "invalid sort option",
            ErrorKind::TooLarge => "request is too large",
            ErrorKind::InvalidArgument => "invalid request",
            ErrorKind::FutureRevision => "required revision is a future revision",
            ErrorKind::Compacted => "required revision has been compacted",
            ErrorKind::LeaseNotFound => "requested lease not found",
            ErrorKind::LeaseExists => "lease already exists",
            ErrorKind::LeaseTtlTooLarge => "too large lease TTL",
            ErrorKind::NoSpace => "database space exceeded",
            ErrorKind::Poisoned => "the store stopped after a failed write; open it again",
            ErrorKind::Corrupt => "stored data are damaged",
            ErrorKind::InUse => "the data directory is in use by another process",
            ErrorKind::NewerFormat => "the stored format is newer than this program",
            ErrorKind::Closed => "the store is closed",
            ErrorKind::TooManyRequests => "too many requests",
            ErrorKind::Unauthenticated => "authentication failed",
            ErrorKind::PermissionDenied => "permission denied",
            ErrorKind::AuthNotEnabled => "authentication is not enabled",
            ErrorKind::InvalidAddress => "invalid address",
            ErrorKind::ConnectionRefused => "connection refused",
            ErrorKind::Tls => "the TLS handshake failed",
            ErrorKind::Unavailable => "the store is unavailable",
            ErrorKind::Timeout => "no answer in time",
            ErrorKind::Cancelled => "the call was cancelled",
            ErrorKind::Unsupported => "the store cannot do this",
            ErrorKind::Other => "the store failed",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("applied", &self.0.applied)
            .field("message", &self.0.message)
            .field("source", &self.0.source)
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<ErrorKind> for Error {
    fn from(kind: ErrorKind) -> Error {
        Error::from_kind(kind)
    }
}
