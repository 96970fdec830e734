//! etcd's Maintenance service: status, alarms, hashes, defragmentation, copies (in `snapshot.rs`); and clear
//! refusals of what is about etcd's own files and clusters.

use futures_util::stream::BoxStream;
use synod_store::{Revision, Store};
use synod_wire::convert::status::{AlarmCommand, alarm_response};
use synod_wire::etcdserverpb as pb;
use synod_wire::etcdserverpb::maintenance_server::Maintenance;
use tonic::{Request, Response, Status, async_trait};

use crate::state::{Api, status};

#[async_trait]
impl Maintenance for Api {
    async fn alarm(
        &self,
        request: Request<pb::AlarmRequest>,
    ) -> Result<Response<pb::AlarmResponse>, Status> {
        let access = self.access(request.metadata())?;
        access.somebody()?;
        let command = request.into_inner().try_into().map_err(status)?;
        if !matches!(command, AlarmCommand::Get(_)) {
            access.root()?;
        }
        let header = self.header().await.map_err(status)?;
        let alarms = match command {
            AlarmCommand::Get(kind) => {
                let mut alarms = self.store().alarms().await.map_err(status)?;
                alarms.retain(|alarm| kind.is_none_or(|kind| alarm.kind == kind));
                alarms
            }
            AlarmCommand::Disarm(alarm) => {
                let mut stood = self.store().alarms().await.map_err(status)?;
                stood.retain(|one| *one == alarm);
                if stood.is_empty() {
                    stood
                } else {
                    self.store().disarm(alarm.kind).await.map_err(status)?
                }
            }
            AlarmCommand::Raise(_) => {
                return Err(Status::unimplemented(
                    "synod: alarms are raised by the store alone",
                ));
            }
        };
        Ok(Response::new(alarm_response(header, alarms)))
    }

    async fn status(
        &self,
        _: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        let standing = self.store().status().await.map_err(status)?;
        let mut response = pb::StatusResponse::from(standing);
        response.db_size_quota = i64::try_from(self.options().quota_bytes).unwrap_or(i64::MAX);
        Ok(Response::new(response))
    }

    async fn defragment(
        &self,
        request: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        self.access(request.metadata())?.root()?;
        self.store().defragment().await.map_err(status)?;
        let header = self.header().await.map_err(status)?;
        Ok(Response::new(pb::DefragmentResponse {
            header: Some(header.into()),
        }))
    }

    async fn hash(
        &self,
        request: Request<pb::HashRequest>,
    ) -> Result<Response<pb::HashResponse>, Status> {
        self.access(request.metadata())?.root()?;
        let hash = self.store().hash_kv(Revision::ZERO).await.map_err(status)?;
        Ok(Response::new(pb::HashResponse {
            header: Some(hash.header.into()),
            hash: hash.hash,
        }))
    }

    async fn hash_kv(
        &self,
        request: Request<pb::HashKvRequest>,
    ) -> Result<Response<pb::HashKvResponse>, Status> {
        self.access(request.metadata())?.root()?;
        let revision = Revision::from_i64(request.get_ref().revision);
        let hash = self.store().hash_kv(revision).await.map_err(status)?;
        Ok(Response::new(hash.into()))
    }

    type SnapshotStream = BoxStream<'static, Result<pb::SnapshotResponse, Status>>;

    async fn snapshot(
        &self,
        request: Request<pb::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        self.access(request.metadata())?.root()?;
        let copy = self.begin_copy().await?;
        let open = self.endless()?;
        Ok(Response::new(self.until_stopped(open, copy)))
    }

    async fn move_leader(
        &self,
        request: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        self.access(request.metadata())?.root()?;
        let standing = self.store().status().await.map_err(status)?;
        if request.get_ref().target_id != standing.leader {
            return Err(Status::failed_precondition(
                "etcdserver: bad leader transferee",
            ));
        }
        Ok(Response::new(pb::MoveLeaderResponse {
            header: Some(standing.header.into()),
        }))
    }

    async fn downgrade(
        &self,
        request: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        self.access(request.metadata())?.root()?;
        Err(Status::unimplemented(
            "synod: this server has no older format to go back to",
        ))
    }
}
