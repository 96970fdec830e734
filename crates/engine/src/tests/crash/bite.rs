//! Engines broken on purpose: the checks of this folder must notice each of them.

use super::images::object;
use super::workload::{TURNS, live};
use crate::journal::{Faith, Sim, trust_frames};

/// How many images it takes until one is objected to, and what is said of it.
async fn noticed(faith: Faith) -> Option<(usize, String)> {
    let sim = Sim::default();
    sim.set_faith(faith);
    let (story, outcome) = live(&sim, TURNS).await;
    outcome.unwrap();
    let mut images = 0;
    for ops in 0..=sim.ops() {
        for (_, image) in sim.images(ops) {
            images += 1;
            if images % 7 != 0 {
                continue;
            }
            if let Some(objection) = object(&story, &image, story.bounds(ops)).await {
                return Some((images, objection));
            }
        }
        assert!(
            images < 20_000 || faith == Faith::Kept,
            "nothing is noticed"
        );
    }
    None
}

#[tokio::test]
async fn an_engine_that_acknowledges_before_its_sync_is_noticed() {
    let (images, objection) = noticed(Faith::Late).await.expect("nobody objects");
    println!("acknowledges before its sync: noticed in image {images}: {objection}");
}

#[tokio::test]
async fn an_engine_that_never_syncs_is_noticed() {
    let (images, objection) = noticed(Faith::Never).await.expect("nobody objects");
    println!("never syncs: noticed in image {images}: {objection}");
}

#[tokio::test]
async fn an_engine_that_skips_its_checksums_is_noticed() {
    let _trusting = trust_frames();
    let objection = super::rot::change_each_byte()
        .await
        .expect_err("nobody objects");
    let place: String = objection.chars().take(80).collect();
    println!("skips its checksums: noticed: {place} ...");
}
