//! etcd's Cluster service: who the members are. They cannot be changed through this server.

use std::net::SocketAddr;

use synod_store::{Member, Store};
use synod_wire::convert::status::member_list;
use synod_wire::etcdserverpb as pb;
use synod_wire::etcdserverpb::cluster_server::Cluster;
use tonic::{Request, Response, Status, async_trait};

use crate::connection::Peer;
use crate::state::{Api, status};

#[async_trait]
impl Cluster for Api {
    async fn member_list(
        &self,
        request: Request<pb::MemberListRequest>,
    ) -> Result<Response<pb::MemberListResponse>, Status> {
        self.access(request.metadata())?.somebody()?;
        let mut members = self.store().members().await.map_err(status)?;
        if let [member] = members.as_mut_slice() {
            let reached = Peer::of(request.extensions()).and_then(Peer::local_addr);
            self.introduce(member, reached);
        }
        let header = self.header().await.map_err(status)?;
        Ok(Response::new(member_list(header, members)))
    }

    async fn member_add(
        &self,
        request: Request<pb::MemberAddRequest>,
    ) -> Result<Response<pb::MemberAddResponse>, Status> {
        self.access(request.metadata())?.root()?;
        Err(fixed())
    }

    async fn member_remove(
        &self,
        request: Request<pb::MemberRemoveRequest>,
    ) -> Result<Response<pb::MemberRemoveResponse>, Status> {
        self.access(request.metadata())?.root()?;
        self.member(request.get_ref().id).await?;
        // As in etcd, which gives this failure no code of its own.
        Err(Status::unknown(
            "etcdserver: re-configuration failed due to not enough started members",
        ))
    }

    async fn member_update(
        &self,
        request: Request<pb::MemberUpdateRequest>,
    ) -> Result<Response<pb::MemberUpdateResponse>, Status> {
        self.access(request.metadata())?.root()?;
        self.member(request.get_ref().id).await?;
        Err(fixed())
    }

    async fn member_promote(
        &self,
        request: Request<pb::MemberPromoteRequest>,
    ) -> Result<Response<pb::MemberPromoteResponse>, Status> {
        self.access(request.metadata())?.root()?;
        let member = self.member(request.get_ref().id).await?;
        if member.is_learner {
            return Err(fixed());
        }
        Err(Status::failed_precondition(
            "etcdserver: can only promote a learner member",
        ))
    }
}

fn fixed() -> Status {
    Status::unimplemented("synod: the members of a cluster cannot be changed through this server")
}

impl Api {
    async fn member(&self, id: u64) -> Result<Member, Status> {
        let members = self.store().members().await.map_err(status)?;
        members
            .into_iter()
            .find(|member| member.id == id)
            .ok_or_else(|| Status::not_found("etcdserver: member not found"))
    }

    /// Says of the one member that an embedded store is what only the server knows: its name, and
    /// where clients reach it. `reached` is where the asking one did.
    fn introduce(&self, member: &mut Member, reached: Option<SocketAddr>) {
        let options = self.options();
        if member.name.is_empty() {
            member.name.clone_from(&options.name);
        }
        if !options.client_urls.is_empty() {
            member.client_urls.clone_from(&options.client_urls);
        } else if let (true, Some(address)) = (member.client_urls.is_empty(), reached) {
            member.client_urls = vec![format!("{}://{address}", options.scheme())];
        }
    }
}
