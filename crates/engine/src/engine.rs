//! [`Engine`]: opening, closing, and what it tells about itself.

use std::fmt;
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use synod_store::{Error, ErrorKind, Result};
use tokio::sync::oneshot;

use crate::journal::{Disk, FileJournal, Fs, Journal, Memory};
use crate::options::EngineOptions;
use crate::record::{FORMAT, Identity, Opened, Record};
use crate::recover::{self, Recovered, Recovery};
use crate::shared::{Shared, Who};
use crate::writer::{Command, Writer};

/// An embedded store. Cheap to clone; all clones are one store, which closes with the last of them.
///
/// Every write that it acknowledges is durable (on a `file` store), and nothing that is not durable is ever shown:
/// reads, watches and answers speak of the *published* revision. It needs no async runtime: the work is done by a
/// thread of its own, or by the caller.
#[derive(Clone)]
pub struct Engine {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// What an engine holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineStats {
    /// Keys that exist.
    pub keys: u64,
    /// Leases that live.
    pub leases: u64,
    /// Watches that stand.
    pub watchers: u64,
    /// Revisions that can be read beside the oldest readable one.
    pub revisions: u64,
    /// Bytes of the current data, with 128 bytes a key for keeping it.
    pub live_bytes: u64,
    /// Bytes of history, counted likewise.
    pub history_bytes: u64,
    /// Bytes on disk; zero for a store in memory.
    pub disk_bytes: u64,
}

impl Engine {
    /// Opens a store, and makes it if there is none.
    ///
    /// It reads all data into memory before it returns, and blocks meanwhile. What it makes on disk is its owner's
    /// alone; when others may touch what was there before, the log (`tracing`, at WARN) says so.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InUse`] when another process, or another engine in this one, has the directory;
    /// [`ErrorKind::NewerFormat`] and [`ErrorKind::Corrupt`] for data that this build cannot read; nothing is changed
    /// then.
    pub fn open(options: EngineOptions) -> Result<Engine> {
        let Some(path) = options.path.clone() else {
            return Engine::open_memory(options);
        };
        let engine = Engine::open_in(Disk, options)?;
        #[cfg(unix)]
        crate::journal::warn_of_others(&path);
        Ok(engine)
    }

    fn open_memory(options: EngineOptions) -> Result<Engine> {
        let who = new_identity();
        let fresh = Recovery::new().finish(options.clock.now());
        let recovered = fresh.map_err(|reason| Error::new(ErrorKind::Corrupt, reason))?;
        let journal = Box::new(Memory::new());
        let (engine, writer) = Engine::assemble(options, who, 1, recovered, journal, false);
        engine.start(writer)
    }

    /// Opens the directory of the options in a file system.
    pub(crate) fn open_in<F: Fs>(fs: F, options: EngineOptions) -> Result<Engine> {
        let (engine, writer) = Engine::load(fs, options)?;
        engine.start(writer)
    }

    /// The store in a directory, and its writer, which does not work yet.
    pub(crate) fn load<F: Fs>(fs: F, options: EngineOptions) -> Result<(Engine, Writer)> {
        let path = options.path.clone().unwrap_or_default();
        let mut recovery = Recovery::new();
        let journal =
            FileJournal::open_in(fs, &path, options.journal, &mut |item| recovery.take(item));
        let mut journal = journal.map_err(recover::error)?;
        let recovered = recovery.finish(options.clock.now()).map_err(|reason| {
            let text = format!("{} is damaged: {reason}", path.display());
            Error::new(ErrorKind::Corrupt, text)
        })?;
        let term = recovered.term.saturating_add(1);
        let identity = recovered.identity.unwrap_or_else(new_identity);
        let mut records = Vec::new();
        if recovered.identity.is_none() {
            records.push(Record::Identity(identity).into_bytes());
        }
        records.push(Record::Opened(Opened { term }).into_bytes());
        journal.append(&records).map_err(recover::error)?;
        let journal = Box::new(journal);
        Ok(Engine::assemble(
            options, identity, term, recovered, journal, true,
        ))
    }

    /// A store, and its writer, which does not work yet.
    pub(crate) fn assemble(
        options: EngineOptions,
        identity: Identity,
        term: u64,
        recovered: Recovered,
        journal: Box<dyn Journal>,
        keeps_records: bool,
    ) -> (Engine, Writer) {
        let (sender, receiver) = mpsc::channel();
        let who = Who {
            cluster_id: identity.cluster_id,
            member_id: identity.member_id,
            term,
        };
        let index = journal.next_record().saturating_sub(1);
        let Recovered {
            state,
            leases,
            notes,
            ..
        } = recovered;
        let shared = Arc::new(Shared::new(options, who, state, leases, index, sender));
        *shared.notes() = notes;
        let weak = Arc::downgrade(&shared);
        shared.clock.on_change(Box::new(move || {
            weak.upgrade()
                .is_some_and(|shared| shared.send(Command::Wake))
        }));
        let writer = Writer::new(Arc::clone(&shared), receiver, journal, keeps_records);
        let handle = Arc::new(Handle {
            shared,
            writer: Mutex::new(None),
        });
        (Engine { handle }, writer)
    }

    /// Lets the writer work, in a thread of its own.
    pub(crate) fn start(self, writer: Writer) -> Result<Engine> {
        let thread = std::thread::Builder::new()
            .name("synod-engine".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| {
                Error::new(ErrorKind::Other, "the engine's thread could not be started")
                    .with_source(error)
            })?;
        *self
            .handle
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(self)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    /// Closes the store for all its clones: everything acknowledged is durable and the directory is free when this
    /// returns. Later requests, and watches, end with [`ErrorKind::Closed`]; closing again is no error.
    ///
    /// # Cancel safety
    ///
    /// Dropped after its first poll, the store closes all the same.
    pub async fn close(&self) -> Result<()> {
        // Not as other requests: a store that stopped after a failed write can be closed, too.
        let (reply, answer) = oneshot::channel();
        if !self.shared().send(Command::Close { reply: Some(reply) }) {
            return Ok(());
        }
        // Without an answer another close came first, or the writer is gone: then everything is let go of, too.
        answer.await.unwrap_or(Ok(()))
    }

    /// What the store holds now.
    #[must_use]
    pub fn stats(&self) -> EngineStats {
        let shared = self.shared();
        let leases = shared.leases().len() as u64;
        let state = shared.state();
        EngineStats {
            keys: state.live_keys(),
            leases,
            watchers: shared.hub.len() as u64,
            revisions: state.revisions(),
            live_bytes: state.live_bytes(),
            history_bytes: state.superseded_bytes(),
            disk_bytes: shared.disk_bytes.load(std::sync::atomic::Ordering::Relaxed),
        }
    }
}

pub(crate) fn new_identity() -> Identity {
    Identity {
        format: FORMAT,
        cluster_id: rand::random_range(1..=u64::MAX),
        member_id: rand::random_range(1..=u64::MAX),
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.send(Command::Close { reply: None });
        let writer = self
            .writer
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(writer) = writer {
            // It ends after the group at hand. A writer that panicked has nothing left to wait for.
            let _ = writer.join();
        }
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("path", &self.shared().options.path)
            .field("revision", &self.shared().published())
            .finish_non_exhaustive()
    }
}
