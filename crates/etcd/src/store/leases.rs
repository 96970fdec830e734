//! Grant, revoke, time to live, list. Renewals are in [`keepalive`](crate::keepalive).

use synod_store::{
    Applied, Error, ErrorKind, LeaseGrantRequest, LeaseGrantResponse, LeaseId, LeaseListResponse,
    LeaseRevokeResponse, LeaseTimeToLiveResponse, Result,
};
use synod_wire::convert::lease;
use synod_wire::etcdserverpb as pb;
use synod_wire::etcdserverpb::lease_client::LeaseClient;
use tonic::transport::Channel;

use super::{EtcdStore, LARGEST_ANSWER};
use crate::retry::Class;

impl EtcdStore {
    /// Grants a lease. An id of our own choice makes the request one that can be repeated: when the
    /// lease exists at the second attempt, the first one made it.
    pub(super) async fn grant(&self, request: LeaseGrantRequest) -> Result<LeaseGrantResponse> {
        if request.id.is_some() {
            let request = pb::LeaseGrantRequest::from(&request);
            return self.send_grant(Class::Mutation, request).await.0;
        }
        loop {
            let id = random_lease_id();
            let message = pb::LeaseGrantRequest::from(&request.with_id(id));
            let (result, repeated) = self.send_grant(Class::Idempotent, message).await;
            return match result {
                Err(error) if error.kind() == ErrorKind::LeaseExists && repeated => {
                    let lease = self.time_to_live(id, false).await.map_err(in_doubt)?;
                    Ok(LeaseGrantResponse {
                        header: lease.header,
                        id,
                        ttl: lease.granted,
                    })
                }
                // Somebody else's: by chance once in 2^63 leases.
                Err(error) if error.kind() == ErrorKind::LeaseExists => continue,
                result => result,
            };
        }
    }

    pub(super) async fn send_grant(
        &self,
        class: Class,
        request: pb::LeaseGrantRequest,
    ) -> (Result<LeaseGrantResponse>, bool) {
        let caller = &self.inner.caller;
        let send = |channel, request| async { lease_client(channel).lease_grant(request).await };
        let outcome = caller
            .call_within(caller.timeout, class, request, send)
            .await;
        let result = outcome.result.and_then(LeaseGrantResponse::try_from);
        (result, outcome.repeated)
    }

    /// Revokes a lease. Not found at a later attempt means that an earlier one did it.
    pub(super) async fn revoke(&self, id: LeaseId) -> Result<LeaseRevokeResponse> {
        let caller = &self.inner.caller;
        let request = lease::revoke_request(id);
        let send = |channel, request| async { lease_client(channel).lease_revoke(request).await };
        let outcome = caller
            .call_within(caller.timeout, Class::Idempotent, request, send)
            .await;
        match outcome.result {
            Ok(response) => response.try_into(),
            Err(error) if error.is_lease_gone() && outcome.repeated => {
                let header = self.time_to_live(id, false).await.map_err(in_doubt)?.header;
                Ok(LeaseRevokeResponse { header })
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn time_to_live(
        &self,
        id: LeaseId,
        keys: bool,
    ) -> Result<LeaseTimeToLiveResponse> {
        let request = lease::time_to_live_request(id, keys);
        let answer = self
            .inner
            .caller
            .call(Class::Read, request, |channel, request| async {
                lease_client(channel).lease_time_to_live(request).await
            });
        answer.await?.try_into()
    }

    pub(super) async fn list_leases(&self) -> Result<LeaseListResponse> {
        let request = pb::LeaseLeasesRequest {};
        let answer = self
            .inner
            .caller
            .call(Class::Read, request, |channel, request| async {
                lease_client(channel).lease_leases(request).await
            });
        answer.await?.try_into()
    }
}

fn in_doubt(error: Error) -> Error {
    error.with_applied(Applied::Maybe)
}

/// A positive id: etcd's own are, and so they print alike.
fn random_lease_id() -> LeaseId {
    loop {
        // Never zero, but a type cannot say so.
        if let Some(id) = LeaseId::new(rand::random_range(1..=i64::MAX)) {
            return id;
        }
    }
}

fn lease_client(channel: Channel) -> LeaseClient<Channel> {
    LeaseClient::new(channel).max_decoding_message_size(LARGEST_ANSWER)
}
