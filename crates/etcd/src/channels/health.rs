//! Which endpoint does the work: a state machine without connections or clocks.
//!
//! One endpoint is *current* and does all the work, over one connection, for as long as it is fit:
//! connections cost more than they bring. When it fails, those that have failed least are tried
//! next, and one that failed is left alone for a while that grows.

use std::time::Duration;

use tokio::time::Instant;

use crate::retry::Backoff;

/// What is known of the endpoints.
#[derive(Debug)]
pub(crate) struct Health {
    entries: Vec<Entry>,
    current: Option<usize>,
    /// Where the round of equally good endpoints begins.
    start: usize,
}

#[derive(Debug)]
struct Entry {
    failures: u32,
    retry_at: Option<Instant>,
    /// A former member that is not to be used.
    retired: bool,
}

impl Entry {
    const FRESH: Entry = Entry {
        failures: 0,
        retry_at: None,
        retired: false,
    };
}

/// Whom to try next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Candidates {
    /// These, the best first.
    Now(Vec<usize>),
    /// All have failed a moment ago: wait until then.
    At(Instant),
}

impl Health {
    /// So many endpoints, of which the one at `start` is tried first.
    pub(crate) fn new(endpoints: usize, start: usize) -> Health {
        Health {
            entries: (0..endpoints).map(|_| Entry::FRESH).collect(),
            current: None,
            start,
        }
    }

    /// The endpoint that does the work, if there is one.
    pub(crate) fn current(&self) -> Option<usize> {
        self.current
    }

    /// Whom to try when there is no current endpoint.
    pub(crate) fn candidates(&self, now: Instant) -> Candidates {
        let count = self.entries.len();
        let in_use = |(_, entry): &(usize, &Entry)| !entry.retired;
        let mut ready: Vec<(u32, usize, usize)> = self
            .entries
            .iter()
            .enumerate()
            .filter(in_use)
            .filter(|(_, entry)| entry.retry_at.is_none_or(|at| at <= now))
            .map(|(index, entry)| {
                let turn = (index + count - self.start % count.max(1)) % count.max(1);
                (entry.failures, turn, index)
            })
            .collect();
        if ready.is_empty() {
            let entries = self.entries.iter().enumerate().filter(in_use);
            let first = entries.filter_map(|(_, entry)| entry.retry_at).min();
            return first.map_or(Candidates::Now(Vec::new()), Candidates::At);
        }
        ready.sort_unstable();
        Candidates::Now(ready.into_iter().map(|(_, _, index)| index).collect())
    }

    /// The endpoint answered and is fit: it does the work from now on.
    pub(crate) fn succeeded(&mut self, index: usize) {
        if let Some(entry) = self.entries.get_mut(index).filter(|entry| !entry.retired) {
            *entry = Entry::FRESH;
            self.current = Some(index);
        }
    }

    /// The endpoint failed, or is not fit. The first failure can be followed by another try at
    /// once: the connection may have been old.
    pub(crate) fn failed(&mut self, index: usize, now: Instant, jitter: f64) {
        if let Some(entry) = self.entries.get_mut(index) {
            let pause = match entry.failures {
                0 => Duration::ZERO,
                failures => Backoff::pause(failures - 1, jitter),
            };
            entry.failures = entry.failures.saturating_add(1);
            entry.retry_at = Some(now + pause);
        }
        if self.current == Some(index) {
            self.current = None;
        }
    }

    /// One more endpoint; its index is the number of those before.
    pub(crate) fn add(&mut self) {
        self.entries.push(Entry::FRESH);
    }

    /// Whether the endpoint is not to be used.
    pub(crate) fn is_retired(&self, index: usize) -> bool {
        self.entries.get(index).is_none_or(|entry| entry.retired)
    }

    /// An endpoint is no longer, or again, one of the cluster's.
    pub(crate) fn set_retired(&mut self, index: usize, retired: bool) {
        if let Some(entry) = self.entries.get_mut(index) {
            entry.retired = retired;
        }
        if retired && self.current == Some(index) {
            self.current = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_current_endpoint_stays() {
        let now = Instant::now();
        let mut health = Health::new(3, 1);
        assert_eq!(health.candidates(now), Candidates::Now(vec![1, 2, 0]));
        health.succeeded(2);
        assert_eq!(health.current(), Some(2));
        health.failed(0, now, 0.0);
        assert_eq!(health.current(), Some(2));
    }

    #[test]
    fn a_failed_endpoint_comes_last_and_is_left_alone_for_a_while_that_grows() {
        let now = Instant::now();
        let mut health = Health::new(2, 0);
        health.succeeded(0);
        health.failed(0, now, 0.0);
        assert_eq!(health.current(), None);
        assert_eq!(health.candidates(now), Candidates::Now(vec![1, 0]));
        health.failed(0, now, 0.0);
        assert_eq!(health.candidates(now), Candidates::Now(vec![1]));
        let later = now + Duration::from_secs(1);
        assert_eq!(health.candidates(later), Candidates::Now(vec![1, 0]));
        health.failed(1, now, 0.0);
        health.failed(1, now, 0.0);
        health.failed(1, now, 0.0);
        let Candidates::At(first) = health.candidates(now) else {
            panic!("both have failed");
        };
        assert!(first > now);
        assert_eq!(health.candidates(first), Candidates::Now(vec![0]));
        health.succeeded(1);
        assert_eq!(health.current(), Some(1));
    }

    #[test]
    fn a_retired_endpoint_is_not_used() {
        let now = Instant::now();
        let mut health = Health::new(1, 0);
        health.add();
        health.succeeded(1);
        health.set_retired(1, true);
        assert_eq!(health.current(), None);
        assert_eq!(health.candidates(now), Candidates::Now(vec![0]));
        health.succeeded(1);
        assert_eq!(health.current(), None);
        health.set_retired(1, false);
        assert_eq!(health.candidates(now), Candidates::Now(vec![0, 1]));
    }

    #[test]
    fn without_endpoints_there_are_no_candidates() {
        let health = Health::new(0, 0);
        assert_eq!(
            health.candidates(Instant::now()),
            Candidates::Now(Vec::new())
        );
    }
}
