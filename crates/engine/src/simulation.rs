//! What a simulation needs beside the [`Clock`](crate::Clock): a disk that loses what was not synced, and a writer that
//! is driven by a task. Not for others: it may change with every release.

use std::fmt;

use synod_store::Result;

use crate::engine::Engine;
use crate::journal::Sim;
use crate::options::EngineOptions;
pub use crate::writer::{Driver, Moment};

/// A disk in memory. Clones are the same one.
#[derive(Clone, Default)]
pub struct Disk(Sim);

impl Disk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Disk {
        Disk::default()
    }

    /// The disk as a crash at this moment may leave it: what was synced, and of the rest whatever `chance` decides. It
    /// is asked for numbers below the one that it is given.
    #[must_use]
    pub fn crash(&self, chance: impl FnMut(u64) -> u64) -> Disk {
        Disk(self.0.crash(chance))
    }

    /// After so many more calls that change something the disk does nothing any more: the power is gone.
    pub fn stop_after(&self, calls: usize) {
        self.0.stop_after(calls);
    }

    /// Whether it has stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.has_stopped()
    }

    /// How many calls changed something.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.0.ops()
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").finish_non_exhaustive()
    }
}

impl Engine {
    /// Opens the store on a simulated disk. Nothing is written until the driver runs.
    ///
    /// # Errors
    ///
    /// As [`Engine::open`].
    pub fn open_simulated(disk: &Disk, mut options: EngineOptions) -> Result<(Engine, Driver)> {
        // A crash copies the files: small ones keep that cheap, and let many be begun.
        options.journal.segment_bytes = 32 << 10;
        options.snapshot_bytes = 256 << 10;
        options.path.get_or_insert_with(|| "/data".into());
        let (engine, writer) = Engine::load(disk.0.clone(), options)?;
        Ok((engine, Driver::new(writer)))
    }
}
