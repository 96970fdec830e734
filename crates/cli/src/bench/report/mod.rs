//! `--report FILE`: a page (`.html`) or a picture (`.svg`) for others to read: what was measured, on
//! what, how fast it was over time and how long operations took. One file that needs no network and no
//! script, light or dark as its reader prefers, and fit to be printed.

mod axis;
mod html;
mod plot;
mod style;
mod svg;
mod words;

use std::path::{Path, PathBuf};

use super::result::Results;
use crate::failure::{Failure, Result};
use crate::written;

/// What a report is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Html,
    Svg,
}

/// A report to be.
#[derive(Debug)]
pub(crate) struct Report {
    path: PathBuf,
    kind: Kind,
}

impl Report {
    /// Refuses what cannot be written before anything is measured.
    pub(crate) fn new(path: &Path) -> Result<Report> {
        let extension = path.extension().and_then(|extension| extension.to_str());
        let kind = match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("html" | "htm") => Kind::Html,
            Some("svg") => Kind::Svg,
            _ => {
                return Err(Failure::usage(format!(
                    "a report is a page or a picture, and {} is neither",
                    path.display()
                ))
                .hint("--report FILE.html or --report FILE.svg"));
            }
        };
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        if !folder.is_dir() {
            return Err(Failure::usage(format!("cannot write {}", path.display()))
                .cause(format!("{} is no directory", folder.display())));
        }
        Ok(Report {
            path: written::destination(path)?,
            kind,
        })
    }

    /// Writes it.
    pub(crate) fn write(&self, results: &Results) -> Result<()> {
        let text = match self.kind {
            Kind::Html => html::page(results),
            Kind::Svg => svg::picture(results),
        };
        std::fs::write(&self.path, text).map_err(|error| {
            Failure::failed(format!("cannot write {}", self.path.display())).because(&error)
        })
    }
}

/// Text, fit to stand between tags and in attributes.
fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            // Not allowed in XML at all.
            letter if letter.is_control() => safe.push(' '),
            letter => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::super::spec::{Case, Workload};
    use super::*;

    fn parsed(text: &str) -> roxmltree::Document<'_> {
        let options = roxmltree::ParsingOptions {
            allow_dtd: true,
            ..roxmltree::ParsingOptions::default()
        };
        roxmltree::Document::parse_with_options(text, options).unwrap()
    }

    /// What is written is well-formed, and nothing in it points out of the file or runs.
    fn check(text: &str) {
        for element in parsed(text)
            .descendants()
            .filter(roxmltree::Node::is_element)
        {
            let name = element.tag_name().name();
            assert!(
                !["script", "link", "img", "image", "use"].contains(&name),
                "{name}"
            );
            for attribute in element.attributes() {
                let (name, value) = (attribute.name(), attribute.value());
                assert!(!name.starts_with("on") && name != "src", "{name}");
                assert!(name != "href" || value.starts_with('#'), "{value}");
                assert!(
                    !value.contains("NaN") && !value.contains("inf"),
                    "{name}={value}"
                );
            }
        }
        assert!(!text.contains("@import") && !text.contains("url("));
        assert!(text.contains("prefers-color-scheme:dark"));
    }

    #[test]
    fn pages_and_pictures_are_well_formed() {
        let one = samples::row(&samples::spec(Workload::Stm, Case::Bank), 1);
        let spec = samples::spec(Workload::Lock, Case::Cycle);
        let nothing = super::super::meter::Measured::default();
        let none = super::super::result::Row::new(&spec, 1, 0, 0, nothing);
        for results in [
            samples::everything(),
            samples::results(vec![one]),
            samples::results(vec![none]),
        ] {
            check(&html::page(&results));
            check(&svg::picture(&results));
        }
    }

    #[test]
    fn a_page_tells_what_was_measured_on_what() {
        let results = samples::everything();
        for text in [html::page(&results), svg::picture(&results)] {
            let document = parsed(&text);
            let words: String = document
                .descendants()
                .filter_map(|node| node.text())
                .collect();
            for expected in [
                "8 workloads on etcd <3.5.1>",
                "etcd <3.5.1>, 8 nodes",
                "2 CPUs, 24.0 GiB of memory, Linux 6.1, data on ext4",
                "https://host-1.example:2379, https://host-2",
                "Priority queue: transfer",
                "1,000",
                "250 ms",
                "an item got <lost>",
                "Throughput over time, transfers a second",
                "Latency by percentile: a put",
            ] {
                assert!(words.contains(expected), "{expected}");
            }
        }
    }

    #[test]
    fn other_files_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("folder.html");
        std::fs::create_dir(&folder).unwrap();
        let folder = folder.to_str().unwrap();
        for (path, words) in [
            (folder, "it is a directory"),
            ("report.pdf", "--report FILE.html"),
            ("report", "--report FILE.html"),
            (
                "/no/such/folder/report.html",
                "/no/such/folder is no directory",
            ),
        ] {
            let refused = Report::new(Path::new(path)).unwrap_err();
            assert_eq!(refused.exit.code(), 2);
            let text = refused.render(crate::args::Format::Text);
            assert!(text.contains(words), "{text}");
        }
        assert_eq!(Report::new(Path::new("a.HTML")).unwrap().kind, Kind::Html);
        assert_eq!(Report::new(Path::new("a.svg")).unwrap().kind, Kind::Svg);
    }
}
