//! etcd's Lease service: grant, revoke, keep alive, time to live, list.

use std::task::Poll;

use futures_util::stream::BoxStream;
use futures_util::{StreamExt, future};
use synod_store::{ErrorKind, LeaseId, Store};
use synod_wire::convert::lease::{
    keep_alive_gone, keep_alive_response, lease_id, time_to_live_gone,
};
use synod_wire::etcdserverpb as pb;
use synod_wire::etcdserverpb::lease_server::Lease;
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::limits::name_oversize_status;
use crate::state::{Api, Counted, status, stopped};

/// How many renewals of one stream are under way at once. Their answers keep the requests' order.
const RENEWALS: usize = 64;

#[async_trait]
impl Lease for Api {
    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        self.access(request.metadata())?.somebody()?;
        let request = request.into_inner().into();
        let response = self.store().lease_grant(request).await.map_err(status)?;
        Ok(Response::new(response.into()))
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        let access = self.access(request.metadata())?;
        access.somebody()?;
        let id = lease_id(request.get_ref().id).map_err(status)?;
        let response = self.revoke_as(&access, id).await.map_err(status)?;
        Ok(Response::new(response.into()))
    }

    type LeaseKeepAliveStream = BoxStream<'static, Result<pb::LeaseKeepAliveResponse, Status>>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        self.access(request.metadata())?.somebody()?;
        let open = self.endless()?;
        let api = self.clone();
        let answers = request
            .into_inner()
            .map(move |request| {
                let api = api.clone();
                async move {
                    let request = request.map_err(name_oversize_status)?;
                    api.keep_alive(request.id).await
                }
            })
            .buffered(RENEWALS);
        // The first failure is the stream's end.
        let answers = answers.scan(false, |failed, answer| {
            let ended = std::mem::replace(failed, answer.is_err());
            future::ready((!ended).then_some(answer))
        });
        Ok(Response::new(self.until_stopped(open, answers.boxed())))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        let access = self.access(request.metadata())?;
        let pb::LeaseTimeToLiveRequest { id, keys } = request.into_inner();
        access.somebody()?;
        let response = match LeaseId::new(id) {
            Some(lease) => {
                let response = self.store().lease_time_to_live(lease, keys).await;
                let response = response.map_err(status)?;
                // Those of the answer itself: others may have come since any earlier look.
                access.read_each(&response.keys)?;
                response.into()
            }
            None => time_to_live_gone(id, self.header().await.map_err(status)?),
        };
        Ok(Response::new(response))
    }

    async fn lease_leases(
        &self,
        request: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        self.access(request.metadata())?.somebody()?;
        let response = self.store().leases().await.map_err(status)?;
        Ok(Response::new(response.into()))
    }
}

impl Api {
    /// Renews a lease. One that is gone is no failure: its time to live is 0.
    async fn keep_alive(&self, id: i64) -> Result<pb::LeaseKeepAliveResponse, Status> {
        if let Some(lease) = LeaseId::new(id) {
            match self.store().lease_keep_alive(lease).await {
                Ok(response) => return Ok(keep_alive_response(lease, response)),
                Err(error) if error.kind() == ErrorKind::LeaseNotFound => {}
                Err(error) => return Err(status(error)),
            }
        }
        let header = self.header().await.map_err(status)?;
        Ok(keep_alive_gone(id, header))
    }

    /// The answers of an endless call, which ends with the listener.
    pub(crate) fn until_stopped<T: Send + 'static>(
        &self,
        open: Counted,
        answers: BoxStream<'static, Result<T, Status>>,
    ) -> BoxStream<'static, Result<T, Status>> {
        let stop = self.stop.clone();
        let mut answers = answers.take_until(Box::pin(stop.clone().cancelled_owned()));
        let mut ended = false;
        futures_util::stream::poll_fn(move |cx| {
            // It counts for as long as this stream lives.
            let _ = &open;
            match answers.poll_next_unpin(cx) {
                Poll::Ready(None) if stop.is_cancelled() && !ended => {
                    ended = true;
                    Poll::Ready(Some(Err(stopped())))
                }
                next => next,
            }
        })
        .boxed()
    }
}
