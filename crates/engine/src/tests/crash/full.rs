//! A full disk on which the log shrinks when what it holds was deleted, with a crash after each call meanwhile.

use synod_store::{ErrorKind, KeyRange, PutRequest, Store};

use super::super::*;
use super::images::{Tried, try_images};
use super::workload::{Story, open};
use crate::journal::Sim;

#[tokio::test]
async fn a_crash_while_the_log_shrinks_on_a_full_disk_changes_nothing() {
    let sim = Sim::default();
    let mut story = Story::new();
    let store = open(&sim).unwrap();
    sim.set_capacity(Some(20 << 10));
    story.mark(&sim, &store).await;
    let mut shrunk = Vec::new();
    for round in 0..2 {
        let mut puts = 0;
        loop {
            let put = PutRequest::new(format!("{round}/{puts}"), vec![b'v'; 300]);
            let answer = store.put(put).await;
            story.mark(&sim, &store).await;
            match answer {
                Ok(_) => puts += 1,
                Err(error) => break assert_eq!(error.kind(), ErrorKind::NoSpace),
            }
            assert!(puts < 100, "the disk never fills up");
        }
        // No segment of the usual size fits, but a small snapshot does.
        sim.set_capacity(Some(sim.used() + 800));
        let begin = sim.ops();
        let used = sim.used();
        delete(&store, KeyRange::all()).await;
        story.mark(&sim, &store).await;
        let head = store.status().await.unwrap().header.revision;
        store.compact(head, true).await.unwrap();
        story.mark(&sim, &store).await;
        store.defragment().await.unwrap();
        story.mark(&sim, &store).await;
        assert!(sim.used() < used / 2, "{} of {used}", sim.used());
        put(&store, "kept", "1").await;
        story.mark(&sim, &store).await;
        shrunk.push((begin, sim.ops()));
        sim.set_capacity(Some(20 << 10));
    }
    let calls = shrunk.into_iter().flat_map(|(begin, end)| begin..=end);
    let Tried {
        images, reopened, ..
    } = try_images(&sim, &story, calls).await;
    println!("engine, a full disk: {images} images, {reopened} opened, acknowledged lost 0");
    assert!(images > 1_000 && reopened > 10, "{images}, {reopened}");
}
