//! What was measured, as it lies in `target/compare`: a file of JSON for each row and number of nodes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::goals::Metric;
use super::rows::Who;

/// What came of one row.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) row: String,
    pub(super) nodes: usize,
    pub(super) measured_at: u64,
    pub(super) seconds: f64,
    pub(super) etcd: Option<String>,
    pub(super) machine: Value,
    pub(super) outcomes: Vec<Outcome>,
}

/// What one program said, or why it failed.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) who: String,
    pub(super) repeat: usize,
    pub(super) outcome: Result<Value, String>,
}

/// Least, median and most.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Spread {
    pub(super) min: f64,
    pub(super) median: f64,
    pub(super) max: f64,
}

impl Spread {
    pub(super) fn of(mut values: Vec<f64>) -> Option<Spread> {
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = |index: usize| values.get(index).copied();
        let last = values.len() - 1;
        let median = f64::midpoint(middle(last / 2)?, middle(values.len() / 2)?);
        Some(Spread { min, median, max })
    }
}

impl Record {
    pub(super) fn new(
        row: &str,
        nodes: usize,
        duration: Duration,
        etcd: Option<String>,
        machine: Value,
    ) -> Record {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Record {
            row: row.to_string(),
            nodes,
            measured_at: now.map_or(0, |now| now.as_secs()),
            seconds: duration.as_secs_f64(),
            etcd,
            machine,
            outcomes: Vec::new(),
        }
    }

    fn of(&self, who: Who) -> impl Iterator<Item = &Outcome> {
        self.outcomes
            .iter()
            .filter(move |outcome| outcome.who == who.name())
    }

    /// The rows that one contestant printed.
    fn printed(&self, who: Who) -> impl Iterator<Item = &Value> {
        self.of(who)
            .filter_map(|outcome| outcome.outcome.as_ref().ok()?.pointer("/rows/0"))
    }

    /// A figure over the repeats that have it.
    pub(super) fn spread(&self, who: Who, metric: Metric) -> Option<Spread> {
        Spread::of(self.printed(who).filter_map(|row| metric.of(row)).collect())
    }

    /// Operations that failed in all repeats.
    pub(super) fn errors(&self, who: Who) -> u64 {
        self.printed(who)
            .filter_map(|row| row.get("errors")?.as_u64())
            .sum()
    }

    /// Why the first repeat failed that did.
    pub(super) fn failure(&self, who: Who) -> Option<&str> {
        self.of(who)
            .find_map(|outcome| outcome.outcome.as_ref().err())
            .map(String::as_str)
    }

    /// The versions of programs and servers.
    pub(super) fn versions(&self) -> Vec<(String, String)> {
        let mut versions = Vec::new();
        for answer in self
            .outcomes
            .iter()
            .filter_map(|outcome| outcome.outcome.as_ref().ok())
        {
            let text = |path: &str| answer.pointer(path).and_then(Value::as_str);
            if let (Some(name), Some(version)) = (text("/program/name"), text("/program/version")) {
                versions.push((name.to_string(), version.to_string()));
            }
        }
        versions.extend(
            self.etcd
                .clone()
                .map(|version| ("etcd".to_string(), version)),
        );
        versions
    }

    fn to_json(&self) -> Value {
        let outcomes: Vec<Value> = self
            .outcomes
            .iter()
            .map(
                |Outcome {
                     who,
                     repeat,
                     outcome,
                 }| match outcome {
                    Ok(answer) => json!({ "who": who, "repeat": repeat, "answer": answer }),
                    Err(error) => json!({ "who": who, "repeat": repeat, "error": error }),
                },
            )
            .collect();
        json!({
            "row": self.row, "nodes": self.nodes, "measured_at": self.measured_at,
            "seconds": self.seconds, "etcd": self.etcd, "machine": self.machine,
            "outcomes": outcomes,
        })
    }

    fn from_json(value: &Value) -> Option<Record> {
        let text = |value: &Value, name: &str| Some(value.get(name)?.as_str()?.to_string());
        let outcomes = value.get("outcomes")?.as_array()?;
        Some(Record {
            row: text(value, "row")?,
            nodes: usize::try_from(value.get("nodes")?.as_u64()?).ok()?,
            measured_at: value.get("measured_at")?.as_u64()?,
            seconds: value.get("seconds")?.as_f64()?,
            etcd: text(value, "etcd"),
            machine: value.get("machine")?.clone(),
            outcomes: outcomes
                .iter()
                .map(|outcome| {
                    Some(Outcome {
                        who: text(outcome, "who")?,
                        repeat: usize::try_from(outcome.get("repeat")?.as_u64()?).ok()?,
                        outcome: match outcome.get("answer") {
                            Some(answer) => Ok(answer.clone()),
                            None => Err(text(outcome, "error")?),
                        },
                    })
                })
                .collect::<Option<_>>()?,
        })
    }
}

/// The directory of records.
#[derive(Debug)]
pub(super) struct Archive(PathBuf);

impl Archive {
    pub(super) fn new(directory: PathBuf) -> Result<Archive> {
        fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        Ok(Archive(directory))
    }

    pub(super) fn directory(&self) -> &Path {
        &self.0
    }

    fn path(&self, row: &str, nodes: usize) -> PathBuf {
        self.0.join(format!("{row}.{nodes}.json"))
    }

    /// Keeps a record in place of the one before.
    pub(super) fn write(&self, record: &Record) -> Result<()> {
        let path = self.path(&record.row, record.nodes);
        let beside = path.with_extension("new");
        fs::write(&beside, serde_json::to_string_pretty(&record.to_json())?)?;
        fs::rename(&beside, &path).with_context(|| path.display().to_string())
    }

    /// The record of a row; `None` when it was not measured.
    pub(super) fn read(&self, row: &str, nodes: usize) -> Result<Option<Record>> {
        let path = self.path(row, nodes);
        if !path.is_file() {
            return Ok(None);
        }
        let value = serde_json::from_slice(&fs::read(&path)?)?;
        let record = Record::from_json(&value);
        record
            .map(Some)
            .with_context(|| format!("{} is no record", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ends() {
        let spread = Spread::of(vec![3.0, 1.0, 2.0]).unwrap();
        assert_eq!(
            spread,
            Spread {
                min: 1.0,
                median: 2.0,
                max: 3.0
            }
        );
        assert_eq!(Spread::of(vec![4.0, 2.0]).unwrap().median, 3.0);
        assert_eq!(Spread::of(Vec::new()), None);
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        let machine = json!({ "cpus": 2 });
        let version = Some("3.5.1".to_string());
        let mut record = Record::new("lock-8", 3, Duration::from_secs(2), version, machine);
        let outcome = |repeat, outcome| Outcome {
            who: "go".into(),
            repeat,
            outcome,
        };
        let answer = json!({
            "program": {"name": "go", "version": "1"},
            "rows": [{"per_second": 80.0, "errors": 2}],
        });
        record.outcomes = vec![outcome(1, Ok(answer)), outcome(2, Err("hangs".into()))];
        let back = Record::from_json(&record.to_json()).unwrap();
        assert_eq!(back.to_json(), record.to_json());
        assert_eq!(back.spread(Who::Go, Metric::Rate).unwrap().median, 80.0);
        assert_eq!(back.spread(Who::Synod, Metric::Rate), None);
        assert_eq!(
            (back.errors(Who::Go), back.failure(Who::Go)),
            (2, Some("hangs"))
        );
        assert_eq!(back.versions().len(), 2);
    }
}
