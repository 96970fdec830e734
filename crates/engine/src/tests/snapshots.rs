//! Snapshots beside a writer that is busy.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use synod_store::{PutRequest, Store};

use super::*;
use crate::EngineOptions;
use crate::journal::{Journal, JournalError, Snapshot};
use crate::record::{FORMAT, Identity};
use crate::recover::Recovery;

type Gate = Arc<Mutex<Receiver<()>>>;

/// A journal that is always due for a snapshot once `long` is set; appends wait for leave, and so does each snapshot.
struct Gated {
    long: Arc<AtomicBool>,
    begun: Sender<()>,
    appends: Receiver<()>,
    snapshots: Gate,
    count: Arc<AtomicUsize>,
}

struct GatedSnapshot {
    gate: Gate,
    entered: bool,
}

impl Snapshot for GatedSnapshot {
    fn write(&mut self, _: &[u8]) -> Result<(), JournalError> {
        if !std::mem::replace(&mut self.entered, true) {
            // The test may be gone already.
            let _ = self.gate.lock().unwrap().recv();
        }
        Ok(())
    }

    fn commit(self: Box<Self>) -> Result<(), JournalError> {
        Ok(())
    }
}

impl Journal for Gated {
    fn append(&mut self, _: &[Bytes]) -> Result<(), JournalError> {
        let _ = self.begun.send(());
        let _ = self.appends.recv();
        Ok(())
    }

    fn begin_snapshot(&mut self) -> Result<Box<dyn Snapshot>, JournalError> {
        self.count.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(GatedSnapshot {
            gate: Arc::clone(&self.snapshots),
            entered: false,
        }))
    }

    fn begin_tight_snapshot(&mut self) -> Result<Box<dyn Snapshot + '_>, JournalError> {
        self.begin_snapshot().map(|snapshot| snapshot as _)
    }

    fn next_record(&self) -> u64 {
        1
    }

    fn log_bytes(&self) -> u64 {
        if self.long.load(Ordering::SeqCst) {
            u64::MAX
        } else {
            0
        }
    }

    fn is_low_on_space(&mut self) -> bool {
        false
    }

    fn size_on_disk(&self) -> Option<u64> {
        Some(0)
    }
}

/// The message that a snapshot is done may be read when the next one has begun.
#[tokio::test]
async fn the_writer_waits_for_no_snapshot() {
    let long = Arc::new(AtomicBool::new(false));
    let count = Arc::new(AtomicUsize::new(0));
    let (begun_out, begun) = channel();
    let (leave, appends) = channel();
    let (pass, gate) = channel();
    let journal = Gated {
        long: Arc::clone(&long),
        begun: begun_out,
        appends,
        snapshots: Arc::new(Mutex::new(gate)),
        count: Arc::clone(&count),
    };
    let options = EngineOptions::memory();
    let identity = Identity {
        format: FORMAT,
        cluster_id: 1,
        member_id: 2,
    };
    let fresh = Recovery::new().finish(options.clock.now()).unwrap();
    let (store, writer) = Engine::assemble(options, identity, 1, fresh, Box::new(journal), true);
    let store = store.start(writer).unwrap();
    // Dropped before the store: if the test fails it must not wait for them.
    let (leave, pass) = (leave, pass);
    let send = |key: &'static str| {
        let store = store.clone();
        tokio::spawn(async move { store.put(PutRequest::new(key, "v")).await })
    };
    let begins = |what: &'static str| until(what, async || begun.try_recv().is_ok());

    let first = send("a");
    begins("the first append").await;
    long.store(true, Ordering::SeqCst);
    leave.send(()).unwrap();
    first.await.unwrap().unwrap();
    until("the first snapshot", async || {
        count.load(Ordering::SeqCst) == 1
    })
    .await;

    // It ends while the writer appends and another request waits.
    let second = send("b");
    begins("the second append").await;
    let third = send("c");
    until("a waiting request", async || {
        store.shared().waiting_bytes() > 0
    })
    .await;
    let held = Arc::strong_count(store.shared());
    pass.send(()).unwrap();
    until("the first snapshot's end", async || {
        Arc::strong_count(store.shared()) < held
    })
    .await;
    leave.send(()).unwrap();
    second.await.unwrap().unwrap();

    // A second snapshot has begun, or will: the third request does not wait for it.
    begins("the third append").await;
    leave.send(()).unwrap();
    third.await.unwrap().unwrap();
    until("the second snapshot", async || {
        count.load(Ordering::SeqCst) >= 2
    })
    .await;
    drop(pass);
    store.close().await.unwrap();
}
