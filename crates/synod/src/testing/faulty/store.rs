//! What a [`Faulty`] answers.

use std::future::Future;
use std::sync::Arc;

use futures_util::StreamExt;
use synod_store::{
    Alarm, AlarmKind, Applied, BoxFuture, CompactResponse, DeleteRequest, DeleteResponse, Error,
    ErrorKind, HashResponse, Header, LeaseGrantRequest, LeaseGrantResponse, LeaseId,
    LeaseKeepAliveResponse, LeaseListResponse, LeaseRevokeResponse, LeaseTimeToLiveResponse,
    Member, PutRequest, PutResponse, PutValue, RangeRequest, RangeResponse, Replies, Result,
    Revision, StatusResponse, Store, Txn, TxnOp, TxnOpResponse, TxnResponse, Watch, WatchItem,
    WatchRequest,
};

use super::{Fault, Faulty, Script, WatchEnd};

impl Faulty {
    /// Comes to the gate and waits there until it may pass. It is counted and it arrives at one moment:
    /// who sees the one sees the other.
    async fn pass(&self, count: impl FnOnce(&mut Script)) {
        let mut mine = 0;
        self.state.arrived.send_modify(|arrived| {
            *arrived += 1;
            mine = *arrived;
            count(&mut self.state.script.lock());
        });
        let mut gate = self.state.gate.subscribe();
        // It fails only when the store is gone, and this belongs to it.
        let _ = gate.wait_for(|limit| *limit >= mine).await;
    }

    fn next_fault(&self) -> Fault {
        let mut script = self.state.script.lock();
        script
            .always
            .or_else(|| script.faults.pop_front())
            .unwrap_or(Fault::None)
    }

    /// A call that changes something and can come late only as a Txn.
    async fn change<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        self.pass(|_| ()).await;
        match self.next_fault() {
            Fault::None => call.await,
            Fault::Delay(time) => {
                tokio::time::sleep(time).await;
                call.await
            }
            Fault::Refuse => Err(refused()),
            Fault::Deny => Err(denied()),
            Fault::Lose => {
                let _ = call.await;
                Err(lost())
            }
            Fault::Drop | Fault::Late | Fault::Overtaken => Err(lost()),
        }
    }

    async fn read<T>(
        &self,
        count: impl FnOnce(&mut Script),
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.pass(count).await;
        let always = self.state.script.lock().always;
        match always {
            None | Some(Fault::None) => call.await,
            Some(Fault::Delay(time)) => {
                tokio::time::sleep(time).await;
                call.await
            }
            Some(Fault::Deny) => Err(denied()),
            Some(_) => Err(refused()),
        }
    }
}

impl Faulty {
    /// Answers a Txn that only reads; one member alone does if all of it may be answered so.
    async fn answer(&self, mut txn: Txn) -> Result<TxnResponse> {
        let is_alone = |op: &TxnOp| matches!(op, TxnOp::Range(range) if range.serializable);
        let alone = txn.success.iter().all(is_alone) && txn.failure.iter().all(is_alone);
        let behind = {
            let mut script = self.state.script.lock();
            script.asked_alone += usize::from(alone);
            script.behind.filter(|_| alone)
        };
        let Some(behind) = behind else {
            return self.engine.txn(txn).await;
        };
        for op in txn.success.iter_mut().chain(&mut txn.failure) {
            if let TxnOp::Range(range) = op {
                range.revision = behind;
            }
        }
        let mut answer = self.engine.txn(txn).await?;
        answer.header.revision = behind;
        Ok(answer)
    }
}

/// How many pairs the answers of a Txn carry.
fn pairs(responses: &[TxnOpResponse]) -> usize {
    let pairs = responses.iter().map(|response| match response {
        TxnOpResponse::Range(range) => range.kvs.len(),
        TxnOpResponse::Txn(txn) => pairs(&txn.responses),
        TxnOpResponse::Put(_) | TxnOpResponse::Delete(_) => 0,
    });
    pairs.sum()
}

/// How many bytes a Txn puts.
fn put_bytes(txn: &Txn) -> usize {
    let ops = txn.success.iter().chain(&txn.failure).map(|op| match op {
        TxnOp::Put(put) => match &put.value {
            PutValue::Set(value) => value.len(),
            _ => 0,
        },
        TxnOp::Txn(txn) => put_bytes(txn),
        TxnOp::Range(_) | TxnOp::Delete(_) => 0,
    });
    ops.sum()
}

fn refused() -> Error {
    Error::new(ErrorKind::Unavailable, "nobody there")
}

fn denied() -> Error {
    Error::from_kind(ErrorKind::PermissionDenied)
}

fn lost() -> Error {
    Error::new(ErrorKind::Unavailable, "connection reset").with_applied(Applied::Maybe)
}

impl Store for Faulty {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse>> {
        Box::pin(async move {
            let count = |script: &mut Script| script.ranges += 1;
            let answer = self.read(count, self.engine.range(request)).await;
            let pairs = answer.as_ref().map_or(0, |answer| answer.kvs.len());
            self.state.script.lock().answered += pairs;
            answer
        })
    }

    fn put(&self, request: PutRequest) -> BoxFuture<'_, Result<PutResponse>> {
        Box::pin(self.change(self.engine.put(request)))
    }

    fn delete(&self, request: DeleteRequest) -> BoxFuture<'_, Result<DeleteResponse>> {
        Box::pin(self.change(self.engine.delete(request)))
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse>> {
        Box::pin(async move {
            let count = |script: &mut Script| script.txns += 1;
            if txn.is_read_only() {
                let answer = self.read(count, self.answer(txn)).await;
                let pairs = answer.as_ref().map_or(0, |answer| pairs(&answer.responses));
                self.state.script.lock().answered += pairs;
                return answer;
            }
            self.pass(count).await;
            let most = self.state.script.lock().most_bytes;
            if most.is_some_and(|most| put_bytes(&txn) > most) {
                return Err(Error::from_kind(ErrorKind::TooLarge));
            }
            let fault = self.next_fault();
            let overtaken = std::mem::take(&mut self.state.script.lock().overtaken);
            let answer = match fault {
                Fault::None => self.engine.txn(txn).await,
                Fault::Delay(time) => {
                    tokio::time::sleep(time).await;
                    self.engine.txn(txn).await
                }
                Fault::Refuse => Err(refused()),
                Fault::Deny => Err(denied()),
                Fault::Drop => Err(lost()),
                Fault::Lose => {
                    let _ = self.engine.txn(txn).await;
                    Err(lost())
                }
                Fault::Late => {
                    self.state.script.lock().late.push(txn);
                    Err(lost())
                }
                Fault::Overtaken => {
                    self.state.script.lock().overtaken.push(txn);
                    Err(lost())
                }
            };
            for txn in overtaken {
                let _ = self.engine.txn(txn).await;
            }
            answer
        })
    }

    fn compact(
        &self,
        revision: Revision,
        physical: bool,
    ) -> BoxFuture<'_, Result<CompactResponse>> {
        self.engine.compact(revision, physical)
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<Watch>> {
        self.state.script.lock().watches += 1;
        let mut ended = self.state.ended.subscribe();
        ended.mark_unchanged();
        Box::pin(async move {
            let watch = self.read(|_| (), self.engine.watch(request)).await?;
            let header = watch.header();
            let state = Arc::clone(&self.state);
            let begin = Some((watch, ended, state));
            let items = futures_util::stream::unfold(begin, async |state| {
                let (mut watch, mut ended, state) = state?;
                let end = loop {
                    tokio::select! {
                        biased;
                        changed = ended.changed() => break changed.ok().and(*ended.borrow()),
                        item = watch.next() => {
                            if !state.script.lock().deaf {
                                return item.map(|item| (item, Some((watch, ended, state))));
                            }
                        }
                    }
                };
                match end? {
                    WatchEnd::Closed => None,
                    WatchEnd::Broken => Some((Err(refused()), None)),
                    WatchEnd::Compacted => {
                        let compact_revision = Revision(1);
                        Some((Ok(WatchItem::Compacted { compact_revision }), None))
                    }
                }
            });
            Ok(Watch::new(header, items, || {}))
        })
    }

    fn lease_grant(&self, request: LeaseGrantRequest) -> BoxFuture<'_, Result<LeaseGrantResponse>> {
        Box::pin(self.change(self.engine.lease_grant(request)))
    }

    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<LeaseRevokeResponse>> {
        Box::pin(self.change(self.engine.lease_revoke(id)))
    }

    fn lease_keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<LeaseKeepAliveResponse>> {
        Box::pin(async move {
            let stale = self.state.script.lock().stale;
            let answer = match stale {
                Some(ttl) => Ok(LeaseKeepAliveResponse {
                    header: Header::default(),
                    ttl,
                }),
                None => self.read(|_| (), self.engine.lease_keep_alive(id)).await,
            };
            self.state.script.lock().keep_alives += 1;
            answer
        })
    }

    fn lease_time_to_live(
        &self,
        id: LeaseId,
        keys: bool,
    ) -> BoxFuture<'_, Result<LeaseTimeToLiveResponse>> {
        Box::pin(self.read(|_| (), self.engine.lease_time_to_live(id, keys)))
    }

    fn leases(&self) -> BoxFuture<'_, Result<LeaseListResponse>> {
        Box::pin(self.read(|_| (), self.engine.leases()))
    }

    fn status(&self) -> BoxFuture<'_, Result<StatusResponse>> {
        Box::pin(self.read(|_| (), self.engine.status()))
    }

    fn alarms(&self) -> BoxFuture<'_, Result<Vec<Alarm>>> {
        Box::pin(self.read(|_| (), self.engine.alarms()))
    }

    fn disarm(&self, kind: AlarmKind) -> BoxFuture<'_, Result<Vec<Alarm>>> {
        Box::pin(self.change(self.engine.disarm(kind)))
    }

    fn hash_kv(&self, revision: Revision) -> BoxFuture<'_, Result<HashResponse>> {
        Box::pin(self.read(|_| (), self.engine.hash_kv(revision)))
    }

    fn defragment(&self) -> BoxFuture<'_, Result<()>> {
        Box::pin(self.change(self.engine.defragment()))
    }

    fn members(&self) -> BoxFuture<'_, Result<Vec<Member>>> {
        Box::pin(self.read(|_| (), self.engine.members()))
    }

    fn replies(&self) -> Replies {
        self.state.replies
    }
}
