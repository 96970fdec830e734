//! What was built in the end: the engine's own journal, taken in by its path since it is private there.

use std::path::Path;

use anyhow::Result;
use bytes::Bytes;

use super::Candidate;

#[path = "../../../../crates/engine/src/journal/mod.rs"]
#[allow(dead_code, unused_imports)]
mod journal;

use journal::{FileJournal, Item, Journal, Options};

pub struct Own {
    journal: FileJournal,
    found: Vec<(u64, Vec<u8>)>,
}

impl Own {
    pub fn open(dir: &Path) -> Result<Self> {
        let mut found = Vec::new();
        let journal = FileJournal::open(&dir.join("own"), Options::default(), &mut |item| {
            if let Item::Record(n, bytes) = item {
                // The others count from 0.
                found.push((n - 1, bytes.to_vec()));
            }
            Ok(())
        })?;
        Ok(Self { journal, found })
    }
}

impl Candidate for Own {
    fn commit(&mut self, _: u64, group: &[Vec<u8>]) -> Result<()> {
        let group: Vec<Bytes> = group.iter().map(|r| Bytes::copy_from_slice(r)).collect();
        self.journal.append(&group)?;
        Ok(())
    }

    fn load(&mut self) -> Result<Vec<(u64, Vec<u8>)>> {
        Ok(std::mem::take(&mut self.found))
    }
}
