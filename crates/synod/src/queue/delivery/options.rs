//! What handles and calls are told about deliveries.

use std::time::Duration;

use bytes::Bytes;

use crate::{Error, Result};

/// Longer than anybody waits, and short enough to be added to any time.
pub(super) const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// How a handle takes and puts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Options {
    /// How long a delivery lasts unless it is extended.
    pub(crate) visibility: Duration,
    /// How often an item is handed out; `None` without end.
    pub(crate) max_attempts: Option<u32>,
    /// How many items there may be.
    pub(crate) capacity: Option<u64>,
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
        check_bound("visibility bound", self.visibility)?;
        if self.max_attempts == Some(0) {
            return Err(Error::InvalidArgument(
                "an item that may be handed out 0 times can never be taken; give at least 1 \
                 attempt, or None for no limit"
                    .to_owned(),
            ));
        }
        Ok(self)
    }
}

/// How a value is put in, beside where.
///
/// ```
/// use std::time::Duration;
/// use synod::delivery::EnqueueOptions;
///
/// let options = EnqueueOptions::new()
///     .with_delay(Duration::from_secs(60))
///     .with_id("order 4711");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "options do nothing by themselves"]
pub struct EnqueueOptions {
    pub(super) delay: Duration,
    pub(super) id: Option<Bytes>,
    pub(super) window: Duration,
}

impl Default for EnqueueOptions {
    fn default() -> EnqueueOptions {
        EnqueueOptions::new()
    }
}

impl EnqueueOptions {
    /// No delay, no id: as a plain enqueue.
    pub fn new() -> EnqueueOptions {
        EnqueueOptions {
            delay: Duration::ZERO,
            id: None,
            window: Duration::from_secs(300),
        }
    }

    /// The value comes into the queue only after this long, by the wall clocks of producers and
    /// consumers: as early or late as they disagree.
    pub fn with_delay(mut self, delay: Duration) -> EnqueueOptions {
        self.delay = delay;
        self
    }

    /// The value is put in only if none was with this id in the last five minutes, or the time that
    /// [`EnqueueOptions::with_id_window`] sets; whether it has been taken since does not matter.
    pub fn with_id(mut self, id: impl AsRef<[u8]>) -> EnqueueOptions {
        self.id = Some(Bytes::copy_from_slice(id.as_ref()));
        self
    }

    /// For how long the id is remembered, 5 minutes unless set. The store keeps it up to a quarter
    /// longer, and longer after its restart.
    pub fn with_id_window(mut self, window: Duration) -> EnqueueOptions {
        self.window = window;
        self
    }

    /// Whether they ask for nothing that a plain enqueue does not do.
    pub(crate) fn is_plain(&self) -> bool {
        self.delay.is_zero() && self.id.is_none()
    }

    pub(super) fn check(&self) -> Result<()> {
        if self.delay > LONGEST {
            return Err(too_long("delay", self.delay));
        }
        match &self.id {
            None => Ok(()),
            Some(id) if id.is_empty() => Err(Error::InvalidArgument(
                "a de-duplication id cannot be empty; leave it out if there is none".to_owned(),
            )),
            Some(_) => check_bound("window for de-duplication ids", self.window),
        }
    }
}

/// What became of a value that was put in with an [id](EnqueueOptions::with_id).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Enqueued {
    /// It is in.
    New,
    /// A value with the same id was put in before: this one is not.
    AlreadyThere,
}

impl Enqueued {
    /// Whether the value is in.
    #[must_use]
    pub fn is_new(self) -> bool {
        self == Enqueued::New
    }
}

/// An error if nothing can last that long.
pub(super) fn check_bound(what: &str, bound: Duration) -> Result<()> {
    if bound.is_zero() {
        return Err(Error::InvalidArgument(format!(
            "a {what} of 0 s makes no sense; give at least a second"
        )));
    }
    if bound > LONGEST {
        return Err(too_long(what, bound));
    }
    Ok(())
}

pub(super) fn too_long(what: &str, time: Duration) -> Error {
    Error::InvalidArgument(format!(
        "a {what} of {time:?} is too long; give at most a hundred years"
    ))
}
