//! [`Namespace`]: a store seen through a key prefix, watches and leases' keys included.

use bytes::Bytes;

use crate::{
    BoxFuture, CompactResponse, Compare, DeleteRequest, DeleteResponse, Event, Key, KeyRange,
    KeyValue, LeaseId, LeaseTimeToLiveResponse, PutRequest, PutResponse, RangeRequest,
    RangeResponse, Result, Revision, Store, Txn, TxnOp, TxnOpResponse, TxnResponse, Watch,
    WatchItem, WatchRequest,
};

/// A store whose keys all begin with a prefix that its users do not see.
///
/// Ranges end where the prefix ends, so "every key" means every key of the namespace. Leases and
/// revisions are the whole store's: [`Store::leases`] lists those of other namespaces too, and
/// of a lease's keys only the namespace's own are shown. Same layout as etcd's
/// `client/v3/namespace`: nothing stands between prefix and key.
#[derive(Debug, Clone)]
pub struct Namespace<S> {
    store: S,
    prefix: Bytes,
}

impl<S> Namespace<S> {
    /// `store` seen through `prefix`, which is taken as it is: end it with a `/` if you want one.
    pub fn new(store: S, prefix: impl Into<Bytes>) -> Namespace<S> {
        Namespace {
            store,
            prefix: prefix.into(),
        }
    }

    fn add(&self, key: &Key) -> Key {
        // An empty key stays empty, so that the store refuses it as it would without a prefix.
        if key.is_empty() {
            key.clone()
        } else {
            self.join(key)
        }
    }

    fn join(&self, key: &[u8]) -> Key {
        Key::from([self.prefix.as_ref(), key].concat())
    }

    fn add_range(&self, range: KeyRange) -> KeyRange {
        match range {
            KeyRange::One(key) => KeyRange::One(self.add(&key)),
            KeyRange::Between(start, end) if start.is_empty() => KeyRange::Between(start, end),
            KeyRange::Between(start, end) => KeyRange::Between(self.join(&start), self.join(&end)),
            KeyRange::From(start) if start.is_empty() => KeyRange::From(start),
            KeyRange::From(start) => {
                let start = self.join(&start);
                match KeyRange::prefix(self.prefix.clone()) {
                    KeyRange::Between(_, end) => KeyRange::Between(start, end),
                    // The prefix has no end: all its bytes are 0xff, or it is empty.
                    _ => KeyRange::From(start),
                }
            }
        }
    }

    fn strip(&self, key: Key) -> Key {
        strip(&self.prefix, key)
    }

    fn strip_kv(&self, mut kv: KeyValue) -> KeyValue {
        kv.key = self.strip(kv.key);
        kv
    }

    fn add_txn(&self, txn: Txn) -> Txn {
        let ops = |ops: Vec<TxnOp>| ops.into_iter().map(|op| self.add_op(op)).collect();
        Txn {
            compares: txn
                .compares
                .into_iter()
                .map(|compare| Compare {
                    range: self.add_range(compare.range),
                    ..compare
                })
                .collect(),
            success: ops(txn.success),
            failure: ops(txn.failure),
        }
    }

    fn add_op(&self, op: TxnOp) -> TxnOp {
        match op {
            TxnOp::Range(op) => TxnOp::Range(self.add_range_request(op)),
            TxnOp::Put(op) => TxnOp::Put(self.add_put(op)),
            TxnOp::Delete(op) => TxnOp::Delete(self.add_delete(op)),
            TxnOp::Txn(txn) => TxnOp::Txn(self.add_txn(txn)),
        }
    }

    fn add_range_request(&self, request: RangeRequest) -> RangeRequest {
        RangeRequest {
            range: self.add_range(request.range),
            ..request
        }
    }

    fn add_put(&self, request: PutRequest) -> PutRequest {
        PutRequest {
            key: self.add(&request.key),
            ..request
        }
    }

    fn add_delete(&self, request: DeleteRequest) -> DeleteRequest {
        DeleteRequest {
            range: self.add_range(request.range),
            ..request
        }
    }

    fn strip_range(&self, mut response: RangeResponse) -> RangeResponse {
        response.kvs = response
            .kvs
            .into_iter()
            .map(|kv| self.strip_kv(kv))
            .collect();
        response
    }

    fn strip_put(&self, mut response: PutResponse) -> PutResponse {
        response.prev_kv = response.prev_kv.map(|kv| self.strip_kv(kv));
        response
    }

    fn strip_delete(&self, mut response: DeleteResponse) -> DeleteResponse {
        response.prev_kvs = response
            .prev_kvs
            .into_iter()
            .map(|kv| self.strip_kv(kv))
            .collect();
        response
    }

    fn strip_txn(&self, mut response: TxnResponse) -> TxnResponse {
        let strip = |response| match response {
            TxnOpResponse::Range(response) => TxnOpResponse::Range(self.strip_range(response)),
            TxnOpResponse::Put(response) => TxnOpResponse::Put(self.strip_put(response)),
            TxnOpResponse::Delete(response) => TxnOpResponse::Delete(self.strip_delete(response)),
            TxnOpResponse::Txn(response) => TxnOpResponse::Txn(self.strip_txn(response)),
        };
        response.responses = response.responses.into_iter().map(strip).collect();
        response
    }
}

/// `key` without `prefix`; a key that does not start with it stays as it is.
fn strip(prefix: &[u8], key: Key) -> Key {
    if key.starts_with(prefix) {
        Key::from(key.into_bytes().slice(prefix.len()..))
    } else {
        key
    }
}

fn strip_event(prefix: &[u8], mut event: Event) -> Event {
    event.kv.key = strip(prefix, event.kv.key);
    if let Some(prev) = &mut event.prev_kv {
        prev.key = strip(prefix, std::mem::take(&mut prev.key));
    }
    event
}

impl<S: Store> Store for Namespace<S> {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse>> {
        let call = self.store.range(self.add_range_request(request));
        Box::pin(async move { Ok(self.strip_range(call.await?)) })
    }

    fn put(&self, request: PutRequest) -> BoxFuture<'_, Result<PutResponse>> {
        let call = self.store.put(self.add_put(request));
        Box::pin(async move { Ok(self.strip_put(call.await?)) })
    }

    fn delete(&self, request: DeleteRequest) -> BoxFuture<'_, Result<DeleteResponse>> {
        let call = self.store.delete(self.add_delete(request));
        Box::pin(async move { Ok(self.strip_delete(call.await?)) })
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse>> {
        let call = self.store.txn(self.add_txn(txn));
        Box::pin(async move { Ok(self.strip_txn(call.await?)) })
    }

    fn compact(
        &self,
        revision: Revision,
        physical: bool,
    ) -> BoxFuture<'_, Result<CompactResponse>> {
        self.store.compact(revision, physical)
    }

    fn watch(&self, mut request: WatchRequest) -> BoxFuture<'_, Result<Watch>> {
        // A watch of the empty key means one from the first key on.
        if request.range.start().is_empty() {
            request.range = match request.range {
                KeyRange::One(_) => KeyRange::one(b"\0"),
                KeyRange::Between(_, end) => KeyRange::between(b"\0", end),
                KeyRange::From(_) => KeyRange::all(),
            };
        }
        request.range = self.add_range(request.range);
        let prefix = self.prefix.clone();
        let call = self.store.watch(request);
        Box::pin(async move {
            Ok(call.await?.map_items(move |item| {
                Ok(match item? {
                    WatchItem::Events(mut batch) => {
                        let strip = |event| strip_event(&prefix, event);
                        batch.events = batch.events.into_iter().map(strip).collect();
                        WatchItem::Events(batch)
                    }
                    other => other,
                })
            }))
        })
    }

    fn lease_time_to_live(
        &self,
        id: LeaseId,
        keys: bool,
    ) -> BoxFuture<'_, Result<LeaseTimeToLiveResponse>> {
        let call = self.store.lease_time_to_live(id, keys);
        Box::pin(async move {
            let mut response = call.await?;
            response.keys.retain(|key| key.starts_with(&self.prefix));
            response.keys = response
                .keys
                .into_iter()
                .map(|key| self.strip(key))
                .collect();
            Ok(response)
        })
    }

    crate::forward!(store: lease_grant, lease_revoke, lease_keep_alive, leases, status, alarms, disarm, hash_kv, defragment, members, replies);
}
