//! etcd's KV service: range, put, delete, transactions, compaction.

use bytes::Bytes;
use prost::Message;
use synod_store::Store;
use synod_wire::convert::kv::compaction;
use synod_wire::etcdserverpb as pb;
use synod_wire::etcdserverpb::kv_server::Kv;
use tonic::{Request, Response, Status, async_trait};

use crate::checks;
use crate::limits::check_size;
use crate::state::{Api, status};

#[async_trait]
impl Kv for Api {
    async fn range(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<pb::RangeResponse>, Status> {
        self.access(request.metadata())?.range(request.get_ref())?;
        let request = request.into_inner().try_into().map_err(status)?;
        let response = self.store().range(request).await.map_err(status)?;
        Ok(Response::new(response.into()))
    }

    async fn put(
        &self,
        request: Request<pb::PutRequest>,
    ) -> Result<Response<pb::PutResponse>, Status> {
        let access = self.access(request.metadata())?;
        let request = request.into_inner();
        checks::put(&request).map_err(status)?;
        access.put(&request)?;
        self.check_size(&request)?;
        let request = request.try_into().map_err(status)?;
        let response = self.put_as(&access, request).await.map_err(status)?;
        Ok(Response::new(response.into()))
    }

    async fn delete_range(
        &self,
        request: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        let access = self.access(request.metadata())?;
        let request = request.into_inner();
        access.delete(&request)?;
        self.check_size(&request)?;
        let response = self.store().delete(request.into()).await.map_err(status)?;
        Ok(Response::new(response.into()))
    }

    async fn txn(
        &self,
        request: Request<pb::TxnRequest>,
    ) -> Result<Response<pb::TxnResponse>, Status> {
        let access = self.access(request.metadata())?;
        let request = request.into_inner();
        checks::txn(&request, self.options().max_txn_ops).map_err(status)?;
        Api::check_txn(&access, &request)?;
        let size = request.encoded_len();
        let txn: synod_store::Txn = request.try_into().map_err(status)?;
        if !txn.is_read_only() {
            check_size(size, self.options().max_request_bytes).map_err(status)?;
        }
        let response = self.txn_as(&access, txn).await.map_err(status)?;
        Ok(Response::new(response.into()))
    }

    async fn compact(
        &self,
        request: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        self.access(request.metadata())?.root()?;
        let (revision, physical) = compaction(request.into_inner()).map_err(status)?;
        let response = self.store().compact(revision, physical).await;
        Ok(Response::new(response.map_err(status)?.into()))
    }
}

impl Api {
    fn check_size(&self, request: &impl Message) -> Result<(), Status> {
        check_size(request.encoded_len(), self.options().max_request_bytes).map_err(status)
    }
}

/// A copy of its own, for what is kept. What was received is a part of the buffer it was received in,
/// which is far larger than most values. What a store keeps of a write it copies itself.
pub(crate) fn own(bytes: &mut Bytes) {
    *bytes = Bytes::copy_from_slice(bytes);
}
