//! Charts for a terminal, in plain characters and 80 columns: throughput over time when one thing was
//! measured, and the latencies of everything on one axis.

use super::result::{Results, Row, Summary};
use super::table::{WIDTH, duration, number};

/// How much room names have.
const NAMES: usize = 24;

/// The charts' lines.
pub(super) fn lines(results: &Results) -> Vec<String> {
    let summaries = results.summaries();
    let mut lines = Vec::new();
    if let [one] = summaries.as_slice()
        && let Some(row) = one.first()
    {
        lines.extend(throughput(row));
        lines.push(String::new());
    }
    lines.extend(latencies(&summaries));
    lines
}

/// How many lines throughput over time has.
const LINES: usize = 6;

/// How many steps.
const STEPS: usize = 56;

/// Operations a second over time: a column of `#` for each part of the run.
fn throughput(row: &Row) -> Vec<String> {
    let most_steps = usize::try_from(row.measured.operations / 4).unwrap_or(STEPS);
    let steps = most_steps.clamp(7, STEPS);
    let wide = STEPS / steps;
    let parts = row.parts(steps);
    let length = row.seconds / steps as f64;
    let most = parts.iter().copied().max().unwrap_or(0).max(1);
    let top = if length > 0.0 {
        most as f64 / length
    } else {
        0.0
    };
    let mut lines = vec![format!("{} a second over time", row.spec.unit())];
    for line in (1..=LINES).rev() {
        // A column stands in a line if it fills at least half of it.
        let needed = (line as f64 - 0.5) / LINES as f64 * most as f64;
        let mark = match line {
            LINES => number(top),
            1 => "0".to_owned(),
            _ => String::new(),
        };
        let mut text = format!("{mark:>22} |");
        for part in &parts {
            let letter = if *part as f64 >= needed { "#" } else { " " };
            text.push_str(&letter.repeat(wide));
        }
        lines.push(text.trim_end().to_owned());
    }
    let right = format!("{:.1}s", row.seconds);
    let width = (wide * steps).saturating_sub(right.len() + 1);
    lines.push(format!("{:>22} +{}", "", "-".repeat(wide * steps)));
    lines.push(format!("{:>24}0{:>width$}{right}", "", ""));
    lines
}

/// The latencies of everything: `[` at p50, `]` at p90, `|` at p99, `x` at the slowest.
fn latencies(summaries: &[Summary<'_>]) -> Vec<String> {
    let median = |one: &Summary<'_>, of: &dyn Fn(&Row) -> f64| one.spread(of).median;
    let least = summaries
        .iter()
        .map(|one| median(one, &|row| row.quantile(0.5)));
    let least = least.fold(f64::MAX, f64::min).max(0.1).log10().floor();
    let most = summaries
        .iter()
        .map(|one| median(one, &Row::max))
        .fold(0.1, f64::max);
    let most = most.log10().ceil().max(least + 1.0);
    let room = WIDTH - NAMES - 2;
    let at = |us: f64| {
        let place = (us.max(0.1).log10() - least) / (most - least);
        ((place * (room - 1) as f64).round() as usize).min(room - 1)
    };
    let mut lines = vec!["latency: [ p50  ] p90  | p99  x slowest".to_owned()];
    for summary in summaries {
        let Some(first) = summary.first() else {
            continue;
        };
        let mut letters = vec![' '; room];
        let p50 = at(median(summary, &|row| row.quantile(0.5)));
        let p90 = at(median(summary, &|row| row.quantile(0.9)));
        let p99 = at(median(summary, &|row| row.quantile(0.99)));
        let max = at(median(summary, &Row::max));
        for (index, letter) in letters.iter_mut().enumerate() {
            // Where several fall together, the first of them shows.
            *letter = match index {
                index if index == p50 => '[',
                index if index == p90 => ']',
                index if index == p99 => '|',
                index if index == max => 'x',
                index if index > p50 && index < p90 => '=',
                index if index > p90 && index < p99 => '-',
                index if index > p99 && index < max => '.',
                _ => ' ',
            };
        }
        let letters: String = letters.into_iter().collect();
        lines.push(
            format!("{:<NAMES$}  {letters}", first.title())
                .trim_end()
                .to_owned(),
        );
    }
    let mut ruler = vec![' '; room];
    let mut power = least;
    while power <= most {
        let mark = duration(10f64.powf(power))
            .replace(".00", "")
            .replace(".0", "");
        let place = at(10f64.powf(power));
        // The last one ends where the axis does.
        let start = place.min(room.saturating_sub(mark.len()));
        for (letter, to) in mark.chars().zip(ruler.iter_mut().skip(start)) {
            *to = letter;
        }
        power += 1.0;
    }
    let ruler: String = ruler.into_iter().collect();
    lines.push(format!("{:<NAMES$}  {ruler}", "").trim_end().to_owned());
    lines
}
