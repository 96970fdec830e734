//! The services, put together.

use synod_wire::etcdserverpb::auth_server::AuthServer;
use synod_wire::etcdserverpb::cluster_server::ClusterServer;
use synod_wire::etcdserverpb::kv_server::KvServer;
use synod_wire::etcdserverpb::lease_server::LeaseServer;
use synod_wire::etcdserverpb::maintenance_server::MaintenanceServer;
use synod_wire::etcdserverpb::watch_server::WatchServer;
use synod_wire::synod_v1::synod_server::SynodServer;
use synod_wire::v3electionpb::election_server::ElectionServer;
use synod_wire::v3lockpb::lock_server::LockServer;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;

use crate::direct::Direct;
use crate::state::Api;

/// Of the Lease service, whose messages hold two numbers at most: its streams need no large buffers.
const LEASE_MESSAGE: usize = 4 * 1024;

impl Api {
    /// Every service, and plain HTTP beside them. What none of them knows is UNIMPLEMENTED.
    pub(crate) fn services(&self) -> Direct {
        let most = self.options().max_message_bytes();
        let kv = KvServer::new(self.clone()).max_decoding_message_size(most);
        let grpc = Routes::default()
            .add_service(WatchServer::new(self.clone()).max_decoding_message_size(most))
            .add_service(LeaseServer::new(self.clone()).max_decoding_message_size(LEASE_MESSAGE))
            .add_service(ClusterServer::new(self.clone()).max_decoding_message_size(most))
            .add_service(MaintenanceServer::new(self.clone()).max_decoding_message_size(most))
            .add_service(AuthServer::new(self.clone()).max_decoding_message_size(most))
            .add_service(LockServer::new(self.clone()).max_decoding_message_size(most))
            .add_service(ElectionServer::new(self.clone()).max_decoding_message_size(most))
            .add_service(HealthServer::new(self.clone()))
            .add_service(SynodServer::new(self.clone()));
        let router: Routes = self.http_routes(grpc.into_axum_router()).into();
        Direct {
            kv,
            router: router.prepare(),
        }
    }
}
