//! A client's host: a process that connects, works, and is killed and started again.

use std::sync::Arc;
use std::time::Duration;

use synod::{Client, ConnectOptions, Error, Result};
use synod_etcd::{EtcdOptions, EtcdStore};

use crate::clock::ClientClock;
use crate::history::{End, outcome};
use crate::net;
use crate::traced::Traced;
use crate::workloads::Workload;
use crate::world::World;

/// For so long a lease lives without its owner.
pub(crate) const TTL: Duration = Duration::from_secs(3);

/// One process of a client.
#[derive(Clone)]
pub(crate) struct Me {
    pub(crate) world: Arc<World>,
    pub(crate) number: usize,
    pub(crate) incarnation: u64,
    pub(crate) synod: Client,
}

impl Me {
    /// Does one operation, and writes down how it ended; what is in doubt is resolved if it can be.
    pub(crate) async fn does<T>(
        &self,
        what: &'static str,
        argument: impl Into<String>,
        show: impl FnOnce(&T) -> String,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let argument = argument.into();
        self.note(format_args!("begins {what} {argument}"));
        let op = self
            .world
            .history()
            .begin(self.number, self.incarnation, what, argument);
        let result = call.await;
        let end = outcome(&result, show);
        self.note(format_args!(
            "ends {what} #{op}: {end:?} {:?}",
            result.as_ref().err()
        ));
        self.world.history().end(op, end);
        if let Some(token) = result.as_ref().err().and_then(Error::token) {
            for _ in 0..8 {
                if let Ok(resolution) = self.synod.resolve(token).await {
                    self.note(format_args!("resolved #{op}: {resolution:?}"));
                    self.world.history().resolved(op, &resolution);
                    break;
                }
                self.rest(500).await;
            }
        }
        result
    }

    pub(crate) fn note(&self, what: std::fmt::Arguments<'_>) {
        let name = format!("client{}.{}", self.number, self.incarnation);
        self.world.note(&name, what);
    }

    /// Does nothing for up to so many milliseconds.
    pub(crate) async fn rest(&self, most: u64) {
        tokio::time::sleep(self.world.up_to(Duration::from_millis(most))).await;
    }

    /// Something that no other operation of the run is called.
    pub(crate) fn name(&self, number: usize) -> String {
        format!("c{}i{}n{number}", self.number, self.incarnation)
    }

    /// Whether to go on.
    pub(crate) fn works(&self) -> bool {
        !self.world.is_ending()
    }

    /// Marks something as held.
    pub(crate) fn hold(&self, kind: &'static str, token: u64) -> usize {
        self.note(format_args!("holds {kind} with {token}"));
        self.world.history().hold(self.number, kind, token)
    }

    /// Marks it as given up.
    pub(crate) fn unhold(&self, hold: usize) {
        self.note(format_args!("gives up hold #{hold}"));
        self.world.history().unhold(hold);
    }
}

/// What a process of a client does until it is killed.
pub(crate) async fn run(world: Arc<World>, number: usize, workload: Workload) -> turmoil::Result {
    let incarnation = world.begin(number + 1);
    let work = work(Arc::clone(&world), number, incarnation, workload);
    world.pausable(number + 1, work).await;
    Ok(())
}

async fn work(world: Arc<World>, number: usize, incarnation: u64, workload: Workload) {
    let store = loop {
        let options = EtcdOptions::new(["http://server:2379"])
            .with_connector(net::connector(Arc::clone(&world), number))
            .with_keep_alive(Duration::from_secs(1), Duration::from_secs(1))
            .with_connect_timeout(Duration::from_secs(1))
            .with_request_timeout(Duration::from_secs(2))
            .with_member_sync(None);
        match EtcdStore::connect(options).await {
            Ok(store) => break store,
            Err(error) => {
                let name = format!("client{number}.{incarnation}");
                world.note(&name, format_args!("cannot connect: {error}"));
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    };
    let traced = Traced {
        store: Arc::new(store),
        world: Arc::clone(&world),
        client: number,
        incarnation,
    };
    let clock = ClientClock {
        world: Arc::clone(&world),
        host: number + 1,
        skew: Duration::from_millis(200 * number as u64),
    };
    let synod = ConnectOptions::new("memory:")
        .with_clock(Arc::new(clock))
        .with_session_ttl(TTL)
        .with_timeout(Duration::from_secs(3))
        .with_identity(format!("client{number}.{incarnation}"))
        .over(Arc::new(traced));
    let me = Me {
        world,
        number,
        incarnation,
        synod,
    };
    workload.run(&me).await;
    me.note(format_args!("is done"));
    let closed = tokio::time::timeout(Duration::from_secs(5), me.synod.clone().close()).await;
    me.note(format_args!("has closed: {closed:?}"));
}

/// How a result without a value is shown.
pub(crate) fn nothing<T>(_: &T) -> String {
    String::new()
}

/// Whether an operation was done.
pub(crate) fn is_done(end: &End) -> bool {
    matches!(end, End::Done(_))
}
