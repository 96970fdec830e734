//! Measures what the embedded engine's durability could be built on.
//!
//! Each candidate does the same work: one durable commit of a group of 120-byte records under ascending
//! numbers. `README.md` says which command does what; the results stand in
//! `crates/engine/docs/storage.md`.

mod damage;
mod engines;
mod timing;

use std::path::PathBuf;

use anyhow::{Context, Result, bail};

/// What each record holds: about what a small transaction costs.
pub const RECORD_BYTES: usize = 120;

/// The text of record `n`, found again in a file by `damage`.
pub fn record(n: u64) -> Vec<u8> {
    let mut bytes = format!("record-{n:012}-").into_bytes();
    // Bytes that no compressor makes smaller and no two records share.
    let mut x = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    while bytes.len() < RECORD_BYTES {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        bytes.push((x >> 32) as u8);
    }
    bytes
}

/// A directory on the disk under test, not on a tmpfs: `STORAGE_DIR`, else the target directory's disk.
pub fn scratch() -> Result<tempfile::TempDir> {
    let root = match std::env::var_os("STORAGE_DIR") {
        Some(dir) => PathBuf::from(dir),
        None => std::env::current_exe()?
            .parent()
            .context("no parent")?
            .to_path_buf(),
    };
    Ok(tempfile::Builder::new()
        .prefix("storage-")
        .tempdir_in(root)?)
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["time", rounds, commits] => timing::rounds(rounds.parse()?, commits.parse()?),
        ["reopen", records] => timing::reopen(records.parse()?),
        ["damage"] => damage::all(),
        ["names"] => {
            println!("{}", engines::NAMES.join(" "));
            Ok(())
        }
        // For `strace`: commits one after another, and tells which were acknowledged.
        ["commits", name, group, commits] => {
            timing::commits(name, group.parse()?, commits.parse()?)
        }
        ["failing", name, dir, commits] => damage::failing(name, dir.as_ref(), commits.parse()?),
        _ => bail!(
            "names | time ROUNDS COMMITS | reopen RECORDS | damage | commits NAME GROUP COMMITS | failing NAME DIR COMMITS"
        ),
    }
}
