//! House rules that no compiler checks: each Rust file begins with what it is for, none is so long
//! that it should have been a folder, and the READMEs are in step.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::steps::root;

/// More lines than this, without the tests at their end, ask for a folder.
const LONGEST: usize = 600;

/// The same for files of tests, which are lists rather than machines.
const LONGEST_TESTS: usize = 800;

/// Checks every Rust file that people wrote.
pub(crate) fn check() -> Result<()> {
    let root = root()?;
    let mut files = Vec::new();
    for directory in ["crates", "peers/floor", "tests", "xtask"] {
        collect(&root.join(directory), &mut files)?;
    }
    let mut findings = Vec::new();
    for path in &files {
        let name = path.strip_prefix(&root).unwrap_or(path);
        let is_test = name.components().any(|part| part.as_os_str() == "tests");
        let longest = if is_test { LONGEST_TESTS } else { LONGEST };
        let name = name.display();
        let text = fs::read_to_string(path)?;
        findings.extend(
            judge(&text, longest)
                .into_iter()
                .map(|finding| format!("  {name}: {finding}")),
        );
    }
    let english = fs::read_to_string(root.join("README.md"))?;
    let chinese = fs::read_to_string(root.join("README.zh.md"))?;
    if let Some((ours, theirs)) = out_of_step(&english, &chinese) {
        findings.push(format!(
            "  README.md and README.zh.md are out of step: {ours:?} stands beside {theirs:?}"
        ));
    }
    if !findings.is_empty() {
        bail!("\n{}", findings.join("\n"));
    }
    println!("    {} files", files.len());
    Ok(())
}

fn judge(text: &str, longest: usize) -> Vec<String> {
    let mut findings = Vec::new();
    let head = text.lines().find(|line| !line.trim().is_empty());
    // A page of its own that is included says it as well.
    let says = |line: &str| line.starts_with("//!") || line.starts_with("#![doc = include_str!(");
    if !head.is_some_and(says) {
        findings.push("does not begin with a //! line that says what it is for".to_string());
    }
    let is_code = |line: &&str| *line != "#[cfg(test)]";
    let lines = text.lines().take_while(is_code).count();
    if lines > longest {
        findings.push(format!(
            "{lines} lines, more than {longest}: make it a folder"
        ));
    }
    findings
}

/// What two versions of a text in different languages have in common, line by line: headings by
/// their level, tables by their rows' links, and what stands in code blocks without comments. The
/// first pair that differs.
fn out_of_step(ours: &str, theirs: &str) -> Option<(String, String)> {
    let (ours, theirs) = (skeleton(ours), skeleton(theirs));
    let length = ours.len().max(theirs.len());
    let line = |lines: &[String], at: usize| lines.get(at).cloned().unwrap_or_default();
    (0..length)
        .map(|at| (line(&ours, at), line(&theirs, at)))
        .find(|(ours, theirs)| ours != theirs)
}

/// The parts of a text that do not depend on its language.
fn skeleton(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut in_code = false;
    for line in text.lines() {
        if line.starts_with("```") {
            in_code = !in_code;
            lines.push(line.to_string());
        } else if in_code {
            // In Rust a comment is a line, in a transcript it stands far to the right.
            let code = line.split("   ").find(|part| !part.trim().is_empty());
            let code = code.unwrap_or_default().trim();
            if !code.is_empty() && !code.starts_with("//") {
                lines.push(code.to_string());
            }
        } else if line.starts_with('#') {
            lines.push(line.chars().take_while(|&c| c == '#').collect());
        } else if line.starts_with('|') {
            let links = line.split("](").skip(1);
            let links = links.filter_map(|rest| rest.split(')').next());
            lines.push(format!("| {}", links.collect::<Vec<_>>().join(" ")));
        }
    }
    lines
}

/// The Rust files below a directory, without the generated ones.
fn collect(directory: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() {
            if name != "generated" && name != "target" {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn texts_in_two_languages_are_compared_without_their_words() {
        let english = "# A title\nwords\n| a [x](p.md) |\n```\n// why\nrun  \n```\n";
        let other = "# Ein Titel\nWorte\nmehr\n| b [y](p.md) |\n```\n// darum\nrun\n```\n";
        assert_eq!(super::out_of_step(english, other), None);
        let missing = other.replace("run\n", "");
        assert!(super::out_of_step(english, &missing).is_some());
        let another_link = other.replace("p.md", "q.md");
        assert!(super::out_of_step(english, &another_link).is_some());
    }

    #[test]
    fn a_file_without_a_head_or_an_end_is_found() {
        let judge = |text: &str| super::judge(text, 3).len();
        assert_eq!(judge("//! What it is for.\nfn main() {}\n"), 0);
        assert_eq!(judge("fn main() {}\n"), 1);
        assert_eq!(judge(""), 1);
        assert_eq!(judge("//! Long.\n\n\n\n"), 1);
        assert_eq!(judge("//! Tested.\n\n#[cfg(test)]\n\n\n"), 0);
    }
}
