//! What is read off a result, and whether it is good enough.

use serde_json::Value;

use super::rows::Who;

/// What is read off a row that a program printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Metric {
    /// Operations a second.
    Rate,
    /// A latency, in microseconds: `p50` and so on.
    Latency(&'static str),
    /// A counter, for each operation.
    Each(&'static str),
    /// A counter for each of another: both count from the program's begin to its end, warm-up included,
    /// where operations are only those that were measured.
    Per(&'static str, &'static str),
    /// How many times the p50 the p99 is.
    Tail,
    /// Bytes resident.
    Memory,
}

impl Metric {
    /// The figure; `None` when the program does not tell it.
    pub(super) fn of(self, row: &Value) -> Option<f64> {
        let number = |path: &str| row.pointer(path)?.as_f64();
        let positive = |value: f64| (value > 0.0).then_some(value);
        match self {
            Metric::Rate => number("/per_second").and_then(positive),
            Metric::Latency(which) => number(&format!("/latency_us/{which}")).and_then(positive),
            Metric::Each(counter) => {
                let operations = number("/operations").and_then(positive)?;
                Some(number(&format!("/counters/{counter}"))? / operations)
            }
            Metric::Per(counter, other) => {
                let others = number(&format!("/counters/{other}")).and_then(positive)?;
                Some(number(&format!("/counters/{counter}"))? / others)
            }
            Metric::Tail => {
                let middle = number("/latency_us/p50").and_then(positive)?;
                Some(number("/latency_us/p99")? / middle)
            }
            Metric::Memory => number("/counters/resident_bytes").and_then(positive),
        }
    }

    fn more_is_better(self) -> bool {
        self == Metric::Rate
    }

    /// As it stands in a table.
    pub(super) fn show(self, value: f64) -> String {
        match self {
            Metric::Rate => format!("{}/s", significant(value)),
            Metric::Latency(_) => format!("{} ms", significant(value / 1e3)),
            Metric::Each(_) | Metric::Per(..) | Metric::Tail => significant(value),
            Metric::Memory => format!("{} MiB", significant(value / f64::from(1 << 20))),
        }
    }
}

/// What a figure is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    /// Another contestant of the same row.
    Who(Who),
    /// Our own figure in another row.
    Row(&'static str),
    /// Our own best figure in these rows.
    Best(&'static [&'static str]),
}

/// What is to be reached.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Goal {
    /// At least so many times as good: more operations, or less time.
    Times(Base, f64),
    /// At most so many times the figure: of time, or memory.
    Within(Base, f64),
    /// At most this.
    Most(f64),
}

impl Goal {
    pub(super) fn base(&self) -> Option<Base> {
        match self {
            Goal::Times(base, _) | Goal::Within(base, _) => Some(*base),
            Goal::Most(_) => None,
        }
    }

    /// The ratio that the goal is about, and whether it is reached.
    pub(super) fn judge(
        &self,
        metric: Metric,
        ours: f64,
        base: Option<f64>,
    ) -> Option<(f64, bool)> {
        match *self {
            Goal::Most(most) => Some((ours, ours <= most)),
            Goal::Within(_, most) => {
                let ratio = ours / base?;
                Some((ratio, ratio <= most))
            }
            Goal::Times(_, least) => {
                let base = base?;
                let ratio = if metric.more_is_better() {
                    ours / base
                } else {
                    base / ours
                };
                Some((ratio, ratio >= least))
            }
        }
    }

    /// In words.
    pub(super) fn show(&self) -> String {
        match self {
            Goal::Times(base, least) => format!("≥ {}x {}", significant(*least), base.show()),
            Goal::Within(base, most) => format!("≤ {}x {}", significant(*most), base.show()),
            Goal::Most(most) => format!("≤ {}", significant(*most)),
        }
    }
}

impl Base {
    pub(super) fn show(&self) -> String {
        match self {
            Base::Who(Who::Go) => "Go".to_string(),
            Base::Who(Who::Redis) => "Redis".to_string(),
            Base::Who(who) => who.name().to_string(),
            Base::Row(name) => name
                .rsplit('-')
                .next()
                .map_or_else(String::new, |d| format!("at {d}")),
            Base::Best(_) => "the best".to_string(),
        }
    }
}

/// Three digits, with a comma between thousands.
pub(super) fn significant(value: f64) -> String {
    if value == 0.0 {
        return "0".to_string();
    }
    let digits = value.abs().log10().floor() as i32;
    let decimals = usize::try_from(2 - digits).unwrap_or(0);
    let scale = 10f64.powi(digits - 2);
    let text = format!("{:.decimals$}", (value / scale).round() * scale);
    let (whole, rest) = text.split_once('.').unwrap_or((&text, ""));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let rest = rest.trim_end_matches('0');
    if !rest.is_empty() {
        grouped.push('.');
        grouped.push_str(rest);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn figures_have_three_digits() {
        for (value, text) in [
            (0.0, "0"),
            (0.123_45, "0.123"),
            (1.5, "1.5"),
            (12.345, "12.3"),
            (999.6, "1,000"),
            (123.4, "123"),
            (29_412.0, "29,400"),
            (1_234_567.0, "1,230,000"),
        ] {
            assert_eq!(significant(value), text);
        }
    }

    #[test]
    fn goals_know_what_is_better() {
        let go = Base::Who(Who::Go);
        let times = Goal::Times(go, 10.0);
        assert_eq!(
            times.judge(Metric::Rate, 1000.0, Some(100.0)),
            Some((10.0, true))
        );
        assert_eq!(
            times.judge(Metric::Rate, 900.0, Some(100.0)),
            Some((9.0, false))
        );
        let latency = Metric::Latency("p50");
        assert_eq!(times.judge(latency, 5.0, Some(100.0)), Some((20.0, true)));
        assert_eq!(times.judge(latency, 5.0, None), None);
        let within = Goal::Within(go, 1.5);
        assert_eq!(within.judge(latency, 3.0, Some(2.0)), Some((1.5, true)));
        assert_eq!(within.judge(latency, 4.0, Some(2.0)), Some((2.0, false)));
        assert_eq!(
            Goal::Most(3.0).judge(Metric::Tail, 4.0, None),
            Some((4.0, false))
        );
    }

    #[test]
    fn what_a_program_does_not_tell_is_no_figure() {
        let row = json!({
            "operations": 10, "per_second": 5.0,
            "latency_us": {"p50": 2.0, "p99": 8.0}, "counters": {"attempts": 25},
        });
        assert_eq!(Metric::Rate.of(&row), Some(5.0));
        assert_eq!(Metric::Each("attempts").of(&row), Some(2.5));
        assert_eq!(Metric::Each("lost_claims").of(&row), None);
        assert_eq!(Metric::Per("lost_claims", "attempts").of(&row), None);
        assert_eq!(Metric::Per("attempts", "lost_claims").of(&row), None);
        assert_eq!(Metric::Per("attempts", "attempts").of(&row), Some(1.0));
        assert_eq!(Metric::Tail.of(&row), Some(4.0));
        assert_eq!(Metric::Memory.of(&row), None);
    }
}
