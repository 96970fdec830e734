//! fjall: a log-structured merge tree; not durable unless each batch asks for it.

use std::path::Path;

use anyhow::Result;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use super::Candidate;

pub struct Fjall {
    db: Database,
    log: Keyspace,
}

impl Fjall {
    pub fn open(dir: &Path) -> Result<Self> {
        let db = Database::builder(dir.join("fjall")).open()?;
        let log = db.keyspace("log", KeyspaceCreateOptions::default)?;
        Ok(Self { db, log })
    }
}

impl Candidate for Fjall {
    fn commit(&mut self, first: u64, group: &[Vec<u8>]) -> Result<()> {
        let mut batch = self.db.batch().durability(Some(PersistMode::SyncData));
        for (i, record) in group.iter().enumerate() {
            batch.insert(
                &self.log,
                (first + i as u64).to_be_bytes(),
                record.as_slice(),
            );
        }
        batch.commit()?;
        Ok(())
    }

    fn load(&mut self) -> Result<Vec<(u64, Vec<u8>)>> {
        let mut found = Vec::new();
        for entry in self.log.iter() {
            let (key, value) = entry.into_inner()?;
            found.push((u64::from_be_bytes(key.as_ref().try_into()?), value.to_vec()));
        }
        Ok(found)
    }
}
