//! [`Failure`], and the statements that cases are made of. Each remembers the line that made it.

use std::fmt::{self, Debug};
use std::panic::Location;

use crate::{Error, ErrorKind};

/// What a case returns.
pub(super) type Checked<T = ()> = Result<T, Failure>;

/// A rule that a store broke.
#[derive(Debug, Clone)]
pub struct Failure {
    message: String,
    at: &'static Location<'static>,
}

impl Failure {
    /// A failure at the caller's line.
    #[track_caller]
    pub fn new(message: impl Into<String>) -> Failure {
        Failure {
            message: message.into(),
            at: Location::caller(),
        }
    }

    /// What went wrong.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({}:{})",
            self.message,
            self.at.file(),
            self.at.line()
        )
    }
}

impl std::error::Error for Failure {}

impl From<Error> for Failure {
    #[track_caller]
    fn from(error: Error) -> Failure {
        Failure::new(format!("unexpected error: {error:?}"))
    }
}

/// States that something holds.
#[track_caller]
pub(super) fn holds(fact: bool, what: impl Into<String>) -> Checked {
    if fact {
        Ok(())
    } else {
        Err(Failure::new(what))
    }
}

/// States that two things are equal.
#[track_caller]
pub(super) fn same<T: Debug + PartialEq<U>, U: Debug>(
    what: &str,
    found: T,
    expected: U,
) -> Checked {
    if found == expected {
        Ok(())
    } else {
        Err(Failure::new(format!(
            "{what}: found {found:?}, expected {expected:?}"
        )))
    }
}

/// States that a request is refused for good, with this kind of error, and that the error says so:
/// nothing was applied, a retry makes no sense.
#[track_caller]
pub(super) fn refused<T: Debug>(result: Result<T, Error>, kind: ErrorKind) -> Checked<Error> {
    match result {
        Err(error) if error.kind() == kind => {
            if error.is_maybe_applied() || error.is_retryable() {
                return Err(Failure::new(format!(
                    "a refusal is definite and not to be retried: {error:?}"
                )));
            }
            Ok(error)
        }
        other => Err(Failure::new(format!(
            "expected the error {kind:?}, found {other:?}"
        ))),
    }
}
