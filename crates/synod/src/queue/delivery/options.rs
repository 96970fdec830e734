//! What a queue's handle is told about deliveries.

use std::time::Duration;

use crate::{Error, Result};

/// Longer than anybody waits, and short enough to be added to any time.
pub(super) const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// How a handle takes and puts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Options {
    /// How long a delivery lasts unless it is extended.
    pub(super) visibility: Duration,
    /// How often an item is handed out; `None` without end.
    pub(super) max_attempts: Option<u32>,
    /// How many items there may be.
    pub(super) capacity: Option<u64>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            visibility: Duration::from_secs(30),
            max_attempts: Some(5),
            capacity: None,
        }
    }
}

impl Options {
    /// An error if they make no sense for a take.
    pub(super) fn check(self) -> Result<Options> {
        check_bound(self.visibility)?;
        if self.max_attempts == Some(0) {
            return Err(Error::InvalidArgument(
                "an item that may be handed out 0 times can never be taken; give at least 1 attempt, \
                 or None for no limit"
                    .to_owned(),
            ));
        }
        Ok(self)
    }
}

/// An error if no delivery can last that long.
pub(super) fn check_bound(bound: Duration) -> Result<()> {
    if bound.is_zero() {
        return Err(Error::InvalidArgument(
            "a delivery cannot last 0 s; give a visibility bound of at least a second".to_owned(),
        ));
    }
    if bound > LONGEST {
        return Err(too_long("visibility bound", bound));
    }
    Ok(())
}

pub(super) fn too_long(what: &str, time: Duration) -> Error {
    Error::InvalidArgument(format!(
        "a {what} of {time:?} is too long; give at most a hundred years"
    ))
}
