//! Where a real etcd is: `$SYNOD_ETCD`, on PATH, or where `cargo xtask test` unpacks one.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Why a test that needs etcd did not run.
pub const NO_ETCD: &str =
    "no etcd found (set SYNOD_ETCD, put etcd on PATH, or run cargo xtask test)";

/// The etcd binary; `None` when there is none.
///
/// # Panics
///
/// When `SYNOD_ETCD` names no file, and when `SYNOD_REQUIRE_ETCD` is 1 and there is no etcd: a run
/// that is meant to be complete must not pass without it.
#[must_use]
pub fn etcd() -> Option<PathBuf> {
    let found = named("SYNOD_ETCD")
        .or_else(|| on_path("etcd"))
        .or_else(|| below(&unpacked(), "etcd", 6));
    if found.is_none() && env::var_os("SYNOD_REQUIRE_ETCD").is_some_and(|value| value == "1") {
        panic!("SYNOD_REQUIRE_ETCD is set, but {NO_ETCD}");
    }
    found
}

/// The etcdctl binary: `$SYNOD_ETCDCTL`, beside etcd, or on PATH.
///
/// # Panics
///
/// As [`etcd`] does.
#[must_use]
pub fn etcdctl() -> Option<PathBuf> {
    named("SYNOD_ETCDCTL")
        .or_else(|| {
            let etcd = etcd()?;
            let beside = |etcd: &Path| Some(etcd.with_file_name("etcdctl")).filter(|p| p.is_file());
            beside(&etcd).or_else(|| beside(&etcd.canonicalize().ok()?))
        })
        .or_else(|| on_path("etcdctl"))
}

/// The file that an environment variable names.
fn named(variable: &str) -> Option<PathBuf> {
    let path = PathBuf::from(env::var_os(variable).filter(|value| !value.is_empty())?);
    assert!(
        path.is_file(),
        "{variable} names {}, which is no file",
        path.display()
    );
    Some(path)
}

fn on_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

/// The directory into which `cargo xtask test` unpacks etcd.
fn unpacked() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .with_file_name("target")
        .join("etcd")
}

/// The first file with this name at or below a directory.
fn below(directory: &Path, name: &str, depth: usize) -> Option<PathBuf> {
    let mut entries: Vec<PathBuf> = fs::read_dir(directory)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    entries.sort();
    let file = entries
        .iter()
        .find(|path| path.is_file() && path.file_name().is_some_and(|found| found == name));
    file.cloned().or_else(|| {
        let deeper = depth.checked_sub(1)?;
        entries
            .iter()
            .filter(|path| path.is_dir())
            .find_map(|path| below(path, name, deeper))
    })
}
