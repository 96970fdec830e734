//! Range, put, delete, transactions, compaction.

use synod_store::{
    CompactResponse, DeleteRequest, DeleteResponse, Error, ErrorKind, PutRequest, PutResponse,
    RangeRequest, RangeResponse, Result, Revision, Txn, TxnResponse,
};
use synod_wire::convert::{kv, txn};
use synod_wire::etcdserverpb as pb;
use synod_wire::etcdserverpb::kv_client::KvClient;
use tonic::transport::Channel;

use super::{EtcdStore, LARGEST_ANSWER, LONG};
use crate::retry::Class;

impl EtcdStore {
    pub(super) async fn kv_range(&self, request: RangeRequest) -> Result<RangeResponse> {
        let request = pb::RangeRequest::from(&request);
        let answer = self
            .inner
            .caller
            .call(Class::Read, request, |channel, request| async {
                kv_client(channel).range(request).await
            });
        answer.await?.try_into()
    }

    pub(super) async fn kv_put(&self, request: PutRequest) -> Result<PutResponse> {
        let request = pb::PutRequest::from(&request);
        let answer = self
            .inner
            .caller
            .call(Class::Mutation, request, |channel, request| async {
                kv_client(channel).put(request).await
            });
        answer.await?.try_into()
    }

    pub(super) async fn kv_delete(&self, request: DeleteRequest) -> Result<DeleteResponse> {
        let request = pb::DeleteRangeRequest::from(&request);
        let answer = self
            .inner
            .caller
            .call(Class::Mutation, request, |channel, request| async {
                kv_client(channel).delete_range(request).await
            });
        answer.await?.try_into()
    }

    pub(super) async fn kv_txn(&self, txn: Txn) -> Result<TxnResponse> {
        let request = pb::TxnRequest::from(&txn);
        let answer = if txn.is_read_only() {
            self.read_undisturbed(request).await?
        } else {
            self.send_txn(Class::Mutation, request).await?
        };
        txn::txn_response(&txn, answer)
    }

    async fn send_txn(&self, class: Class, request: pb::TxnRequest) -> Result<pb::TxnResponse> {
        let answer = self
            .inner
            .caller
            .call(class, request, |channel, request| async {
                kv_client(channel).txn(request).await
            });
        answer.await
    }

    /// A transaction that only reads, waited for to its end though the caller goes away: an etcd before
    /// 3.5.5 dies when such a request is cancelled while it is being applied (etcd issue 14110), and a
    /// caller that gives up (a timeout, a race, a dropped future) cancels it.
    async fn read_undisturbed(&self, request: pb::TxnRequest) -> Result<pb::TxnResponse> {
        let store = self.clone();
        let read = tokio::spawn(async move { store.send_txn(Class::Read, request).await });
        read.await.unwrap_or_else(|ended| {
            let text = "the runtime in which this read was to be answered is shutting down";
            Err(Error::new(ErrorKind::Unavailable, text).with_source(ended))
        })
    }

    pub(super) async fn kv_compact(
        &self,
        revision: Revision,
        physical: bool,
    ) -> Result<CompactResponse> {
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
}

fn kv_client(channel: Channel) -> KvClient<Channel> {
    KvClient::new(channel).max_decoding_message_size(LARGEST_ANSWER)
}
