//! User and password become a token, which goes with every request and is renewed when refused.
//!
//! Calls that find no token, or whose token was refused, wait for one authentication together.

use std::sync::{Mutex, PoisonError};

use synod_store::ErrorKind;
use synod_wire::convert::error::{Call, from_status};
use synod_wire::etcdserverpb::AuthenticateRequest;
use synod_wire::etcdserverpb::auth_client::AuthClient;
use tonic::Status;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::transport::Channel;

use crate::options::User;

/// The metadata key of the token.
const TOKEN: &str = "token";

/// A token; absent where nobody has to say who asks.
pub(crate) type Token = Option<MetadataValue<Ascii>>;

/// Who asks, and the token that shows it.
#[derive(Debug)]
pub(crate) struct Auth {
    user: Option<User>,
    /// `None`: not asked for yet, or refused. `Some(None)`: the cluster wants none.
    token: Mutex<Option<Token>>,
    /// Held while a token is asked for.
    asking: tokio::sync::Mutex<()>,
}

impl Auth {
    pub(crate) fn new(user: Option<User>) -> Auth {
        let token = user.is_none().then_some(None);
        Auth {
            user,
            token: Mutex::new(token),
            asking: tokio::sync::Mutex::default(),
        }
    }

    /// Whether a refused token can be renewed.
    pub(crate) fn has_user(&self) -> bool {
        self.user.is_some()
    }

    /// The token, if it is known.
    pub(crate) fn known(&self) -> Option<Token> {
        self.token
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The token, asked for over this channel when it is not known.
    pub(crate) async fn token(&self, channel: &Channel) -> Result<Token, Status> {
        if let Some(token) = self.known() {
            return Ok(token);
        }
        let _asking = self.asking.lock().await;
        if let Some(token) = self.known() {
            return Ok(token);
        }
        let token = self.authenticate(channel).await?;
        self.set(Some(token.clone()));
        Ok(token)
    }

    async fn authenticate(&self, channel: &Channel) -> Result<Token, Status> {
        let Some(user) = &self.user else {
            return Ok(None);
        };
        let request = AuthenticateRequest {
            name: user.name.clone(),
            password: user.password.clone(),
        };
        match AuthClient::new(channel.clone()).authenticate(request).await {
            Ok(response) => {
                let token = response.into_inner().token;
                let mut token = MetadataValue::try_from(token)
                    .map_err(|_| Status::internal("the token given is not printable"))?;
                token.set_sensitive(true);
                Ok(Some(token))
            }
            Err(status) if is_off(&status) => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// This token was refused: the next call asks for another one. Someone may have done so.
    pub(crate) fn refused(&self, token: &Token) {
        let mut known = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        if self.user.is_some() && known.as_ref() == Some(token) {
            *known = None;
        }
    }

    fn set(&self, token: Option<Token>) {
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = token;
    }
}

/// Whether the cluster has no users.
fn is_off(status: &Status) -> bool {
    from_status(status, Call::Read).kind() == ErrorKind::AuthNotEnabled
}

/// Adds the token to a request's metadata.
pub(crate) fn attach(metadata: &mut MetadataMap, token: &Token) {
    if let Some(token) = token {
        metadata.insert(TOKEN, token.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth() -> Auth {
        Auth::new(Some(User {
            name: "root".into(),
            password: "hunter2".into(),
        }))
    }

    fn token(text: &'static str) -> Token {
        Some(MetadataValue::from_static(text))
    }

    #[test]
    fn a_refused_token_is_forgotten_once() {
        let auth = auth();
        auth.set(Some(token("a")));
        auth.refused(&token("a"));
        assert_eq!(auth.known(), None);
        auth.set(Some(token("b")));
        auth.refused(&token("a"));
        assert_eq!(auth.known(), Some(token("b")));
    }

    #[test]
    fn without_a_user_there_is_never_a_token() {
        let auth = Auth::new(None);
        auth.refused(&None);
        assert_eq!(auth.known(), Some(None));
    }

    #[test]
    fn the_password_is_not_shown() {
        assert!(!format!("{:?}", auth()).contains("hunter2"));
    }
}
