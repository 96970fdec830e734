//! Go with etcd's own packages, for the tests beside Go programs: `$SYNOD_GO` or one on PATH, and
//! the packages of Debian's `golang-etcd-server-dev` below `$SYNOD_GOPATH`.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::steps::root;

/// Where Debian's Go packages are.
const GOPATH: &str = "/usr/share/gocode";

/// One of the packages; the others come with it. Newer releases of etcd have it elsewhere.
const PACKAGE: &str = "src/go.etcd.io/etcd/contrib/recipes";

/// What the tests beside Go programs need.
pub(crate) const NEEDED: &str = "Debian's golang-go and golang-etcd-server-dev (etcd 3.4), or what SYNOD_GO and \
     SYNOD_GOPATH name";

/// Go, told where etcd's packages are.
pub(crate) fn command() -> Command {
    let mut command = Command::new(named("SYNOD_GO").unwrap_or_else(|| "go".into()));
    let packages = named("SYNOD_GOPATH").unwrap_or_else(|| GOPATH.into());
    command.env("GO111MODULE", "off").env("GOPATH", packages);
    command
}

/// What there is, in words; `None` when something is missing.
pub(crate) fn find() -> Option<String> {
    let packages = named("SYNOD_GOPATH").unwrap_or_else(|| GOPATH.into());
    if !packages.join(PACKAGE).is_dir() {
        return None;
    }
    let output = command().arg("version").output().ok()?;
    let version = String::from_utf8_lossy(&output.stdout);
    let found = format!("{} (packages in {})", version.trim(), packages.display());
    output.status.success().then_some(found)
}

/// Checks the format of the Go files; says so when there is no Go to do it.
pub(crate) fn check_format() -> Result<()> {
    let Ok(output) = Command::new("gofmt")
        .args(["-l", "peers/go"])
        .current_dir(root()?)
        .output()
    else {
        println!("    no gofmt on this machine: not checked");
        return Ok(());
    };
    let unformatted = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() || !unformatted.is_empty() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("run gofmt -w on\n{unformatted}{said}");
    }
    Ok(())
}

fn named(variable: &str) -> Option<PathBuf> {
    let value = env::var_os(variable).filter(|value| !value.is_empty())?;
    Some(PathBuf::from(value))
}
