//! etcd's Election service.
//!
//! A candidate's key is `<name>/<lease in hexadecimal>` and holds its proposal; the oldest key's
//! owner leads. Proclaiming and resigning are guarded by the key's create revision, so that a
//! leader who was deposed can do neither. Leases are as in the Lock service.

mod observe;

use futures_util::StreamExt;
use futures_util::stream::{BoxStream, unfold};
use prost::Message;
use synod_store::{
    Compare, DeleteRequest, Header, Key, KeyRange, KeyValue, PutRequest, RangeRequest, Revision,
    SortOrder, SortTarget, Store, Txn,
};
use synod_wire::v3electionpb::election_server::Election;
use synod_wire::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest,
    ProclaimResponse, ResignRequest, ResignResponse,
};
use tonic::{Request, Response, Status, async_trait};

use crate::auth::Access;
use crate::kv::own;
use crate::limits::check_size;
use crate::state::Api;
use crate::waiting::{prefix, unknown, without_code};
use observe::Observer;

#[async_trait]
impl Election for Api {
    async fn campaign(
        &self,
        request: Request<CampaignRequest>,
    ) -> Result<Response<CampaignResponse>, Status> {
        let access = self.access(request.metadata()).map_err(without_code)?;
        let size = request.get_ref().encoded_len();
        let CampaignRequest {
            name,
            lease,
            mut value,
        } = request.into_inner();
        own(&mut value);
        self.check_line(&access, &name, lease).await?;
        self.check_proposal(size)?;
        let _open = self.endless()?;
        let lease = self.lease_or_new(lease).await?;
        let mut place = self.join(&name, lease, value.clone()).await?;
        let created = place.created();
        if place.found().is_some_and(|kv| kv.value != value) {
            // The same candidate again, with another proposal.
            let put = PutRequest::new(place.key().clone(), value).with_lease(lease);
            self.proclaim_at(&access, created, put).await?;
        }
        let header = self
            .wait(&mut place, "election: session is expired")
            .await?;
        Ok(Response::new(CampaignResponse {
            header: Some(header.into()),
            leader: Some(LeaderKey {
                name,
                key: place.keep().into_bytes(),
                rev: created.as_i64(),
                lease: lease.get(),
            }),
        }))
    }

    async fn proclaim(
        &self,
        request: Request<ProclaimRequest>,
    ) -> Result<Response<ProclaimResponse>, Status> {
        let access = self.access(request.metadata()).map_err(without_code)?;
        let size = request.get_ref().encoded_len();
        let ProclaimRequest { leader, mut value } = request.into_inner();
        own(&mut value);
        let Leader {
            key,
            created,
            lease,
        } = Leader::read(leader)?;
        check_own(&access, &key)?;
        self.check_proposal(size)?;
        let lease = self.lease_or_new(lease).await?;
        let put = PutRequest::new(key, value).with_lease(lease);
        let header = self.proclaim_at(&access, created, put).await?;
        Ok(Response::new(ProclaimResponse {
            header: Some(header.into()),
        }))
    }

    async fn leader(
        &self,
        request: Request<LeaderRequest>,
    ) -> Result<Response<LeaderResponse>, Status> {
        let access = self.access(request.metadata()).map_err(without_code)?;
        self.check_reader(&access, &request.get_ref().name)?;
        let (header, leader) = self.find_leader(&prefix(&request.get_ref().name)).await?;
        let leader = leader.ok_or_else(|| Status::unknown("election: no leader"))?;
        Ok(Response::new(leader_response(header, leader)))
    }

    type ObserveStream = BoxStream<'static, Result<LeaderResponse, Status>>;

    async fn observe(
        &self,
        request: Request<LeaderRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        let access = self.access(request.metadata()).map_err(without_code)?;
        self.check_reader(&access, &request.get_ref().name)?;
        let open = self.endless()?;
        let observer = Observer::new(self.clone(), prefix(&request.get_ref().name));
        let leaders = unfold(Some(observer), |observer| async move {
            let mut observer = observer?;
            match observer.next().await {
                Ok((header, leader)) => Some((Ok(leader_response(header, leader)), Some(observer))),
                Err(failure) => Some((Err(failure), None)),
            }
        });
        Ok(Response::new(self.until_stopped(open, leaders.boxed())))
    }

    async fn resign(
        &self,
        request: Request<ResignRequest>,
    ) -> Result<Response<ResignResponse>, Status> {
        let access = self.access(request.metadata()).map_err(without_code)?;
        let Leader { key, created, .. } = Leader::read(request.into_inner().leader)?;
        check_own(&access, &key)?;
        let txn = Txn::new()
            .when([Compare::created_at(key.clone(), created)])
            .and_then([DeleteRequest::new(key)]);
        // Whoever does not lead any more has resigned already.
        let response = self.store().txn(txn).await.map_err(unknown)?;
        Ok(Response::new(ResignResponse {
            header: Some(response.header.into()),
        }))
    }
}

/// Refuses who may not compare and write its own key.
fn check_own(access: &Access, key: &Key) -> Result<(), Status> {
    let (key, end) = (key.clone().into_bytes(), bytes::Bytes::new());
    access
        .read(&key, &end)
        .and_then(|()| access.write(&key, &end))
        .map_err(without_code)
}

/// Who says to lead.
struct Leader {
    key: Key,
    created: Revision,
    lease: i64,
}

impl Leader {
    fn read(leader: Option<LeaderKey>) -> Result<Leader, Status> {
        let mut leader =
            leader.ok_or_else(|| Status::unknown("\"leader\" field must be provided"))?;
        own(&mut leader.key);
        Ok(Leader {
            key: leader.key.into(),
            created: Revision::from_i64(leader.rev),
            lease: leader.lease,
        })
    }
}

fn leader_response(header: Header, leader: KeyValue) -> LeaderResponse {
    LeaderResponse {
        header: Some(header.into()),
        kv: Some(leader.into()),
    }
}

impl Api {
    /// Refuses a request of `bytes` whose proposal makes it larger than a put may be.
    fn check_proposal(&self, bytes: usize) -> Result<(), Status> {
        check_size(bytes, self.options().max_request_bytes).map_err(unknown)
    }

    /// Changes the proposal of the candidate whose key was created then.
    async fn proclaim_at(
        &self,
        access: &Access,
        created: Revision,
        put: PutRequest,
    ) -> Result<Header, Status> {
        let txn = Txn::new()
            .when([Compare::created_at(put.key.clone(), created)])
            .and_then([put]);
        let response = self.txn_as(access, txn).await.map_err(unknown)?;
        if !response.succeeded {
            return Err(Status::unknown("election: not leader"));
        }
        Ok(response.header)
    }

    /// The oldest key of the line.
    async fn find_leader(&self, prefix: &Key) -> Result<(Header, Option<KeyValue>), Status> {
        let request = RangeRequest::new(KeyRange::prefix(prefix.clone()))
            .sorted_by(SortTarget::CreateRevision, SortOrder::Ascending)
            .with_limit(1);
        let response = self.store().range(request).await.map_err(unknown)?;
        Ok((response.header, response.kvs.into_iter().next()))
    }
}
