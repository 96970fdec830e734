//! `--auto-compaction-mode` and `--auto-compaction-retention`: how much history to keep.

use std::time::Duration;

use crate::args::CompactionMode;
use crate::failure::{Failure, Result};

/// How much history to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Retention {
    /// As much as the store does unless told otherwise.
    Default,
    /// All of it.
    Everything,
    /// What is younger than this.
    Age(Duration),
    /// So many revisions.
    Revisions(u64),
}

/// Reads both flags as etcd does: the age is the default mode, and a bare number counts hours.
pub(super) fn retention(mode: Option<CompactionMode>, text: Option<&str>) -> Result<Retention> {
    let Some(text) = text else {
        return Ok(Retention::Default);
    };
    let mode = mode.unwrap_or(CompactionMode::Periodic);
    match (mode, text.parse::<u64>()) {
        (_, Ok(0)) => Ok(Retention::Everything),
        (CompactionMode::Revision, Ok(revisions)) => Ok(Retention::Revisions(revisions)),
        (CompactionMode::Revision, Err(_)) => Err(Failure::usage(format!(
            "--auto-compaction-retention {text} is no number of revisions"
        ))
        .hint("give a whole number, or an age with --auto-compaction-mode periodic")),
        (CompactionMode::Periodic, Ok(hours)) => Ok(Retention::Age(Duration::from_secs(
            hours.saturating_mul(3600),
        ))),
        (CompactionMode::Periodic, Err(_)) => match humantime::parse_duration(text) {
            Ok(Duration::ZERO) => Ok(Retention::Everything),
            Ok(age) => Ok(Retention::Age(age)),
            Err(error) => Err(Failure::usage(format!(
                "--auto-compaction-retention {text} is no age"
            ))
            .because(&error)
            .hint("give a number and a unit, such as 30m or 1h")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_read_as_etcd_reads_them() {
        let read = |mode, text| retention(mode, Some(text)).unwrap();
        let revision = Some(CompactionMode::Revision);
        assert_eq!(read(None, "1"), Retention::Age(Duration::from_secs(3600)));
        assert_eq!(read(None, "30m"), Retention::Age(Duration::from_secs(1800)));
        assert_eq!(read(None, "0"), Retention::Everything);
        assert_eq!(read(revision, "1000"), Retention::Revisions(1000));
        assert_eq!(read(revision, "0"), Retention::Everything);
        assert_eq!(retention(None, None).unwrap(), Retention::Default);
        assert!(retention(revision, Some("30m")).is_err());
        assert!(retention(None, Some("soon")).is_err());
    }
}
