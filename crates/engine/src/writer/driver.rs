//! [`Driver`]: a writer that works in a task instead of a thread of its own, for simulations that run in one thread.
//!
//! It takes the same steps in the same order as the thread does (`Writer::run`), and lets the simulation pass time
//! between them, where the thread would wait for the disk: that is where a crash finds it.

use std::fmt;
use std::time::Duration;

use super::group::Group;
use super::{LastWords, Queued, Turn, Writer};

/// A moment of a group of requests at which the simulation may let time pass, or end it all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// The group was carried out in memory. Nobody sees it, and nothing of it is on the disk.
    Applied,
    /// It is durable. Nobody sees it, and nobody has an answer.
    Durable,
}

/// The writer of an engine that was opened for a simulation. Dropped, it is gone like the thread of a process that
/// was killed.
pub struct Driver {
    writer: Writer,
    last_words: LastWords,
}

impl Driver {
    pub(crate) fn new(writer: Writer) -> Driver {
        let last_words = LastWords(std::sync::Arc::clone(&writer.shared));
        Driver { writer, last_words }
    }

    /// Works until the engine is closed. `pause` is awaited at each [`Moment`] of each group that changes something.
    ///
    /// With `answers_early` it breaks its promise on purpose, and answers before the group is durable: what checks a
    /// store can be checked with it.
    pub async fn run(self, answers_early: bool, mut pause: impl AsyncFnMut(Moment)) {
        let Driver { mut writer, .. } = self;
        let _last_words = self.last_words;
        loop {
            let first = next_command(&mut writer).await;
            let mut turn = Turn::default();
            let base = writer.apply(first, &mut turn);
            let changes = turn.group.count > 0;
            if changes && answers_early {
                let mut late = Group::default();
                late.records = std::mem::take(&mut turn.group.records);
                late.count = std::mem::take(&mut turn.group.count);
                if let Some(reply) = writer.conclude(turn, Ok(())) {
                    writer.close(reply);
                    return;
                }
                pause(Moment::Applied).await;
                // Its callers know nothing of a failure any more.
                let _ = writer.make_durable(&mut late, base);
                pause(Moment::Durable).await;
            } else {
                if changes {
                    pause(Moment::Applied).await;
                }
                let durable = writer.make_durable(&mut turn.group, base);
                if changes {
                    pause(Moment::Durable).await;
                }
                if let Some(reply) = writer.conclude(turn, durable) {
                    writer.close(reply);
                    return;
                }
            }
            writer.maintain();
            // What else is done by a thread of its own is waited for: nothing happens beside the simulation.
            writer.finish_snapshot();
        }
    }
}

/// As the thread's `Writer::next_command`, with a timer for its wait.
async fn next_command(writer: &mut Writer) -> Option<Queued> {
    if let Some(queued) = writer.held.take() {
        return Some(queued);
    }
    if let Ok(queued) = writer.commands.try_recv() {
        return Some(queued);
    }
    let wait = writer.wait();
    let shared = std::sync::Arc::clone(&writer.shared);
    let before = shared.clock.now();
    let rung = shared.bell.notified();
    match wait {
        Some(wait) => drop(tokio::time::timeout(wait, rung).await),
        None => rung.await,
    }
    let waited = shared.clock.now().saturating_sub(before);
    let on_purpose = waited.min(wait.unwrap_or(Duration::MAX));
    writer.upkeep.waited(on_purpose);
    writer.commands.try_recv().ok()
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}
