//! The double barrier on every store: in process, served, and on real etcd clusters.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use synod::store::{KeyRange, PutRequest, RangeRequest};
use synod::{Client, DoubleBarrier, Error, Result, Session};
use synod_tests::stores::{Kind, TestStore};
use synod_tests::{each_store, wait};
use tokio::task::JoinHandle;

/// Long enough for a wait that should not end to show that it does.
const MOMENT: Duration = Duration::from_millis(200);

/// A client with a connection of its own.
async fn client(store: &TestStore) -> Client {
    store.another_client().await
}

/// A participant with a connection and a session of its own, in either layout.
struct Participant {
    barrier: Arc<DoubleBarrier>,
    session: Session,
}

impl Participant {
    async fn new(store: &TestStore, count: u32, go: bool) -> Participant {
        let client = client(store).await;
        let session = client.session().await.unwrap();
        let mut barrier = client.double_barrier("d", count).with_session(&session);
        if go {
            barrier = barrier.go_compatible();
        }
        Participant {
            barrier: Arc::new(barrier),
            session,
        }
    }

    /// Begins to enter, and has its place when this returns; so must others before it.
    async fn entering(&self, inside: usize) -> JoinHandle<Result<()>> {
        let barrier = Arc::clone(&self.barrier);
        let entering = tokio::spawn(async move { barrier.enter().await });
        self.until_places(inside).await;
        entering
    }

    fn leaving(&self) -> JoinHandle<Result<()>> {
        let barrier = Arc::clone(&self.barrier);
        tokio::spawn(async move { barrier.leave().await })
    }

    /// How many places are taken.
    async fn places(&self) -> usize {
        let keys = all_keys(self.barrier.client()).await;
        let place = |key: &&String| key.contains("/place/") || key.contains("/waiters/");
        keys.iter().filter(place).count()
    }

    async fn until_places(&self, count: usize) {
        wait::until(format!("{count} places are taken"), || async {
            self.places().await == count
        })
        .await;
    }

    /// Its process dies, and the time to live of its lease has run out.
    async fn die(&self) {
        let store = self.barrier.client().store();
        store.lease_revoke(self.session.lease()).await.unwrap();
    }
}

async fn all_keys(client: &Client) -> Vec<String> {
    let all = RangeRequest::new(KeyRange::all()).keys_only();
    let kvs = client.store().range(all).await.unwrap().kvs;
    kvs.into_iter().map(|kv| kv.key.to_string()).collect()
}

/// Goes on, soon.
async fn through(waiter: JoinHandle<Result<()>>) {
    wait::soon("a participant goes on", waiter)
        .await
        .unwrap()
        .unwrap();
}

/// Ends with the loss of the session, soon.
async fn lost(waiter: JoinHandle<Result<()>>) {
    let error = wait::soon("a participant is told", waiter)
        .await
        .unwrap()
        .unwrap_err();
    assert!(error.is_session_lost(), "{error}");
}

/// Still waits after a moment.
async fn waits(waiter: &JoinHandle<Result<()>>) {
    tokio::time::sleep(MOMENT).await;
    assert!(!waiter.is_finished());
}

/// Participants that go through rounds; each checks that nobody is ahead or behind.
async fn rounds(participants: Vec<DoubleBarrier>, rounds: usize) {
    let count = participants.len();
    let entered = Arc::new(AtomicUsize::new(0));
    let left = Arc::new(AtomicUsize::new(0));
    let tasks = participants.into_iter().map(|barrier| {
        let (entered, left) = (Arc::clone(&entered), Arc::clone(&left));
        tokio::spawn(async move {
            for round in 1..=rounds {
                entered.fetch_add(1, Ordering::SeqCst);
                barrier.enter().await.unwrap();
                let now = entered.load(Ordering::SeqCst);
                assert_eq!(now, round * count, "all have entered, and nobody twice");
                left.fetch_add(1, Ordering::SeqCst);
                barrier.leave().await.unwrap();
                let now = left.load(Ordering::SeqCst);
                assert!(now >= round * count, "{now} have left in round {round}");
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

/// Rounds that a store of this kind does in good time.
fn some(kind: Kind, most: usize) -> usize {
    match kind {
        Kind::Memory => most,
        Kind::File | Kind::Served => most / 4,
        Kind::Etcd1 | Kind::Etcd3 => most / 10,
    }
}

each_store! {
    async fn all_enter_together_and_leave_together(store: TestStore) {
        for go in [false, true] {
            let mut participants = Vec::new();
            for _ in 0..4 {
                let barrier = client(&store).await.double_barrier("d", 4);
                participants.push(if go { barrier.go_compatible() } else { barrier });
            }
            rounds(participants, 10).await;
        }
    }

    /// Go's recipe hangs in it.
    async fn reuse_32_participants_100_times(store: TestStore) {
        let some = some(store.kind(), 100);
        let mut participants = Vec::new();
        for number in 0..32 {
            // Some on one client, some on their own.
            let barrier: DoubleBarrier = match participants.last() {
                Some(last) if number % 4 != 0 => DoubleBarrier::clone(last),
                _ => client(&store).await.double_barrier("d", 32),
            };
            participants.push(barrier);
        }
        rounds(participants, some).await;
    }

    async fn a_hundred_participants(store: TestStore) {
        let first = client(&store).await.double_barrier("d", 100);
        let participants = (0..100).map(|_| first.clone()).collect();
        rounds(participants, 2).await;
    }

    /// Go's recipe up to 3.5.5 lets more in than the count.
    async fn issue_14603_one_too_many(store: TestStore) {
        for go in [false, true] {
            let mut guests = Vec::new();
            for _ in 0..4 {
                guests.push(Participant::new(&store, 3, go).await);
            }
            let first = guests[0].entering(1).await;
            let second = guests[1].entering(2).await;
            let third = guests[2].entering(3).await;
            for guest in [first, second, third] {
                through(guest).await;
            }
            let error = guests[3].barrier.enter().await.unwrap_err();
            assert!(matches!(error, Error::TooManyParticipants { count: 3, .. }), "{error}");
            guests[3].until_places(3).await;
            let leaving: Vec<_> = guests[..3].iter().map(Participant::leaving).collect();
            for leaving in leaving {
                through(leaving).await;
            }
            guests[0].until_places(0).await;
        }
    }

    /// Any number press in; a round never has more than its count, and never two of one place.
    async fn issue_14603_a_crowd_at_the_door(store: TestStore) {
        let count = 3;
        let inside = Arc::new(AtomicUsize::new(0));
        let mut crowd = Vec::new();
        for _ in 0..8 {
            let barrier = client(&store).await.double_barrier("d", count);
            let inside = Arc::clone(&inside);
            crowd.push(tokio::spawn(async move {
                let mut entered = 0;
                for _ in 0..30 {
                    match barrier.enter_timeout(Duration::from_millis(30)).await {
                        Ok(true) => {
                            let now = inside.fetch_add(1, Ordering::SeqCst) + 1;
                            assert!(now <= 3, "{now} are inside");
                            entered += 1;
                            inside.fetch_sub(1, Ordering::SeqCst);
                            barrier.leave().await.unwrap();
                        }
                        Ok(false) | Err(Error::TooManyParticipants { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                entered
            }));
        }
        let mut entered = 0;
        for one in crowd {
            entered += wait::soon("the crowd disperses", one).await.unwrap();
        }
        assert_eq!(entered % 3, 0, "rounds of three");
    }

    async fn all_agree_on_the_count(store: TestStore) {
        let first = Participant::new(&store, 3, false).await;
        let entering = first.entering(1).await;
        let other = client(&store).await.double_barrier("d", 2);
        let error = other.enter().await.unwrap_err();
        assert!(
            matches!(error, Error::Disagreement { stored: 3, asked: 2, .. }),
            "{error}"
        );
        entering.abort();
        first.until_places(0).await;
        // Nobody is inside: another count may be agreed on.
        rounds(vec![other.clone(), other], 2).await;
    }

    async fn a_participant_killed_between_entering_and_ready(store: TestStore) {
        for go in [false, true] {
            let mut guests = Vec::new();
            for _ in 0..4 {
                guests.push(Participant::new(&store, 3, go).await);
            }
            let first = guests[0].entering(1).await;
            let killed = guests[1].entering(2).await;
            guests[1].die().await;
            lost(killed).await;
            guests[0].until_places(1).await;
            // The dead one's place is free again: two of three are there now, and wait.
            let third = guests[2].entering(2).await;
            waits(&first).await;
            waits(&third).await;
            let fourth = guests[3].entering(3).await;
            for guest in [first, third, fourth] {
                through(guest).await;
            }
            let leaving: Vec<_> = [0, 2, 3].map(|guest: usize| guests[guest].leaving()).into();
            for leaving in leaving {
                through(leaving).await;
            }
        }
    }

    async fn the_last_to_enter_dies(store: TestStore) {
        for go in [false, true] {
            let first = Participant::new(&store, 2, go).await;
            let last = Participant::new(&store, 2, go).await;
            let entering = first.entering(1).await;
            last.barrier.enter().await.unwrap();
            last.die().await;
            through(entering).await;
            // Nobody waits for the dead.
            through(first.leaving()).await;
            let error = last.barrier.leave().await.unwrap_err();
            assert!(error.is_session_lost(), "{error}");
        }
    }

    async fn one_dies_while_others_leave(store: TestStore) {
        for go in [false, true] {
            let mut guests = Vec::new();
            for _ in 0..3 {
                guests.push(Participant::new(&store, 3, go).await);
            }
            let mut entering = Vec::new();
            for (number, guest) in guests.iter().enumerate() {
                entering.push(guest.entering(number + 1).await);
            }
            for guest in entering {
                through(guest).await;
            }
            let leaving = [guests[0].leaving(), guests[1].leaving()];
            for leaving in &leaving {
                waits(leaving).await;
            }
            guests[2].die().await;
            for leaving in leaving {
                through(leaving).await;
            }
            guests[0].until_places(0).await;
        }
    }

    /// With Go's recipe the newcomer enters with those who leave, and they wait for it.
    async fn newcomers_while_others_leave(store: TestStore) {
        let mut guests = Vec::new();
        for _ in 0..3 {
            guests.push(Participant::new(&store, 2, false).await);
        }
        let [a, b, newcomer] = &guests[..] else { panic!("three") };
        let entering = a.entering(1).await;
        b.barrier.enter().await.unwrap();
        through(entering).await;
        let round = b.barrier.round();
        let leaving = a.leaving();
        a.until_places(1).await;
        let entering = newcomer.entering(2).await;
        waits(&entering).await;
        assert!(!leaving.is_finished(), "one is still inside");
        through(b.leaving()).await;
        through(leaving).await;
        waits(&entering).await;
        // One who has left is as good as any other.
        a.barrier.enter().await.unwrap();
        through(entering).await;
        assert_eq!(a.barrier.round(), round.map(|round| round + 1));
        let leaving = [a.leaving(), newcomer.leaving()];
        for leaving in leaving {
            through(leaving).await;
        }
    }

    /// Curator's leave waits for ever, whatever it was given.
    async fn curator_233_leave_has_a_timeout(store: TestStore) {
        for go in [false, true] {
            let first = Participant::new(&store, 2, go).await;
            let last = Participant::new(&store, 2, go).await;
            let entering = first.entering(1).await;
            last.barrier.enter().await.unwrap();
            through(entering).await;
            let leaving = first.barrier.leave_timeout(MOMENT);
            let over = wait::soon("a bounded wait", leaving).await.unwrap();
            assert!(!over, "the other is inside");
            // It has left all the same.
            first.until_places(1).await;
            let over = last.barrier.leave_timeout(wait::PATIENCE);
            assert!(wait::soon("a bounded wait", over).await.unwrap());
            first.until_places(0).await;
        }
    }

    async fn a_bounded_enter_bows_out(store: TestStore) {
        for go in [false, true] {
            let mut guests = Vec::new();
            for _ in 0..3 {
                guests.push(Participant::new(&store, 2, go).await);
            }
            assert!(!guests[0].barrier.enter_timeout(MOMENT).await.unwrap());
            guests[0].until_places(0).await;
            // It is not counted.
            let second = guests[1].entering(1).await;
            waits(&second).await;
            assert!(guests[2].barrier.enter_timeout(wait::PATIENCE).await.unwrap());
            through(second).await;
            let leaving = [guests[1].leaving(), guests[2].leaving()];
            for leaving in leaving {
                through(leaving).await;
            }
        }
    }

    /// In Go's recipe, one who waits can be left alone with a count that nobody publishes.
    async fn a_waiter_dies_while_a_surplus_client_bows_out(store: TestStore) {
        for go in [false, true] {
            let mut guests = Vec::new();
            for _ in 0..4 {
                guests.push(Participant::new(&store, 3, go).await);
            }
            let first = guests[0].entering(1).await;
            let second = guests[1].entering(2).await;
            guests[0].die().await;
            let third = guests[2].barrier.enter_timeout(MOMENT);
            assert!(!third.await.unwrap(), "only two were alive");
            lost(first).await;
            let third = guests[2].entering(2).await;
            waits(&second).await;
            let fourth = guests[3].entering(3).await;
            for guest in [second, third, fourth] {
                through(guest).await;
            }
        }
    }

    async fn compaction_while_blocked(store: TestStore) {
        for go in [false, true] {
            let first = Participant::new(&store, 2, go).await;
            let last = Participant::new(&store, 2, go).await;
            let compact = async || {
                let store = first.barrier.client().store();
                for _ in 0..20 {
                    store.put(PutRequest::new("another", "")).await.unwrap();
                }
                let now = store.range(RangeRequest::new("x")).await.unwrap().header.revision;
                store.compact(now, false).await.unwrap();
            };
            let entering = first.entering(1).await;
            compact().await;
            waits(&entering).await;
            last.barrier.enter().await.unwrap();
            through(entering).await;
            let leaving = first.leaving();
            compact().await;
            waits(&leaving).await;
            compact().await;
            last.barrier.leave().await.unwrap();
            through(leaving).await;
        }
    }

    async fn who_goes_leaves_nothing(store: TestStore) {
        for go in [false, true] {
            let guest = Participant::new(&store, 2, go).await;
            // Dropped while it waits.
            let entering = guest.entering(1).await;
            entering.abort();
            guest.until_places(0).await;
            // Dropped inside, with its handle.
            let other = Participant::new(&store, 2, go).await;
            let entering = other.entering(1).await;
            guest.barrier.enter().await.unwrap();
            through(entering).await;
            let client = guest.barrier.client().clone();
            drop(guest);
            through(other.leaving()).await;
            let others = other.barrier.client().clone();
            drop(other);
            others.close().await.unwrap();
            client.close().await.unwrap();
        }
        let client = client(&store).await;
        wait::until("nothing is left", || async {
            let keys = all_keys(&client).await;
            // The lanes of other tests' clients are theirs.
            keys.iter().all(|key| key.starts_with("__synod/lane/") || key == "d/ready")
        })
        .await;
    }

    async fn a_go_program_under_the_name_is_an_error(store: TestStore) {
        let client = client(&store).await;
        let native = client.double_barrier("d", 2);
        for key in ["d/waiters/1790000000000000000", "d/ready"] {
            client.store().put(PutRequest::new(key, "")).await.unwrap();
            let error = native.enter().await.unwrap_err();
            assert!(matches!(&error, Error::GoLayout { key: found, .. } if found == key), "{error}");
            assert!(error.to_string().contains("go_compatible"), "{error}");
            client.store().delete(synod::store::DeleteRequest::new(key)).await.unwrap();
        }
        // Also for one who has been here before, and asks nobody what there is.
        rounds(vec![native.clone(), native.clone()], 1).await;
        assert!(!native.enter_timeout(Duration::ZERO).await.unwrap());
        client.store().put(PutRequest::new("d/ready", "")).await.unwrap();
        let error = native.enter().await.unwrap_err();
        assert!(matches!(error, Error::GoLayout { .. }), "{error}");
        // Neighbours are no matter.
        for name in ["dd/waiters/1", "d/waiter", "d/read/1"] {
            client.store().put(PutRequest::new(name, "")).await.unwrap();
        }
        client.store().delete(synod::store::DeleteRequest::new("d/ready")).await.unwrap();
        assert!(!native.enter_timeout(Duration::ZERO).await.unwrap());
    }
}

#[tokio::test]
async fn a_handle_is_one_participant() {
    let client = Client::connect("memory:").await.unwrap();
    let one = client.double_barrier("d", 2);
    let error = one.leave().await.unwrap_err();
    assert!(error.to_string().contains("enter first"), "{error}");
    let mut entering = std::pin::pin!(one.enter());
    assert!(futures_util::poll!(entering.as_mut()).is_pending());
    let error = one.enter().await.unwrap_err();
    assert!(error.to_string().contains("is entering"), "{error}");
    let other = DoubleBarrier::clone(&one);
    let (first, second) = tokio::join!(entering, other.enter());
    first.and(second).unwrap();
    let error = one.enter().await.unwrap_err();
    assert!(error.to_string().contains("leave first"), "{error}");
    for count in [0, 113] {
        let error = client.double_barrier("d", count).enter().await.unwrap_err();
        assert!(error.to_string().contains("between 1 and 112"), "{error}");
    }
}
