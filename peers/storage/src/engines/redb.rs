//! redb: copy-on-write B-tree in one file; a commit is durable by default.

use std::path::Path;

use anyhow::Result;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::Candidate;

const LOG: TableDefinition<u64, &[u8]> = TableDefinition::new("log");

pub struct Redb(Database);

impl Redb {
    pub fn open(dir: &Path) -> Result<Self> {
        let db = Database::create(dir.join("log.redb"))?;
        let txn = db.begin_write()?;
        txn.open_table(LOG)?;
        txn.commit()?;
        Ok(Self(db))
    }
}

impl Candidate for Redb {
    fn commit(&mut self, first: u64, group: &[Vec<u8>]) -> Result<()> {
        let txn = self.0.begin_write()?;
        {
            let mut table = txn.open_table(LOG)?;
            for (i, record) in group.iter().enumerate() {
                table.insert(first + i as u64, record.as_slice())?;
            }
        }
        txn.commit()?;
        Ok(())
    }

    fn load(&mut self) -> Result<Vec<(u64, Vec<u8>)>> {
        let txn = self.0.begin_read()?;
        let table = txn.open_table(LOG)?;
        let mut found = Vec::new();
        for entry in table.iter()? {
            let (n, record) = entry?;
            found.push((n.value(), record.value().to_vec()));
        }
        Ok(found)
    }
}
