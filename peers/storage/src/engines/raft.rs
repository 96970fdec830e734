//! raft-engine: TiKV's log-structured store for Raft logs. Records go in as key-value pairs of one group,
//! since its entry API takes protobuf 2 messages only.

use std::path::Path;

use anyhow::{Context, Result};
use raft_engine::{Config, Engine, LogBatch, ReadableSize};

use super::Candidate;

const GROUP: u64 = 1;

pub struct Raft(Engine);

impl Raft {
    pub fn open(dir: &Path) -> Result<Self> {
        let config = Config {
            dir: dir.join("raft").to_str().context("path")?.to_owned(),
            batch_compression_threshold: ReadableSize(0),
            ..Config::default()
        };
        Ok(Self(Engine::open(config)?))
    }
}

impl Candidate for Raft {
    fn commit(&mut self, first: u64, group: &[Vec<u8>]) -> Result<()> {
        let mut batch = LogBatch::with_capacity(group.len());
        for (i, record) in group.iter().enumerate() {
            let key = (first + i as u64).to_be_bytes().to_vec();
            batch.put(GROUP, key, record.clone())?;
        }
        self.0.write(&mut batch, true)?;
        Ok(())
    }

    fn load(&mut self) -> Result<Vec<(u64, Vec<u8>)>> {
        let mut found = Vec::new();
        self.0
            .scan_raw_messages(GROUP, None, None, false, |key, value| {
                let mut n = [0; 8];
                n.copy_from_slice(key);
                found.push((u64::from_be_bytes(n), value.to_vec()));
                true
            })?;
        Ok(found)
    }
}
