//! [`each_store!`](crate::each_store): one test, run on every store.
//!
//! ```text
//! each_store! {
//!     async fn what_is_put_is_read(store: TestStore) {
//!         store.store().put(PutRequest::new("a", "1")).await.unwrap();
//!     }
//! }
//! ```
//!
//! makes the tests `what_is_put_is_read::memory`, `::file`, `::served`, `::etcd1` and `::etcd3`.
//! The real etcds are shared by all tests of a process, each of which sees only its own prefix;
//! the other stores are new for each test.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use synod_engine::{Engine, EngineOptions};
use synod_etcd::{EtcdOptions, EtcdStore};
use synod_server::ServerOptions;
use synod_store::{Namespace, Store};
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::etcd::{Etcd, NO_ETCD};
use crate::target::Served;
use crate::{skip, wait};

/// A kind of store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The embedded engine, keeping nothing.
    Memory,
    /// The embedded engine, in a directory.
    File,
    /// The embedded engine in a directory, behind Synod's server.
    Served,
    /// A real etcd of one node.
    Etcd1,
    /// A real etcd of three nodes.
    Etcd3,
}

/// A store for one test.
#[derive(Debug)]
pub struct TestStore {
    kind: Kind,
    store: Arc<dyn Store>,
    namespace: String,
    endpoints: Vec<String>,
    // In the order in which they end.
    _served: Option<Served>,
    _directory: Option<TempDir>,
}

/// One cluster of each size for all tests of the process. They are never dropped: the watchdogs end
/// them with the process.
static ETCD1: OnceCell<Option<Etcd>> = OnceCell::const_new();
static ETCD3: OnceCell<Option<Etcd>> = OnceCell::const_new();

impl TestStore {
    /// A store of this kind; `None` when the machine has no etcd and it would be one.
    pub async fn new(kind: Kind) -> Option<TestStore> {
        match kind {
            Kind::Memory => Some(TestStore::embedded(kind, EngineOptions::memory(), None)),
            Kind::File => {
                let directory = temporary();
                let options = EngineOptions::file(directory.path());
                Some(TestStore::embedded(kind, options, Some(directory)))
            }
            Kind::Served => {
                let directory = temporary();
                let options = EngineOptions::file(directory.path());
                let engine = Engine::open(options).expect("an engine in an empty directory");
                let served = Served::over(Arc::new(engine), ServerOptions::new()).await;
                let endpoints = vec![served.url()];
                Some(TestStore {
                    kind,
                    store: connect(&endpoints).await,
                    namespace: String::new(),
                    endpoints,
                    _served: Some(served),
                    _directory: Some(directory),
                })
            }
            Kind::Etcd1 => TestStore::shared(kind, &ETCD1, 1).await,
            Kind::Etcd3 => TestStore::shared(kind, &ETCD3, 3).await,
        }
    }

    fn embedded(kind: Kind, options: EngineOptions, directory: Option<TempDir>) -> TestStore {
        let engine = Engine::open(options).expect("an engine in an empty directory");
        TestStore {
            kind,
            store: Arc::new(engine),
            namespace: String::new(),
            endpoints: Vec::new(),
            _served: None,
            _directory: directory,
        }
    }

    async fn shared(kind: Kind, cell: &OnceCell<Option<Etcd>>, nodes: usize) -> Option<TestStore> {
        let etcd = cell.get_or_init(|| Etcd::start(nodes)).await.as_ref()?;
        let endpoints = etcd.endpoints().to_vec();
        let namespace = format!("test/{:016x}/", rand::random::<u64>());
        let store = Namespace::new(connect(&endpoints).await, namespace.clone());
        Some(TestStore {
            kind,
            store: Arc::new(store),
            namespace,
            endpoints,
            _served: None,
            _directory: None,
        })
    }

    /// The kind.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The store, of which a test sees its own part only.
    #[must_use]
    pub fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    /// A client of the store.
    #[must_use]
    pub fn client(&self) -> synod::Client {
        patient(self.store())
    }

    /// A client of [`another`](TestStore::another).
    pub async fn another_client(&self) -> synod::Client {
        patient(self.another().await)
    }

    /// The same part of the same store over a connection of its own, as another process has it; of
    /// an embedded store, the store itself.
    pub async fn another(&self) -> Arc<dyn Store> {
        if self.endpoints.is_empty() {
            return self.store();
        }
        let store = connect(&self.endpoints).await;
        if self.namespace.is_empty() {
            return store;
        }
        Arc::new(Namespace::new(store, self.namespace.clone()))
    }

    /// Where clients connect to; nowhere with an embedded store.
    #[must_use]
    pub fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    /// What stands before every key that the test sees.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }
}

/// A client that a busy machine does not make give up.
fn patient(store: Arc<dyn Store>) -> synod::Client {
    let options = synod::ConnectOptions::new("");
    options.with_timeout(wait::PATIENCE).over(store)
}

fn temporary() -> TempDir {
    tempfile::tempdir().expect("the temporary directory is writable")
}

async fn connect(endpoints: &[String]) -> Arc<dyn Store> {
    let connected = EtcdStore::connect(EtcdOptions::new(endpoints)).await;
    Arc::new(connected.expect("a server that listens"))
}

/// What a test returns.
pub trait Finish {
    /// Panics when it is a failure.
    fn finish(self);
}

impl Finish for () {
    fn finish(self) {}
}

impl<E: Debug> Finish for Result<(), E> {
    fn finish(self) {
        if let Err(error) = self {
            panic!("{error:?}");
        }
    }
}

/// Runs a test on a store, in a runtime of its own and for a bounded time.
///
/// # Panics
///
/// When the test does, fails, or does not end.
pub fn run<F: Future<Output: Finish>>(kind: Kind, test: impl FnOnce(TestStore) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("a test").to_string();
    runtime.block_on(async {
        let Some(store) = TestStore::new(kind).await else {
            skip::report(NO_ETCD);
            return;
        };
        wait::within(wait::TEST_LIMIT, name, test(store))
            .await
            .finish();
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
}

/// Makes a test for every store of each `async fn name(store: TestStore) { .. }`. See
/// [`stores`](crate::stores).
#[macro_export]
macro_rules! each_store {
    ($($(#[$meta:meta])* async fn $name:ident($($store:tt)+) $(-> $returns:ty)? $body:block)+) => {
        $($(#[$meta])*
        mod $name {
            use super::*;

            async fn test($($store)+) $(-> $returns)? $body

            #[test]
            fn memory() {
                $crate::stores::run($crate::stores::Kind::Memory, test);
            }

            #[test]
            fn file() {
                $crate::stores::run($crate::stores::Kind::File, test);
            }

            #[test]
            fn served() {
                $crate::stores::run($crate::stores::Kind::Served, test);
            }

            #[test]
            fn etcd1() {
                $crate::stores::run($crate::stores::Kind::Etcd1, test);
            }

            #[test]
            fn etcd3() {
                $crate::stores::run($crate::stores::Kind::Etcd3, test);
            }
        })+
    };
}
