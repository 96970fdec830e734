//! [`Accounts`]: users, roles, tokens and passwords of one store.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use synod_engine::Engine;
use synod_store::Result as StoreResult;
use tonic::Status;

use super::access::{Access, Credentials};
use super::book::{Book, Edit, ROOT};
use super::passwords::Passwords;
use super::tokens::Tokens;
use super::{notes, refusal};
use crate::metrics::Login;
use crate::state::{State, status};

/// Users, roles, tokens and passwords of one store.
pub(crate) struct Accounts {
    engine: Engine,
    /// As it is stored: what is here is durable.
    book: RwLock<Arc<Book>>,
    /// The same as in the book, for the many requests to a server without users.
    enabled: AtomicBool,
    /// Held while a change is stored.
    changing: tokio::sync::Mutex<()>,
    tokens: Tokens,
    passwords: Passwords,
    /// Whether authentication may be switched off.
    stays_on: bool,
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accounts")
            .field("enabled", &self.is_enabled())
            .finish_non_exhaustive()
    }
}

impl Accounts {
    pub(crate) fn new(engine: Engine, ttl: Duration, stays_on: bool) -> StoreResult<Accounts> {
        let book = notes::read(&engine.notes())?;
        Ok(Accounts {
            engine,
            enabled: AtomicBool::new(book.enabled),
            book: RwLock::new(Arc::new(book)),
            changing: tokio::sync::Mutex::default(),
            tokens: Tokens::new(ttl),
            passwords: Passwords::new(),
            stays_on,
        })
    }

    pub(crate) fn is_enabled(&self) -> bool {
        self.enabled.load(Ordering::Acquire)
    }

    /// Users and roles as they are now.
    pub(super) fn book(&self) -> Arc<Book> {
        Arc::clone(&self.book.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many users there are.
    #[cfg(feature = "metrics")]
    pub(crate) fn users(&self) -> usize {
        self.book().users.len()
    }

    /// What the owner of these credentials may do.
    pub(super) fn access(&self, credentials: &Credentials) -> Result<Access, Status> {
        let book = self.book();
        if !book.enabled {
            return Ok(Access::Open);
        }
        let Some(token) = credentials.token() else {
            let Some(name) = credentials.certificate() else {
                return Ok(Access::Nobody);
            };
            let Some(allowed) = book.allowed(name) else {
                tracing::debug!(name, "a certificate names no user");
                return Err(refusal::denied());
            };
            return Ok(Access::User(name.to_owned(), allowed));
        };
        let user = self.tokens.user(token).ok_or_else(refusal::invalid_token)?;
        let allowed = book.allowed(&user).ok_or_else(refusal::invalid_token)?;
        Ok(Access::User(user, allowed))
    }

    /// A token for who knows the password.
    pub(super) async fn log_in(
        &self,
        user: String,
        password: String,
    ) -> (Login, Result<String, Status>) {
        let known = {
            let book = self.book();
            if !book.enabled {
                return (Login::Refused, Err(refusal::not_enabled()));
            }
            if user.is_empty() {
                return (Login::Refused, Err(refusal::no_user_name()));
            }
            book.users.get(&user).map(|user| user.hash.clone())
        };
        if let Some(None) = known {
            return (Login::Refused, Err(refusal::no_password_user()));
        }
        let hash = known.flatten();
        match self.passwords.verify(password, hash.clone()).await {
            Err(busy) => return (Login::Busy, Err(busy)),
            Ok(false) => return (Login::Refused, Err(refusal::wrong_password())),
            Ok(true) => {}
        }
        let token = self.tokens.give(&user);
        // The password may have been changed meanwhile: then tokens were taken back before this one was given.
        let book = self.book();
        let still = book.users.get(&user).map(|user| user.hash.clone());
        if !book.enabled || still != Some(hash) {
            self.tokens.revoke(&user);
            return (Login::Refused, Err(refusal::wrong_password()));
        }
        (Login::Accepted, Ok(token))
    }

    /// The hash of a new password.
    pub(super) async fn hash(&self, password: String) -> Result<super::book::Hash, Status> {
        self.passwords.hash(password).await
    }

    /// Makes one change, durably. To be called in a task of its own: half of it must not be left out when a caller
    /// goes away.
    async fn change(&self, edit: impl FnOnce(&mut Book) -> Edit) -> Result<(), Status> {
        let _changing = self.changing.lock().await;
        let before = self.book();
        let mut after = Book::clone(&before);
        if edit(&mut after)? {
            after.revision = after.revision.saturating_add(1);
        }
        if self.stays_on && before.enabled && !after.enabled {
            return Err(refusal::must_stay_on());
        }
        let changes = notes::changes(&before, &after);
        if changes.is_empty() {
            return Ok(());
        }
        self.engine.write_notes(changes).await.map_err(status)?;
        tracing::info!(
            revision = after.revision,
            enabled = after.enabled,
            users = after.users.len(),
            roles = after.roles.len(),
            "users and roles have changed"
        );
        let after = Arc::new(after);
        *self.book.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&after);
        self.enabled.store(after.enabled, Ordering::Release);
        // After the change is seen: a token that is given from now on is of the new password.
        if !after.enabled {
            self.tokens.clear();
        }
        for (name, user) in &before.users {
            let same = after
                .users
                .get(name)
                .is_some_and(|now| now.hash == user.hash);
            if !same {
                self.tokens.revoke(name);
            }
        }
        Ok(())
    }
}

impl State {
    /// Makes one change of users and roles, also when the caller goes away meanwhile.
    pub(super) async fn change_accounts(
        self: &Arc<Self>,
        edit: impl FnOnce(&mut Book) -> Edit + Send + 'static,
    ) -> Result<(), Status> {
        let state = Arc::clone(self);
        let change = tokio::spawn(async move {
            match &state.accounts {
                Some(accounts) => accounts.change(edit).await,
                None => Err(no_users()),
            }
        });
        change
            .await
            .unwrap_or_else(|_| Err(Status::internal("synod: changing users and roles failed")))
    }

    /// Sees to it that there is a user `root` who may do everything, and that authentication is on. The password of a
    /// `root` that has one stays as it is.
    pub(crate) async fn set_up_root(self: &Arc<Self>, password: &str) -> Result<(), Status> {
        let accounts = self.accounts.as_ref().ok_or_else(no_users)?;
        let has_password = |book: &Book| {
            let root = book.users.get(ROOT);
            root.is_some_and(|root| root.hash.is_some())
        };
        let known = has_password(&accounts.book());
        let hash = match known {
            true => None,
            false => Some(accounts.hash(password.to_owned()).await?),
        };
        self.change_accounts(move |book| {
            let mut changed = false;
            match hash.filter(|_| !has_password(book)) {
                Some(hash) if book.users.contains_key(ROOT) => {
                    changed |= book.change_password(ROOT, hash)?;
                }
                Some(hash) => changed |= book.add_user(ROOT, Some(hash))?,
                None => {}
            }
            if !book.roles.contains_key(ROOT) {
                changed |= book.add_role(ROOT)?;
            }
            changed |= book.grant_role(ROOT, ROOT)?;
            changed |= book.enable()?;
            Ok(changed)
        })
        .await
    }
}

/// What a server answers whose store keeps no users.
pub(super) fn no_users() -> Status {
    Status::unimplemented(
        "synod: the store behind this server keeps no users and roles; require client certificates to say who may use it",
    )
}
