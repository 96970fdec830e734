//! The services, put together.

use synod_wire::synod_v1::synod_server::SynodServer;
use tonic::service::Routes;
use tonic_health::pb::health_server::HealthServer;

use crate::state::Api;

impl Api {
    /// Every service, and plain HTTP beside them. What none of them knows is UNIMPLEMENTED.
    pub(crate) fn routes(&self) -> Routes {
        let grpc = Routes::new(SynodServer::new(self.clone()))
            .add_service(HealthServer::new(self.clone()));
        self.http_routes(grpc.into_axum_router()).into()
    }
}
