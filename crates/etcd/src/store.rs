//! [`EtcdStore`]: the contract, spoken to a cluster.

use std::sync::Arc;
use std::time::Duration;

use synod_store::{
    Alarm, AlarmKind, Applied, BoxFuture, CompactResponse, DeleteRequest, DeleteResponse, Error,
    ErrorKind, HashResponse, LeaseGrantRequest, LeaseGrantResponse, LeaseId,
    LeaseKeepAliveResponse, LeaseListResponse, LeaseRevokeResponse, LeaseTimeToLiveResponse,
    Member, PutRequest, PutResponse, RangeRequest, RangeResponse, Replies, Result, Revision,
    StatusResponse, Store, Txn, TxnResponse, Watch, WatchRequest,
};
use synod_wire::convert::error::Call;
use synod_wire::convert::{kv, lease, status, txn};
use synod_wire::etcdserverpb as pb;
use synod_wire::etcdserverpb::cluster_client::ClusterClient;
use synod_wire::etcdserverpb::kv_client::KvClient;
use synod_wire::etcdserverpb::lease_client::LeaseClient;
use synod_wire::etcdserverpb::maintenance_client::MaintenanceClient;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Request;

use crate::auth::{Auth, attach};
use crate::channels::{Channels, Finding, Line, probe};
use crate::error::error;
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
    /// Ends the task that learns the cluster's members.
    _background: DropGuard,
}

impl EtcdStore {
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
    /// [`InvalidAddress`](ErrorKind::InvalidAddress),
    /// [`ConnectionRefused`](ErrorKind::ConnectionRefused) when nothing listens,
    /// [`Tls`](ErrorKind::Tls) with the reason,
    /// [`Timeout`](ErrorKind::Timeout),
    /// [`Unsupported`](ErrorKind::Unsupported) when what answers is no etcd,
    /// [`Unauthenticated`](ErrorKind::Unauthenticated) when user or password are wrong,
    /// [`Unavailable`](ErrorKind::Unavailable) for anything else.
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
            let task = learn_members(caller.clone(), interval);
            tokio::spawn(background.clone().run_until_cancelled_owned(task));
        }
        Ok(EtcdStore {
            inner: Arc::new(Inner {
                watches: Watches::new(caller.clone()),
                keep_alives: KeepAlives::new(caller.clone()),
                caller,
                connect_timeout,
                _background: background.drop_guard(),
            }),
        })
    }

    pub(crate) fn caller(&self) -> &Caller {
        &self.inner.caller
    }

    async fn kv_range(&self, request: RangeRequest) -> Result<RangeResponse> {
        let request = pb::RangeRequest::from(&request);
        let answer = self
            .inner
            .caller
            .call(Class::Read, request, |channel, request| async {
                kv_client(channel).range(request).await
            });
        answer.await?.try_into()
    }

    async fn kv_put(&self, request: PutRequest) -> Result<PutResponse> {
        let request = pb::PutRequest::from(&request);
        let answer = self
            .inner
            .caller
            .call(Class::Mutation, request, |channel, request| async {
                kv_client(channel).put(request).await
            });
        answer.await?.try_into()
    }

    async fn kv_delete(&self, request: DeleteRequest) -> Result<DeleteResponse> {
        let request = pb::DeleteRangeRequest::from(&request);
        let answer = self
            .inner
            .caller
            .call(Class::Mutation, request, |channel, request| async {
                kv_client(channel).delete_range(request).await
            });
        answer.await?.try_into()
    }

    async fn kv_txn(&self, txn: Txn) -> Result<TxnResponse> {
        let class = if txn.is_read_only() {
            Class::Read
        } else {
            Class::Mutation
        };
        let request = pb::TxnRequest::from(&txn);
        let answer = self
            .inner
            .caller
            .call(class, request, |channel, request| async {
                kv_client(channel).txn(request).await
            });
        txn::txn_response(&txn, answer.await?)
    }

    async fn kv_compact(&self, revision: Revision, physical: bool) -> Result<CompactResponse> {
        let limit = if physical {
            LONG.max(self.inner.caller.timeout)
        } else {
            self.inner.caller.timeout
        };
        let request = kv::compaction_request(revision, physical);
        let answer = self.inner.caller.call_within(
            limit,
            Class::Mutation,
            request,
            |channel, request| async { kv_client(channel).compact(request).await },
        );
        answer.await.result?.try_into()
    }

    /// Grants a lease. An id of our own choice makes the request one that can be repeated: when the
    /// lease exists at the second attempt, the first one made it.
    async fn grant(&self, request: LeaseGrantRequest) -> Result<LeaseGrantResponse> {
        if request.id.is_some() {
            let request = pb::LeaseGrantRequest::from(&request);
            return self.send_grant(Class::Mutation, request).await.0;
        }
        loop {
            let id = random_lease_id();
            let message = pb::LeaseGrantRequest::from(&request.with_id(id));
            let (result, repeated) = self.send_grant(Class::Idempotent, message).await;
            return match result {
                Err(error) if error.kind() == ErrorKind::LeaseExists && repeated => {
                    let lease = self.time_to_live(id, false).await.map_err(in_doubt)?;
                    Ok(LeaseGrantResponse {
                        header: lease.header,
                        id,
                        ttl: lease.granted,
                    })
                }
                // Somebody else's: by chance once in 2^63 leases.
                Err(error) if error.kind() == ErrorKind::LeaseExists => continue,
                result => result,
            };
        }
    }

    async fn send_grant(
        &self,
        class: Class,
        request: pb::LeaseGrantRequest,
    ) -> (Result<LeaseGrantResponse>, bool) {
        let caller = &self.inner.caller;
        let send = |channel, request| async { lease_client(channel).lease_grant(request).await };
        let outcome = caller
            .call_within(caller.timeout, class, request, send)
            .await;
        let result = outcome.result.and_then(LeaseGrantResponse::try_from);
        (result, outcome.repeated)
    }

    /// Revokes a lease. Not found at a later attempt means that an earlier one did it.
    async fn revoke(&self, id: LeaseId) -> Result<LeaseRevokeResponse> {
        let caller = &self.inner.caller;
        let request = lease::revoke_request(id);
        let send = |channel, request| async { lease_client(channel).lease_revoke(request).await };
        let outcome = caller
            .call_within(caller.timeout, Class::Idempotent, request, send)
            .await;
        match outcome.result {
            Ok(response) => response.try_into(),
            Err(error) if error.is_lease_gone() && outcome.repeated => {
                let header = self.time_to_live(id, false).await.map_err(in_doubt)?.header;
                Ok(LeaseRevokeResponse { header })
            }
            Err(error) => Err(error),
        }
    }

    async fn time_to_live(&self, id: LeaseId, keys: bool) -> Result<LeaseTimeToLiveResponse> {
        let request = lease::time_to_live_request(id, keys);
        let answer = self
            .inner
            .caller
            .call(Class::Read, request, |channel, request| async {
                lease_client(channel).lease_time_to_live(request).await
            });
        answer.await?.try_into()
    }

    async fn list_leases(&self) -> Result<LeaseListResponse> {
        let request = pb::LeaseLeasesRequest {};
        let answer = self
            .inner
            .caller
            .call(Class::Read, request, |channel, request| async {
                lease_client(channel).lease_leases(request).await
            });
        answer.await?.try_into()
    }

    async fn ask_status(&self) -> Result<StatusResponse> {
        let request = pb::StatusRequest {};
        let answer = self
            .inner
            .caller
            .call(Class::Read, request, |channel, request| async {
                MaintenanceClient::new(channel).status(request).await
            });
        answer.await?.try_into()
    }

    async fn alarm(&self, class: Class, command: status::AlarmCommand) -> Result<Vec<Alarm>> {
        let request = pb::AlarmRequest::from(&command);
        let answer = self
            .inner
            .caller
            .call(class, request, |channel, request| async {
                MaintenanceClient::new(channel).alarm(request).await
            });
        status::alarms(answer.await?)
    }

    /// An alarm is a member's: each that stands is taken back by itself.
    async fn disarm_all(&self, kind: AlarmKind) -> Result<Vec<Alarm>> {
        let standing = self
            .alarm(Class::Read, status::AlarmCommand::Get(Some(kind)))
            .await?;
        let standing: Vec<Alarm> = standing.into_iter().filter(|a| a.kind == kind).collect();
        for alarm in &standing {
            self.alarm(Class::Idempotent, status::AlarmCommand::Disarm(*alarm))
                .await?;
        }
        Ok(standing)
    }

    async fn hash(&self, revision: Revision) -> Result<HashResponse> {
        let request = pb::HashKvRequest {
            revision: revision.as_i64(),
        };
        let answer = self
            .inner
            .caller
            .call(Class::Read, request, |channel, request| async {
                MaintenanceClient::new(channel).hash_kv(request).await
            });
        status::hash_response(revision, answer.await?)
    }

    /// Defragments every member that can be reached, one after another: a member does not serve
    /// while it is at it.
    async fn defragment_all(&self) -> Result<()> {
        let caller = &self.inner.caller;
        let mut done: Vec<u64> = Vec::new();
        let mut failed = None;
        for line in caller.channels.all_lines() {
            let known = caller.auth.known();
            let member = match probe(&line, known, self.inner.connect_timeout).await {
                Finding::Fit(found) | Finding::NoLeader(found) => found.member,
                Finding::Failed(error) => {
                    failed = Some(error);
                    continue;
                }
            };
            if member.is_some_and(|member| done.contains(&member)) {
                continue;
            }
            let limit = LONG.max(caller.timeout);
            timeout(limit, caller.defragment(&line))
                .await
                .map_err(|_| {
                    let text = format!("{} has not finished within {limit:?}", line.url());
                    Error::new(ErrorKind::Timeout, text).with_applied(Applied::Maybe)
                })??;
            done.extend(member);
        }
        match failed {
            Some(error) if done.is_empty() => Err(error),
            _ => Ok(()),
        }
    }
}

fn in_doubt(error: Error) -> Error {
    error.with_applied(Applied::Maybe)
}

/// A positive id: etcd's own are, and so they print alike.
fn random_lease_id() -> LeaseId {
    loop {
        // Never zero, but a type cannot say so.
        if let Some(id) = LeaseId::new(rand::random_range(1..=i64::MAX)) {
            return id;
        }
    }
}

fn kv_client(channel: tonic::transport::Channel) -> KvClient<tonic::transport::Channel> {
    KvClient::new(channel).max_decoding_message_size(LARGEST_ANSWER)
}

fn lease_client(channel: tonic::transport::Channel) -> LeaseClient<tonic::transport::Channel> {
    LeaseClient::new(channel).max_decoding_message_size(LARGEST_ANSWER)
}

/// Asks for the cluster's members from time to time, at once first.
async fn learn_members(caller: Caller, interval: Duration) {
    loop {
        match caller.members().await {
            Ok(members) => caller.channels.learn(&members),
            Err(error) => tracing::debug!(%error, "members not learned"),
        }
        tokio::time::sleep(interval).await;
    }
}

impl Caller {
    /// The cluster's members.
    async fn members(&self) -> Result<Vec<Member>> {
        let request = pb::MemberListRequest { linearizable: true };
        let answer = self.call(Class::Read, request, |channel, request| async {
            ClusterClient::new(channel).member_list(request).await
        });
        answer.await.map(status::members)
    }

    /// Defragments one member.
    async fn defragment(&self, line: &Line) -> Result<()> {
        let failed = |status| error(status, Call::Read, line.url());
        let token = self.auth.token(line.channel()).await.map_err(failed)?;
        let mut request = Request::new(pb::DefragmentRequest {});
        attach(request.metadata_mut(), &token);
        let mut client = MaintenanceClient::new(line.channel().clone());
        client.defragment(request).await.map_err(failed)?;
        Ok(())
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
        Box::pin(self.alarm(Class::Read, status::AlarmCommand::Get(None)))
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
        Box::pin(self.inner.caller.members())
    }

    fn replies(&self) -> Replies {
        Replies::Lossy
    }
}
