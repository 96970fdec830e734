//! Who asks: with a token or without.

use synod_tests::raw::{delete, put, range};
use synod_tests::target::{Target, answer, refused};
use synod_wire::authpb::{Permission, permission::Type};
use synod_wire::etcdserverpb as pb;
use synod_wire::etcdserverpb::auth_client::AuthClient;
use synod_wire::etcdserverpb::kv_client::KvClient;
use synod_wire::etcdserverpb::lease_client::LeaseClient;
use tonic::transport::Channel;
use tonic::{Code, Request};

pub(crate) const NO_USER: (Code, &str) = (Code::InvalidArgument, "etcdserver: user name is empty");
pub(crate) const DENIED: (Code, &str) = (Code::PermissionDenied, "etcdserver: permission denied");
pub(crate) const BAD_TOKEN: (Code, &str) =
    (Code::Unauthenticated, "etcdserver: invalid auth token");
pub(crate) const BAD_LOGIN: (Code, &str) = (
    Code::InvalidArgument,
    "etcdserver: authentication failed, invalid user ID or password",
);

/// Who asks: the token to send, or none.
#[derive(Clone)]
pub(crate) struct Who {
    pub(crate) channel: Channel,
    pub(crate) token: Option<String>,
}

impl Who {
    pub(crate) async fn nobody(target: &Target) -> Who {
        Who {
            channel: target.channel().await,
            token: None,
        }
    }

    pub(crate) async fn login(
        target: &Target,
        name: &str,
        password: &str,
    ) -> Result<Who, tonic::Status> {
        let channel = target.channel().await;
        let request = pb::AuthenticateRequest {
            name: name.into(),
            password: password.into(),
        };
        let answer = AuthClient::new(channel.clone())
            .authenticate(request)
            .await?;
        Ok(Who {
            channel,
            token: Some(answer.into_inner().token),
        })
    }

    pub(crate) fn ask<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            let token = token.parse().unwrap();
            request.metadata_mut().insert("token", token);
        }
        request
    }

    pub(crate) fn auth(&self) -> AuthClient<Channel> {
        AuthClient::new(self.channel.clone())
    }

    pub(crate) fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel.clone())
    }

    pub(crate) fn leases(&self) -> LeaseClient<Channel> {
        LeaseClient::new(self.channel.clone())
    }

    pub(crate) async fn add_user(&self, name: &str, password: &str) -> Result<(), tonic::Status> {
        let request = pb::AuthUserAddRequest {
            name: name.into(),
            password: password.into(),
            ..Default::default()
        };
        self.auth().user_add(self.ask(request)).await.map(drop)
    }

    pub(crate) async fn add_role(&self, name: &str) -> Result<(), tonic::Status> {
        let request = pb::AuthRoleAddRequest { name: name.into() };
        self.auth().role_add(self.ask(request)).await.map(drop)
    }

    pub(crate) async fn grant_role(&self, user: &str, role: &str) -> Result<(), tonic::Status> {
        let request = pb::AuthUserGrantRoleRequest {
            user: user.into(),
            role: role.into(),
        };
        self.auth()
            .user_grant_role(self.ask(request))
            .await
            .map(drop)
    }

    pub(crate) async fn permit(
        &self,
        role: &str,
        kind: Type,
        key: &str,
        end: &str,
    ) -> Result<(), tonic::Status> {
        let request = pb::AuthRoleGrantPermissionRequest {
            name: role.into(),
            perm: Some(Permission {
                perm_type: kind.into(),
                key: key.to_owned().into(),
                range_end: end.to_owned().into(),
            }),
        };
        self.auth()
            .role_grant_permission(self.ask(request))
            .await
            .map(drop)
    }

    pub(crate) async fn enable(&self) -> Result<(), tonic::Status> {
        let request = self.ask(pb::AuthEnableRequest {});
        self.auth().auth_enable(request).await.map(drop)
    }

    pub(crate) async fn revision(&self) -> (bool, u64) {
        let request = self.ask(pb::AuthStatusRequest {});
        let status = answer(self.auth().auth_status(request).await);
        (status.enabled, status.auth_revision)
    }

    pub(crate) async fn try_put(&self, key: &str) -> Result<(), tonic::Status> {
        let request = self.ask(put(key.to_owned(), "v"));
        self.kv().put(request).await.map(drop)
    }

    pub(crate) async fn try_get(&self, key: &str, end: &str) -> Result<(), tonic::Status> {
        let request = self.ask(range(key.to_owned(), end.to_owned()));
        self.kv().range(request).await.map(drop)
    }

    pub(crate) async fn try_delete(&self, key: &str, end: &str) -> Result<(), tonic::Status> {
        let request = self.ask(delete(key.to_owned(), end.to_owned()));
        self.kv().delete_range(request).await.map(drop)
    }

    pub(crate) async fn try_txn(&self, txn: pb::TxnRequest) -> Result<(), tonic::Status> {
        let request = self.ask(txn);
        self.kv().txn(request).await.map(drop)
    }
}

#[track_caller]
pub(crate) fn denied<T>(result: Result<T, tonic::Status>, (code, text): (Code, &str)) {
    refused(result, code, text);
}

/// Turns users on: `root` with everything, and `u` with a role `r`, which may read `r/`, write `w/`, and both in `b/`.
/// Returns root.
pub(crate) async fn lock_up(target: &Target) -> Who {
    let nobody = Who::nobody(target).await;
    for (user, password) in [("root", "secret"), ("u", "pass")] {
        nobody.add_user(user, password).await.unwrap();
    }
    for role in ["root", "r"] {
        nobody.add_role(role).await.unwrap();
    }
    nobody.permit("r", Type::Read, "r/", "r0").await.unwrap();
    nobody.permit("r", Type::Write, "w/", "w0").await.unwrap();
    nobody
        .permit("r", Type::Readwrite, "b/", "b0")
        .await
        .unwrap();
    nobody.grant_role("root", "root").await.unwrap();
    nobody.grant_role("u", "r").await.unwrap();
    nobody.enable().await.unwrap();
    Who::login(target, "root", "secret").await.unwrap()
}
