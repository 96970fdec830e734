//! [`Meter`]: what the workers of a process have done; [`Measured`]: the same as data, which can be sent
//! and merged. Merging is exact: histograms add up bucket by bucket.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::clock::now;
use super::series::Series;
use super::turns::Turn;

/// Nanoseconds: three figures each, up to whatever comes.
pub(crate) fn histogram() -> Histogram<u64> {
    // Three is within the crate's limits.
    #[expect(
        clippy::expect_used,
        reason = "the arguments are constants that are allowed"
    )]
    Histogram::new(3).expect("three figures are allowed")
}

/// What has been done so far.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Measured {
    /// How many operations were completed.
    pub(crate) operations: u64,
    /// Latencies in nanoseconds, as pairs of a histogram's value and its count.
    pub(crate) latencies: Vec<(u64, u64)>,
    /// When operations were completed.
    pub(crate) series: Series,
    /// When the last one was.
    pub(crate) last: u64,
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
    /// What must never be: a run with one of these is worthless.
    pub(crate) violations: Vec<String>,
    /// Whatever else the case can tell.
    pub(crate) counters: BTreeMap<String, u64>,
}

impl Measured {
    /// Adds what another process has measured.
    pub(crate) fn merge(&mut self, other: Measured) {
        self.operations = self.operations.saturating_add(other.operations);
        self.latencies.extend(other.latencies);
        self.series.merge(&other.series);
        self.last = self.last.max(other.last);
        self.errors = self.errors.saturating_add(other.errors);
        if self.first_error.is_none() {
            self.first_error = other.first_error;
        }
        self.violations.extend(other.violations);
        for (name, count) in other.counters {
            let sum = self.counters.entry(name).or_default();
            *sum = sum.saturating_add(count);
        }
    }

    /// The latencies as one histogram.
    pub(crate) fn histogram(&self) -> Histogram<u64> {
        let mut all = histogram();
        for &(value, count) in &self.latencies {
            // It resizes by itself, and so takes everything.
            let _ = all.record_n(value, count);
        }
        all
    }
}

fn add(measured: &mut Measured, units: u64, end: u64) {
    measured.operations = measured.operations.saturating_add(units);
    measured.last = measured.last.max(end);
    measured.series.add(end, units);
}

/// How many violations are told; more of them add nothing.
const TOLD: usize = 8;

/// Counts what the workers of a process do.
#[derive(Debug)]
pub(crate) struct Meter(Mutex<Counting>);

#[derive(Debug)]
struct Counting {
    histogram: Histogram<u64>,
    measured: Measured,
}

impl Meter {
    /// For a measurement that begins then.
    pub(crate) fn new(begin: u64) -> Meter {
        Meter(Mutex::new(Counting {
            histogram: histogram(),
            measured: Measured {
                series: Series::new(begin),
                ..Measured::default()
            },
        }))
    }

    fn counting(&self) -> MutexGuard<'_, Counting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An operation of `units` was completed now; its latency counts from the turn's begin.
    pub(crate) fn done(&self, turn: Turn, units: u64) {
        let end = now();
        self.completed(turn, units, end.saturating_sub(turn.begin), end);
    }

    /// An operation of `units` was completed at `end`, after `latency`.
    pub(crate) fn completed(&self, turn: Turn, units: u64, latency: u64, end: u64) {
        if !turn.counted {
            return;
        }
        let mut counting = self.counting();
        // It resizes by itself, and so takes everything.
        let _ = counting.histogram.record(latency.max(1));
        add(&mut counting.measured, units, end);
    }

    /// Units came at `time`, whose latency, if they have one, is told apart.
    pub(crate) fn came(&self, units: u64, time: u64) {
        add(&mut self.counting().measured, units, time);
    }

    /// Something took so long that is counted apart.
    pub(crate) fn took(&self, latency: u64) {
        // It resizes by itself, and so takes everything.
        let _ = self.counting().histogram.record(latency.max(1));
    }

    /// An operation failed. Also one of the warm-up: whoever measures wants to know.
    pub(crate) fn failed(&self, error: &(dyn std::fmt::Display + Sync)) {
        let mut counting = self.counting();
        let measured = &mut counting.measured;
        measured.errors = measured.errors.saturating_add(1);
        if measured.first_error.is_none() {
            measured.first_error = Some(error.to_string());
        }
    }

    /// What must never be has been.
    pub(crate) fn violated(&self, what: impl Into<String>) {
        let mut counting = self.counting();
        if counting.measured.violations.len() < TOLD {
            counting.measured.violations.push(what.into());
        }
    }

    /// Adds to a counter.
    pub(crate) fn count(&self, counter: &str, by: u64) {
        let mut counting = self.counting();
        let counters = &mut counting.measured.counters;
        match counters.get_mut(counter) {
            Some(sum) => *sum = sum.saturating_add(by),
            None => {
                counters.insert(counter.to_owned(), by);
            }
        }
    }

    /// How many operations were completed so far, and how many failed.
    pub(crate) fn so_far(&self) -> (u64, u64) {
        let counting = self.counting();
        (counting.measured.operations, counting.measured.errors)
    }

    /// Everything so far.
    pub(crate) fn measured(&self) -> Measured {
        let counting = self.counting();
        let recorded = counting.histogram.iter_recorded();
        let latencies = recorded.map(|at| (at.value_iterated_to(), at.count_at_value()));
        Measured {
            latencies: latencies.collect(),
            ..counting.measured.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTED: Turn = Turn {
        begin: 0,
        counted: true,
    };

    /// What two processes have measured adds up to what one would have, figure for figure.
    #[test]
    fn merging_is_exact() {
        let (one, other, both) = (Meter::new(0), Meter::new(0), Meter::new(0));
        for n in 1..5_000u64 {
            let latency = n * n * 37 % 90_000_000 + 1;
            let meter = if n % 3 == 0 { &one } else { &other };
            for meter in [meter, &both] {
                meter.completed(COUNTED, 2, latency, n * 1_000);
                meter.count("attempts", n % 5);
            }
        }
        one.failed(&"first");
        other.failed(&"second");
        let sent = serde_json::to_string(&other.measured()).unwrap();
        let mut merged = one.measured();
        merged.merge(serde_json::from_str(&sent).unwrap());
        let whole = both.measured();
        assert_eq!(merged.operations, 2 * 4_999);
        assert_eq!(merged.histogram(), whole.histogram());
        assert_eq!(merged.counters, whole.counters);
        assert_eq!(merged.last, whole.last);
        assert_eq!(
            merged.series.parts(merged.last, 10),
            whole.series.parts(whole.last, 10)
        );
        assert_eq!(
            (merged.errors, merged.first_error.as_deref()),
            (2, Some("first"))
        );
    }

    #[test]
    fn the_warm_up_is_not_counted() {
        let meter = Meter::new(0);
        let warming = Turn {
            begin: 0,
            counted: false,
        };
        meter.done(warming, 1);
        assert_eq!(meter.so_far(), (0, 0));
        meter.came(3, 1);
        assert_eq!(meter.so_far(), (3, 0));
        assert!(meter.measured().histogram().is_empty());
        meter.took(7);
        assert_eq!(meter.measured().latencies, [(7, 1)]);
    }
}
