//! etcd's Auth service.
//!
//! Who may ask what, while authentication is on: a user may look at itself and at the roles that it has; everything
//! else is for those with the role `root`.

use synod_wire::etcdserverpb as pb;
use synod_wire::etcdserverpb::auth_server::Auth;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, async_trait};

use super::access::Access;
use super::accounts::{Accounts, no_users};
use super::book::{Book, Edit};
use super::refusal;
use crate::state::{Api, status};

type Answer<T> = Result<Response<T>, Status>;

impl Api {
    fn accounts(&self) -> Result<&Accounts, Status> {
        self.state.accounts.as_ref().ok_or_else(no_users)
    }

    /// Makes one change, for those who may.
    async fn change(
        &self,
        metadata: &MetadataMap,
        edit: impl FnOnce(&mut Book) -> Edit + Send + 'static,
    ) -> Result<Option<pb::ResponseHeader>, Status> {
        self.access(metadata)?.root()?;
        self.state.change_accounts(edit).await?;
        self.auth_header().await
    }

    async fn auth_header(&self) -> Result<Option<pb::ResponseHeader>, Status> {
        Ok(Some(self.header().await.map_err(status)?.into()))
    }

    /// The same for a change that needs a password's hash.
    async fn hash(
        &self,
        metadata: &MetadataMap,
        password: String,
    ) -> Result<super::book::Hash, Status> {
        self.access(metadata)?.root()?;
        self.accounts()?.hash(password).await
    }
}

/// Refuses who may neither do everything nor is it who is asked about.
fn root_or(access: &Access, own: impl FnOnce(&str) -> bool) -> Result<(), Status> {
    match access.user() {
        Some(user) if own(user) => Ok(()),
        _ => access.root(),
    }
}

#[async_trait]
impl Auth for Api {
    async fn auth_enable(
        &self,
        request: Request<pb::AuthEnableRequest>,
    ) -> Answer<pb::AuthEnableResponse> {
        let header = self.change(request.metadata(), Book::enable).await?;
        Ok(Response::new(pb::AuthEnableResponse { header }))
    }

    async fn auth_disable(
        &self,
        request: Request<pb::AuthDisableRequest>,
    ) -> Answer<pb::AuthDisableResponse> {
        let header = match self.accounts() {
            Ok(_) => self.change(request.metadata(), Book::disable).await?,
            // It is off.
            Err(_) => self.auth_header().await?,
        };
        Ok(Response::new(pb::AuthDisableResponse { header }))
    }

    async fn auth_status(
        &self,
        request: Request<pb::AuthStatusRequest>,
    ) -> Answer<pb::AuthStatusResponse> {
        self.access(request.metadata())?.root()?;
        let header = self.auth_header().await?;
        let standing = self.accounts().map(Accounts::book);
        let (enabled, auth_revision) =
            standing.map_or((false, 1), |book| (book.enabled, book.revision));
        Ok(Response::new(pb::AuthStatusResponse {
            header,
            enabled,
            auth_revision,
        }))
    }

    async fn authenticate(
        &self,
        request: Request<pb::AuthenticateRequest>,
    ) -> Answer<pb::AuthenticateResponse> {
        let pb::AuthenticateRequest { name, password } = request.into_inner();
        let Some(accounts) = &self.state.accounts else {
            return Err(refusal::not_enabled());
        };
        let (login, token) = accounts.log_in(name, password).await;
        // Without the name: people type passwords into the wrong field.
        tracing::debug!(?login, "somebody logs in");
        if let Some(metrics) = &self.state.metrics {
            metrics.login(login);
        }
        let token = token?;
        let header = self.auth_header().await?;
        Ok(Response::new(pb::AuthenticateResponse { header, token }))
    }

    async fn user_add(
        &self,
        request: Request<pb::AuthUserAddRequest>,
    ) -> Answer<pb::AuthUserAddResponse> {
        let (metadata, _, request) = request.into_parts();
        self.access(&metadata)?.root()?;
        // Before the hashing, which takes a while; and again when the change is made.
        self.accounts()?.book().check_new_user(&request.name)?;
        let hash = match request.options {
            Some(options) if options.no_password => None,
            _ => Some(self.hash(&metadata, request.password).await?),
        };
        let edit = move |book: &mut Book| book.add_user(&request.name, hash);
        let header = self.change(&metadata, edit).await?;
        Ok(Response::new(pb::AuthUserAddResponse { header }))
    }

    async fn user_get(
        &self,
        request: Request<pb::AuthUserGetRequest>,
    ) -> Answer<pb::AuthUserGetResponse> {
        let name = &request.get_ref().name;
        root_or(&self.access(request.metadata())?, |user| user == name)?;
        let book = self.accounts()?.book();
        let roles = book.user(name)?.roles.iter().cloned().collect();
        let header = self.auth_header().await?;
        Ok(Response::new(pb::AuthUserGetResponse { header, roles }))
    }

    async fn user_list(
        &self,
        request: Request<pb::AuthUserListRequest>,
    ) -> Answer<pb::AuthUserListResponse> {
        self.access(request.metadata())?.root()?;
        let book = self.accounts().map(Accounts::book).unwrap_or_default();
        let users = book.users.keys().cloned().collect();
        let header = self.auth_header().await?;
        Ok(Response::new(pb::AuthUserListResponse { header, users }))
    }

    async fn user_delete(
        &self,
        request: Request<pb::AuthUserDeleteRequest>,
    ) -> Answer<pb::AuthUserDeleteResponse> {
        let (metadata, _, request) = request.into_parts();
        let edit = move |book: &mut Book| book.delete_user(&request.name);
        let header = self.change(&metadata, edit).await?;
        Ok(Response::new(pb::AuthUserDeleteResponse { header }))
    }

    async fn user_change_password(
        &self,
        request: Request<pb::AuthUserChangePasswordRequest>,
    ) -> Answer<pb::AuthUserChangePasswordResponse> {
        let (metadata, _, request) = request.into_parts();
        self.access(&metadata)?.root()?;
        // Before the hashing, as above.
        self.accounts()?.book().user(&request.name).map(|_| ())?;
        let hash = self.hash(&metadata, request.password).await?;
        let edit = move |book: &mut Book| book.change_password(&request.name, hash);
        let header = self.change(&metadata, edit).await?;
        Ok(Response::new(pb::AuthUserChangePasswordResponse { header }))
    }

    async fn user_grant_role(
        &self,
        request: Request<pb::AuthUserGrantRoleRequest>,
    ) -> Answer<pb::AuthUserGrantRoleResponse> {
        let (metadata, _, request) = request.into_parts();
        let edit = move |book: &mut Book| book.grant_role(&request.user, &request.role);
        let header = self.change(&metadata, edit).await?;
        Ok(Response::new(pb::AuthUserGrantRoleResponse { header }))
    }

    async fn user_revoke_role(
        &self,
        request: Request<pb::AuthUserRevokeRoleRequest>,
    ) -> Answer<pb::AuthUserRevokeRoleResponse> {
        let (metadata, _, request) = request.into_parts();
        let edit = move |book: &mut Book| book.revoke_role(&request.name, &request.role);
        let header = self.change(&metadata, edit).await?;
        Ok(Response::new(pb::AuthUserRevokeRoleResponse { header }))
    }

    async fn role_add(
        &self,
        request: Request<pb::AuthRoleAddRequest>,
    ) -> Answer<pb::AuthRoleAddResponse> {
        let (metadata, _, request) = request.into_parts();
        let edit = move |book: &mut Book| book.add_role(&request.name);
        let header = self.change(&metadata, edit).await?;
        Ok(Response::new(pb::AuthRoleAddResponse { header }))
    }

    async fn role_get(
        &self,
        request: Request<pb::AuthRoleGetRequest>,
    ) -> Answer<pb::AuthRoleGetResponse> {
        let role = &request.get_ref().role;
        let access = self.access(request.metadata())?;
        let book = self.accounts()?.book();
        root_or(&access, |user| {
            book.user(user).is_ok_and(|user| user.roles.contains(role))
        })?;
        let perm = book.role(role)?.clone();
        let header = self.auth_header().await?;
        Ok(Response::new(pb::AuthRoleGetResponse { header, perm }))
    }

    async fn role_list(
        &self,
        request: Request<pb::AuthRoleListRequest>,
    ) -> Answer<pb::AuthRoleListResponse> {
        self.access(request.metadata())?.root()?;
        let book = self.accounts().map(Accounts::book).unwrap_or_default();
        let roles = book.roles.keys().cloned().collect();
        let header = self.auth_header().await?;
        Ok(Response::new(pb::AuthRoleListResponse { header, roles }))
    }

    async fn role_delete(
        &self,
        request: Request<pb::AuthRoleDeleteRequest>,
    ) -> Answer<pb::AuthRoleDeleteResponse> {
        let (metadata, _, request) = request.into_parts();
        let edit = move |book: &mut Book| book.delete_role(&request.role);
        let header = self.change(&metadata, edit).await?;
        Ok(Response::new(pb::AuthRoleDeleteResponse { header }))
    }

    async fn role_grant_permission(
        &self,
        request: Request<pb::AuthRoleGrantPermissionRequest>,
    ) -> Answer<pb::AuthRoleGrantPermissionResponse> {
        let (metadata, _, request) = request.into_parts();
        let edit = move |book: &mut Book| book.grant_permission(&request.name, request.perm);
        let header = self.change(&metadata, edit).await?;
        Ok(Response::new(pb::AuthRoleGrantPermissionResponse {
            header,
        }))
    }

    async fn role_revoke_permission(
        &self,
        request: Request<pb::AuthRoleRevokePermissionRequest>,
    ) -> Answer<pb::AuthRoleRevokePermissionResponse> {
        let (metadata, _, request) = request.into_parts();
        let edit = move |book: &mut Book| {
            book.revoke_permission(&request.role, &request.key, &request.range_end)
        };
        let header = self.change(&metadata, edit).await?;
        Ok(Response::new(pb::AuthRoleRevokePermissionResponse {
            header,
        }))
    }
}
