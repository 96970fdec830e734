//! The table that a terminal shows: 80 columns, two lines for each thing that was measured.

use super::chart;
use super::result::{Results, Row, Summary};

/// What everything fits into.
pub(crate) const WIDTH: usize = 80;

/// The whole text.
pub(crate) fn text(results: &Results) -> String {
    let mut lines = head(results);
    lines.push(String::new());
    lines.push(format!(
        "{:<24}{:>19}{:>8}{:>8}{:>8}{:>8}{:>5}",
        "", "per second", "p50", "p90", "p99", "max", "err"
    ));
    for summary in results.summaries() {
        lines.extend(rows(&summary));
    }
    lines.push(String::new());
    lines.extend(chart::lines(results));
    lines.join("\n")
}

fn head(results: &Results) -> Vec<String> {
    let server = &results.server;
    let nodes = match server.nodes {
        1 => "1 node".to_owned(),
        many => format!("{many} nodes"),
    };
    let machine = &results.machine;
    let memory = machine
        .memory
        .map(|bytes| format!(", {:.1} GiB", bytes as f64 / f64::from(1 << 30)));
    let files = machine
        .file_system
        .as_ref()
        .map(|name| format!(", data on {name}"));
    vec![
        cut(format!("{} ({nodes}) at {}", server.server, server.address)),
        cut(format!(
            "synod {}, {} CPUs{}, {}{}",
            env!("CARGO_PKG_VERSION"),
            machine.cpus,
            memory.unwrap_or_default(),
            machine.os,
            files.unwrap_or_default(),
        )),
    ]
}

fn cut(line: String) -> String {
    if line.chars().count() <= WIDTH {
        return line;
    }
    let mut cut: String = line.chars().take(WIDTH - 3).collect();
    cut.push_str("...");
    cut
}

fn rows(summary: &Summary<'_>) -> Vec<String> {
    let Some(first) = summary.first() else {
        return Vec::new();
    };
    let rate = summary.spread(Row::per_second);
    let time = |of: &dyn Fn(&Row) -> f64| duration(summary.spread(of).median);
    let mut lines = vec![format!(
        "{:<24}{:>19}{:>8}{:>8}{:>8}{:>8}{:>5}",
        first.title(),
        format!("{} {}", number(rate.median), first.spec.unit()),
        time(&|row| row.quantile(0.5)),
        time(&|row| row.quantile(0.9)),
        time(&|row| row.quantile(0.99)),
        time(&Row::max),
        short(summary.errors()),
    )];
    lines.extend(wrapped(&details(summary, first)));
    lines
}

/// What else there is to say: parameters, spread, counters.
pub(crate) fn details(summary: &Summary<'_>, first: &Row) -> Vec<String> {
    let mut words = vec![first.spec.brief()];
    if summary.rows.len() > 1 {
        let rate = summary.spread(Row::per_second);
        words.push(format!(
            "median of {} runs, {} to {}",
            summary.rows.len(),
            number(rate.min),
            number(rate.max)
        ));
    }
    if first.spec.rate.is_some() {
        let late = summary.counter("late").unwrap_or(0);
        words.push(format!("open loop, {late} began late"));
    }
    if let Some(attempts) = summary.counter("attempts") {
        let operations: u64 = summary.rows.iter().map(|row| row.measured.operations).sum();
        let each = attempts as f64 / operations.max(1) as f64;
        words.push(format!("{each:.2} attempts each"));
    }
    if let Some(lost) = summary.counter("lost_claims") {
        words.push(format!("{lost} lost claims"));
    }
    words
}

/// Words with `; ` between them, in lines that fit.
fn wrapped(words: &[String]) -> Vec<String> {
    let words: Vec<&str> = words
        .iter()
        .map(String::as_str)
        .filter(|word| !word.is_empty())
        .collect();
    let mut lines: Vec<String> = Vec::new();
    for word in words.join("; ").split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + word.chars().count() < WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(cut(format!("  {word}"))),
        }
    }
    lines
}

/// `12,345`, and `12.3` when it is small.
pub(crate) fn number(value: f64) -> String {
    if value < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// In at most 4 characters.
fn short(count: u64) -> String {
    match count {
        0..=9_999 => count.to_string(),
        10_000..=999_999 => format!("{}k", count / 1_000),
        _ => "many".to_owned(),
    }
}

/// Microseconds in three figures: `950us`, `1.23ms`, `45.6s`.
pub(crate) fn duration(us: f64) -> String {
    let (value, unit) = if us < 999.5 {
        (us, "us")
    } else if us < 999_500.0 {
        (us / 1e3, "ms")
    } else {
        (us / 1e6, "s")
    };
    if value < 9.995 {
        format!("{value:.2}{unit}")
    } else if value < 99.95 {
        format!("{value:.1}{unit}")
    } else {
        format!("{value:.0}{unit}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::super::spec::{Case, Workload};
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(number(0.0), "0.0");
        assert_eq!(number(99.94), "99.9");
        assert_eq!(number(1_234.4), "1,234");
        assert_eq!(number(1_234_567.0), "1,234,567");
        assert_eq!(number(100.0), "100");
        assert_eq!(duration(0.5), "0.50us");
        assert_eq!(duration(999.6), "1.00ms");
        assert_eq!(duration(45_600.0), "45.6ms");
        assert_eq!(duration(123_456_789.0), "123s");
        assert_eq!(short(10_000), "10k");
    }

    #[test]
    fn everything_fits_into_80_columns() {
        let whole = text(&samples::everything());
        let one = samples::row(&samples::spec(Workload::PriorityQueue, Case::Transfer), 1);
        let single = text(&samples::results(vec![one]));
        for line in whole.lines().chain(single.lines()) {
            assert!(line.chars().count() <= WIDTH, "{line}");
            assert_eq!(line.trim_end(), line);
            assert!(line.is_ascii(), "{line}");
        }
        assert!(
            whole.contains("priority-queue/transfer         1,000 items   250ms"),
            "{whole}"
        );
        assert!(
            whole.contains("median of 2 runs, 1,000 to 1,000"),
            "{whole}"
        );
        assert!(whole.contains("14 began late"), "{whole}");
        // Throughput over time is shown of a single thing alone.
        assert!(!whole.contains("over time"), "{whole}");
        assert!(single.contains("items a second over time"), "{single}");
        assert!(single.contains("#####"), "{single}");
    }

    #[test]
    fn what_completed_nothing_is_shown_all_the_same() {
        let spec = samples::spec(Workload::Lock, Case::Cycle);
        let none = Row::new(&spec, 1, 0, 0, crate::bench::meter::Measured::default());
        let text = text(&samples::results(vec![none]));
        assert!(text.contains("lock/cycle"), "{text}");
        assert!(
            text.lines().all(|line| line.chars().count() <= WIDTH),
            "{text}"
        );
    }
}
