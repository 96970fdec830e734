//! What the sender of a request may do.

use std::sync::Arc;

use bytes::Bytes;
use synod_engine::{Engine, Permission, Reach};
use synod_store::{
    Error, ErrorKind, Key, LeaseId, LeaseRevokeResponse, PutRequest, PutResponse, Store, Txn,
    TxnResponse,
};
use synod_wire::etcdserverpb as pb;
use synod_wire::etcdserverpb::request_op::Request as Op;
use tonic::Status;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

use super::book::Allowed;
use super::certificate;
use super::refusal;
use crate::state::{Api, status};

/// The names under which etcd's clients send their token.
pub(super) const TOKEN: [&str; 2] = ["token", "authorization"];

/// What a request says about who sent it.
#[derive(Clone, Default)]
pub(crate) struct Credentials {
    token: Option<String>,
    /// The common name of the client's certificate, for requests without a token.
    certificate: Option<String>,
}

/// Without the token.
impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl Credentials {
    pub(super) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    pub(super) fn certificate(&self) -> Option<&str> {
        self.certificate.as_deref()
    }

    pub(crate) fn of(metadata: &MetadataMap) -> Credentials {
        let token = TOKEN.iter().find_map(|name| metadata.get(*name));
        let certificate = metadata.get(certificate::NAME);
        let name = |name: &MetadataValue<Ascii>| String::from_utf8(name.as_bytes().to_vec()).ok();
        Credentials {
            certificate: certificate.and_then(name),
            // What cannot be read is no token of ours.
            token: token.map(|token| token.to_str().unwrap_or_default().to_owned()),
        }
    }
}

/// What the sender of a request may do.
#[derive(Debug, Clone)]
pub(crate) enum Access {
    /// Authentication is off: everything.
    Open,
    /// It is on, and nobody was named: nothing.
    Nobody,
    /// What a user may do.
    User(String, Arc<Allowed>),
}

type Checked = Result<(), Status>;

impl Access {
    /// The user, if one was named.
    pub(super) fn user(&self) -> Option<&str> {
        match self {
            Access::User(name, _) => Some(name),
            Access::Open | Access::Nobody => None,
        }
    }

    /// Refuses who did not log in.
    pub(crate) fn somebody(&self) -> Checked {
        match self {
            Access::Nobody => Err(refusal::no_user_name()),
            Access::Open | Access::User(..) => Ok(()),
        }
    }

    /// Refuses all but those with the role `root`.
    pub(crate) fn root(&self) -> Checked {
        self.check(|_| false)
    }

    /// Refuses who may not read all of a range; an empty end for one key.
    pub(crate) fn read(&self, key: &Bytes, range_end: &Bytes) -> Checked {
        self.check(|allowed| allowed.read.cover(key, range_end))
    }

    /// Refuses who may not write all of a range.
    pub(crate) fn write(&self, key: &Bytes, range_end: &Bytes) -> Checked {
        self.check(|allowed| allowed.write.cover(key, range_end))
    }

    fn check(&self, may: impl FnOnce(&Allowed) -> bool) -> Checked {
        match self {
            Access::Open => Ok(()),
            Access::Nobody => Err(refusal::no_user_name()),
            Access::User(_, allowed) if allowed.root || may(allowed) => Ok(()),
            Access::User(..) => Err(refusal::denied()),
        }
    }

    /// Whether nothing needs to be looked at.
    fn is_unlimited(&self) -> bool {
        match self {
            Access::Open => true,
            Access::Nobody => false,
            Access::User(_, allowed) => allowed.root,
        }
    }

    pub(crate) fn range(&self, request: &pb::RangeRequest) -> Checked {
        self.read(&request.key, &request.range_end)
    }

    pub(crate) fn delete(&self, request: &pb::DeleteRangeRequest) -> Checked {
        self.write(&request.key, &request.range_end)?;
        if request.prev_kv {
            self.read(&request.key, &request.range_end)?;
        }
        Ok(())
    }

    /// The key alone: for that of its lease see [`Api::put_as`].
    pub(crate) fn put(&self, request: &pb::PutRequest) -> Checked {
        self.write(&request.key, &Bytes::new())?;
        if request.prev_kv {
            self.read(&request.key, &Bytes::new())?;
        }
        Ok(())
    }

    /// What a store is to ask about the keys of leases; none for those who may do everything.
    fn permission(&self) -> Result<Option<Arc<dyn Permission>>, Error> {
        match self {
            Access::Open => Ok(None),
            // It was refused before.
            Access::Nobody => Err(ErrorKind::PermissionDenied.into()),
            Access::User(_, allowed) if allowed.root => Ok(None),
            Access::User(_, allowed) => Ok(Some(Arc::<Allowed>::clone(allowed))),
        }
    }

    /// All conditions and both branches, at any depth.
    fn txn(&self, request: &pb::TxnRequest) -> Checked {
        self.somebody()?;
        for compare in &request.compare {
            self.read(&compare.key, &compare.range_end)?;
        }
        for op in request.success.iter().chain(&request.failure) {
            match &op.request {
                Some(Op::RequestRange(range)) => self.range(range)?,
                Some(Op::RequestPut(put)) => self.put(put)?,
                Some(Op::RequestDeleteRange(delete)) => self.delete(delete)?,
                Some(Op::RequestTxn(txn)) => self.txn(txn)?,
                None => {}
            }
        }
        Ok(())
    }
}

impl Api {
    /// What the sender of a request with this metadata may do.
    pub(crate) fn access(&self, metadata: &MetadataMap) -> Result<Access, Status> {
        match &self.state.accounts {
            Some(accounts) if accounts.is_enabled() => accounts.access(&Credentials::of(metadata)),
            _ => Ok(Access::Open),
        }
    }

    /// The same for who said earlier who it is.
    pub(crate) fn access_of(&self, credentials: &Credentials) -> Result<Access, Status> {
        match &self.state.accounts {
            Some(accounts) => accounts.access(credentials),
            None => Ok(Access::Open),
        }
    }

    /// Refuses a transaction that its sender may not make, but for the leases of its puts: see [`Api::txn_as`].
    pub(crate) fn check_txn(access: &Access, txn: &pb::TxnRequest) -> Checked {
        if access.is_unlimited() {
            return Ok(());
        }
        access.txn(txn)
    }

    /// Puts a key, unless its sender may not write all keys of its lease: ending that would delete them. As in etcd
    /// nobody attaches a key to such a lease either.
    ///
    /// This and the next two are checked by the store itself, amid all changes: keys that were put a moment ago, and are
    /// not durable yet, nobody else can see.
    pub(crate) async fn put_as(
        &self,
        access: &Access,
        request: PutRequest,
    ) -> Result<PutResponse, Error> {
        match access.permission()? {
            None => self.store().put(request).await,
            Some(permission) => self.engine()?.put_as(request, permission).await,
        }
    }

    /// The same for a transaction.
    pub(crate) async fn txn_as(&self, access: &Access, txn: Txn) -> Result<TxnResponse, Error> {
        match access.permission()? {
            None => self.store().txn(txn).await,
            Some(permission) => self.engine()?.txn_as(txn, permission).await,
        }
    }

    /// Ends a lease, unless its sender may not write all of its keys.
    pub(crate) async fn revoke_as(
        &self,
        access: &Access,
        lease: LeaseId,
    ) -> Result<LeaseRevokeResponse, Error> {
        match access.permission()? {
            None => self.store().lease_revoke(lease).await,
            Some(permission) => self.engine()?.lease_revoke_as(lease, permission).await,
        }
    }

    /// The store that keeps users also asks what they may.
    fn engine(&self) -> Result<&Engine, Error> {
        let engine = self.state.engine.as_ref();
        engine.ok_or_else(|| ErrorKind::PermissionDenied.into())
    }

    /// Refuses who may not write all keys that a lease is known to have.
    pub(crate) async fn check_lease(&self, access: &Access, lease: i64) -> Checked {
        access.somebody()?;
        let (Some(lease), false) = (LeaseId::new(lease), access.is_unlimited()) else {
            return Ok(());
        };
        let answer = self.store().lease_time_to_live(lease, true).await;
        let keys = answer.map_err(status)?.keys;
        keys.into_iter()
            .try_for_each(|key| access.write(&key.into_bytes(), &Bytes::new()))
    }
}

impl Access {
    /// Refuses who may not read all of these keys.
    pub(crate) fn read_each(&self, keys: &[Key]) -> Checked {
        self.somebody()?;
        if self.is_unlimited() {
            return Ok(());
        }
        let mut keys = keys.iter().cloned();
        keys.try_for_each(|key| self.read(&key.into_bytes(), &Bytes::new()))
    }
}

/// What may be written.
impl Permission for Allowed {
    fn reach(&self, key: &[u8]) -> Reach<'_> {
        if self.root {
            return Reach::End;
        }
        self.write.reach(key)
    }
}
