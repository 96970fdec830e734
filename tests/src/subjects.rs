//! [`Factory`]s of every kind of store, for the conformance suite and the differential tests.

use std::sync::Arc;

use synod_etcd::{EtcdOptions, EtcdStore};
use synod_store::BoxFuture;
use synod_store::conformance::{Factory, Failure, Instance, Quirk};

use crate::etcd::{Etcd, EtcdConfig, NO_ETCD};

/// Real etcd clusters of so many nodes.
#[derive(Debug)]
pub struct EtcdSubject {
    nodes: usize,
}

impl EtcdSubject {
    /// A factory; `None` when the machine has no etcd.
    #[must_use]
    pub fn new(nodes: usize) -> Option<Arc<dyn Factory>> {
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
            let Instance { store, keep } = instance;
            drop(store);
            let etcd = keep.downcast::<Etcd>();
            let etcd = etcd.map_err(|_| Failure::new("not an instance of this factory"))?;
            for node in 0..etcd.len() {
                etcd.kill(node);
            }
            for node in 0..etcd.len() {
                etcd.restart_in_background(node);
            }
            for node in 0..etcd.len() {
                etcd.wait_ready(node).await;
            }
            connect(*etcd).await
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
