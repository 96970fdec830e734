//! Operations whose alternative the store searches for.

use std::time::Duration;

use synod_store::{Compare, DeleteRequest, Key, KeyRange, PutRequest, Replies};

use super::{Alternative, Outcome, Search, Work};
use crate::testing::{FAULTS, Fault, Faulty, engine};

fn key(number: usize) -> Key {
    Key::from(format!("c/{number:02}"))
}

/// Deletes the first of `from..to` that is there, if nothing lies before them.
fn first_of(from: usize, to: usize) -> (Work, Search) {
    let empty_to = |number| Compare::absent(KeyRange::Between(key(0), key(number)));
    let alternative = |number| Alternative {
        guards: vec![Compare::version(
            key(number),
            synod_store::CompareOp::Equal,
            1,
        )],
        ops: vec![DeleteRequest::new(key(number)).into()],
    };
    let work = Work {
        first: alternative(from),
        others: (from + 1..to).map(alternative).collect(),
    };
    let search = Search {
        common: (from > 0).then(|| empty_to(from)).into_iter().collect(),
        splits: (from + 1..to)
            .map(|number| vec![empty_to(number)])
            .collect(),
    };
    (work, search)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_takes_the_first_that_is_left_whatever_is_lost() {
    for replies in [Replies::Certain, Replies::Lossy] {
        let faults: &[Fault] = if replies == Replies::Lossy {
            &FAULTS
        } else {
            &[]
        };
        for fault in faults.iter().copied().chain([Fault::None]) {
            let faulty = Faulty::over(engine(), replies);
            let client = faulty.client(Duration::from_secs(20));
            let settle = client.settle();
            settle.run(Work::new(vec![], vec![])).await.unwrap();
            for (from, to) in [(0, 1), (0, 2), (0, 5), (3, 4), (3, 11), (6, 13)] {
                for gone in 0..13 {
                    for number in 0..12 {
                        let put = PutRequest::new(key(number), "");
                        faulty.engine.put(put).await.unwrap();
                    }
                    let dead = KeyRange::Between(key(0), key(gone));
                    faulty
                        .engine
                        .delete(DeleteRequest::new(dead))
                        .await
                        .unwrap();
                    // Those that are left are new.
                    let all = KeyRange::Between(key(gone), key(99));
                    faulty.engine.delete(DeleteRequest::new(all)).await.unwrap();
                    for number in gone..12 {
                        let put = PutRequest::new(key(number), "");
                        faulty.engine.put(put).await.unwrap();
                    }
                    let (work, search) = first_of(from, to);
                    faulty.script([fault]);
                    let outcome = settle.search_to_end(work, Some(search)).await.unwrap();
                    faulty.deliver_late().await;
                    let hit = (from..to.min(12)).contains(&gone);
                    match outcome {
                        Outcome::Done { alternative, .. } => {
                            assert!(hit, "{from}..{to}, {gone}: {alternative}");
                            assert_eq!(from + alternative, gone, "{from}..{to}");
                        }
                        Outcome::GuardsFalse => assert!(!hit, "{from}..{to}, {gone}"),
                    }
                    let left = synod_store::RangeRequest::new(KeyRange::prefix("c/"));
                    let left = faulty.engine.range(left).await.unwrap().kvs.len();
                    assert_eq!(left, 12 - gone.min(12) - usize::from(hit), "{fault:?}");
                }
            }
        }
    }
}
