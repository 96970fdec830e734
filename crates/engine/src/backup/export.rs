//! [`Engine::export`]: a copy of an open store, as a stream of bytes.
//!
//! 1. The writer says what is published at that moment, and prunes nothing that the copy needs until it is done.
//! 2. A thread walks the state page by page, as for a snapshot of the journal, and sends pieces of 256 KiB.
//! 3. Whoever does not take them holds up that thread, and history that could be pruned; no reader and no writer.

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use synod_store::{Error, ErrorKind, Result, Revision};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::{BLOCK, FORMAT, HEADER, MAGIC};
use crate::Engine;
use crate::journal::{END, JournalError, Snapshot, chunk_crc};
use crate::recover;
use crate::shared::Shared;
use crate::writer::{Command, Plan, write};

/// Bytes are sent in pieces of about this size.
const PIECE: usize = 256 << 10;
/// Pieces that wait to be taken.
const PIECES: usize = 4;

/// A copy of a store while it is made. Dropped before its end, it leaves nothing behind.
#[derive(Debug)]
pub struct Export {
    revision: Revision,
    estimate: u64,
    pieces: Receiver<Result<Bytes>>,
}

impl Export {
    /// The revision that it is of.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// About how many bytes it will have, for showing progress.
    #[must_use]
    pub fn estimated_bytes(&self) -> u64 {
        self.estimate
    }

    /// The next piece; `None` behind the last one. After an error nothing comes any more, and what was given is of no
    /// use.
    ///
    /// # Cancel safety
    ///
    /// No piece is lost.
    pub async fn next(&mut self) -> Option<Result<Bytes>> {
        self.pieces.recv().await
    }
}

impl Engine {
    /// Begins a copy of everything that is published now: at one revision, while writes go on. History that the copy
    /// needs is kept until it is done or dropped, so take it soon.
    ///
    /// # Cancel safety
    ///
    /// Nothing stays behind.
    ///
    /// # Errors
    ///
    /// When the store is closed or has stopped.
    pub async fn export(&self) -> Result<Export> {
        let plan = self
            .shared()
            .ask(0, |reply| Command::Export { reply })
            .await?;
        let shared = Arc::clone(self.shared());
        let revision = Revision(plan.start.revision);
        let estimate = shared.state().total_bytes();
        let (sender, pieces) = channel(PIECES);
        std::thread::Builder::new()
            .name("synod-export".to_owned())
            .spawn(move || run(&shared, plan, sender))
            .map_err(|error| {
                let text = "the thread of the copy could not be started";
                Error::new(ErrorKind::Other, text).with_source(error)
            })?;
        Ok(Export {
            revision,
            estimate,
            pieces,
        })
    }
}

fn run(shared: &Shared, plan: Plan, sender: Sender<Result<Bytes>>) {
    let sink = Box::new(Pieces::new(sender.clone()));
    if let Err(error) = write(shared, &plan, sink) {
        // Nobody may listen any more: that is how it ends when the copy is dropped.
        let _ = sender.blocking_send(Err(recover::error(error)));
    }
    drop(plan);
    // What it kept may be pruned now.
    shared.send(Command::Wake);
}

/// Sends a copy as it is written.
struct Pieces {
    sender: Sender<Result<Bytes>>,
    buffer: Vec<u8>,
    sha: Sha256,
    sent: u64,
    chain: u32,
    chunks: u64,
}

impl Pieces {
    fn new(sender: Sender<Result<Bytes>>) -> Pieces {
        let mut buffer = Vec::with_capacity(HEADER);
        buffer.extend_from_slice(MAGIC);
        buffer.extend_from_slice(&FORMAT.to_le_bytes());
        let crc = crc32fast::hash(&buffer);
        buffer.extend_from_slice(&crc.to_le_bytes());
        Pieces {
            sender,
            buffer,
            sha: Sha256::new(),
            sent: 0,
            chain: crc,
            chunks: 0,
        }
    }

    fn add(&mut self, len: u32, bytes: &[u8]) {
        self.chain = chunk_crc(self.chain, len, bytes);
        self.buffer.extend_from_slice(&len.to_le_bytes());
        self.buffer.extend_from_slice(&self.chain.to_le_bytes());
        self.buffer.extend_from_slice(bytes);
    }

    fn send(&mut self) -> Result<(), JournalError> {
        let piece = std::mem::take(&mut self.buffer);
        self.sent = self.sent.saturating_add(piece.len() as u64);
        self.sender
            .blocking_send(Ok(piece.into()))
            .map_err(|_| JournalError::Io {
                path: "the copy".into(),
                source: std::io::ErrorKind::BrokenPipe.into(),
            })
    }
}

impl Snapshot for Pieces {
    fn write(&mut self, chunk: &[u8]) -> Result<(), JournalError> {
        let len = u32::try_from(chunk.len()).ok().filter(|len| *len != END);
        let len = len.ok_or(JournalError::TooLarge { bytes: chunk.len() })?;
        self.add(len, chunk);
        self.chunks = self.chunks.saturating_add(1);
        if self.buffer.len() >= PIECE {
            self.sha.update(&self.buffer);
            self.send()?;
        }
        Ok(())
    }

    fn commit(mut self: Box<Self>) -> Result<(), JournalError> {
        self.add(END, &self.chunks.to_le_bytes());
        let bytes = self.sent.saturating_add(self.buffer.len() as u64);
        let padding = bytes.next_multiple_of(BLOCK).saturating_sub(bytes);
        let padded = self
            .buffer
            .len()
            .saturating_add(usize::try_from(padding).unwrap_or(0));
        self.buffer.resize(padded, 0);
        self.sha.update(&self.buffer);
        let sum = std::mem::take(&mut self.sha).finalize();
        self.buffer.extend_from_slice(&sum);
        self.send()
    }
}
