//! Bytes that change by themselves, in every place of every file: refused with the file and the place, or only the last
//! group is cut; never a hole.

use synod_store::{ErrorKind, Revision};

use super::super::*;
use super::workload::{live, look, open};
use crate::journal::Sim;

/// What became of the changed bytes.
#[derive(Debug, Default)]
pub(super) struct Rotten {
    refused: usize,
    cut: usize,
    harmless: usize,
}

/// Changes a bit of each byte in turn, and opens what is left. An error when something comes back that was never there,
/// or more is missing than the last group.
pub(super) async fn change_each_byte() -> Result<Rotten, String> {
    let sim = Sim::default();
    let (story, outcome) = live(&sim, 5).await;
    outcome.unwrap();
    let sim = sim.power_loss();
    // The last group is one put, so that what is cut can be told.
    let store = open(&sim).unwrap();
    let last = put(&store, "last", "1").await;
    let whole = look(&store, Revision::ZERO).await;
    drop(store);
    let files = sim.files();
    let named = |ending: &str| {
        let mut found = files.keys().rev();
        found
            .find(|path| path.to_string_lossy().ends_with(ending))
            .expect("a file of each kind")
    };
    let (newest, _) = (named(".log"), named(".snap"));
    let mut rotten = Rotten::default();
    for (path, bytes) in &files {
        if path.to_string_lossy().contains("spare") {
            // Nothing is ever read from what is in reserve.
            continue;
        }
        for at in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << (at % 8);
            let image = sim.with_file(path, Some(bytes));
            let how = format!("{} at {at}", path.display());
            let store = match open(&image) {
                Ok(store) => store,
                Err(error) => {
                    let text = error.to_string();
                    let says = match error.kind() {
                        ErrorKind::Corrupt => {
                            text.contains("/d/") && text.contains("damaged at offset")
                        }
                        ErrorKind::NewerFormat | ErrorKind::InvalidAddress => text.contains("/d"),
                        _ => false,
                    };
                    if !says {
                        return Err(format!("{how}: {:?} {text}", error.kind()));
                    }
                    rotten.refused += 1;
                    continue;
                }
            };
            let seen = look(&store, Revision::ZERO).await;
            if seen.revision == whole.revision && seen.pairs == whole.pairs {
                rotten.harmless += 1;
                continue;
            }
            let cut = (seen.revision.next(), path) == (last, newest);
            if !cut
                || seen
                    .pairs
                    .iter()
                    .any(|(at, pairs)| story.pairs.get(at) != Some(pairs))
            {
                return Err(format!(
                    "{how}: revision {} holds {:?}",
                    seen.revision, seen.pairs
                ));
            }
            rotten.cut += 1;
        }
    }
    Ok(rotten)
}

#[tokio::test]
async fn every_changed_byte_is_refused_by_name_or_costs_the_last_group_alone() {
    let rotten = change_each_byte().await.unwrap();
    println!("engine, a bit of each byte changed: {rotten:?}, holes 0");
    assert!(
        rotten.refused > 1_500 && rotten.cut > 28 && rotten.harmless > 0,
        "{rotten:?}"
    );
}
