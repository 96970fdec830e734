//! [`ServerError`]: why a server could not serve.

use std::error::Error;
use std::fmt;

/// Why a server could not serve.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServerError {
    /// The certificate, its key or the clients' root certificate is not usable.
    Tls(Box<dyn Error + Send + Sync>),
    /// Users and roles could not be changed; why.
    Accounts(String),
    /// The listener failed.
    Listen(std::io::Error),
    /// The transport failed.
    Transport(Box<dyn Error + Send + Sync>),
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ServerError::Accounts(reason) => reason,
            ServerError::Tls(_) => {
                "the certificate, its private key or the clients' root certificate is not usable"
            }
            ServerError::Listen(_) => "the listening socket failed",
            ServerError::Transport(_) => "the server's transport failed",
        })
    }
}

impl Error for ServerError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            ServerError::Tls(source) | ServerError::Transport(source) => Some(source.as_ref()),
            ServerError::Listen(source) => Some(source),
            ServerError::Accounts(_) => None,
        }
    }
}
