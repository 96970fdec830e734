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
            path: path.to_owned(),
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
