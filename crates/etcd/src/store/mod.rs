//! [`EtcdStore`]: the contract, spoken to a cluster.

mod kv;
mod leases;
mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use synod_store::{
    Alarm, AlarmKind, BoxFuture, CompactResponse, DeleteRequest, DeleteResponse, HashResponse,
    LeaseGrantRequest, LeaseGrantResponse, LeaseId, LeaseKeepAliveResponse, LeaseListResponse,
    LeaseRevokeResponse, LeaseTimeToLiveResponse, Member, PutRequest, PutResponse, RangeRequest,
    RangeResponse, Replies, Result, Revision, StatusResponse, Store, Txn, TxnResponse, Watch,
    WatchRequest,
};
use synod_wire::convert::status::AlarmCommand;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::auth::Auth;
use crate::channels::Channels;
use crate::keepalive::KeepAlives;
use crate::options::EtcdOptions;
use crate::retry::{Caller, Class};
use crate::watch::Watches;

/// The largest answer that is taken. etcd sets none, so it is gRPC's own.
pub(crate) const LARGEST_ANSWER: usize = i32::MAX as usize;

/// How long requests may take whose time grows with the data: a compaction that waits for the
/// space, a defragmentation.
const LONG: Duration = Duration::from_secs(600);

/// A store that is an etcd v3 cluster. Clones are handles of one client: they share its
/// connection, its watch stream and its lease stream.
///
/// # Guarantees
///
/// - Endpoints: one does the work, and when it fails another takes over at once. A cluster with a
///   dead endpoint behaves as one without it.
/// - Requests that change something are sent once, and again only when it is certain that nothing
///   was sent. Exempt are those that come to the same when they are applied twice: a grant whose id
///   was left to the store, and a revoke. Reads and renewals are repeated until they are answered
///   or their time is up.
/// - Watches resume by themselves after the last event delivered, on whichever endpoint works.
///
/// # Cost
///
/// One round trip a request. A watch is one message on a stream that stands.
#[derive(Debug, Clone)]
pub struct EtcdStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    caller: Caller,
    watches: Watches,
    keep_alives: KeepAlives,
    connect_timeout: Duration,
    /// Whether members that are heard of are taken for endpoints.
    learns: bool,
    /// Ends the task that learns the cluster's members.
    _background: DropGuard,
}

impl EtcdStore {
    pub(crate) fn caller(&self) -> &Caller {
        &self.inner.caller
    }

    /// Connects to a cluster: returns once an endpoint has answered, and the user, if one is given,
    /// has been let in. Must be called within a Tokio runtime, in which the client's tasks run.
    ///
    /// # Cancel safety
    ///
    /// Nothing stays behind.
    ///
    /// # Errors
    ///
    /// After one attempt at each endpoint, within the connect timeout (and the request timeout for
    /// the user):
    /// [`InvalidAddress`](synod_store::ErrorKind::InvalidAddress),
    /// [`ConnectionRefused`](synod_store::ErrorKind::ConnectionRefused) when nothing listens,
    /// [`Tls`](synod_store::ErrorKind::Tls) with the reason,
    /// [`Timeout`](synod_store::ErrorKind::Timeout),
    /// [`Unsupported`](synod_store::ErrorKind::Unsupported) when what answers is no etcd,
    /// [`Unauthenticated`](synod_store::ErrorKind::Unauthenticated) when user or password are wrong,
    /// [`Unavailable`](synod_store::ErrorKind::Unavailable) for anything else.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// # async fn example() -> synod_store::Result<()> {
    /// use synod_etcd::{EtcdOptions, EtcdStore};
    /// use synod_store::{PutRequest, Store};
    ///
    /// let store = EtcdStore::connect(EtcdOptions::new(["http://127.0.0.1:2379"])).await?;
    /// store.put(PutRequest::new("greeting", "hello")).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn connect(options: EtcdOptions) -> Result<EtcdStore> {
        let auth = Arc::new(Auth::new(options.user.clone()));
        let (timeout, connect_timeout) = (options.request_timeout, options.connect_timeout);
        let member_sync = options.member_sync;
        let channels = Arc::new(Channels::new(options, Arc::clone(&auth))?);
        let caller = Caller {
            channels,
            auth,
            timeout,
        };
        let line = caller.channels.line().await?;
        if caller.auth.has_user() {
            caller.authenticate(&line).await?;
        }
        let background = CancellationToken::new();
        if let Some(interval) = member_sync {
            let task = upkeep::learn_members(caller.clone(), interval);
            tokio::spawn(background.clone().run_until_cancelled_owned(task));
        }
        Ok(EtcdStore {
            inner: Arc::new(Inner {
                watches: Watches::new(caller.clone()),
                keep_alives: KeepAlives::new(caller.clone()),
                caller,
                connect_timeout,
                learns: member_sync.is_some(),
                _background: background.drop_guard(),
            }),
        })
    }
}

impl Store for EtcdStore {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse>> {
        Box::pin(self.kv_range(request))
    }

    fn put(&self, request: PutRequest) -> BoxFuture<'_, Result<PutResponse>> {
        Box::pin(self.kv_put(request))
    }

    fn delete(&self, request: DeleteRequest) -> BoxFuture<'_, Result<DeleteResponse>> {
        Box::pin(self.kv_delete(request))
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse>> {
        Box::pin(self.kv_txn(txn))
    }

    fn compact(
        &self,
        revision: Revision,
        physical: bool,
    ) -> BoxFuture<'_, Result<CompactResponse>> {
        Box::pin(self.kv_compact(revision, physical))
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Watch>> {
        Box::pin(self.inner.watches.watch(request))
    }

    fn lease_grant(&self, request: LeaseGrantRequest) -> BoxFuture<'_, Result<LeaseGrantResponse>> {
        Box::pin(self.grant(request))
    }

    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<LeaseRevokeResponse>> {
        Box::pin(self.revoke(id))
    }

    fn lease_keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<LeaseKeepAliveResponse>> {
        Box::pin(self.inner.keep_alives.keep_alive(id))
    }

    fn lease_time_to_live(
        &self,
        id: LeaseId,
        keys: bool,
    ) -> BoxFuture<'_, Result<LeaseTimeToLiveResponse>> {
        Box::pin(self.time_to_live(id, keys))
    }

    fn leases(&self) -> BoxFuture<'_, Result<LeaseListResponse>> {
        Box::pin(self.list_leases())
    }

    fn status(&self) -> BoxFuture<'_, Result<StatusResponse>> {
        Box::pin(self.ask_status())
    }

    fn alarms(&self) -> BoxFuture<'_, Result<Vec<Alarm>>> {
        Box::pin(self.alarm(Class::Read, AlarmCommand::Get(None)))
    }

    fn disarm(&self, kind: AlarmKind) -> BoxFuture<'_, Result<Vec<Alarm>>> {
        Box::pin(self.disarm_all(kind))
    }

    fn hash_kv(&self, revision: Revision) -> BoxFuture<'_, Result<HashResponse>> {
        Box::pin(self.hash(revision))
    }

    fn defragment(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.defragment_all())
    }

    fn members(&self) -> BoxFuture<'_, Result<Vec<Member>>> {
        Box::pin(self.ask_members())
    }

    fn replies(&self) -> Replies {
        Replies::Lossy
    }
}
