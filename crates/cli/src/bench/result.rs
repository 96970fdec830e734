//! Rows, and the JSON of a report: the format that `peers/` prints as well.

use std::time::{SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::machine::{Machine, Server};
use super::meter::Measured;
use super::spec::{Case, Spec, Workload};

/// How many parts of a run the throughput is told for.
const PARTS: usize = 10;

/// One measurement.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) spec: Spec,
    /// Which of how many, from 1.
    pub(crate) repeat: u64,
    pub(crate) started_at: u64,
    pub(crate) seconds: f64,
    /// When what is measured began.
    begin: u64,
    pub(crate) measured: Measured,
    pub(crate) histogram: Histogram<u64>,
}

impl Row {
    pub(crate) fn new(
        spec: &Spec,
        repeat: u64,
        started_at: u64,
        begin: u64,
        measured: Measured,
    ) -> Row {
        Row {
            spec: spec.clone(),
            repeat,
            started_at,
            seconds: measured.last.saturating_sub(begin) as f64 / 1e9,
            begin,
            histogram: measured.histogram(),
            measured,
        }
    }

    /// `queue/transfer`.
    pub(crate) fn title(&self) -> String {
        format!("{}/{}", self.spec.workload, self.spec.case)
    }

    pub(crate) fn per_second(&self) -> f64 {
        if self.seconds > 0.0 {
            self.measured.operations as f64 / self.seconds
        } else {
            0.0
        }
    }

    /// A latency in microseconds, such as that of 0.99.
    pub(crate) fn quantile(&self, quantile: f64) -> f64 {
        self.histogram.value_at_quantile(quantile) as f64 / 1e3
    }

    pub(crate) fn max(&self) -> f64 {
        self.histogram.max() as f64 / 1e3
    }

    /// Operations in each of so many equal parts of the run.
    pub(crate) fn parts(&self, parts: usize) -> Vec<u64> {
        let last = self.measured.last.max(self.begin);
        self.measured.series.parts(last, parts)
    }

    fn json(&self) -> Value {
        let measured = &self.measured;
        let empty = self.histogram.is_empty();
        let us = |value: f64| if empty { 0.0 } else { rounded(value) };
        json!({
            "workload": self.spec.workload,
            "case": self.spec.case,
            "repeat": self.repeat,
            "started_at": self.started_at,
            "parameters": self.spec.parameters(),
            "operations": measured.operations,
            "seconds": self.seconds,
            "per_second": rounded(self.per_second()),
            "unit": self.spec.unit(),
            "errors": measured.errors,
            "first_error": measured.first_error,
            "violations": measured.violations,
            "latency_of": self.spec.latency_of(),
            "latency_us": {
                "count": self.histogram.len(),
                "mean": us(self.histogram.mean() / 1e3),
                "p50": us(self.quantile(0.5)),
                "p90": us(self.quantile(0.9)),
                "p99": us(self.quantile(0.99)),
                "max": us(self.max()),
            },
            "counters": measured.counters,
            "series": self.parts(PARTS),
        })
    }
}

/// Three digits after the point are more than any clock tells.
fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}

/// The repeats of one thing: medians and how far they are apart.
#[derive(Debug, Clone)]
pub(crate) struct Summary<'a> {
    pub(crate) rows: Vec<&'a Row>,
}

impl<'a> Summary<'a> {
    /// The first row stands for what all have in common.
    pub(crate) fn first(&self) -> Option<&'a Row> {
        self.rows.first().copied()
    }

    /// Least, median and most of something.
    pub(crate) fn spread(&self, of: impl Fn(&Row) -> f64) -> Spread {
        let mut values: Vec<f64> = self.rows.iter().map(|row| of(row)).collect();
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(0.0);
        let last = values.len().saturating_sub(1);
        Spread {
            min: at(0),
            median: (at(last / 2) + at(values.len() / 2)) / 2.0,
            max: at(last),
        }
    }

    pub(crate) fn errors(&self) -> u64 {
        let errors = self.rows.iter().map(|row| row.measured.errors);
        errors.fold(0, u64::saturating_add)
    }

    /// A counter's sum over all repeats.
    pub(crate) fn counter(&self, name: &str) -> Option<u64> {
        let counts = self
            .rows
            .iter()
            .filter_map(|row| row.measured.counters.get(name));
        counts.copied().reduce(u64::saturating_add)
    }

    fn json(&self) -> Value {
        let Some(first) = self.first() else {
            return Value::Null;
        };
        let spread = |of: &dyn Fn(&Row) -> f64| self.spread(of).json();
        json!({
            "workload": first.spec.workload,
            "case": first.spec.case,
            "parameters": first.spec.parameters(),
            "repeats": self.rows.len(),
            "unit": first.spec.unit(),
            "per_second": spread(&Row::per_second),
            "p50_us": spread(&|row| row.quantile(0.5)),
            "p90_us": spread(&|row| row.quantile(0.9)),
            "p99_us": spread(&|row| row.quantile(0.99)),
            "max_us": spread(&Row::max),
        })
    }
}

/// Least, median and most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Spread {
    fn json(self) -> Value {
        json!({
            "median": rounded(self.median),
            "min": rounded(self.min),
            "max": rounded(self.max),
        })
    }
}

/// All that was measured, and on what.
#[derive(Debug)]
pub(crate) struct Results {
    pub(crate) server: Server,
    pub(crate) machine: Machine,
    pub(crate) started_at: u64,
    pub(crate) rows: Vec<Row>,
}

impl Results {
    pub(crate) fn new(server: Server) -> Results {
        let machine = Machine::here(server.data.as_deref());
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Results {
            server,
            machine,
            started_at: now.unwrap_or_default().as_secs(),
            rows: Vec::new(),
        }
    }

    /// The repeats of each thing that was measured, in order.
    pub(crate) fn summaries(&self) -> Vec<Summary<'_>> {
        let mut summaries: Vec<Summary<'_>> = Vec::new();
        for row in &self.rows {
            let same = |one: &Summary<'_>| {
                one.first()
                    .is_some_and(|first| same_thing(&first.spec, &row.spec))
            };
            match summaries.iter_mut().find(|one| same(one)) {
                Some(summary) => summary.rows.push(row),
                None => summaries.push(Summary { rows: vec![row] }),
            }
        }
        summaries
    }

    pub(crate) fn json(&self) -> Value {
        json!({
            "format": 1,
            "program": { "name": "synod", "version": env!("CARGO_PKG_VERSION") },
            "store": self.server.json(),
            "machine": self.machine.json(),
            "started_at": self.started_at,
            "rows": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
            "summary": self.summaries().iter().map(Summary::json).collect::<Vec<_>>(),
        })
    }
}

fn same_thing(one: &Spec, other: &Spec) -> bool {
    let key = |spec: &Spec| -> (Workload, Case, String) {
        let parameters = Value::Object(spec.parameters());
        (spec.workload, spec.case, parameters.to_string())
    };
    key(one) == key(other)
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    /// The fields that readers of this format rely on, and their types.
    #[test]
    fn the_fields_of_format_1() {
        let spec = samples::spec(Workload::Queue, Case::Transfer);
        let rows = vec![samples::row(&spec, 1), samples::row(&spec, 2)];
        let json = samples::results(rows).json();
        assert_eq!(json["format"], 1);
        assert_eq!(json["program"]["name"], "synod");
        assert!(json["program"]["version"].is_string());
        assert_eq!(json["store"]["nodes"], 8);
        assert_eq!(json["store"]["server"], "etcd <3.5.1>");
        assert!(json["store"]["address"].is_string());
        assert_eq!(json["machine"]["cpus"], 2);
        assert!(json["machine"]["memory_bytes"].is_u64());
        assert_eq!(json["machine"]["file_system"], "ext4");
        assert!(json["started_at"].is_u64());
        let row = &json["rows"][1];
        assert_eq!(
            (&row["workload"], &row["case"]),
            (&json!("queue"), &json!("transfer"))
        );
        assert_eq!(row["repeat"], 2);
        assert_eq!(row["operations"], 1_000);
        assert_eq!(row["unit"], "items");
        assert_eq!(
            (&row["seconds"], &row["per_second"]),
            (&json!(1.0), &json!(1_000.0))
        );
        assert_eq!(
            (&row["errors"], &row["counters"]["late"]),
            (&json!(1), &json!(7))
        );
        assert_eq!(row["latency_us"]["count"], 1_000);
        for (name, value) in [("p50", 250_000.0), ("p90", 810_000.0), ("max", 1_000_000.0)] {
            let told = row["latency_us"][name].as_f64().unwrap();
            assert!((told / value - 1.0).abs() < 0.01, "{name}: {told}");
        }
        let mean = row["latency_us"]["mean"].as_f64().unwrap();
        assert!((mean / 333_833.5 - 1.0).abs() < 0.01, "{mean}");
        let series: Vec<u64> = serde_json::from_value(row["series"].clone()).unwrap();
        assert_eq!(series.iter().sum::<u64>(), 1_000);
        assert!(
            series.len() == 10 && series.iter().all(|part| part.abs_diff(100) <= 1),
            "{series:?}"
        );
        for name in [
            "producers",
            "consumers",
            "participants",
            "waiters",
            "tasks",
            "items",
            "value_size",
            "fill_first",
            "batch",
            "priorities",
            "accounts",
            "transfers",
            "processes",
        ] {
            assert!(row["parameters"][name].is_u64(), "{name}");
        }
        assert_eq!(row["parameters"]["local_handover"], true);
        assert_eq!(row["parameters"]["connections"], "shared");
        assert_eq!(json["summary"].as_array().map(Vec::len), Some(1));
        assert_eq!(json["summary"][0]["repeats"], 2);
        assert_eq!(json["summary"][0]["per_second"]["median"], 1_000.0);
    }

    #[test]
    fn medians_and_spreads() {
        let spec = samples::spec(Workload::Queue, Case::Transfer);
        let rows: Vec<Row> = (1..=4).map(|repeat| samples::row(&spec, repeat)).collect();
        let of = |row: &Row| [9.0, 1.0, 4.0, 2.0][row.repeat as usize - 1];
        let summary = |count: usize| Summary {
            rows: rows.iter().take(count).collect(),
        };
        let spread = |min, median, max| Spread { min, median, max };
        assert_eq!(summary(1).spread(of), spread(9.0, 9.0, 9.0));
        assert_eq!(summary(3).spread(of), spread(1.0, 4.0, 9.0));
        assert_eq!(summary(4).spread(of), spread(1.0, 3.0, 9.0));
        assert_eq!(summary(0).spread(of), spread(0.0, 0.0, 0.0));
    }
}
