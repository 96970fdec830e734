//! etcd's Lock service.
//!
//! The key `<name>/<lease in hexadecimal>` stands in line while the call waits; the lock is held as
//! long as the key is there. The lease is the caller's to keep alive. Without one the server makes
//! a lease of 60 s that nobody renews. The same lease again gets the same key, at once if it holds
//! the lock. A call that is cancelled while it waits takes its key away.

use synod_store::{DeleteRequest, Store};
use synod_wire::v3lockpb::lock_server::Lock;
use synod_wire::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use tonic::{Request, Response, Status, async_trait};

use crate::kv::own;
use crate::state::Api;
use crate::waiting::{unknown, without_code};

#[async_trait]
impl Lock for Api {
    async fn lock(&self, request: Request<LockRequest>) -> Result<Response<LockResponse>, Status> {
        let access = self.access(request.metadata()).map_err(without_code)?;
        let LockRequest { name, lease } = request.into_inner();
        self.check_line(&access, &name, lease).await?;
        let _open = self.endless()?;
        let lease = self.lease_or_new(lease).await?;
        let mut place = self.join(&name, lease, bytes::Bytes::new()).await?;
        let header = self.wait(&mut place, "mutex: session is expired").await?;
        Ok(Response::new(LockResponse {
            header: Some(header.into()),
            key: place.keep().into_bytes(),
        }))
    }

    async fn unlock(
        &self,
        request: Request<UnlockRequest>,
    ) -> Result<Response<UnlockResponse>, Status> {
        let access = self.access(request.metadata()).map_err(without_code)?;
        let mut key = request.into_inner().key;
        own(&mut key);
        access
            .write(&key, &bytes::Bytes::new())
            .map_err(without_code)?;
        let deleted = self.store().delete(DeleteRequest::new(key)).await;
        Ok(Response::new(UnlockResponse {
            header: Some(deleted.map_err(unknown)?.header.into()),
        }))
    }
}
