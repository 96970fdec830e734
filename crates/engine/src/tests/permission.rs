//! Requests of those who may not write every key: what waits for its sync counts, too.

use std::sync::Arc;
use std::time::Duration;

use synod_store::{
    Error, ErrorKind, LeaseGrantRequest, LeaseRevokeResponse, PutRequest, Store, Txn, TxnOp,
};
use tokio::task::JoinHandle;

use super::fake::{self, Fate, Hands};
use super::*;
use crate::{EngineOptions, Permission, Reach};

/// All keys that begin with one byte.
#[derive(Debug)]
struct Letter(u8);

impl Permission for Letter {
    fn reach(&self, key: &[u8]) -> Reach<'_> {
        const ENDS: &[u8] = b"abcdefghijklmnopqrstuvwxyz";
        match key.first() {
            Some(first) if *first == self.0 => {
                let next = ENDS
                    .iter()
                    .position(|letter| *letter == self.0 + 1)
                    .unwrap();
                Reach::To(&ENDS[next..=next])
            }
            _ => Reach::Nowhere,
        }
    }
}

fn only(letter: u8) -> Arc<dyn Permission> {
    Arc::new(Letter(letter))
}

/// An engine with a lease and one put of another key, whose append waits.
async fn held() -> (Engine, Hands, JoinHandle<synod_store::Result<()>>) {
    let (store, hands) = fake::engine(EngineOptions::memory());
    hands.fates.send(Fate::Kept).unwrap();
    let grant = LeaseGrantRequest::new(Duration::from_secs(60)).with_id(lease(1));
    store.lease_grant(grant).await.unwrap();
    hands.begun.recv().unwrap();
    let first = send(&store, PutRequest::new("other", "1"));
    begun(&hands).await;
    (store, hands, first)
}

async fn begun(hands: &Hands) {
    for _ in 0..100_000 {
        if hands.begun.try_recv().is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_micros(100)).await;
    }
    panic!("no append");
}

fn send(store: &Engine, put: PutRequest) -> JoinHandle<synod_store::Result<()>> {
    let store = store.clone();
    tokio::spawn(async move { store.put(put).await.map(drop) })
}

fn revoke(
    store: &Engine,
    permission: Arc<dyn Permission>,
) -> JoinHandle<synod_store::Result<LeaseRevokeResponse>> {
    let store = store.clone();
    tokio::spawn(async move { store.lease_revoke_as(lease(1), permission).await })
}

/// Waits until more than `bytes` of requests wait for the writer.
async fn waits(store: &Engine, bytes: usize) -> usize {
    for _ in 0..10_000 {
        let now = store.shared().waiting_bytes();
        if now > bytes {
            return now;
        }
        tokio::task::yield_now().await;
    }
    panic!("the request does not come");
}

fn denied<T: std::fmt::Debug>(answer: Result<T, Error>) {
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::PermissionDenied);
}

async fn keys_of(store: &Engine) -> Option<Vec<String>> {
    let told = store.lease_time_to_live(lease(1), true).await.unwrap();
    told.remaining?;
    Some(told.keys.iter().map(ToString::to_string).collect())
}

/// The put is carried out, waits for its sync, and nobody sees it yet: who may not delete its key does not end its lease.
#[tokio::test]
async fn a_put_that_is_not_published_yet_keeps_its_lease_from_strangers() {
    let (store, hands) = fake::engine(EngineOptions::memory());
    hands.fates.send(Fate::Kept).unwrap();
    let grant = LeaseGrantRequest::new(Duration::from_secs(60)).with_id(lease(1));
    store.lease_grant(grant).await.unwrap();
    hands.begun.recv().unwrap();
    let put = send(&store, PutRequest::new("mine", "1").with_lease(lease(1)));
    begun(&hands).await;
    assert_eq!(keys_of(&store).await, Some(vec![]), "nothing is seen");
    let stranger = revoke(&store, only(b'x'));
    waits(&store, 0).await;
    hands.fates.send(Fate::Kept).unwrap();
    put.await.unwrap().unwrap();
    denied(stranger.await.unwrap());
    assert_eq!(keys_of(&store).await, Some(vec!["mine".to_owned()]));
    // Who may write the key may end the lease.
    hands.fates.send(Fate::Kept).unwrap();
    revoke(&store, only(b'm')).await.unwrap().unwrap();
    assert_eq!(keys_of(&store).await, None);
}

/// As above, when put and revoke are carried out in one group, and when the key leaves the lease in it again.
#[tokio::test]
async fn what_a_group_did_before_counts_in_it() {
    for leaves in [false, true] {
        let (store, hands, first) = held().await;
        let mine = PutRequest::new("mine", "1").with_lease(lease(1));
        let mut puts = vec![send(&store, mine)];
        let mut bytes = waits(&store, 0).await;
        if leaves {
            puts.push(send(&store, PutRequest::new("mine", "2")));
            bytes = waits(&store, bytes).await;
        }
        let stranger = revoke(&store, only(b'x'));
        waits(&store, bytes).await;
        (0..2).for_each(|_| hands.fates.send(Fate::Kept).unwrap());
        first.await.unwrap().unwrap();
        for put in puts {
            put.await.unwrap().unwrap();
        }
        let answer = stranger.await.unwrap();
        assert_eq!(
            *hands.appends.lock().unwrap().last().unwrap(),
            if leaves { 3 } else { 1 }
        );
        if leaves {
            answer.unwrap();
            assert_eq!(keys_of(&store).await, None);
        } else {
            denied(answer);
            assert_eq!(keys_of(&store).await, Some(vec!["mine".to_owned()]));
        }
    }
}

/// Nobody attaches a key to a lease of somebody else's: neither with a put nor in a branch that is not taken.
#[tokio::test]
async fn a_key_does_not_join_a_lease_with_keys_of_others_that_wait() {
    let (store, hands, first) = held().await;
    let mine = send(&store, PutRequest::new("mine", "1").with_lease(lease(1)));
    let bytes = waits(&store, 0).await;
    let theirs = || PutRequest::new("x", "1").with_lease(lease(1));
    let put = tokio::spawn({
        let store = store.clone();
        async move { store.put_as(theirs(), only(b'x')).await }
    });
    let bytes = waits(&store, bytes).await;
    let txn = tokio::spawn({
        let store = store.clone();
        let nested = PutRequest::new("xx", "1").with_lease(lease(1));
        let inner = Txn::new().or_else([TxnOp::from(nested)]);
        let txn = Txn::new().and_then([TxnOp::from(PutRequest::new("x", "2")), TxnOp::Txn(inner)]);
        async move { store.txn_as(txn, only(b'x')).await }
    });
    let bytes = waits(&store, bytes).await;
    // Without the lease, or with a permission for its keys, it may.
    let free = tokio::spawn({
        let store = store.clone();
        async move { store.put_as(PutRequest::new("x", "3"), only(b'x')).await }
    });
    let bytes = waits(&store, bytes).await;
    let more = PutRequest::new("more", "1").with_lease(lease(1));
    let own = tokio::spawn({
        let store = store.clone();
        async move { store.put_as(more, only(b'm')).await }
    });
    waits(&store, bytes).await;
    (0..2).for_each(|_| hands.fates.send(Fate::Kept).unwrap());
    first.await.unwrap().unwrap();
    mine.await.unwrap().unwrap();
    denied(put.await.unwrap());
    denied(txn.await.unwrap());
    free.await.unwrap().unwrap();
    own.await.unwrap().unwrap();
    let both = vec!["mine".to_owned(), "more".to_owned()];
    assert_eq!(keys_of(&store).await, Some(both));
    let x = store.range(RangeRequest::new("x")).await.unwrap().kvs;
    assert_eq!((x.len(), x[0].value.as_ref()), (1, &b"3"[..]));
    // A lease without keys is anybody's, as in etcd.
    (0..2).for_each(|_| hands.fates.send(Fate::Kept).unwrap());
    let grant = LeaseGrantRequest::new(Duration::from_secs(60)).with_id(lease(2));
    store.lease_grant(grant).await.unwrap();
    let empty = PutRequest::new("x", "4").with_lease(lease(2));
    store.put_as(empty, only(b'x')).await.unwrap();
}
