//! Locks of all kinds: held for a while, with a write that only the holder may do.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::FusedFuture;
use synod_store::{Compare, PutRequest, Txn, TxnResponse};

use crate::client::{Me, nothing};

/// How long a client waits for its turn.
const PATIENCE: Duration = Duration::from_secs(6);
/// The key that only holders write.
pub(crate) const REGISTER: &str = "sim/register";

/// Holds it for a while, or until it is lost. Then writes all the same, as a program does that was frozen and has
/// not noticed: what holders are told to do is to make the write itself say that they still are.
async fn while_held(
    me: &Me,
    kind: &'static str,
    token: u64,
    is_owner: Compare,
    lost: impl Future<Output = ()>,
) {
    let hold = me.hold(kind, token);
    // Whatever it does meanwhile, it may be told at any time.
    let told = async {
        lost.await;
        me.unhold(hold);
    };
    let mut told = pin!(told.fuse());
    tokio::select! {
        biased;
        () = &mut told => {}
        () = me.rest(400) => {}
    }
    if kind == "write" {
        let put = PutRequest::new(REGISTER, token.to_string());
        let txn = Txn::new().when([is_owner]).and_then([put]);
        let write = async {
            let answer = me.synod.store().txn(txn).await;
            answer.map_err(|error| synod::Error::Store(Arc::new(error)))
        };
        let show = |answer: &TxnResponse| answer.succeeded.to_string();
        let write = me.does("write", token.to_string(), show, write);
        let mut write = pin!(write.fuse());
        while !write.is_terminated() {
            tokio::select! {
                biased;
                () = &mut told, if !told.is_terminated() => {}
                _ = &mut write => {}
            }
        }
    }
    me.unhold(hold);
}

macro_rules! turn {
    ($me:ident, $what:literal, $kind:literal, $take:expr, $give:ident) => {{
        let taken = $me
            .does($what, "", |taken| taken.is_some().to_string(), $take)
            .await;
        if let Ok(Some(guard)) = taken {
            let (token, owner) = (guard.fencing_token(), guard.is_owner());
            while_held($me, $kind, token, owner, guard.lost()).await;
            let _ = $me
                .does("release", token.to_string(), nothing, guard.$give())
                .await;
        }
        $me.rest(150).await;
    }};
}

/// A mutex.
pub(super) async fn mutex(me: &Me) {
    let mutex = me.synod.mutex("sim/lock");
    while me.works() {
        turn!(me, "lock", "write", mutex.lock_timeout(PATIENCE), unlock);
    }
}

/// A readers-writer lock.
pub(super) async fn rwlock(me: &Me) {
    let lock = me.synod.rwlock("sim/lock");
    while me.works() {
        if me.world.below(3) == 0 {
            turn!(me, "lock", "write", lock.write_timeout(PATIENCE), unlock);
        } else {
            turn!(me, "lock", "read", lock.read_timeout(PATIENCE), unlock);
        }
    }
}

/// A semaphore of two permits.
pub(super) async fn semaphore(me: &Me) {
    let semaphore = me.synod.semaphore("sim/lock", 2);
    while me.works() {
        turn!(
            me,
            "lock",
            "permit",
            semaphore.acquire_timeout(PATIENCE),
            release
        );
    }
}

/// An election.
pub(super) async fn election(me: &Me) {
    let election = me.synod.election("sim/lock");
    while me.works() {
        let name = me.name(0);
        turn!(
            me,
            "lock",
            "write",
            election.campaign_timeout(&name, PATIENCE),
            resign
        );
    }
}
