//! `redis-benchmark`, with its answer in the format of the benchmark.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::programs::Programs;

/// Measures LPUSH of 100 bytes by so many callers for about so long.
pub(super) fn push(
    programs: &Programs,
    benchmark: &Path,
    port: u16,
    callers: u64,
    duration: Duration,
) -> Result<Value> {
    // It counts calls, not seconds: a short run tells how many.
    let (rate, ..) = run(programs, benchmark, port, callers, 1_000 * callers.min(10))?;
    let count = (rate * duration.as_secs_f64()).max(1_000.0) as u64;
    let begin = Instant::now();
    let (rate, latency, text) = run(programs, benchmark, port, callers, count)?;
    let version = Command::new(benchmark).arg("--version").output();
    let version = version.map(|output| output.stdout).unwrap_or_default();
    let version = String::from_utf8_lossy(&version);
    let version = version.split_whitespace().nth(1).unwrap_or("unknown");
    Ok(json!({
        "format": 1,
        "program": { "name": "redis", "version": version },
        "store": {
            "address": format!("redis://127.0.0.1:{port}"),
            "server": format!("redis {version}, appendfsync always"),
            "nodes": 1,
        },
        "rows": [{
            "workload": "queue",
            "case": "fill",
            "repeat": 1,
            "parameters": { "producers": callers, "value_size": 100, "connections": "own" },
            "operations": count,
            "seconds": begin.elapsed().as_secs_f64(),
            "per_second": rate,
            "unit": "items",
            "errors": 0,
            "latency_us": latency,
            "counters": {},
            "said": text,
        }],
    }))
}

fn run(
    programs: &Programs,
    benchmark: &Path,
    port: u16,
    callers: u64,
    count: u64,
) -> Result<(f64, Value, String)> {
    let mut command = Command::new(benchmark);
    command.args([
        "-h",
        "127.0.0.1",
        "-p",
        &port.to_string(),
        "-t",
        "lpush",
        "-d",
        "100",
        "--csv",
    ]);
    command.args(["-c", &callers.to_string(), "-n", &count.to_string()]);
    let text = programs
        .text(&mut command, Duration::ZERO)
        .context("redis-benchmark")?;
    let (rate, latency) = parse(&text).with_context(|| format!("redis-benchmark says {text:?}"))?;
    Ok((rate, latency, text))
}

/// `"test","rps","avg_latency_ms","min_latency_ms","p50_latency_ms","p95...","p99...","max..."`, and
/// a line of these.
fn parse(text: &str) -> Option<(f64, Value)> {
    let line = text.lines().find(|line| line.starts_with("\"LPUSH"))?;
    let figures: Vec<f64> = line
        .split(',')
        .skip(1)
        .filter_map(|figure| figure.trim().trim_matches('"').parse().ok())
        .collect();
    let [rate, mean, _, p50, _, p99, max] = figures.as_slice() else {
        return None;
    };
    let us = |ms: &f64| ms * 1e3;
    Some((
        *rate,
        json!({ "mean": us(mean), "p50": us(p50), "p99": us(p99), "max": us(max) }),
    ))
}

#[cfg(test)]
mod tests {
    #[test]
    fn figures_are_read() {
        let text = "\"test\",\"rps\",\"avg_latency_ms\"\n\
            \"LPUSH\",\"4081.63\",\"0.240\",\"0.136\",\"0.215\",\"0.327\",\"0.743\",\"2.311\"\n";
        let (rate, latency) = super::parse(text).unwrap();
        assert_eq!(rate, 4081.63);
        assert_eq!(latency["p50"], 215.0);
        assert!(super::parse("LPUSH: 4081.63").is_none());
    }
}
