//! One test, two servers: a real etcd and Synod's server over a memory store. What a test expects
//! of ours is so verified against the real one by the same lines.

use std::net::SocketAddr;
use std::process::Output;
use std::sync::Arc;

use synod_engine::{Engine, EngineOptions};
use synod_server::{Server, ServerOptions};
use synod_store::Store;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Response, Status};

use crate::etcd::{Etcd, EtcdConfig, NO_ETCD};
use crate::{skip, wait};

#[derive(Debug)]
/// Synod's server in this process. It ends when it is dropped.
pub struct Served {
    address: SocketAddr,
    scheme: &'static str,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
}

impl Served {
    /// Serves a new memory store with default options.
    pub async fn start() -> Served {
        Served::embedded(engine(), ServerOptions::new()).await
    }

    /// Serves an embedded store, with users and roles, copies and metrics.
    ///
    /// # Panics
    ///
    /// When its users cannot be read.
    pub async fn embedded(engine: Engine, options: ServerOptions) -> Served {
        let options = options.with_metrics(crate::metered::metrics());
        let server = Server::embedded(engine, options).expect("stored users that can be read");
        Served::serve(server, "http").await
    }

    /// Serves `store`, on a free port of the loopback address.
    pub async fn over(store: Arc<dyn Store>, options: ServerOptions) -> Served {
        Served::serve(Server::new(store, options), "http").await
    }

    /// Serves `store` with TLS.
    pub async fn over_tls(store: Arc<dyn Store>, options: ServerOptions) -> Served {
        Served::serve(Server::new(store, options), "https").await
    }

    /// Serves on a free port of the loopback address.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub async fn serve(server: Server, scheme: &'static str) -> Served {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port on the loopback address");
        let address = listener.local_addr().expect("a bound address");
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = tokio::spawn(async move {
            let shutdown = async { drop(stopped.await) };
            server
                .serve(listener, shutdown)
                .await
                .expect("a server that serves");
        });
        Served {
            address,
            scheme,
            stop: Some(stop),
            serving: Some(serving),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Shuts it down in order, and waits until it has ended.
    pub async fn stop(mut self) {
        drop(self.stop.take());
        if let Some(serving) = self.serving.take() {
            wait::soon("the server shuts down", serving)
                .await
                .expect("a server that ends without a panic");
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(serving) = &self.serving {
            serving.abort();
        }
    }
}

/// A new memory store.
#[must_use]
pub fn memory() -> Arc<dyn Store> {
    Arc::new(engine())
}

/// The same as an engine.
///
/// # Panics
///
/// Never: it needs nothing.
#[must_use]
pub fn engine() -> Engine {
    Engine::open(EngineOptions::memory()).expect("a memory store opens")
}

#[derive(Debug)]
/// One of the two servers.
pub enum Target {
    /// The real one.
    Etcd(Box<Etcd>),
    /// Ours.
    Served(Served),
}

impl Target {
    /// Whether it is the real one.
    #[must_use]
    pub fn is_etcd(&self) -> bool {
        matches!(self, Target::Etcd(_))
    }

    /// What to call it in messages.
    #[must_use]
    pub fn name(&self) -> &'static str {
        if self.is_etcd() { "etcd" } else { "synod" }
    }

    /// Its URL.
    #[must_use]
    pub fn url(&self) -> String {
        match self {
            Target::Etcd(etcd) => etcd.url(),
            Target::Served(served) => served.url(),
        }
    }

    /// A connection to it.
    pub async fn channel(&self) -> Channel {
        Endpoint::from_shared(self.url())
            .expect("a URL")
            .timeout(wait::PATIENCE)
            .connect()
            .await
            .expect("a connection")
    }

    /// Runs etcdctl against it.
    pub async fn etcdctl(&self, args: &[&str]) -> Output {
        crate::etcd::etcdctl(&self.url(), args).await
    }
}

/// Runs `rule` on Synod's server, then on a real etcd if there is one. The first to fail is named.
pub async fn both(rule: impl AsyncFn(&Target)) {
    both_with(rule, EtcdConfig::new(), ServerOptions::new()).await;
}

/// The same with options.
pub async fn both_with(rule: impl AsyncFn(&Target), etcd: EtcdConfig, options: ServerOptions) {
    both_served(rule, etcd, Served::embedded(engine(), options).await).await;
}

/// The same with a store of one's own.
pub async fn both_over(
    rule: impl AsyncFn(&Target),
    etcd: EtcdConfig,
    store: Arc<dyn Store>,
    options: ServerOptions,
) {
    both_served(rule, etcd, Served::over(store, options).await).await;
}

async fn both_served(rule: impl AsyncFn(&Target), etcd: EtcdConfig, served: Served) {
    let ours = Target::Served(served);
    run(&rule, &ours).await;
    match Etcd::start(etcd).await {
        Some(etcd) => run(&rule, &Target::Etcd(Box::new(etcd))).await,
        None => skip::report(&format!("only on Synod's own server: {NO_ETCD}")),
    }
}

async fn run(rule: &impl AsyncFn(&Target), target: &Target) {
    // A test that fails here prints what it was doing; the name tells on which server.
    println!("--- on {}", target.name());
    wait::within(wait::TEST_LIMIT, "the rule", rule(target)).await;
}

/// The answer's message.
///
/// # Panics
///
/// When the request was refused.
#[track_caller]
pub fn answer<T>(result: Result<Response<T>, Status>) -> T {
    match result {
        Ok(response) => response.into_inner(),
        Err(status) => panic!("refused: {:?} {}", status.code(), status.message()),
    }
}

/// Asserts that a request was refused with this code and text.
///
/// # Panics
///
/// When it was not.
#[track_caller]
pub fn refused<T>(result: Result<T, Status>, code: Code, text: &str) {
    match result {
        Ok(_) => panic!("not refused; expected {code:?}: {text}"),
        Err(status) => assert_eq!((status.code(), status.message()), (code, text)),
    }
}
