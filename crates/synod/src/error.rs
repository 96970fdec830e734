//! [`Error`]: what a primitive reports, with predicates that say what to do about it.

use std::sync::Arc;
use std::time::Duration;

use synod_store::{ErrorKind, Revision};

use crate::Token;

/// The result of a primitive.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a primitive could not do what it was asked.
///
/// Cheap to clone: callers that share one request to the store share its error too.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The URL names no store that there is.
    #[error(
        "{url:?} is not the address of a store ({reason}); give one of: \
         http://HOST:PORT[,http://HOST:PORT...] or https://... for an etcd cluster \
         (no scheme means http), file:PATH for an embedded store that lasts, \
         memory: for one that keeps nothing"
    )]
    InvalidUrl {
        /// What was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },

    /// The URL names a store that this program was built without.
    #[error("{url:?} needs the feature `{feature}` of the crate `synod`, which is switched off")]
    FeatureMissing {
        /// What was given.
        url: String,
        /// The feature to switch on.
        feature: &'static str,
    },

    /// An option does not fit the store that the URL names.
    #[error("{option} does not go with {url:?}: {reason}")]
    InvalidOption {
        /// The URL.
        url: String,
        /// The option.
        option: &'static str,
        /// Why not.
        reason: &'static str,
    },

    /// The name lies under the prefix that Synod keeps for itself: choose another, or another prefix.
    #[error(
        "what is named {name:?} would lie under {prefix:?}, where Synod keeps its own records; \
         choose another name"
    )]
    ReservedName {
        /// The name.
        name: String,
        /// The prefix, see [`ConnectOptions::with_system_prefix`](crate::ConnectOptions::with_system_prefix).
        prefix: String,
    },

    /// The session's lease is gone, or was not renewed in time: whatever it held may belong to
    /// another by now. Make a new session.
    #[error("the session was lost: its lease is gone or could not be renewed in time")]
    SessionLost,

    /// The store could not be reached for longer than the call waits, and it is not known whether
    /// the operation happened. Ask [`Client::resolve`](crate::Client::resolve) before repeating it.
    #[error(
        "no answer within {after:?}: the operation may or may not have happened; \
         resolve {token} to know"
    )]
    Unknown {
        /// What to resolve.
        token: Token,
        /// How long the call waited.
        after: Duration,
    },

    /// No answer in time. Nothing was changed, and nothing will be.
    #[error("no answer within {after:?}; nothing was changed")]
    Timeout {
        /// How long the call waited.
        after: Duration,
    },

    /// A value is larger than the store takes in one request.
    #[error("a value of {size} bytes is larger than the store takes: {source}")]
    ValueTooLarge {
        /// The value's size in bytes.
        size: usize,
        /// The store's words.
        #[source]
        source: Arc<synod_store::Error>,
    },

    /// Only the first values of several went in.
    #[error("only the first {done} values went in: {source}")]
    Partial {
        /// How many of the values, from the first on, are in for certain.
        done: usize,
        /// Why the next ones are not, or may not be.
        #[source]
        source: Box<Error>,
    },

    /// An item was taken, but the answer that carried its value was lost, and the store has
    /// compacted the history that still held it. Only values that were not read ahead of their
    /// claim can meet this: those above 4 KiB (256 bytes while consumers compete), others that lie
    /// beside such in the queue, and any when more than 16 are asked for at once.
    #[error(
        "the item {key:?} was taken, but its value was lost with the answer and its history has \
         been compacted"
    )]
    ItemLost {
        /// The item's key.
        key: String,
    },

    /// The user may not write Synod's own records, which exactly-once operations need. Grant it, or choose a prefix
    /// that the user may write with [`ConnectOptions::with_system_prefix`](crate::ConnectOptions::with_system_prefix).
    #[error(
        "permission denied on Synod's own records: grant the user readwrite on the prefix \
         {prefix:?} (etcdctl role grant-permission ROLE --prefix=true readwrite {prefix})"
    )]
    SystemPrefixDenied {
        /// The prefix to grant.
        prefix: String,
        /// The store's words.
        #[source]
        source: Arc<synod_store::Error>,
    },

    /// The user may not use all keys of a priority queue, of which etcd's Go recipes keep some
    /// outside its name.
    #[error(
        "permission denied on the priority queue: grant the user readwrite on both prefixes \
         {items:?} and {books:?} (etcdctl role grant-permission ROLE --prefix=true readwrite {books})"
    )]
    PriorityQueueDenied {
        /// The prefix of its items.
        items: String,
        /// The prefix of the keys that are put with the items.
        books: String,
        /// The store's words.
        #[source]
        source: Arc<synod_store::Error>,
    },

    /// Somebody else holds it already.
    #[error("{name:?} is held{}; wait for its release, or release it", by(.holder))]
    Held {
        /// The name of the barrier.
        name: String,
        /// What the holder said of itself when it took hold; `None` when it said nothing, as Go's
        /// recipes do. See [`ConnectOptions::with_identity`](crate::ConnectOptions::with_identity).
        holder: Option<String>,
    },

    /// It is not held, or not by this holder any more: a fencing token has become old, a leader has
    /// been replaced, a barrier has been released by another. Nothing was changed.
    #[error("{key:?} does not belong to this holder any more; nothing was changed")]
    NotOwner {
        /// The key that was compared.
        key: String,
    },

    /// All who use this object must agree on a number, and this caller has another.
    #[error(
        "{name:?} has the {what} {stored}, but {asked} was asked for; all of its users must agree \
         on it"
    )]
    Disagreement {
        /// The name of the object.
        name: String,
        /// What the number counts: `count`, `number of permits`, `capacity`.
        what: &'static str,
        /// What the store holds.
        stored: u64,
        /// What this caller asked for.
        asked: u64,
    },

    /// As many participants as the object has room for are in it already.
    #[error("{name:?} already has its {count} participants")]
    TooManyParticipants {
        /// The name of the double barrier.
        name: String,
        /// How many it is for.
        count: u64,
    },

    /// A program with etcd's Go recipes uses the same name, and the layout of its keys is another.
    #[error(
        "{key:?} belongs to a program with etcd's Go recipes, which cannot see the native layout \
         of {name:?}; use `go_compatible()` (`--go` on the command line) on all sides, or another \
         name"
    )]
    GoLayout {
        /// The name of the object.
        name: String,
        /// The key that was found.
        key: String,
    },

    /// The queue holds as many items as it was given room for.
    #[error("the queue {name:?} is full: {capacity} items are its capacity")]
    QueueFull {
        /// The name of the queue.
        name: String,
        /// Its capacity.
        capacity: u64,
    },

    /// The delivery has ended: it took longer than its visibility bound, or its session was lost,
    /// so that the item goes to another consumer; or it was acknowledged elsewhere.
    #[error(
        "the delivery of {key:?} has ended before: its visibility bound ran out, so that the item \
         is delivered again; nothing was changed"
    )]
    DeliveryEnded {
        /// The key that the item had in its queue.
        key: String,
    },

    /// A transaction met a conflict each time it was tried.
    #[error("the transaction met conflicts in all of its {attempts} attempts; nothing was changed")]
    Conflict {
        /// How often it was tried.
        attempts: u32,
    },

    /// The transaction happened, once, but its answers were lost on the way, and could not be read
    /// again. Do not repeat it.
    #[error(
        "the transaction happened at revision {revision}, but its answers were lost on the way and \
         cannot be read again: {reason}"
    )]
    AnswersLost {
        /// When it happened.
        revision: Revision,
        /// Whether its conditions held.
        succeeded: bool,
        /// Why the answers cannot be read again: the history has been compacted, a range was read
        /// between two writes of its keys, or the store cannot be reached any more.
        reason: String,
    },

    /// A transaction needs more operations than the store takes in one request.
    #[error(
        "the transaction needs {needed} {what}, but {limit} fit into one request (etcd takes 128, of \
         which Synod's own record takes some); touch fewer keys, or split it"
    )]
    TooManyOperations {
        /// What there are too many of: `compares` or `operations`.
        what: &'static str,
        /// How many it needs; those of a nested transaction add to those of its parent.
        needed: usize,
        /// How many there is room for.
        limit: usize,
    },

    /// An argument makes no sense.
    #[error("{0}")]
    InvalidArgument(String),

    /// There is no Tokio runtime around the call.
    #[error("this needs a running Tokio runtime around the call")]
    NoRuntime,

    /// The store refused or failed.
    #[error("{0}")]
    Store(#[source] Arc<synod_store::Error>),
}

impl Error {
    /// Whether the session, or the lease behind it, is gone.
    #[must_use]
    pub fn is_session_lost(&self) -> bool {
        matches!(self, Error::SessionLost) || self.kind() == Some(ErrorKind::LeaseNotFound)
    }

    /// Whether the operation may have happened, or may still: resolve the token, or repeat it only
    /// if that does no harm.
    #[must_use]
    pub fn is_maybe_committed(&self) -> bool {
        match self {
            Error::Unknown { .. } | Error::AnswersLost { .. } => true,
            Error::Store(error) => error.is_maybe_applied(),
            Error::Partial { source, .. } => source.is_maybe_committed(),
            _ => false,
        }
    }

    /// Whether the same call may be repeated as it is: it changed nothing, and its cause may go
    /// away by itself.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Error::Timeout { .. } => true,
            Error::Store(error) => error.is_retryable(),
            _ => false,
        }
    }

    /// Whether the cause may go away by itself, whatever became of the request.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Error::Timeout { .. } | Error::SessionLost => true,
            Error::Store(error) => error.is_transient(),
            _ => false,
        }
    }

    /// Whether no answer came in time.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, Error::Timeout { .. } | Error::Unknown { .. })
            || self.kind() == Some(ErrorKind::Timeout)
    }

    /// The token to resolve, when the outcome is [unknown](Error::Unknown).
    #[must_use]
    pub fn token(&self) -> Option<&Token> {
        match self {
            Error::Unknown { token, .. } => Some(token),
            Error::Partial { source, .. } => source.token(),
            _ => None,
        }
    }

    /// The store's own error, when there is one.
    #[must_use]
    pub fn store_error(&self) -> Option<&synod_store::Error> {
        match self {
            Error::Store(source)
            | Error::ValueTooLarge { source, .. }
            | Error::SystemPrefixDenied { source, .. }
            | Error::PriorityQueueDenied { source, .. } => Some(source),
            Error::Partial { source, .. } => source.store_error(),
            _ => None,
        }
    }

    /// The kind of the store's own error, when there is one.
    #[must_use]
    pub fn kind(&self) -> Option<ErrorKind> {
        self.store_error().map(synod_store::Error::kind)
    }
}

/// The end of "is held", when the holder is known.
fn by(holder: &Option<String>) -> String {
    holder
        .as_ref()
        .map_or_else(String::new, |holder| format!(" by {holder}"))
}

impl From<synod_store::Error> for Error {
    fn from(error: synod_store::Error) -> Error {
        Error::Store(Arc::new(error))
    }
}
