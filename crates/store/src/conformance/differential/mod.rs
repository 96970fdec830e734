//! Random histories, applied to two stores at once, with every answer compared.
//!
//! # How it works
//!
//! 1. A seed makes a history: ranges of every shape, puts, deletes, nested transactions with every
//!    compare, leases, old and future revisions, compactions, and watches that stay open.
//! 2. Both stores are emptied. From then on revisions count from where each store is, so a store
//!    that was used before can take part.
//! 3. Each step is asked of both, and the answers are compared as they are, but for what must
//!    differ: the identities in headers, the time that is left of a lease, the words of an error
//!    (not its kind).
//! 4. At the end every key is put and deleted once more, so that each watch has an end to be read
//!    to; then both stores' watches must have told the same events, each revision whole.
//! 5. A history that shows a difference is made shorter, step by step, as long as it shows one.
//!
//! # What is not compared
//!
//! When a watch and a compaction race, a store may answer either way: the watch may end as
//! compacted after any part of its events, and pairs before an event may be gone. Both are allowed
//! once a compaction has happened while the watch stood. Deletes at a compact revision are not
//! compared when one side has the quirk to lose them.

mod answer;
mod apply;
mod generate;
mod shrink;

use std::fmt;
use std::time::Duration;

use crate::Result;

use super::factory::{Instance, Quirk};

use answer::Told;
use apply::Live;
pub use generate::Step;

/// How long a watch may take to tell what it has to tell.
const PATIENCE: Duration = Duration::from_secs(10);

/// A store that takes part. Nobody else may use it meanwhile, and all its keys are deleted.
#[derive(Debug)]
pub struct Side<'a> {
    /// What to call it.
    pub name: &'a str,
    /// The store.
    pub instance: &'a Instance,
    /// What is known to be wrong with it.
    pub quirks: &'a [Quirk],
}

/// What a history that showed no difference did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests that both answered alike.
    pub answers: usize,
    /// Of these, the ones that both refused.
    pub refusals: usize,
    /// Events that the watches of both told alike.
    pub events: usize,
    /// Revisions that were taken.
    pub revisions: u64,
}

impl Tally {
    /// Adds another history's.
    pub fn add(&mut self, other: Tally) {
        self.answers += other.answers;
        self.refusals += other.refusals;
        self.events += other.events;
        self.revisions += other.revisions;
    }
}

/// Two stores answered differently.
#[derive(Debug)]
pub struct Difference {
    /// The seed of the whole history.
    pub seed: u64,
    /// A short history that shows a difference.
    pub history: Vec<Step>,
    /// What differs.
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {}", self.seed, self.what)?;
        writeln!(
            f,
            "after these steps, with revisions counted from the beginning:"
        )?;
        for step in &self.history {
            writeln!(f, "  {step:?}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Difference {}

/// Applies the history of a seed, of so many steps, to two stores.
///
/// # Errors
///
/// The difference that they show, with a history as short as could be found quickly.
pub async fn compare(
    left: &Side<'_>,
    right: &Side<'_>,
    seed: u64,
    steps: usize,
) -> std::result::Result<Tally, Difference> {
    let history = generate::history(seed, steps);
    match play(left, right, seed, &history, PATIENCE).await {
        Ok(tally) => Ok(tally),
        Err(what) => Err(shrink::shrink(left, right, seed, history, what).await),
    }
}

/// Plays a history on both sides.
async fn play(
    left: &Side<'_>,
    right: &Side<'_>,
    seed: u64,
    history: &[Step],
    patience: Duration,
) -> std::result::Result<Tally, String> {
    let begin = |side| Live::begin(side, seed);
    let (mut a, mut b) = both(left, right, begin(left).await, begin(right).await)?;
    let mut tally = Tally::default();
    for step in history {
        let (of_a, of_b) = futures_util::future::join(a.apply(step), b.apply(step)).await;
        if of_a != of_b {
            return Err(format!(
                "{step:?} is answered\n  by {}: {of_a:?}\n  by {}: {of_b:?}",
                left.name, right.name
            ));
        }
        tally.answers += 1;
        tally.refusals += usize::from(of_a.is_refusal());
    }
    let (end_a, end_b) = both(left, right, a.end().await, b.end().await)?;
    if end_a != end_b {
        return Err(format!(
            "the history ends\n  on {}: {end_a:?}\n  on {}: {end_b:?}",
            left.name, right.name
        ));
    }
    tally.revisions = end_a.last.0;
    let forgetful = [left, right]
        .iter()
        .any(|side| side.quirks.contains(&Quirk::DeleteMissingAtCompactRevision));
    let (told_a, told_b) =
        futures_util::future::join(a.read(end_a, patience), b.read(end_a, patience)).await;
    for (of_a, of_b) in told_a.into_iter().zip(told_b) {
        let request = of_a.request.clone();
        let (of_a, of_b) = if forgetful {
            (of_a.without_lost_deletes(), of_b.without_lost_deletes())
        } else {
            (of_a, of_b)
        };
        tally.events += Told::compare(&of_a, &of_b).map_err(|what| {
            format!(
                "{request:?}: {what}\n  {} told {of_a:?}\n  {} told {of_b:?}",
                left.name, right.name
            )
        })?;
    }
    both(left, right, a.clean().await, b.clean().await)?;
    Ok(tally)
}

/// Both results, or which side failed.
fn both<T>(
    left: &Side<'_>,
    right: &Side<'_>,
    a: Result<T>,
    b: Result<T>,
) -> std::result::Result<(T, T), String> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (Err(error), _) => Err(format!("{} failed: {error:?}", left.name)),
        (_, Err(error)) => Err(format!("{} failed: {error:?}", right.name)),
    }
}
