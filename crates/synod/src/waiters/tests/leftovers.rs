//! Keys that must not stay are found, however late.

use std::sync::Arc;
use std::time::Duration;

use super::super::leftovers::Leftovers;
use synod_store::Revision;

use super::super::{Join, Vigils, join};
use super::{count, lease, request};
use crate::testing::{Fault, Faulty, runtime, until, until_async};

const PATIENCE: Duration = Duration::from_millis(100);

/// Vigils whose leftovers soon count as old.
fn vigils(faulty: &Faulty) -> Vigils {
    let store = Arc::new(faulty.clone());
    let leftovers = Leftovers::new(store.clone());
    let leftovers = leftovers.with_times(Duration::from_millis(20), Duration::from_millis(20));
    Vigils::new(store).with_leftovers(leftovers)
}

#[tokio::test]
async fn a_copy_that_comes_very_late_is_found_as_long_as_the_lease_lives() {
    let faulty = Faulty::new();
    let vigils = vigils(&faulty);
    let lease = lease(&faulty).await;
    faulty.script([Fault::Late]);
    let place = join::join(&vigils, request("a", lease), None)
        .await
        .unwrap();
    assert_eq!(vigils.leftovers().len(), 0);
    assert!(place.leave().await.unwrap());
    // It is not given up after the time in which leftovers are looked for often.
    let txns = faulty.txns();
    until(|| faulty.txns() > txns + 10).await;
    assert_eq!(vigils.leftovers().len(), 1);
    faulty.deliver_late().await;
    until_async(async || count(&faulty).await == 0).await;
    faulty.engine.lease_revoke(lease).await.unwrap();
    until(|| vigils.leftovers().len() == 0).await;
}

#[tokio::test]
async fn a_key_whose_deletion_is_not_answered_goes_when_the_store_is_back() {
    let faulty = Faulty::new();
    let vigils = vigils(&faulty);
    let lease = lease(&faulty).await;
    let mut places = Vec::new();
    for number in 0..100 {
        let request = Join {
            patience: PATIENCE,
            ..request(&number.to_string(), lease)
        };
        places.push(join::join(&vigils, request, None).await.unwrap());
    }
    faulty.always(Some(Fault::Refuse));
    drop(places);
    until(|| vigils.leftovers().len() == 100).await;
    let txns = faulty.txns();
    until(|| faulty.txns() > txns + 5).await;
    assert_eq!(count(&faulty).await, 100);
    faulty.always(None);
    until_async(async || count(&faulty).await == 0).await;
    until(|| vigils.leftovers().len() == 0).await;
    // Another one begins the work anew.
    let request = Join {
        patience: PATIENCE,
        ..request("again", lease)
    };
    let place = join::join(&vigils, request, None).await.unwrap();
    faulty.always(Some(Fault::Drop));
    drop(place);
    until(|| vigils.leftovers().len() == 1).await;
    faulty.always(None);
    until(|| vigils.leftovers().len() == 0).await;
    assert_eq!(count(&faulty).await, 0);
}

#[tokio::test]
async fn a_key_of_the_same_name_that_is_not_the_own_one_stays() {
    let faulty = Faulty::new();
    let vigils = vigils(&faulty);
    let lease = lease(&faulty).await;
    let request = Join {
        patience: PATIENCE,
        ..request("a", lease)
    };
    let place = join::join(&vigils, request, None).await.unwrap();
    let key = place.key().clone();
    faulty.always(Some(Fault::Refuse));
    drop(place);
    until(|| vigils.leftovers().len() == 1).await;
    let delete = synod_store::DeleteRequest::new(key.clone());
    faulty.engine.delete(delete).await.unwrap();
    let put = synod_store::PutRequest::new(key, "another's");
    faulty.engine.put(put).await.unwrap();
    faulty.always(None);
    until(|| vigils.leftovers().len() == 0).await;
    assert_eq!(count(&faulty).await, 1);
}

/// A guard can be dropped when its runtime is over, or is just ending.
#[test]
fn what_is_left_by_a_runtime_that_has_ended_is_deleted_in_another() {
    for fault in [Fault::None, Fault::Lose] {
        let (first, second) = (runtime(), runtime());
        let faulty = second.block_on(async { Faulty::new() });
        let vigils = Vigils::new(Arc::new(faulty.clone()));
        let place = first.block_on(async {
            let lease = lease(&faulty).await;
            faulty.script([fault]);
            join::join(&vigils, request("a", lease), None)
                .await
                .unwrap()
        });
        drop(first);
        second.block_on(async {
            drop(place);
            until_async(async || count(&faulty).await == 0).await;
        });
    }
}

/// The task that looks for leftovers ran in one runtime, and some of them belong to a session that another keeps.
#[test]
fn leftovers_are_looked_for_where_their_sessions_are_kept() {
    let (first, second) = (runtime(), runtime());
    let faulty = second.block_on(async { Faulty::new() });
    let vigils = Vigils::new(Arc::new(faulty.clone()));
    let (lease, place) = second.block_on(async {
        let lease = lease(&faulty).await;
        let request = Join {
            patience: PATIENCE,
            ..request("a", lease)
        };
        (lease, join::join(&vigils, request, None).await.unwrap())
    });
    faulty.always(Some(Fault::Refuse));
    let leftovers = vigils.leftovers();
    leftovers.add(first.handle(), "line/b".into(), lease, Revision(2));
    drop(place);
    second.block_on(until(|| leftovers.len() == 2));
    first.shutdown_background();
    faulty.always(None);
    second.block_on(until(|| leftovers.len() == 0));
    assert_eq!(second.block_on(count(&faulty)), 0);
}

/// As above, at the end of a program.
#[test]
fn leftovers_do_not_hold_up_a_runtime_that_ends() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let handle = runtime.handle().clone();
    let vigils = runtime.block_on(async { Vigils::new(crate::testing::engine()) });
    runtime.shutdown_background();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let leftovers = vigils.leftovers();
        let lease = synod_store::LeaseId::new(7).unwrap();
        leftovers.expect_copies(&handle, "l/a".into(), lease);
        leftovers.add(&handle, "l/b".into(), lease, Revision(2));
        tell.send(leftovers.len()).unwrap();
    });
    assert_eq!(told.recv_timeout(Duration::from_secs(10)), Ok(2));
}
