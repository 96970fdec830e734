//! [`Engine`] as a [`Store`].

use std::sync::Arc;
use std::sync::atomic::Ordering;

use synod_store::{
    Alarm, AlarmKind, BoxFuture, CompactResponse, DeleteRequest, DeleteResponse, Error, ErrorKind,
    HashResponse, LeaseGrantRequest, LeaseGrantResponse, LeaseId, LeaseKeepAliveResponse,
    LeaseListResponse, LeaseRevokeResponse, LeaseTimeToLiveResponse, Member, PutRequest,
    PutResponse, RangeRequest, RangeResponse, Replies, Result, Revision, StatusResponse, Store,
    Txn, TxnOp, TxnOpResponse, TxnResponse, Watch, WatchRequest,
};

use crate::check;
use crate::engine::Engine;
use crate::lease::Renewal;
use crate::permission::{Guard, Permission};
use crate::watch;
use crate::writer::Command;

/// The version of etcd's API that the engine speaks. Clients parse it to know what they may ask.
pub const ETCD_VERSION: &str = "3.5.21";

/// How often a renewal asks again about a lease whose time is over, when very many end at once.
const RENEWALS: usize = 10_000;

impl Engine {
    /// Runs one operation as a transaction of its own.
    async fn single(
        &self,
        op: TxnOp,
        permission: Option<Arc<dyn Permission>>,
    ) -> Result<(TxnOpResponse, TxnResponse)> {
        let txn = Txn::new().and_then([op]);
        let mut response = self.run_txn(txn, permission).await?;
        let first = response.responses.pop().ok_or_else(unanswered)?;
        Ok((first, response))
    }

    /// For somebody who may write all keys if there is no `permission`.
    pub(crate) async fn run_put(
        &self,
        request: PutRequest,
        permission: Option<Arc<dyn Permission>>,
    ) -> Result<PutResponse> {
        let (response, txn) = self.single(request.into(), permission).await?;
        let mut response = response.into_put().ok_or_else(unanswered)?;
        response.header = txn.header;
        Ok(response)
    }

    /// The same for a transaction.
    pub(crate) async fn run_txn(
        &self,
        txn: Txn,
        permission: Option<Arc<dyn Permission>>,
    ) -> Result<TxnResponse> {
        let shared = self.shared();
        let size = check::txn(&txn, &shared.options.limits)?;
        if txn.is_read_only() {
            shared.check_readable()?;
            return shared.read_txn(&txn).await;
        }
        let puts = has_puts(&txn);
        let guard = permission.and_then(|permission| Guard::of(&txn, permission));
        let command = |reply| Command::Txn {
            txn,
            puts,
            guard,
            reply,
        };
        shared.ask(size, command).await
    }

    async fn keep_alive(&self, id: LeaseId) -> Result<LeaseKeepAliveResponse> {
        let shared = self.shared();
        for _ in 0..RENEWALS {
            if let Some(error) = shared.why_stopped() {
                return Err(error);
            }
            let now = shared.clock.now();
            let (renewal, header) = {
                let mut leases = shared.leases();
                (leases.renew(id, now), shared.header())
            };
            match renewal {
                Renewal::Renewed(ttl) => return Ok(LeaseKeepAliveResponse { header, ttl }),
                Renewal::Missing => break,
                // Only what is durable is told: wait until it has ended, or was extended after all.
                Renewal::Ending => shared.ask(0, |reply| Command::Settle { reply }).await?,
            }
        }
        Err(ErrorKind::LeaseNotFound.into())
    }
}

fn unanswered() -> Error {
    Error::new(ErrorKind::Other, "an operation was not answered")
}

/// Whether a branch holds a put, at any depth.
fn has_puts(txn: &Txn) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match op {
        TxnOp::Put(_) => true,
        TxnOp::Range(_) | TxnOp::Delete(_) => false,
        TxnOp::Txn(txn) => has_puts(txn),
    })
}

impl Store for Engine {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse>> {
        Box::pin(async move {
            check::range(&request)?;
            self.shared().check_readable()?;
            self.shared().range(&request).await
        })
    }

    fn put(&self, request: PutRequest) -> BoxFuture<'_, Result<PutResponse>> {
        Box::pin(self.run_put(request, None))
    }

    fn delete(&self, request: DeleteRequest) -> BoxFuture<'_, Result<DeleteResponse>> {
        Box::pin(async move {
            let (response, txn) = self.single(request.into(), None).await?;
            let mut response = response.into_delete().ok_or_else(unanswered)?;
            response.header = txn.header;
            Ok(response)
        })
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse>> {
        Box::pin(self.run_txn(txn, None))
    }

    fn compact(
        &self,
        revision: Revision,
        physical: bool,
    ) -> BoxFuture<'_, Result<CompactResponse>> {
        Box::pin(self.shared().ask(0, move |reply| Command::Compact {
            revision,
            physical,
            reply,
        }))
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Watch>> {
        Box::pin(async move { watch::open(self.shared(), request) })
    }

    fn lease_grant(&self, request: LeaseGrantRequest) -> BoxFuture<'_, Result<LeaseGrantResponse>> {
        Box::pin(self.shared().ask(0, move |reply| Command::Grant {
            id: request.id,
            ttl: request.ttl,
            reply,
        }))
    }

    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<LeaseRevokeResponse>> {
        Box::pin(self.shared().ask(0, move |reply| Command::Revoke {
            id,
            permission: None,
            reply,
        }))
    }

    fn lease_keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<LeaseKeepAliveResponse>> {
        Box::pin(self.keep_alive(id))
    }

    fn lease_time_to_live(
        &self,
        id: LeaseId,
        keys: bool,
    ) -> BoxFuture<'_, Result<LeaseTimeToLiveResponse>> {
        Box::pin(async move {
            let shared = self.shared();
            shared.check_readable()?;
            let now = shared.clock.now();
            let leases = shared.leases();
            let times = leases.time_to_live(id, now);
            let keys = if keys { leases.keys(id) } else { Vec::new() };
            let header = shared.header();
            drop(leases);
            Ok(LeaseTimeToLiveResponse {
                header,
                id,
                remaining: times.map(|(remaining, _)| remaining),
                granted: times.map(|(_, granted)| granted).unwrap_or_default(),
                keys,
            })
        })
    }

    fn leases(&self) -> BoxFuture<'_, Result<LeaseListResponse>> {
        Box::pin(async move {
            let shared = self.shared();
            shared.check_readable()?;
            let all = shared.leases();
            let (leases, header) = (all.ids(), shared.header());
            drop(all);
            Ok(LeaseListResponse { header, leases })
        })
    }

    fn status(&self) -> BoxFuture<'_, Result<StatusResponse>> {
        Box::pin(async move {
            let shared = self.shared();
            let in_use = shared.state().total_bytes().max(1);
            let index = shared.index.load(Ordering::Relaxed).max(1);
            let mut errors: Vec<String> = Vec::new();
            if shared.is_full() {
                errors.push(ErrorKind::NoSpace.text().to_owned());
            }
            errors.extend(shared.why_stopped().map(|error| error.to_string()));
            Ok(StatusResponse {
                header: shared.header(),
                version: ETCD_VERSION.to_owned(),
                db_size: shared.disk_bytes.load(Ordering::Relaxed).max(in_use),
                db_size_in_use: in_use,
                leader: shared.who.member_id,
                raft_index: index,
                raft_applied_index: index,
                is_learner: false,
                errors,
            })
        })
    }

    fn alarms(&self) -> BoxFuture<'_, Result<Vec<Alarm>>> {
        Box::pin(async move { Ok(self.shared().alarms()) })
    }

    fn disarm(&self, kind: AlarmKind) -> BoxFuture<'_, Result<Vec<Alarm>>> {
        Box::pin(
            self.shared()
                .ask(0, move |reply| Command::Disarm { kind, reply }),
        )
    }

    fn hash_kv(&self, revision: Revision) -> BoxFuture<'_, Result<HashResponse>> {
        Box::pin(async move {
            self.shared().check_readable()?;
            self.shared().hash(revision).await
        })
    }

    fn defragment(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.shared().ask(0, |reply| Command::Defragment { reply }))
    }

    fn members(&self) -> BoxFuture<'_, Result<Vec<Member>>> {
        Box::pin(async move {
            let shared = self.shared();
            Ok(vec![Member {
                id: shared.who.member_id,
                name: shared.options.name.clone(),
                peer_urls: Vec::new(),
                client_urls: shared.options.client_urls.clone(),
                is_learner: false,
            }])
        })
    }

    fn replies(&self) -> Replies {
        Replies::Certain
    }
}
