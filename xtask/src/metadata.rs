//! What cargo says about the workspace and everything it depends on.

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::steps::cargo;

/// A package of the workspace or one that it depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) license: Option<String>,
    pub(crate) rust_version: Option<String>,
    /// Where it comes from; `None` for our own.
    pub(crate) source: Option<String>,
}

/// Every package that a build for `target` (all targets without one) with all features can use.
pub(crate) fn packages(target: Option<&str>) -> Result<Vec<Package>> {
    let mut args = vec![
        "metadata",
        "--format-version=1",
        "--all-features",
        "--locked",
    ];
    if let Some(target) = target {
        args.extend(["--filter-platform", target]);
    }
    let metadata = ask(&args)?;
    let packages = metadata.get("packages").and_then(Value::as_array);
    packages
        .context("cargo metadata without packages")?
        .iter()
        .map(|package| {
            let text = |name: &str| Some(package.get(name)?.as_str()?.to_string());
            Ok(Package {
                name: text("name").context("a package without a name")?,
                version: text("version").context("a package without a version")?,
                license: text("license"),
                rust_version: text("rust_version"),
                source: text("source"),
            })
        })
        .collect()
}

/// The directory that cargo builds into.
pub(crate) fn target_directory() -> Result<std::path::PathBuf> {
    let metadata = ask(&["metadata", "--format-version=1", "--no-deps"])?;
    let directory = metadata.get("target_directory").and_then(Value::as_str);
    Ok(directory
        .context("cargo metadata without a target directory")?
        .into())
}

fn ask(args: &[&str]) -> Result<Value> {
    let output = cargo(args)?.output().context("cargo cannot be started")?;
    if !output.status.success() {
        bail!(
            "cargo metadata failed: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    serde_json::from_slice(&output.stdout).context("cargo metadata is no JSON")
}
