//! A crash after each call to the disk, with each image of the disk that it may leave.

use synod_store::Revision;

use super::super::*;
use super::step;
use super::workload::{Mark, Story, TURNS, live, look, open};
use crate::journal::Sim;

/// Opens an image, holds what it shows against the story, works on, loses power again, and looks once more.
/// What is wrong, if anything.
pub(super) async fn object(story: &Story, image: &Sim, bounds: (&Mark, &Mark)) -> Option<String> {
    let store = match open(image) {
        Ok(store) => store,
        Err(error) => return Some(format!("it does not open: {error}")),
    };
    let seen = look(&store, Revision::ZERO).await;
    if let Some(objection) = story.objection(&seen, bounds) {
        return Some(objection);
    }
    if put(&store, "next", "1").await != seen.revision.next() {
        return Some("it does not go on where it was".to_owned());
    }
    drop(store);
    let again = match open(&image.power_loss()) {
        Ok(store) => store,
        Err(error) => return Some(format!("it does not open a second time: {error}")),
    };
    let found = look(&again, seen.revision).await;
    if found.revision != seen.revision.next() || !found.pairs[&found.revision].contains("next") {
        return Some(format!("the second time it is at {}", found.revision));
    }
    None
}

/// What came of trying images.
#[derive(Default)]
pub(super) struct Tried {
    pub(super) images: usize,
    pub(super) reopened: usize,
    /// Of those, how many were left by a crash amid a write.
    pub(super) cut: usize,
}

/// Holds the images that a crash after each of these calls may leave against the story, each `step()`th of them.
pub(super) async fn try_images(
    sim: &Sim,
    story: &Story,
    calls: impl Iterator<Item = usize>,
) -> Tried {
    let mut tried = Tried::default();
    let all = sim.ops();
    for ops in calls {
        let bounds = story.bounds(ops);
        for (how, image) in sim.images(ops) {
            tried.images += 1;
            if tried.images % step() != 0 {
                continue;
            }
            if let Some(objection) = object(story, &image, bounds).await {
                panic!("after call {ops} of {all}, {how}: {objection}");
            }
            tried.reopened += 1;
            tried.cut += usize::from(bounds.0.revision != bounds.1.revision);
        }
    }
    tried
}

#[tokio::test]
async fn whatever_a_crash_leaves_all_acknowledged_is_there_and_nothing_half() {
    let sim = Sim::default();
    let (story, outcome) = live(&sim, TURNS).await;
    outcome.unwrap();
    let calls = sim.ops();
    let tried = try_images(&sim, &story, 0..=calls).await;
    let Tried {
        images,
        reopened,
        cut,
    } = tried;
    println!(
        "engine: {calls} calls to the disk, {images} images, {reopened} opened, {cut} amid a write, \
         acknowledged lost 0"
    );
    assert!(
        calls > 200 && images > 5_000,
        "{calls} calls, {images} images"
    );
    assert!(
        reopened >= images / step() && cut > 100,
        "{reopened}, {cut}"
    );
}

#[tokio::test]
async fn a_second_crash_while_it_recovers_changes_nothing() {
    let sim = Sim::default();
    let (story, outcome) = live(&sim, TURNS).await;
    outcome.unwrap();
    let mut firsts = 0;
    let (mut tried, mut images) = (0, 0);
    for ops in 0..=sim.ops() {
        let bounds = story.bounds(ops);
        for (how, image) in sim.images(ops) {
            firsts += 1;
            if firsts % (step() * 5) != 0 {
                continue;
            }
            let before = image.ops();
            drop(open(&image).unwrap());
            for again in before..=image.ops() {
                for (how2, second) in image.images(again) {
                    tried += 1;
                    if tried % step() != 0 {
                        continue;
                    }
                    if let Some(objection) = object(&story, &second, bounds).await {
                        panic!("after call {ops}, {how}; then after {again}, {how2}: {objection}");
                    }
                    images += 1;
                }
            }
        }
    }
    println!("engine, two crashes: {tried} images, {images} opened, acknowledged lost 0");
    assert!(images >= tried / step() && images > 20, "{images}");
}
