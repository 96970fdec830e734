//! What a server's services share: the store, the options, and what `Info` counts.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use synod::__mechanism::waiters::Lines;
use synod_engine::Engine;
use synod_store::{Error, Header, Store};
use synod_wire::convert::error::to_status;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::ServerOptions;
use crate::auth::Accounts;
use crate::limits::Arriving;
use crate::metrics::Metrics;

/// Copies of the store that may be under way at once: each keeps history from being forgotten.
pub(crate) const MAX_COPIES: usize = 4;

/// A server's state, shared by all its listeners.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) store: Arc<dyn Store>,
    /// Where the callers of the Lock and Election services wait, with watches that all share.
    pub(crate) lines: Lines,
    /// Of an embedded store: more than every store can do.
    pub(crate) engine: Option<Engine>,
    /// Users and roles; an embedded store keeps them.
    pub(crate) accounts: Option<Accounts>,
    pub(crate) metrics: Option<Arc<Metrics>>,
    /// Copies that are being made.
    pub(crate) copies: Arc<Semaphore>,
    pub(crate) options: ServerOptions,
    pub(crate) started: SystemTime,
    pub(crate) connections: Arc<AtomicUsize>,
    pub(crate) watchers: Arc<AtomicU64>,
    /// What the watches count against their bound: those with long keys for more than one.
    pub(crate) watch_shares: Arc<AtomicU64>,
    /// Calls that end when their client wants.
    pub(crate) endless: Arc<AtomicU64>,
    /// The same of gRPC's health service, which needs no login.
    pub(crate) health: Arc<AtomicU64>,
    pub(crate) requests: AtomicU64,
    pub(crate) arriving: Arc<Arriving>,
    listening: Mutex<Vec<String>>,
}

impl State {
    pub(crate) fn new(store: Arc<dyn Store>, options: ServerOptions) -> State {
        State {
            lines: Lines::new(Arc::clone(&store)),
            store,
            engine: None,
            accounts: None,
            metrics: options.metrics.clone(),
            copies: Arc::new(Semaphore::new(MAX_COPIES)),
            options,
            started: SystemTime::now(),
            connections: Arc::default(),
            watchers: Arc::default(),
            watch_shares: Arc::default(),
            endless: Arc::default(),
            health: Arc::default(),
            requests: AtomicU64::new(0),
            arriving: Arc::default(),
            listening: Mutex::default(),
        }
    }

    /// Of an embedded store.
    pub(crate) fn embedded(engine: Engine, options: ServerOptions) -> synod_store::Result<State> {
        let (ttl, stays_on) = (options.auth_token_ttl, options.auth_stays_on);
        let accounts = Accounts::new(engine.clone(), ttl, stays_on)?;
        let mut state = State::new(Arc::new(engine.clone()), options);
        state.engine = Some(engine);
        state.accounts = Some(accounts);
        Ok(state)
    }

    /// The URLs at which the server listens.
    pub(crate) fn listening(&self) -> MutexGuard<'_, Vec<String>> {
        self.listening
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// All services of the server, as one listener's clients reach them.
#[derive(Debug, Clone)]
pub(crate) struct Api {
    pub(crate) state: Arc<State>,
    /// Ends endless calls when the listener shuts down.
    pub(crate) stop: CancellationToken,
}

impl Api {
    pub(crate) fn store(&self) -> &Arc<dyn Store> {
        &self.state.store
    }

    pub(crate) fn options(&self) -> &ServerOptions {
        &self.state.options
    }

    /// Counts a call that may last for as long as its client wants, or refuses it.
    pub(crate) fn endless(&self) -> Result<Counted, Status> {
        Counted::within(&self.state.endless, self.options().max_open_streams)
    }

    /// The header of an answer for which the store gave none.
    pub(crate) async fn header(&self) -> synod_store::Result<Header> {
        self.store().status().await.map(|status| status.header)
    }
}

/// The status that a store's failure is answered with.
#[expect(clippy::needless_pass_by_value, reason = "it is what `map_err` calls")]
pub(crate) fn status(error: Error) -> Status {
    to_status(&error)
}

/// How an endless call ends when the server does.
pub(crate) fn stopped() -> Status {
    Status::unavailable("etcdserver: server stopped")
}

/// Counts one thing for as long as it lives.
#[derive(Debug)]
pub(crate) struct Counted(Arc<AtomicU64>);

impl Counted {
    pub(crate) fn new(counter: &Arc<AtomicU64>) -> Counted {
        counter.fetch_add(1, Ordering::Relaxed);
        Counted(Arc::clone(counter))
    }

    /// One of at most so many calls.
    pub(crate) fn within(counter: &Arc<AtomicU64>, most: u64) -> Result<Counted, Status> {
        // In one step: of those who want the last place at once, one gets it.
        let more = |count: u64| (count < most).then_some(count.saturating_add(1));
        counter
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .map_err(|_| Status::resource_exhausted("synod: too many streams are open"))?;
        Ok(Counted(Arc::clone(counter)))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A share of what all together may take, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    taken: Arc<AtomicU64>,
    size: u64,
}

impl Share {
    /// None when so much is not left of `most`.
    pub(crate) fn take(taken: &Arc<AtomicU64>, size: u64, most: u64) -> Option<Share> {
        let more = |taken: u64| Some(taken.saturating_add(size)).filter(|sum| *sum <= most);
        taken
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more)
            .ok()?;
        Some(Share {
            taken: Arc::clone(taken),
            size,
        })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.size, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up_to_no_more_than_there_is() {
        let taken = Arc::default();
        let take = |size| Share::take(&taken, size, 10);
        let (four, six) = (take(4).unwrap(), take(6).unwrap());
        assert!(take(1).is_none());
        drop(four);
        assert!(take(5).is_none() && take(u64::MAX).is_none());
        let again = take(4).unwrap();
        assert!(take(1).is_none());
        drop((six, again));
        assert_eq!(taken.load(Ordering::Relaxed), 0);
    }

    /// Nobody is refused because of somebody else who is.
    #[test]
    fn one_of_those_who_want_the_last_place_gets_it() {
        const ROUNDS: usize = 20_000;
        let (open, turn, had) = (Arc::default(), AtomicUsize::new(0), AtomicUsize::new(0));
        // They go round by round: each begins as the last of them has come.
        let meet = |round: &mut usize| {
            *round += 1;
            turn.fetch_add(1, Ordering::SeqCst);
            let mut looks = 0_u32;
            while turn.load(Ordering::SeqCst) < *round * 2 {
                looks += 1;
                if looks.is_multiple_of(100) {
                    std::thread::yield_now();
                }
            }
        };
        let race = || {
            let mut round = 0;
            for _ in 0..ROUNDS {
                meet(&mut round);
                let place = Counted::within(&open, 1);
                had.fetch_add(usize::from(place.is_ok()), Ordering::Relaxed);
                meet(&mut round);
            }
        };
        std::thread::scope(|threads| {
            threads.spawn(race);
            threads.spawn(race);
        });
        assert_eq!(had.load(Ordering::Relaxed), ROUNDS);
        assert_eq!(open.load(Ordering::Relaxed), 0);
    }
}
