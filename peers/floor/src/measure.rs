//! What is measured: operations between the end of the warm-up and the end of the duration, and how
//! long each took.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use tokio::task::JoinSet;

use crate::args::Options;

/// How long anything may take beyond the duration.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What came of one repeat.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) repeat: usize,
    unit: &'static str,
    seconds: f64,
    operations: u64,
    latencies: Vec<u64>,
    counters: Map<String, Value>,
    series: [u64; 10],
    parameters: Map<String, Value>,
}

/// A measurement that is going on; clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    from: Instant,
    to: Instant,
    so_far: Arc<Mutex<SoFar>>,
}

#[derive(Debug, Default)]
struct SoFar {
    operations: u64,
    latencies: Vec<u64>,
    series: [u64; 10],
    counters: Map<String, Value>,
    last: Duration,
}

impl Run {
    /// Begins now.
    pub(crate) fn start(options: &Options) -> Run {
        let from = Instant::now() + options.warm_up;
        Run {
            from,
            to: from + options.duration,
            so_far: Arc::default(),
        }
    }

    /// Whether to end.
    pub(crate) fn over(&self) -> bool {
        Instant::now() >= self.to
    }

    /// Whether what happens now is measured.
    pub(crate) fn counting(&self) -> bool {
        let now = Instant::now();
        self.from <= now && now < self.to
    }

    /// Counts operations that were one call, which began then and ends now.
    pub(crate) fn done(&self, began: Instant, operations: u64) {
        let now = Instant::now();
        self.took(now, now.saturating_duration_since(began), operations);
    }

    /// Counts operations that ended at `now` after so long.
    pub(crate) fn took(&self, now: Instant, latency: Duration, operations: u64) {
        if now < self.from || now >= self.to {
            return;
        }
        let since = now.saturating_duration_since(self.from);
        let whole = self.to.saturating_duration_since(self.from);
        let tenth = (10.0 * since.as_secs_f64() / whole.as_secs_f64()) as usize;
        let mut so_far = self.so_far();
        so_far.operations += operations;
        so_far.last = since;
        so_far
            .latencies
            .push(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
        if let Some(tenth) = so_far.series.get_mut(tenth.min(9)) {
            *tenth += operations;
        }
    }

    /// Adds to a counter.
    pub(crate) fn count(&self, name: &str, more: u64) {
        let mut so_far = self.so_far();
        let before = so_far.counters.get(name).and_then(Value::as_u64);
        let sum = before.unwrap_or(0).saturating_add(more);
        so_far.counters.insert(name.to_owned(), sum.into());
    }

    fn so_far(&self) -> MutexGuard<'_, SoFar> {
        self.so_far.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the workers, each of which must end without an error and not long after the
    /// duration.
    pub(crate) async fn join(&self, mut workers: JoinSet<Result<()>>) -> Result<()> {
        let late = tokio::time::Instant::from_std(self.to + PATIENCE);
        while let Some(worker) = tokio::time::timeout_at(late, workers.join_next())
            .await
            .context("a worker hangs")?
        {
            worker.context("a worker failed")??;
        }
        Ok(())
    }

    /// The row. When all was done `early`, the time ends with the last operation.
    pub(crate) fn row(&self, options: &Options, unit: &'static str, early: bool) -> Row {
        let mut so_far = self.so_far();
        let mut latencies = std::mem::take(&mut so_far.latencies);
        latencies.sort_unstable();
        Row {
            repeat: 1,
            unit,
            seconds: match early {
                true => so_far.last.as_secs_f64(),
                false => options.duration.as_secs_f64(),
            },
            operations: so_far.operations,
            latencies,
            counters: so_far.counters.clone(),
            series: so_far.series,
            parameters: options.parameters(),
        }
    }
}

impl Row {
    /// As every program of the benchmark prints it.
    pub(crate) fn json(&self, options: &Options) -> Value {
        let micros = |nanos: u64| nanos as f64 / 1000.0;
        let count = self.latencies.len();
        let at = |share: f64| {
            let index = (share * count.saturating_sub(1) as f64) as usize;
            micros(self.latencies.get(index).copied().unwrap_or(0))
        };
        let sum: u64 = self.latencies.iter().sum();
        let per_second = if self.seconds > 0.0 {
            self.operations as f64 / self.seconds
        } else {
            0.0
        };
        json!({
            "workload": options.workload,
            "case": options.case,
            "repeat": self.repeat,
            "parameters": self.parameters,
            "operations": self.operations,
            "seconds": self.seconds,
            "per_second": per_second,
            "unit": self.unit,
            // A floor with errors is none: the program ends with the first.
            "errors": 0,
            "latency_us": {
                "count": count,
                "mean": micros(sum) / count.max(1) as f64,
                "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "max": at(1.0),
            },
            "counters": self.counters,
            "series": self.series,
        })
    }
}
