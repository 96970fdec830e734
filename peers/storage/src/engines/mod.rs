//! The candidates behind one trait.

mod bare;
mod fjall;
mod own;
mod raft;
mod redb;
mod sqlite;

use std::path::Path;

use anyhow::{Result, bail};

/// One way of making a group of records durable.
pub trait Candidate {
    /// Makes the group durable; `first` is the number of its first record.
    fn commit(&mut self, first: u64, group: &[Vec<u8>]) -> Result<()>;
    /// All records that it finds.
    fn load(&mut self) -> Result<Vec<(u64, Vec<u8>)>>;
}

/// In the order in which they take turns.
pub const NAMES: [&str; 7] = [
    "bare",
    "bare-grow",
    "own",
    "redb",
    "raft-engine",
    "fjall",
    "sqlite",
];

/// Opens a candidate in a directory that exists.
pub fn open(name: &str, dir: &Path) -> Result<Box<dyn Candidate>> {
    Ok(match name {
        "bare" => Box::new(bare::Bare::open(dir, true)?),
        "bare-grow" => Box::new(bare::Bare::open(dir, false)?),
        "own" => Box::new(own::Own::open(dir)?),
        "redb" => Box::new(redb::Redb::open(dir)?),
        "raft-engine" => Box::new(raft::Raft::open(dir)?),
        "fjall" => Box::new(fjall::Fjall::open(dir)?),
        "sqlite" => Box::new(sqlite::Sqlite::open(dir)?),
        other => bail!("no candidate {other}"),
    })
}
