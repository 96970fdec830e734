//! A journal that counts, waits and fails as a test wants it to.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;

use crate::journal::{Journal, JournalError, Memory, Snapshot};
use crate::record::{FORMAT, Identity};
use crate::recover::Recovery;
use crate::{Engine, EngineOptions};

/// What happens to an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Kept,
    /// The disk is full.
    Full,
    /// The sync failed.
    Failed,
}

/// How many records each append had.
pub(super) type Appends = Arc<Mutex<Vec<usize>>>;

struct Fake {
    appends: Appends,
    /// Each append waits for what becomes of it.
    fates: Receiver<Fate>,
    /// Told when an append has begun to wait.
    begun: Sender<()>,
}

/// The test's hands on a fake journal.
pub(super) struct Hands {
    pub(super) appends: Appends,
    pub(super) fates: Sender<Fate>,
    pub(super) begun: Receiver<()>,
}

impl Journal for Fake {
    fn append(&mut self, group: &[Bytes]) -> Result<(), JournalError> {
        self.appends.lock().unwrap().push(group.len());
        // The test may be gone already.
        let _ = self.begun.send(());
        match self.fates.recv_timeout(Duration::from_secs(30)) {
            Ok(Fate::Full) => Err(JournalError::NoSpace {
                dir: "/full".into(),
            }),
            Ok(Fate::Failed) => Err(JournalError::Io {
                path: "/broken".into(),
                source: std::io::Error::other("input/output error"),
            }),
            Ok(Fate::Kept) | Err(_) => Ok(()),
        }
    }

    fn begin_snapshot(&mut self) -> Result<Box<dyn Snapshot>, JournalError> {
        Memory::new().begin_snapshot()
    }

    fn begin_tight_snapshot(&mut self) -> Result<Box<dyn Snapshot + '_>, JournalError> {
        self.begin_snapshot().map(|snapshot| snapshot as _)
    }

    fn next_record(&self) -> u64 {
        1
    }

    fn log_bytes(&self) -> u64 {
        0
    }

    fn is_low_on_space(&mut self) -> bool {
        false
    }

    fn size_on_disk(&self) -> Option<u64> {
        Some(0)
    }
}

/// An engine whose every append waits for [`Hands::fates`].
pub(super) fn engine(options: EngineOptions) -> (Engine, Hands) {
    let (fates, fates_in) = channel();
    let (begun_out, begun) = channel();
    let appends = Appends::default();
    let fake = Fake {
        appends: Arc::clone(&appends),
        fates: fates_in,
        begun: begun_out,
    };
    let identity = Identity {
        format: FORMAT,
        cluster_id: 1,
        member_id: 2,
    };
    let fresh = Recovery::new().finish(options.clock.now()).unwrap();
    let (engine, writer) = Engine::assemble(options, identity, 1, fresh, Box::new(fake), true);
    let engine = engine.start(writer).unwrap();
    let hands = Hands {
        appends,
        fates,
        begun,
    };
    (engine, hands)
}
