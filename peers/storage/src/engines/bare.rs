//! The mark to come near: one write and one `fdatasync`, nothing else. No recovery worth the name.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use anyhow::Result;

use super::Candidate;

/// Written with zeros beforehand, so that a commit changes no metadata.
const AHEAD: usize = 64 << 20;

pub struct Bare {
    file: File,
    at: u64,
}

impl Bare {
    pub fn open(dir: &Path, ahead: bool) -> Result<Self> {
        let path = dir.join("log");
        let new = !path.exists();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        if new && ahead {
            let zeros = vec![0; 1 << 20];
            for i in 0..AHEAD / zeros.len() {
                file.write_all_at(&zeros, (i * zeros.len()) as u64)?;
            }
            file.sync_all()?;
        }
        Ok(Self { file, at: 0 })
    }
}

impl Candidate for Bare {
    fn commit(&mut self, first: u64, group: &[Vec<u8>]) -> Result<()> {
        let len: usize = group.iter().map(Vec::len).sum();
        let mut bytes = Vec::with_capacity(len + 16);
        bytes.extend_from_slice(&(len as u32).to_le_bytes());
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&first.to_le_bytes());
        for record in group {
            bytes.extend_from_slice(record);
        }
        let crc = crc32fast::hash(&bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        self.file.write_all_at(&bytes, self.at)?;
        self.file.sync_data()?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn load(&mut self) -> Result<Vec<(u64, Vec<u8>)>> {
        // Its log is read and checked, so that the time to reopen is that of one pass over the bytes.
        let mut bytes = Vec::new();
        (&self.file).read_to_end(&mut bytes)?;
        let mut found = Vec::new();
        let mut rest = bytes.as_slice();
        while rest.len() >= 16 {
            let len = u32::from_le_bytes(rest[..4].try_into()?) as usize;
            let crc = u32::from_le_bytes(rest[4..8].try_into()?);
            if len == 0 || rest.len() < 16 + len || crc32fast::hash(&rest[8..16 + len]) != crc {
                break;
            }
            let first = u64::from_le_bytes(rest[8..16].try_into()?);
            for (i, record) in rest[16..16 + len].chunks(crate::RECORD_BYTES).enumerate() {
                found.push((first + i as u64, record.to_vec()));
            }
            rest = &rest[16 + len..];
        }
        Ok(found)
    }
}
