//! Synod's own service, `synod.v1.Synod/Info`: what `synod status` shows of a running server.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use futures_util::StreamExt;
use synod_store::{AlarmKind, KeyRange, RangeRequest, Revision, Store, WatchItem, WatchRequest};
use synod_wire::synod_v1::synod_server::Synod;
use synod_wire::synod_v1::{InfoRequest, InfoResponse};
use tonic::{Request, Response, Status, async_trait};

use crate::auth::Accounts;
use crate::state::{Api, status};

#[async_trait]
impl Synod for Api {
    async fn info(&self, request: Request<InfoRequest>) -> Result<Response<InfoResponse>, Status> {
        if self.access(request.metadata())?.somebody().is_err() {
            return Ok(Response::new(self.info_for_nobody().await));
        }
        let store = self.store();
        let count = RangeRequest::new(KeyRange::all()).count_only();
        let (standing, keys, leases) =
            tokio::try_join!(store.status(), store.range(count), store.leases(),)
                .map_err(status)?;
        let alarms = self.complaints(standing.errors).await;
        let compact_revision = compact_revision(store.as_ref()).await;
        let ready = self.unready().await.is_none();
        let state = &self.state;
        let options = self.options();
        Ok(Response::new(InfoResponse {
            version: options.version.clone(),
            pid: std::process::id(),
            data: options.data.clone(),
            started_at: seconds_since_epoch(state.started),
            connections: state.connections.load(Ordering::Relaxed) as u64,
            watchers: state.watchers.load(Ordering::Relaxed),
            leases: leases.leases.len() as u64,
            keys: keys.count,
            revision: standing.header.revision.as_i64(),
            compact_revision: compact_revision.as_i64(),
            db_size: i64::try_from(standing.db_size).unwrap_or(i64::MAX),
            db_size_quota: i64::try_from(options.quota_bytes).unwrap_or(i64::MAX),
            listen: state.listening().clone(),
            requests: state.requests.load(Ordering::Relaxed),
            alarms,
            auth_enabled: state.accounts.as_ref().is_some_and(Accounts::is_enabled),
            ready,
        }))
    }
}

impl Api {
    /// What is told to who has not logged in: that there is a server, and whether it works.
    async fn info_for_nobody(&self) -> InfoResponse {
        InfoResponse {
            version: self.options().version.clone(),
            pid: std::process::id(),
            started_at: seconds_since_epoch(self.state.started),
            auth_enabled: true,
            ready: self.unready().await.is_none(),
            ..InfoResponse::default()
        }
    }

    /// What is wrong with the store now, one sentence each.
    async fn complaints(&self, errors: Vec<String>) -> Vec<String> {
        // A store's errors tell of its alarms too, in its own words.
        if !errors.is_empty() {
            return errors;
        }
        match self.store().alarms().await {
            Ok(alarms) => alarms.iter().map(|alarm| sentence(alarm.kind)).collect(),
            Err(error) => vec![error.to_string()],
        }
    }
}

fn sentence(alarm: AlarmKind) -> String {
    match alarm {
        AlarmKind::NoSpace => "NOSPACE: the storage quota is used up",
        AlarmKind::Corrupt => "CORRUPT: stored data are damaged",
    }
    .to_owned()
}

fn seconds_since_epoch(time: SystemTime) -> i64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_secs()).ok())
        .unwrap_or(0)
}

/// The revision of the last compaction, zero before the first. The store tells it to watches that
/// come too late, so one is made that does: of a key that nobody has, from the beginning.
pub(crate) async fn compact_revision(store: &dyn Store) -> Revision {
    const PATIENCE: Duration = Duration::from_secs(1);
    const NOBODYS: &[u8] = b"\0synod\0nobody\0";
    let first = async {
        let request = WatchRequest::new(NOBODYS).starting_at(Revision(1));
        let mut watch = store.watch(request).await.ok()?;
        watch.request_progress();
        watch.next().await?.ok()
    };
    match tokio::time::timeout(PATIENCE, first).await {
        Ok(Some(WatchItem::Compacted { compact_revision })) => compact_revision,
        _ => Revision::ZERO,
    }
}
