//! Sessions on every store: one lease under many primitives, kept alive, and gone when it should.

use std::time::Duration;

use futures_util::StreamExt;
use synod::store::{KeyRange, PutRequest, RangeRequest, Store};
use synod::{ConnectOptions, Session, SessionState};
use synod_tests::stores::TestStore;
use synod_tests::{each_store, wait};

const TTL: Duration = wait::BRIEF;

async fn count(store: &dyn Store, prefix: &str) -> u64 {
    let range = RangeRequest::new(KeyRange::prefix(prefix)).count_only();
    store.range(range).await.unwrap().count
}

async fn put_under(store: &dyn Store, session: &Session, key: &str) {
    let put = PutRequest::new(key, "").with_lease(session.lease());
    store.put(put).await.unwrap();
}

async fn has_ended(store: &dyn Store, session: &Session) -> bool {
    let lease = store.lease_time_to_live(session.lease(), false).await;
    lease.unwrap().remaining.is_none()
}

each_store! {
    async fn a_session_is_kept_alive(store: TestStore) {
        let client = store.client();
        let session = client.session().ttl(TTL).await.unwrap();
        assert!(session.ttl() >= TTL);
        put_under(&*store.store(), &session, "k").await;
        // Each renewal makes what remains more: after four of them the first lifetime is over.
        for _ in 0..4 {
            let mut last = session.remaining();
            wait::until("a renewal", || {
                let renewed = session.remaining() > last;
                last = session.remaining();
                async move { renewed }
            })
            .await;
        }
        assert_eq!(session.state(), SessionState::Alive);
        assert_eq!(count(&*store.store(), "k").await, 1);
        session.close().await.unwrap();
        assert_eq!(count(&*store.store(), "k").await, 0);
    }

    async fn an_orphan_lives_until_its_time_has_run_out(store: TestStore) {
        let client = store.client();
        let session = client.session().ttl(TTL).await.unwrap();
        let other = session.clone();
        put_under(&*store.store(), &session, "k").await;
        let mut states = session.states();
        session.orphan();
        assert_eq!(count(&*store.store(), "k").await, 1);
        wait::soon("the stream of states ends", async {
            while let Some(state) = states.next().await {
                assert!(matches!(state, SessionState::Alive | SessionState::Closed));
            }
        })
        .await;
        assert_eq!(other.state(), SessionState::Closed);
        wait::until("the lease has run out", || async {
            has_ended(&*store.store(), &other).await
        })
        .await;
        assert_eq!(count(&*store.store(), "k").await, 0);
    }

    async fn a_dropped_session_leaves_nothing(store: TestStore) {
        let client = store.client();
        let session = client.session().ttl(Duration::from_secs(600)).await.unwrap();
        put_under(&*store.store(), &session, "k").await;
        drop(session);
        wait::until("the key has gone", || async {
            count(&*store.store(), "k").await == 0
        })
        .await;
    }

    async fn a_lease_that_is_revoked_ends_the_session(store: TestStore) {
        let client = store.client();
        let session = client.session().ttl(TTL).await.unwrap();
        let lost = session.lost();
        store.store().lease_revoke(session.lease()).await.unwrap();
        wait::soon("the session's end", lost).await;
        assert_eq!(session.state(), SessionState::Lost);
        assert!(session.check().unwrap_err().is_session_lost());
        // A session that is over needs no closing, and closing it is no error.
        session.close().await.unwrap();
    }

    /// The primitives of a client share its session; its loss ends what they hold and what waits, and
    /// the next use begins another.
    async fn many_primitives_share_one(store: TestStore) {
        let options = ConnectOptions::new("").with_session_ttl(TTL);
        let client = options.over(store.store());
        let other = store.another_client().await;
        let _in_the_way = other.mutex("taken").lock().await.unwrap();

        let lock = client.mutex("m").lock().await.unwrap();
        let leadership = client.election("e").campaign("me").await.unwrap();
        let permit = client.semaphore("s", 2).acquire().await.unwrap();
        let lease = lock.session().lease();
        assert!([leadership.session(), permit.session()].iter().all(|s| s.lease() == lease));
        let taken = client.mutex("taken");
        let waiter = tokio::spawn(async move { taken.lock().await.map(drop) });
        wait::until("the waiter's key", || async {
            count(&*store.store(), "taken/").await == 2
        })
        .await;

        let losses = [
            tokio::spawn(lock.lost()),
            tokio::spawn(leadership.lost()),
            tokio::spawn(permit.lost()),
        ];
        store.store().lease_revoke(lease).await.unwrap();
        for lost in losses {
            wait::soon("the loss", lost).await.unwrap();
        }
        let waited = wait::soon("the waiter", waiter).await.unwrap();
        assert!(waited.unwrap_err().is_session_lost());
        for released in [lock.unlock().await, leadership.resign().await, permit.release().await] {
            released.unwrap_err();
        }
        let again = client.mutex("m").lock().await.unwrap();
        assert_ne!(again.session().lease(), lease);
        let session = again.session().clone();
        client.close().await.unwrap();
        assert_eq!(session.state(), SessionState::Closed);
        assert_eq!(count(&*store.store(), "m/").await, 0);
    }
}
