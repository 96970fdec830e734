//! Charts: throughput over time, latency by percentile, and the latencies of everything side by side.
//! Each is a group of SVG whose upper left corner is at 0,0.

use std::fmt::Write as _;

use super::super::result::{Row, Summary};
use super::super::table::number;
use super::axis::Axis;
use super::words::duration;
use super::{escaped, words};

/// The size of a chart.
pub(super) const WIDTH: f64 = 480.0;
pub(super) const HEIGHT: f64 = 230.0;

/// Where its lines are.
const LEFT: f64 = 62.0;
const RIGHT: f64 = WIDTH - 14.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = HEIGHT - 32.0;

/// The most steps that throughput over time has.
const STEPS: u64 = 60;

fn across(place: f64) -> f64 {
    LEFT + place * (RIGHT - LEFT)
}

fn up(place: f64) -> f64 {
    BOTTOM - place * (BOTTOM - TOP)
}

/// A title, the marks of the upright axis, and what the other one is.
fn frame(title: &str, marks: &[(f64, String)], below: &str) -> String {
    let mut svg = format!(
        "<text class=\"h\" x=\"0\" y=\"14\">{}</text>",
        escaped(title)
    );
    for (place, label) in marks {
        let y = up(*place);
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/>\
             <text class=\"e\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            LEFT - 8.0,
            y + 4.0,
            escaped(label),
        );
    }
    let _ = write!(
        svg,
        "<text class=\"e\" x=\"{RIGHT}\" y=\"{:.1}\">{}</text>",
        HEIGHT - 2.0,
        escaped(below)
    );
    svg
}

/// A mark on the axis that lies.
fn below(x: f64, label: &str) -> String {
    format!(
        "<path class=\"grid\" d=\"M{x:.1} {BOTTOM}v4\"/>\
         <text class=\"m\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
        BOTTOM + 16.0,
        escaped(label)
    )
}

fn path(points: &[(f64, f64)]) -> String {
    let mut path = String::new();
    for (index, (x, y)) in points.iter().enumerate() {
        let letter = if index == 0 { 'M' } else { 'L' };
        let _ = write!(path, "{letter}{x:.1} {y:.1}");
    }
    path
}

/// Operations a second over the time of each repeat.
pub(super) fn throughput(summary: &Summary<'_>, first: &Row) -> String {
    let rates: Vec<(f64, Vec<f64>)> = summary.rows.iter().map(|row| rates(row)).collect();
    let most = rates
        .iter()
        .flat_map(|(_, rates)| rates)
        .copied()
        .fold(0.0, f64::max);
    let longest = rates
        .iter()
        .map(|(seconds, _)| *seconds)
        .fold(0.0, f64::max);
    let (rate, time) = (Axis::linear(most), Axis::exactly(longest));
    let marks: Vec<_> = rate
        .marks()
        .into_iter()
        .map(|mark| (rate.place(mark), tick(mark)))
        .collect();
    let title = format!("Throughput over time, {} a second", first.spec.unit());
    let mut svg = frame(&title, &marks, "");
    for mark in time.marks().into_iter().filter(|mark| *mark <= longest) {
        svg.push_str(&below(across(time.place(mark)), &seconds(mark)));
    }
    for (whole, rates) in &rates {
        let step = whole / rates.len().max(1) as f64;
        let mut points = Vec::new();
        for (index, value) in rates.iter().enumerate() {
            let middle = (index as f64 + 0.5) * step;
            points.push((across(time.place(middle)), up(rate.place(*value))));
        }
        if let (1, Some(from), Some(to)) = (summary.rows.len(), points.first(), points.last()) {
            let line = path(&points);
            let (from, to) = (from.0, to.0);
            let _ = write!(
                svg,
                "<path class=\"area\" d=\"{line}L{to:.1} {BOTTOM}L{from:.1} {BOTTOM}Z\"/>"
            );
        }
        let thin = if summary.rows.len() > 1 { " thin" } else { "" };
        let _ = write!(svg, "<path class=\"rate{thin}\" d=\"{}\"/>", path(&points));
    }
    if summary.rows.len() > 1 {
        let y = up(rate.place(summary.spread(Row::per_second).median));
        let _ = write!(
            svg,
            "<path class=\"rate\" stroke-dasharray=\"6 4\" d=\"M{LEFT} {y:.1}H{RIGHT}\"/>"
        );
    }
    svg
}

/// How long a row took, and the rate in each of some equal parts of that.
fn rates(row: &Row) -> (f64, Vec<f64>) {
    // With a handful of operations in each step there would be nothing but noise.
    let steps = (row.measured.operations / 8).clamp(8, STEPS);
    let parts = row.parts(usize::try_from(steps).unwrap_or(1));
    let length = row.seconds / steps as f64;
    let rate = |count: &u64| {
        if length > 0.0 {
            *count as f64 / length
        } else {
            0.0
        }
    };
    (row.seconds, parts.iter().map(rate).collect())
}

/// Latencies by percentile, on an axis that gives every nine the same room.
pub(super) fn latency(summary: &Summary<'_>, first: &Row) -> String {
    let most_counted = summary.rows.iter().map(|row| row.histogram.len()).max();
    let nines = (most_counted.unwrap_or(1).max(10) as f64)
        .log10()
        .clamp(1.0, 5.0);
    let (least, most) = summary
        .rows
        .iter()
        .fold((f64::MAX, 0.0f64), |(least, most), row| {
            let lowest = row.quantile(0.0);
            (least.min(lowest), most.max(row.max()))
        });
    let axis = Axis::powers(least.min(most), most);
    let marks: Vec<_> = axis
        .marks()
        .into_iter()
        .map(|mark| (axis.place(mark), duration_mark(mark)))
        .collect();
    let title = format!("Latency by percentile: {}", first.spec.latency_of());
    let mut svg = frame(&title, &marks, "");
    for (place, label) in [
        (0.0, "fastest"),
        (std::f64::consts::LOG10_2, "p50"),
        (1.0, "p90"),
        (2.0, "p99"),
        (3.0, "p99.9"),
        (4.0, "p99.99"),
        (5.0, "p99.999"),
    ] {
        if place <= nines {
            svg.push_str(&below(across(place / nines), label));
        }
    }
    let thin = if summary.rows.len() > 1 { " thin" } else { "" };
    for row in summary.rows.iter().filter(|row| !row.histogram.is_empty()) {
        let points: Vec<_> = (0..=120)
            .map(|step| {
                let place = f64::from(step) / 120.0;
                let quantile = 1.0 - 10f64.powf(-place * nines);
                // The last point is the slowest of all.
                let value = if step == 120 {
                    row.max()
                } else {
                    row.quantile(quantile)
                };
                (across(place), up(axis.place(value)))
            })
            .collect();
        let _ = write!(svg, "<path class=\"time{thin}\" d=\"{}\"/>", path(&points));
    }
    for (nine, quantile) in [(std::f64::consts::LOG10_2, 0.5), (1.0, 0.9), (2.0, 0.99)] {
        if nine <= nines {
            let value = summary.spread(|row| row.quantile(quantile)).median;
            let _ = write!(
                svg,
                "<circle class=\"dot\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3.5\"/>",
                across(nine / nines),
                up(axis.place(value))
            );
        }
    }
    svg
}

/// How high the overview of so many things is.
pub(super) fn overview_height(count: usize) -> f64 {
    62.0 + 24.0 * count as f64
}

/// The latencies of everything, one below the other on one axis; `width` wide.
pub(super) fn overview(summaries: &[Summary<'_>], width: f64) -> String {
    let (left, right) = (200.0, width - 20.0);
    let most = summaries
        .iter()
        .map(|one| one.spread(Row::max).median)
        .fold(0.0, f64::max);
    let p50 = |one: &Summary<'_>| one.spread(|row| row.quantile(0.5)).median;
    let least = summaries.iter().map(p50).fold(f64::MAX, f64::min);
    let axis = Axis::powers(least.min(most), most);
    let at = |value: f64| left + axis.place(value) * (right - left);
    let bottom = overview_height(summaries.len()) - 24.0;
    let mut svg = String::from(
        "<text class=\"h\" x=\"0\" y=\"14\">Latencies: dot p50, bar to p90, pale to p99, line to the \
         slowest</text>",
    );
    for mark in axis.marks() {
        let x = at(mark);
        let _ = write!(
            svg,
            "<path class=\"grid\" d=\"M{x:.1} 28V{bottom}\"/>\
             <text class=\"m\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
            bottom + 16.0,
            escaped(&duration_mark(mark))
        );
    }
    for (index, summary) in summaries.iter().enumerate() {
        let Some(first) = summary.first() else {
            continue;
        };
        let y = 44.0 + 24.0 * index as f64;
        let time = |quantile: f64| at(summary.spread(|row| row.quantile(quantile)).median);
        let (p50, p90, p99) = (time(0.5), time(0.9), time(0.99));
        let max = at(summary.spread(Row::max).median);
        let _ = write!(
            svg,
            "<text class=\"e\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\
             <path class=\"time thin\" d=\"M{p50:.1} {y:.1}H{max:.1}\"/>\
             <rect class=\"pale\" x=\"{p50:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"8\"/>\
             <rect class=\"bar\" x=\"{p50:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"8\"/>\
             <circle class=\"dot\" cx=\"{p50:.1}\" cy=\"{y:.1}\" r=\"4\"/>",
            left - 14.0,
            y + 4.0,
            escaped(&words::title(first)),
            y - 4.0,
            p99 - p50,
            y - 4.0,
            p90 - p50,
        );
    }
    svg
}

/// A mark of a rate.
fn tick(value: f64) -> String {
    if value == 0.0 {
        "0".to_owned()
    } else if value < 100.0 && value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        number(value)
    }
}

fn seconds(value: f64) -> String {
    if value == 0.0 {
        "0 s".to_owned()
    } else if value < 0.01 {
        format!("{:.1} ms", value * 1e3)
    } else if value < 1.0 {
        format!("{:.0} ms", value * 1e3)
    } else if value.fract() == 0.0 {
        format!("{value:.0} s")
    } else {
        format!("{value:.1} s")
    }
}

/// A power of ten of microseconds.
fn duration_mark(us: f64) -> String {
    if us < 0.95 {
        return format!("{:.0} ns", us * 1e3);
    }
    let text = duration(us);
    text.replace(".00", "").replace(".0", "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_short() {
        assert_eq!(duration_mark(1.0), "1 \u{b5}s");
        assert_eq!(duration_mark(100.0), "100 \u{b5}s");
        assert_eq!(duration_mark(10_000.0), "10 ms");
        assert_eq!(duration_mark(0.1), "100 ns");
        assert_eq!(tick(2_500.0), "2,500");
        assert_eq!(tick(25.0), "25");
        assert_eq!(tick(0.5), "0.5");
        assert_eq!(seconds(0.25), "250 ms");
        assert_eq!(seconds(1.5), "1.5 s");
    }
}
