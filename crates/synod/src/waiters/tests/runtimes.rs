//! A client in two runtimes: what one has taken is given back although its runtime has ended, for whoever waits in the
//! other, as long as that keeps the session alive.

use synod_store::{KeyRange, RangeRequest, Store};

use crate::testing::{Fault, Faulty, runtime, soon, until, until_async};
use crate::{Client, Election, Mutex, Result, RwLock, Semaphore};

use super::TTL;

/// How many keys go with a lease.
async fn leased(faulty: &Faulty) -> usize {
    let all = RangeRequest::new(KeyRange::all()).keys_only();
    let kvs = faulty.engine.range(all).await.unwrap().kvs;
    kvs.iter().filter(|kv| kv.lease.is_some()).count()
}

/// What only one can have at a time.
trait Exclusive: Send + Sync + 'static {
    type Guard: Send + 'static;
    fn of(client: &Client) -> Self;
    fn take(&self) -> impl Future<Output = Result<Self::Guard>> + Send;
}

macro_rules! exclusive {
    ($kind:ty, $guard:ty, $client:ident => $of:expr, $this:ident => $take:expr) => {
        impl Exclusive for $kind {
            type Guard = $guard;
            fn of($client: &Client) -> Self {
                $of
            }
            async fn take(&self) -> Result<Self::Guard> {
                let $this = self;
                $take.await
            }
        }
    };
}

exclusive!(Mutex, crate::MutexGuard, client => client.mutex("x"), this => this.lock());
exclusive!(RwLock, crate::RwLockWriteGuard, client => client.rwlock("x"), this => this.write());
exclusive!(Election, crate::Leadership, client => client.election("x"), this => this.campaign("me"));
exclusive!(Semaphore, crate::SemaphorePermit, client => client.semaphore("x", 1), this => this.acquire());

/// The session lives in the second runtime, and so does the waiter: of the same client, or another.
fn a_guard_that_outlives_its_runtime_is_given_back<E: Exclusive>() {
    for waits_already in [true, false] {
        for same_client in [true, false] {
            let (first, second) = (runtime(), runtime());
            let faulty = second.block_on(async { Faulty::new() });
            let client = faulty.client(TTL);
            second.block_on(client.own_session()).unwrap();
            let held = first.block_on(E::of(&client).take()).unwrap();
            let waiter = match same_client {
                true => client.clone(),
                false => faulty.client(TTL),
            };
            let before = second.block_on(leased(&faulty));
            let waiter = E::of(&waiter);
            let wait = |waiter: E| second.spawn(async move { waiter.take().await });
            let mut waiting = None;
            let mut later = Some(waiter);
            if waits_already {
                waiting = later.take().map(wait);
                // One of the same client waits in memory for a mutex.
                let stands = async || same_client || leased(&faulty).await > before;
                second.block_on(until_async(stands));
            }
            first.shutdown_background();
            // On a thread of no runtime.
            drop(held);
            let waiting = waiting.or_else(|| later.take().map(wait)).unwrap();
            let taken = second.block_on(soon(waiting)).unwrap().unwrap();
            second.block_on(async move { drop(taken) });
            second.block_on(until_async(async || leased(&faulty).await == 0));
        }
    }
}

/// The Txn is on its way again, or an early copy of it is, when the runtime ends.
fn a_join_that_goes_with_its_runtime_leaves_nothing<E: Exclusive>() {
    for fault in [Fault::Lose, Fault::Late] {
        let (first, second) = (runtime(), runtime());
        let faulty = second.block_on(async { Faulty::new() });
        let client = faulty.client(TTL);
        second.block_on(client.own_session()).unwrap();
        let before = faulty.txns();
        faulty.script([fault].into_iter().chain([Fault::Refuse; 10_000]));
        let joins = E::of(&client);
        first.spawn(async move { joins.take().await });
        second.block_on(until(|| faulty.txns() > before + 2));
        first.shutdown_background();
        faulty.script([]);
        let other = E::of(&faulty.client(TTL));
        second.block_on(async {
            drop(soon(other.take()).await.unwrap());
            faulty.deliver_late().await;
            until_async(async || leased(&faulty).await == 0).await;
        });
    }
}

macro_rules! outlive_a_runtime {
    ($($module:ident: $kind:ty),*) => {$(
        mod $module {
            use super::*;

            #[test]
            fn a_guard_is_given_back() {
                a_guard_that_outlives_its_runtime_is_given_back::<$kind>();
            }

            #[test]
            fn a_join_leaves_nothing() {
                a_join_that_goes_with_its_runtime_leaves_nothing::<$kind>();
            }
        }
    )*};
}

outlive_a_runtime!(mutexes: Mutex, rwlocks: RwLock, elections: Election, semaphores: Semaphore);
