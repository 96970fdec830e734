//! The picture: the same as the page, for where only a picture can stand.

use std::fmt::Write as _;

use super::super::result::{Results, Row, Summary};
use super::super::table::number;
use super::{escaped, html, plot, style, words};

const WIDTH: f64 = 1_060.0;
const EDGE: f64 = 30.0;

/// How high the part of one thing is.
const CARD: f64 = 372.0;

/// About how many letters of the usual size fit into a line.
const LETTERS: usize = 165;

/// The whole picture.
pub(super) fn picture(results: &Results) -> String {
    let summaries = results.summaries();
    let mut body = format!(
        "<text style=\"font-size:22px;font-weight:650;fill:var(--ink)\" x=\"{EDGE}\" y=\"48\">{}</text>",
        escaped(&html::heading(results))
    );
    let mut y = 76.0;
    for (name, value) in words::facts(results) {
        let _ = write!(
            body,
            "<text style=\"font-size:13px\" x=\"{EDGE}\" y=\"{y}\">{name}</text>\
             <text style=\"font-size:13px;fill:var(--ink)\" x=\"{}\" y=\"{y}\">{}</text>",
            EDGE + 90.0,
            escaped(&cut(&value, 125)),
        );
        y += 20.0;
    }
    y += 8.0;
    if summaries.len() > 1 {
        let _ = write!(
            body,
            "<g transform=\"translate({EDGE} {y})\">{}</g>",
            plot::overview(&summaries, WIDTH - 2.0 * EDGE)
        );
        y += plot::overview_height(summaries.len()) + 20.0;
    }
    for summary in &summaries {
        if let Some(first) = summary.first() {
            let _ = write!(
                body,
                "<g transform=\"translate({EDGE} {y})\">{}</g>",
                card(summary, first)
            );
            y += CARD + 16.0;
        }
    }
    let height = y + 14.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {WIDTH} {height}\">\n<title>{}</title>\n<style>\n{}</style>\n\
         <rect width=\"100%\" height=\"100%\" style=\"fill:var(--paper)\"/>\n{body}\n</svg>\n",
        escaped(&html::heading(results)),
        style::CHARTS,
    )
}

fn card(summary: &Summary<'_>, first: &Row) -> String {
    let width = WIDTH - 2.0 * EDGE;
    let mut svg = format!(
        "<rect width=\"{width}\" height=\"{CARD}\" rx=\"10\" \
         style=\"fill:var(--card);stroke:var(--line)\"/>\
         <text style=\"font-size:16px;font-weight:650;fill:var(--ink)\" x=\"20\" y=\"30\">{}</text>\
         <text x=\"20\" y=\"48\">{}</text>",
        escaped(&words::title(first)),
        escaped(&cut(&words::parameters(summary, first), LETTERS)),
    );
    let second = match words::trouble(summary) {
        Some(trouble) => ("var(--bad)", trouble),
        None => ("var(--soft)", words::about(first).to_owned()),
    };
    let _ = write!(
        svg,
        "<text style=\"fill:{}\" x=\"20\" y=\"64\">{}</text>",
        second.0,
        escaped(&cut(&second.1, LETTERS))
    );
    let time = |quantile: f64| words::duration(summary.spread(|row| row.quantile(quantile)).median);
    let rate = format!("{} a second", first.spec.unit());
    let figures = [
        (
            number(summary.spread(Row::per_second).median),
            rate.as_str(),
        ),
        (time(0.5), "p50"),
        (time(0.9), "p90"),
        (time(0.99), "p99"),
        (words::duration(summary.spread(Row::max).median), "slowest"),
        (summary.errors().to_string(), "errors"),
    ];
    let mut x = 20.0;
    for (value, name) in figures {
        let _ = write!(
            svg,
            "<text style=\"font-size:19px;font-weight:650;fill:var(--ink)\" x=\"{x}\" y=\"96\">{}</text>\
             <text x=\"{x}\" y=\"112\">{name}</text>",
            escaped(&value)
        );
        x += if x < 100.0 { 160.0 } else { 120.0 };
    }
    let _ = write!(
        svg,
        "<g transform=\"translate(20 130)\">{}</g><g transform=\"translate({} 130)\">{}</g>",
        plot::throughput(summary, first),
        width - plot::WIDTH - 8.0,
        plot::latency(summary, first),
    );
    svg
}

fn cut(text: &str, letters: usize) -> String {
    if text.chars().count() <= letters {
        return text.to_owned();
    }
    let mut cut: String = text.chars().take(letters.saturating_sub(1)).collect();
    cut.push('\u{2026}');
    cut
}
