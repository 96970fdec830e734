//! The page: facts, a table, an overview, and for each thing its figures and two charts.

use std::fmt::Write as _;

use super::super::result::{Results, Row, Summary};
use super::super::table::number;
use super::{escaped, plot, style, words};

/// The whole page.
pub(super) fn page(results: &Results) -> String {
    let summaries = results.summaries();
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <title>{title}</title>\n<style>\n{}{}</style>\n</head>\n<body>\n<main>\n\
         <header>\n<h1>{title}</h1>\n\
         <p class=\"soft\">Throughput and latency of coordination primitives, measured by \
         <code>synod bench</code>.</p>\n",
        style::CHARTS,
        style::PAGE,
        title = escaped(&heading(results)),
    );
    html.push_str("<dl>\n");
    for (name, value) in words::facts(results) {
        let _ = writeln!(html, "<dt>{name}</dt><dd>{}</dd>", escaped(&value));
    }
    html.push_str("</dl>\n</header>\n");
    if summaries.len() > 1 {
        html.push_str(&table(&summaries));
        let height = plot::overview_height(summaries.len());
        let _ = write!(
            html,
            "<section>\n<svg viewBox=\"0 0 1000 {height}\" role=\"img\" aria-label=\"Latencies of \
             everything\">{}</svg>\n</section>\n",
            plot::overview(&summaries, 1_000.0)
        );
    }
    for (index, summary) in summaries.iter().enumerate() {
        if let Some(first) = summary.first() {
            html.push_str(&card(index, summary, first));
        }
    }
    html.push_str(
        "<footer>p99: 99 of 100 operations took no longer. With repeats, figures are medians, thin \
         lines the single runs, and the dashed line their median. Every run was checked while it \
         was measured: no item lost or given out twice, no lock held twice, no money made.\
         </footer>\n</main>\n</body>\n</html>\n",
    );
    html
}

/// What the report is about, in a line.
pub(super) fn heading(results: &Results) -> String {
    let mut workloads: Vec<&str> = Vec::new();
    for row in &results.rows {
        let name = words::name(row.spec.workload);
        if !workloads.contains(&name) {
            workloads.push(name);
        }
    }
    let what = match workloads.as_slice() {
        [one] => (*one).to_owned(),
        many => format!("{} workloads", many.len()),
    };
    format!("{what} on {}", results.server.server)
}

fn table(summaries: &[Summary<'_>]) -> String {
    let mut html = String::from(
        "<table>\n<thead><tr><th>Workload</th><th>Per second</th><th>p50</th><th>p90</th>\
         <th>p99</th><th>max</th><th>Errors</th></tr></thead>\n<tbody>\n",
    );
    for (index, summary) in summaries.iter().enumerate() {
        let Some(first) = summary.first() else {
            continue;
        };
        let _ = writeln!(
            html,
            "<tr><td><a href=\"#w{index}\">{}</a> <small>{}</small></td><td>{} \
             <small>{}</small></td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escaped(&words::title(first)),
            escaped(&first.spec.brief()),
            number(summary.spread(Row::per_second).median),
            first.spec.unit(),
            time(summary, 0.5),
            time(summary, 0.9),
            time(summary, 0.99),
            words::duration(summary.spread(Row::max).median),
            summary.errors(),
        );
    }
    html.push_str("</tbody>\n</table>\n");
    html
}

fn time(summary: &Summary<'_>, quantile: f64) -> String {
    words::duration(summary.spread(|row| row.quantile(quantile)).median)
}

fn card(index: usize, summary: &Summary<'_>, first: &Row) -> String {
    let mut html = format!(
        "<section id=\"w{index}\">\n<h2>{}</h2>\n<p class=\"soft\">{}</p>\n\
         <p class=\"params\">{}</p>\n",
        escaped(&words::title(first)),
        words::about(first),
        escaped(&words::parameters(summary, first)),
    );
    if let Some(trouble) = words::trouble(summary) {
        let _ = writeln!(html, "<p class=\"bad\">{}</p>", escaped(&trouble));
    }
    html.push_str("<div class=\"figures\">");
    let rate = format!("{} a second", first.spec.unit());
    for (value, name) in [
        (
            number(summary.spread(Row::per_second).median),
            rate.as_str(),
        ),
        (time(summary, 0.5), "p50"),
        (time(summary, 0.9), "p90"),
        (time(summary, 0.99), "p99"),
        (words::duration(summary.spread(Row::max).median), "slowest"),
        (summary.errors().to_string(), "errors"),
    ] {
        let _ = write!(
            html,
            "<div><b>{}</b><span>{name}</span></div>",
            escaped(&value)
        );
    }
    html.push_str("</div>\n<div class=\"charts\">\n");
    for (label, chart) in [
        ("Throughput over time", plot::throughput(summary, first)),
        ("Latency by percentile", plot::latency(summary, first)),
    ] {
        let _ = writeln!(
            html,
            "<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{label}\">{chart}</svg>",
            plot::WIDTH,
            plot::HEIGHT,
        );
    }
    html.push_str("</div>\n</section>\n");
    html
}
