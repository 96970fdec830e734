//! etcd's Auth service, as an etcd answers whose authentication is off: it has no users and no
//! roles, and here none can be made.

use synod_wire::etcdserverpb as pb;
use synod_wire::etcdserverpb::auth_server::Auth;
use tonic::{Request, Response, Status, async_trait};

use crate::state::{Api, status};

/// Refuses what would have to be stored.
fn no_users() -> Status {
    Status::unimplemented(
        "synod: this server has no users and roles; require client certificates to say who may use it",
    )
}

fn no_such_user() -> Status {
    Status::failed_precondition("etcdserver: user name not found")
}

fn no_such_role() -> Status {
    Status::failed_precondition("etcdserver: role name not found")
}

/// The methods that refuse whatever they are asked.
macro_rules! refusals {
    ($($method:ident($request:ident) -> $response:ident: $refusal:expr;)*) => {
        #[async_trait]
        impl Auth for Api {
            async fn auth_disable(
                &self,
                _: Request<pb::AuthDisableRequest>,
            ) -> Result<Response<pb::AuthDisableResponse>, Status> {
                let header = Some(self.header().await.map_err(status)?.into());
                Ok(Response::new(pb::AuthDisableResponse { header }))
            }

            async fn auth_status(
                &self,
                _: Request<pb::AuthStatusRequest>,
            ) -> Result<Response<pb::AuthStatusResponse>, Status> {
                let header = Some(self.header().await.map_err(status)?.into());
                Ok(Response::new(pb::AuthStatusResponse {
                    header,
                    enabled: false,
                    // Of an etcd whose users were never changed.
                    auth_revision: 1,
                }))
            }

            async fn user_list(
                &self,
                _: Request<pb::AuthUserListRequest>,
            ) -> Result<Response<pb::AuthUserListResponse>, Status> {
                let header = Some(self.header().await.map_err(status)?.into());
                let users = Vec::new();
                Ok(Response::new(pb::AuthUserListResponse { header, users }))
            }

            async fn role_list(
                &self,
                _: Request<pb::AuthRoleListRequest>,
            ) -> Result<Response<pb::AuthRoleListResponse>, Status> {
                let header = Some(self.header().await.map_err(status)?.into());
                let roles = Vec::new();
                Ok(Response::new(pb::AuthRoleListResponse { header, roles }))
            }

            $(async fn $method(
                &self,
                _: Request<pb::$request>,
            ) -> Result<Response<pb::$response>, Status> {
                Err($refusal)
            })*
        }
    };
}

refusals! {
    auth_enable(AuthEnableRequest) -> AuthEnableResponse:
        Status::failed_precondition("etcdserver: root user does not exist");
    authenticate(AuthenticateRequest) -> AuthenticateResponse:
        Status::failed_precondition("etcdserver: authentication is not enabled");
    user_add(AuthUserAddRequest) -> AuthUserAddResponse: no_users();
    user_get(AuthUserGetRequest) -> AuthUserGetResponse: no_such_user();
    user_delete(AuthUserDeleteRequest) -> AuthUserDeleteResponse: no_such_user();
    user_change_password(AuthUserChangePasswordRequest) -> AuthUserChangePasswordResponse:
        no_such_user();
    user_grant_role(AuthUserGrantRoleRequest) -> AuthUserGrantRoleResponse: no_such_user();
    user_revoke_role(AuthUserRevokeRoleRequest) -> AuthUserRevokeRoleResponse: no_such_user();
    role_add(AuthRoleAddRequest) -> AuthRoleAddResponse: no_users();
    role_get(AuthRoleGetRequest) -> AuthRoleGetResponse: no_such_role();
    role_delete(AuthRoleDeleteRequest) -> AuthRoleDeleteResponse: no_such_role();
    role_grant_permission(AuthRoleGrantPermissionRequest) -> AuthRoleGrantPermissionResponse:
        no_such_role();
    role_revoke_permission(AuthRoleRevokePermissionRequest) -> AuthRoleRevokePermissionResponse:
        no_such_role();
}
