//! The [`Store`] trait: everything a store can be asked.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;

use crate::{
    Alarm, AlarmKind, CompactResponse, DeleteRequest, DeleteResponse, HashResponse,
    LeaseGrantRequest, LeaseGrantResponse, LeaseId, LeaseKeepAliveResponse, LeaseListResponse,
    LeaseRevokeResponse, LeaseTimeToLiveResponse, Member, PutRequest, PutResponse, RangeRequest,
    RangeResponse, Result, Revision, StatusResponse, Txn, TxnResponse, Watch, WatchRequest,
};

/// A future in a box: [`Store`] is object-safe, and one allocation does not count against a round
/// trip.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Whether an answer can get lost between the store and its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Replies {
    /// In one process: who is answered knows, and who is not answered was not served.
    Certain,
    /// Over a network: a request can be applied although its answer was lost, and an old copy of
    /// it can arrive late.
    Lossy,
}

/// A key-value store with revisions, transactions, watches and leases, as etcd defines them.
///
/// Handles are cheap to share (`Arc<dyn Store>`). Every method may be called from many tasks at
/// once. `crates/store/src/conformance` holds the suite that states what each method must do.
///
/// # Cancel safety
///
/// A future that is dropped before it has answered leaves open whether its request was applied:
/// it may be, or become so later. Reads leave nothing behind.
///
/// # Errors
///
/// [`Error`](crate::Error) tells for each failure whether the request may have been applied and
/// whether it may be repeated. A store never repeats a request that changes something by itself,
/// unless it knows that the first copy was never sent, or that twice comes to the same as once (a
/// lease granted under an id of one's own choice, a lease revoked, an alarm taken back).
pub trait Store: Debug + Send + Sync + 'static {
    /// Reads keys.
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse>>;

    /// Writes a key.
    fn put(&self, request: PutRequest) -> BoxFuture<'_, Result<PutResponse>>;

    /// Deletes keys.
    fn delete(&self, request: DeleteRequest) -> BoxFuture<'_, Result<DeleteResponse>>;

    /// Runs a transaction.
    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse>>;

    /// Forgets history before `revision`, which itself stays readable. With `physical`, waits until
    /// the space is free.
    fn compact(&self, revision: Revision, physical: bool)
    -> BoxFuture<'_, Result<CompactResponse>>;

    /// Watches keys. When it returns, the watch stands: every event from
    /// [`WatchRequest::start_revision`] on, or after [`Watch::header`]'s revision when none was
    /// given, will be delivered.
    ///
    /// The watch resumes by itself after a broken connection, without a gap or a repetition. It
    /// ends with [`WatchItem::Compacted`](crate::WatchItem::Compacted) when history that it needs
    /// is gone, and with an error when the store refuses it for good.
    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Watch>>;

    /// Grants a lease.
    fn lease_grant(&self, request: LeaseGrantRequest) -> BoxFuture<'_, Result<LeaseGrantResponse>>;

    /// Ends a lease, and deletes its keys in one revision.
    ///
    /// [`ErrorKind::LeaseNotFound`](crate::ErrorKind::LeaseNotFound) when there is none.
    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<LeaseRevokeResponse>>;

    /// Renews a lease once.
    ///
    /// [`ErrorKind::LeaseNotFound`](crate::ErrorKind::LeaseNotFound) when it is gone.
    fn lease_keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<LeaseKeepAliveResponse>>;

    /// Tells how long a lease still lives and, with `keys`, which keys it has. A lease that does
    /// not exist is no error.
    fn lease_time_to_live(
        &self,
        id: LeaseId,
        keys: bool,
    ) -> BoxFuture<'_, Result<LeaseTimeToLiveResponse>>;

    /// Lists the leases.
    fn leases(&self) -> BoxFuture<'_, Result<LeaseListResponse>>;

    /// Tells about the store.
    fn status(&self) -> BoxFuture<'_, Result<StatusResponse>>;

    /// The complaints that stand.
    fn alarms(&self) -> BoxFuture<'_, Result<Vec<Alarm>>>;

    /// Takes a complaint back once its cause is removed; returns those that stood.
    fn disarm(&self, kind: AlarmKind) -> BoxFuture<'_, Result<Vec<Alarm>>>;

    /// Hashes everything visible at `revision`; [`Revision::ZERO`] for now.
    fn hash_kv(&self, revision: Revision) -> BoxFuture<'_, Result<HashResponse>>;

    /// Gives storage that is no longer needed back to the system.
    fn defragment(&self) -> BoxFuture<'_, Result<()>>;

    /// The members of the cluster; an embedded store has one.
    fn members(&self) -> BoxFuture<'_, Result<Vec<Member>>>;

    /// Whether answers can get lost.
    fn replies(&self) -> Replies;
}

impl<S: Store + ?Sized> Store for std::sync::Arc<S> {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse>> {
        (**self).range(request)
    }

    fn put(&self, request: PutRequest) -> BoxFuture<'_, Result<PutResponse>> {
        (**self).put(request)
    }

    fn delete(&self, request: DeleteRequest) -> BoxFuture<'_, Result<DeleteResponse>> {
        (**self).delete(request)
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse>> {
        (**self).txn(txn)
    }

    fn compact(
        &self,
        revision: Revision,
        physical: bool,
    ) -> BoxFuture<'_, Result<CompactResponse>> {
        (**self).compact(revision, physical)
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Watch>> {
        (**self).watch(request)
    }

    fn lease_grant(&self, request: LeaseGrantRequest) -> BoxFuture<'_, Result<LeaseGrantResponse>> {
        (**self).lease_grant(request)
    }

    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<LeaseRevokeResponse>> {
        (**self).lease_revoke(id)
    }

    fn lease_keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<LeaseKeepAliveResponse>> {
        (**self).lease_keep_alive(id)
    }

    fn lease_time_to_live(
        &self,
        id: LeaseId,
        keys: bool,
    ) -> BoxFuture<'_, Result<LeaseTimeToLiveResponse>> {
        (**self).lease_time_to_live(id, keys)
    }

    fn leases(&self) -> BoxFuture<'_, Result<LeaseListResponse>> {
        (**self).leases()
    }

    fn status(&self) -> BoxFuture<'_, Result<StatusResponse>> {
        (**self).status()
    }

    fn alarms(&self) -> BoxFuture<'_, Result<Vec<Alarm>>> {
        (**self).alarms()
    }

    fn disarm(&self, kind: AlarmKind) -> BoxFuture<'_, Result<Vec<Alarm>>> {
        (**self).disarm(kind)
    }

    fn hash_kv(&self, revision: Revision) -> BoxFuture<'_, Result<HashResponse>> {
        (**self).hash_kv(revision)
    }

    fn defragment(&self) -> BoxFuture<'_, Result<()>> {
        (**self).defragment()
    }

    fn members(&self) -> BoxFuture<'_, Result<Vec<Member>>> {
        (**self).members()
    }

    fn replies(&self) -> Replies {
        (**self).replies()
    }
}
