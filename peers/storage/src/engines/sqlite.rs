//! SQLite in WAL mode, synced at each commit.

use std::path::Path;

use anyhow::Result;
use rusqlite::Connection;

use super::Candidate;

pub struct Sqlite(Connection);

impl Sqlite {
    pub fn open(dir: &Path) -> Result<Self> {
        let db = Connection::open(dir.join("log.sqlite"))?;
        db.pragma_update(None, "journal_mode", "WAL")?;
        db.pragma_update(None, "synchronous", "FULL")?;
        db.execute(
            "CREATE TABLE IF NOT EXISTS log (n INTEGER PRIMARY KEY, record BLOB)",
            [],
        )?;
        Ok(Self(db))
    }
}

impl Candidate for Sqlite {
    fn commit(&mut self, first: u64, group: &[Vec<u8>]) -> Result<()> {
        let txn = self.0.transaction()?;
        {
            let mut insert = txn.prepare_cached("INSERT INTO log VALUES (?1, ?2)")?;
            for (i, record) in group.iter().enumerate() {
                insert.execute((first as i64 + i as i64, record))?;
            }
        }
        txn.commit()?;
        Ok(())
    }

    fn load(&mut self) -> Result<Vec<(u64, Vec<u8>)>> {
        let mut query = self.0.prepare("SELECT n, record FROM log ORDER BY n")?;
        let rows = query.query_map([], |row| Ok((row.get::<_, i64>(0)? as u64, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
