//! [`Factory`]s of every kind of store, for the conformance suite and the differential tests.

use std::sync::Arc;

use synod_engine::{Engine, EngineOptions};
use synod_etcd::{EtcdOptions, EtcdStore};
use synod_server::ServerOptions;
use synod_store::conformance::{Factory, Failure, Instance, Quirk};
use synod_store::{BoxFuture, Namespace, Store};
use tempfile::TempDir;

use crate::cli;
use crate::etcd::{Etcd, EtcdConfig, NO_ETCD};
use crate::target::Served;

/// Every kind of store, by name, in the order of cost. Of etcd, none when the machine has no etcd.
#[must_use]
pub fn by_name(name: &str) -> Option<Arc<dyn Factory>> {
    let memory = Arc::new(EngineSubject { file: false });
    let file = Arc::new(EngineSubject { file: true });
    match name {
        "memory" => Some(memory),
        "file" => Some(file),
        "namespace" => Some(Arc::new(NamespaceSubject { inner: memory })),
        "served" => Some(Arc::new(ServedSubject { inner: memory })),
        "served_file" => Some(Arc::new(ServedSubject { inner: file })),
        "serve" => Some(Arc::new(ProgramSubject)),
        "etcd1" => EtcdSubject::factory(1),
        "etcd3" => EtcdSubject::factory(3),
        _ => panic!("no store is called {name}"),
    }
}

/// The instance that another factory keeps inside one.
fn unwrap<T: 'static>(instance: Instance) -> Result<T, Failure> {
    let Instance { store, keep } = instance;
    drop(store);
    match keep.downcast::<T>() {
        Ok(keep) => Ok(*keep),
        Err(_) => Err(Failure::new("not an instance of this factory")),
    }
}

/// The embedded engine.
#[derive(Debug)]
struct EngineSubject {
    file: bool,
}

/// An engine and where its data are.
struct OpenEngine {
    engine: Engine,
    directory: Option<TempDir>,
}

impl EngineSubject {
    fn open(
        &self,
        directory: Option<TempDir>,
        set: impl FnOnce(EngineOptions) -> EngineOptions,
    ) -> Result<Instance, Failure> {
        let options = match &directory {
            Some(directory) => EngineOptions::file(directory.path()),
            None => EngineOptions::memory(),
        };
        let engine = Engine::open(set(options))?;
        Ok(Instance {
            store: Arc::new(engine.clone()),
            keep: Box::new(OpenEngine { engine, directory }),
        })
    }

    fn directory(&self) -> Option<TempDir> {
        let directory = || tempfile::tempdir().expect("the temporary directory is writable");
        self.file.then(directory)
    }
}

impl Factory for EngineSubject {
    fn fresh(&self) -> BoxFuture<'_, Result<Instance, Failure>> {
        Box::pin(async { self.open(self.directory(), |options| options) })
    }

    fn can_restart(&self) -> bool {
        self.file
    }

    fn restart(&self, instance: Instance) -> BoxFuture<'_, Result<Instance, Failure>> {
        Box::pin(async {
            let OpenEngine { engine, directory } = unwrap(instance)?;
            engine.close().await?;
            self.open(directory, |options| options)
        })
    }

    fn with_quota(&self, bytes: u64) -> BoxFuture<'_, Result<Option<Instance>, Failure>> {
        let set = move |options: EngineOptions| options.with_quota_bytes(bytes);
        Box::pin(async move { self.open(self.directory(), set).map(Some) })
    }
}

/// Another kind of store, seen through a prefix.
#[derive(Debug)]
struct NamespaceSubject {
    inner: Arc<dyn Factory>,
}

fn namespaced(inner: Instance) -> Instance {
    let namespace: Arc<dyn Store> = Arc::new(Namespace::new(Arc::clone(&inner.store), "ns/"));
    Instance {
        store: namespace,
        keep: Box::new(inner),
    }
}

impl Factory for NamespaceSubject {
    fn fresh(&self) -> BoxFuture<'_, Result<Instance, Failure>> {
        Box::pin(async { self.inner.fresh().await.map(namespaced) })
    }

    fn with_quota(&self, bytes: u64) -> BoxFuture<'_, Result<Option<Instance>, Failure>> {
        Box::pin(async move { Ok(self.inner.with_quota(bytes).await?.map(namespaced)) })
    }

    fn quirks(&self) -> &[Quirk] {
        &[Quirk::EveryRangeEnds]
    }
}

/// Another kind of store, behind Synod's server and seen by the etcd store.
#[derive(Debug)]
struct ServedSubject {
    inner: Arc<dyn Factory>,
}

/// A server and the store behind it.
struct Serving {
    served: Served,
    inner: Instance,
}

async fn serve(inner: Instance, options: ServerOptions) -> Result<Instance, Failure> {
    let served = Served::over(Arc::clone(&inner.store), options).await;
    let store = EtcdStore::connect(EtcdOptions::new([served.url()])).await?;
    Ok(Instance {
        store: Arc::new(store),
        keep: Box::new(Serving { served, inner }),
    })
}

impl Factory for ServedSubject {
    fn fresh(&self) -> BoxFuture<'_, Result<Instance, Failure>> {
        Box::pin(async { serve(self.inner.fresh().await?, ServerOptions::new()).await })
    }

    fn can_restart(&self) -> bool {
        self.inner.can_restart()
    }

    fn restart(&self, instance: Instance) -> BoxFuture<'_, Result<Instance, Failure>> {
        Box::pin(async {
            let Serving { served, inner } = unwrap(instance)?;
            served.stop().await;
            serve(self.inner.restart(inner).await?, ServerOptions::new()).await
        })
    }

    fn with_quota(&self, bytes: u64) -> BoxFuture<'_, Result<Option<Instance>, Failure>> {
        Box::pin(async move {
            let Some(inner) = self.inner.with_quota(bytes).await? else {
                return Ok(None);
            };
            let options = ServerOptions::new().with_quota_bytes(bytes);
            serve(inner, options).await.map(Some)
        })
    }

    fn quirks(&self) -> &[Quirk] {
        self.inner.quirks()
    }
}

/// The program: `synod serve`, a process of its own with its data in a directory.
#[derive(Debug)]
struct ProgramSubject;

/// A running program and where its data are.
struct Running {
    served: cli::Served,
    home: cli::Home,
}

async fn start(home: cli::Home, flags: &[&str]) -> Result<Instance, Failure> {
    let data = home.path("served");
    let data = data.to_string_lossy();
    let mut args = vec!["--listen", "127.0.0.1:0", "--data", &*data];
    args.extend(flags);
    let served = cli::Served::start(&home, &args).await;
    let store = EtcdStore::connect(EtcdOptions::new([&served.url])).await?;
    Ok(Instance {
        store: Arc::new(store),
        keep: Box::new(Running { served, home }),
    })
}

impl Factory for ProgramSubject {
    fn fresh(&self) -> BoxFuture<'_, Result<Instance, Failure>> {
        Box::pin(start(cli::Home::new(), &[]))
    }

    fn can_restart(&self) -> bool {
        true
    }

    fn restart(&self, instance: Instance) -> BoxFuture<'_, Result<Instance, Failure>> {
        Box::pin(async {
            let Running { mut served, home } = unwrap(instance)?;
            // Not asked to end, but killed: what it has answered must be there all the same.
            served.process().kill();
            drop(served);
            start(home, &[]).await
        })
    }

    fn with_quota(&self, bytes: u64) -> BoxFuture<'_, Result<Option<Instance>, Failure>> {
        Box::pin(async move {
            let quota = bytes.to_string();
            let flags = ["--quota-backend-bytes", &quota];
            start(cli::Home::new(), &flags).await.map(Some)
        })
    }
}

/// Real etcd clusters of so many nodes.
#[derive(Debug)]
struct EtcdSubject {
    nodes: usize,
}

impl EtcdSubject {
    /// A factory; `None` when the machine has no etcd.
    fn factory(nodes: usize) -> Option<Arc<dyn Factory>> {
        crate::etcd::binary()?;
        Some(Arc::new(EtcdSubject { nodes }))
    }

    async fn start(&self, config: EtcdConfig) -> Result<Instance, Failure> {
        let etcd = Etcd::start(config.nodes(self.nodes)).await;
        let etcd = etcd.ok_or_else(|| Failure::new(NO_ETCD))?;
        connect(etcd).await
    }
}

async fn connect(etcd: Etcd) -> Result<Instance, Failure> {
    let options = EtcdOptions::new(etcd.endpoints());
    let store = EtcdStore::connect(options).await?;
    Ok(Instance {
        store: Arc::new(store),
        keep: Box::new(etcd),
    })
}

impl Factory for EtcdSubject {
    fn fresh(&self) -> BoxFuture<'_, Result<Instance, Failure>> {
        Box::pin(self.start(EtcdConfig::new()))
    }

    fn can_restart(&self) -> bool {
        true
    }

    fn restart(&self, instance: Instance) -> BoxFuture<'_, Result<Instance, Failure>> {
        Box::pin(async move {
            let etcd: Etcd = unwrap(instance)?;
            for node in 0..etcd.len() {
                etcd.kill(node);
            }
            for node in 0..etcd.len() {
                etcd.restart_in_background(node);
            }
            for node in 0..etcd.len() {
                etcd.wait_ready(node).await;
            }
            connect(etcd).await
        })
    }

    fn with_quota(&self, bytes: u64) -> BoxFuture<'_, Result<Option<Instance>, Failure>> {
        Box::pin(async move {
            let config = EtcdConfig::new().flag(format!("--quota-backend-bytes={bytes}"));
            self.start(config).await.map(Some)
        })
    }

    fn quirks(&self) -> &[Quirk] {
        Quirk::ETCD_3_5_1
    }
}
