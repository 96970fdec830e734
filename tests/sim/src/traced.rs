//! A client's store that writes each call and each answer into the trace, and what was read into the history.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;

use futures_util::StreamExt;
use synod_store::*;

use crate::history::Read;
use crate::world::{World, now};

/// The store of one process of a client.
#[derive(Debug)]
pub(crate) struct Traced {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) world: Arc<World>,
    pub(crate) client: usize,
    pub(crate) incarnation: u64,
}

impl Traced {
    fn name(&self) -> String {
        format!("client{}.{}", self.client, self.incarnation)
    }

    async fn traced<T: Debug>(
        &self,
        what: impl Debug,
        header: impl Fn(&T) -> Option<(Revision, Option<(RangeRequest, RangeResponse)>)>,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.world.note(&self.name(), format_args!("asks {what:?}"));
        let begin = now();
        let answer = call.await;
        self.world
            .note(&self.name(), format_args!("hears {answer:?} to {what:?}"));
        if let Some((header, range)) = answer.as_ref().ok().and_then(header) {
            self.world.history().reads.push(Read {
                client: self.client,
                incarnation: self.incarnation,
                begin,
                end: now(),
                header,
                range,
            });
        }
        answer
    }

    fn plain<'a, T: Debug + 'a>(
        &'a self,
        what: impl Debug + Send + 'a,
        call: impl Future<Output = Result<T>> + Send + 'a,
    ) -> BoxFuture<'a, Result<T>> {
        Box::pin(self.traced(what, |_| None, call))
    }
}

impl Store for Traced {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse>> {
        let asked = request.clone();
        let read = move |answer: &RangeResponse| {
            Some((
                answer.header.revision,
                Some((asked.clone(), answer.clone())),
            ))
        };
        Box::pin(self.traced(request.clone(), read, self.store.range(request)))
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse>> {
        let read = |answer: &TxnResponse| Some((answer.header.revision, None));
        Box::pin(self.traced(txn.clone(), read, self.store.txn(txn)))
    }

    fn put(&self, request: PutRequest) -> BoxFuture<'_, Result<PutResponse>> {
        let read = |answer: &PutResponse| Some((answer.header.revision, None));
        Box::pin(self.traced(request.clone(), read, self.store.put(request)))
    }

    fn delete(&self, request: DeleteRequest) -> BoxFuture<'_, Result<DeleteResponse>> {
        self.plain(request.clone(), self.store.delete(request))
    }

    fn compact(&self, to: Revision, physical: bool) -> BoxFuture<'_, Result<CompactResponse>> {
        self.plain(("compact", to), self.store.compact(to, physical))
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Watch>> {
        let what = request.clone();
        let (world, name) = (Arc::clone(&self.world), self.name());
        Box::pin(async move {
            let watch = self
                .traced(what, |_| None, self.store.watch(request))
                .await?;
            let header = watch.header();
            let progress = watch.progress_handle();
            let items = watch.inspect(move |item| world.note(&name, format_args!("sees {item:?}")));
            Ok(Watch::new(header, items, move || progress()))
        })
    }

    fn lease_grant(&self, request: LeaseGrantRequest) -> BoxFuture<'_, Result<LeaseGrantResponse>> {
        self.plain(request, self.store.lease_grant(request))
    }

    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<LeaseRevokeResponse>> {
        self.plain(("revoke", id), self.store.lease_revoke(id))
    }

    fn lease_keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<LeaseKeepAliveResponse>> {
        self.plain(("keep", id), self.store.lease_keep_alive(id))
    }

    fn lease_time_to_live(
        &self,
        id: LeaseId,
        keys: bool,
    ) -> BoxFuture<'_, Result<LeaseTimeToLiveResponse>> {
        self.plain(("ttl", id), self.store.lease_time_to_live(id, keys))
    }

    fn leases(&self) -> BoxFuture<'_, Result<LeaseListResponse>> {
        self.plain("leases", self.store.leases())
    }

    fn status(&self) -> BoxFuture<'_, Result<StatusResponse>> {
        self.plain("status", self.store.status())
    }

    fn alarms(&self) -> BoxFuture<'_, Result<Vec<Alarm>>> {
        self.plain("alarms", self.store.alarms())
    }

    fn disarm(&self, kind: AlarmKind) -> BoxFuture<'_, Result<Vec<Alarm>>> {
        self.plain("disarm", self.store.disarm(kind))
    }

    fn hash_kv(&self, revision: Revision) -> BoxFuture<'_, Result<HashResponse>> {
        self.plain("hash", self.store.hash_kv(revision))
    }

    fn defragment(&self) -> BoxFuture<'_, Result<()>> {
        self.plain("defragment", self.store.defragment())
    }

    fn members(&self) -> BoxFuture<'_, Result<Vec<Member>>> {
        self.plain("members", self.store.members())
    }

    fn replies(&self) -> Replies {
        self.store.replies()
    }
}
