//! Licences and sources of what we depend on, against `deny.toml`, whether or not cargo-deny is
//! installed; and that no dependency needs a newer Rust than we promise.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail};
use spdx::{Expression, ParseMode};

use crate::metadata::{self, Package};
use crate::steps::root;

/// The only place that packages may come from.
const CRATES_IO: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// What `deny.toml` allows.
#[derive(Debug)]
struct Policy {
    targets: Vec<String>,
    allowed: Vec<String>,
    /// Licences allowed to one crate each.
    exceptions: Vec<(String, Vec<String>)>,
}

/// Every package of every target that we support has an allowed licence and comes from crates.io.
pub(crate) fn check() -> Result<()> {
    let text = std::fs::read_to_string(root()?.join("deny.toml")).context("deny.toml")?;
    let policy = Policy::parse(&text)?;
    let mut findings = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for target in &policy.targets {
        for package in metadata::packages(Some(target))? {
            seen.insert((package.name.clone(), package.version.clone()));
            findings.extend(policy.findings(&package));
        }
    }
    if !findings.is_empty() {
        bail!("not allowed by deny.toml:\n{}", lines(&findings));
    }
    println!(
        "    {} packages for {} targets",
        seen.len(),
        policy.targets.len()
    );
    Ok(())
}

/// No package states a newer Rust than the workspace does.
pub(crate) fn check_rust_version() -> Result<()> {
    let packages = metadata::packages(None)?;
    let ours = packages
        .iter()
        .find(|package| package.source.is_none())
        .and_then(|package| package.rust_version.clone())
        .context("the workspace states no rust-version")?;
    let limit = version(&ours)?;
    let mut findings = BTreeSet::new();
    for package in &packages {
        if let Some(needs) = &package.rust_version
            && version(needs)? > limit
        {
            findings.insert(format!(
                "{} {} needs Rust {needs}, but we promise {ours}",
                package.name, package.version
            ));
        }
    }
    if !findings.is_empty() {
        bail!("{}", lines(&findings));
    }
    println!("    nothing needs more than Rust {ours}");
    Ok(())
}

impl Policy {
    fn parse(text: &str) -> Result<Policy> {
        let table: toml::Table = text.parse().context("deny.toml")?;
        let strings = |value: Option<&toml::Value>| -> Vec<String> {
            let items = value.and_then(toml::Value::as_array);
            let items = items.into_iter().flatten();
            items
                .filter_map(|item| Some(item.as_str()?.to_string()))
                .collect()
        };
        let licenses = table.get("licenses");
        let exceptions = licenses.and_then(|licenses| licenses.get("exceptions")?.as_array());
        let policy = Policy {
            targets: strings(table.get("graph").and_then(|graph| graph.get("targets"))),
            allowed: strings(licenses.and_then(|licenses| licenses.get("allow"))),
            exceptions: exceptions
                .into_iter()
                .flatten()
                .map(|exception| {
                    let name = exception.get("crate").and_then(toml::Value::as_str);
                    let name = name.context("deny.toml: an exception names no crate")?;
                    Ok((name.to_string(), strings(exception.get("allow"))))
                })
                .collect::<Result<_>>()?,
        };
        if policy.targets.is_empty() || policy.allowed.is_empty() {
            bail!("deny.toml lacks graph.targets or licenses.allow");
        }
        Ok(policy)
    }

    fn findings(&self, package: &Package) -> Option<String> {
        let name = format!("  {} {}", package.name, package.version);
        if package
            .source
            .as_deref()
            .is_some_and(|source| source != CRATES_IO)
        {
            return Some(format!("{name}: comes from {:?}", package.source));
        }
        let Some(license) = &package.license else {
            return Some(format!("{name}: states no licence"));
        };
        let Ok(expression) = Expression::parse_mode(license, ParseMode::LAX) else {
            return Some(format!("{name}: `{license}` is no SPDX expression"));
        };
        let excepted = |(krate, _): &&(String, Vec<String>)| *krate == package.name;
        let excepted = self.exceptions.iter().find(excepted);
        let allowed = self
            .allowed
            .iter()
            .chain(excepted.iter().flat_map(|(_, list)| list));
        let allowed: BTreeSet<&str> = allowed.map(String::as_str).collect();
        let ok = expression.evaluate(|wanted| allowed.contains(wanted.to_string().as_str()));
        (!ok).then(|| format!("{name}: {license}"))
    }
}

/// The first two numbers of a version.
fn version(text: &str) -> Result<(u32, u32)> {
    let mut numbers = text.split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        (Some(Ok(major)), None) => Ok((major, 0)),
        _ => bail!("`{text}` is no Rust version"),
    }
}

fn lines(findings: &BTreeSet<String>) -> String {
    findings.iter().cloned().collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str, license: Option<&str>) -> Package {
        Package {
            name: name.to_string(),
            version: "1.0.0".to_string(),
            license: license.map(str::to_string),
            rust_version: None,
            source: Some(CRATES_IO.to_string()),
        }
    }

    #[test]
    fn licences_are_read_as_expressions() {
        let policy = Policy::parse(
            r#"
            [graph]
            targets = ["x86_64-unknown-linux-gnu"]
            [licenses]
            allow = ["MIT", "Apache-2.0", "ISC"]
            [[licenses.exceptions]]
            crate = "roots"
            allow = ["CDLA-Permissive-2.0"]
            "#,
        )
        .unwrap();
        let ok = |name, license| policy.findings(&package(name, Some(license))).is_none();
        assert!(ok("a", "MIT"));
        assert!(ok("a", "MIT/Apache-2.0"));
        assert!(ok("a", "GPL-3.0-only OR MIT"));
        assert!(ok("a", "ISC AND (Apache-2.0 OR ISC)"));
        assert!(!ok("a", "MIT AND GPL-3.0-only"));
        assert!(!ok("a", "MPL-2.0"));
        assert!(!ok("a", "my own words"));
        assert!(ok("roots", "CDLA-Permissive-2.0"));
        assert!(!ok("a", "CDLA-Permissive-2.0"));
        assert!(policy.findings(&package("a", None)).is_some());
        let mut elsewhere = package("a", Some("MIT"));
        elsewhere.source = Some("git+https://example.com/a".to_string());
        assert!(policy.findings(&elsewhere).is_some());
    }

    #[test]
    fn an_empty_policy_is_refused() {
        assert!(Policy::parse("[licenses]\nallow = []").is_err());
    }

    #[test]
    fn rust_versions_compare_as_numbers() {
        assert!(version("1.100").unwrap() > version("1.90.0").unwrap());
        assert_eq!(version("1.90").unwrap(), (1, 90));
        assert!(version("new").is_err());
    }
}
