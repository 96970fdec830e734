//! [`Way`]: how to connect to the store that options and environment name.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use synod::{ConnectOptions, TlsOptions};

/// How to connect, as data: it is sent to worker processes over a pipe, never in a command line.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Way {
    pub(crate) url: String,
    pub(crate) namespace: Option<String>,
    pub(crate) patience: Option<Duration>,
    pub(crate) session_ttl: Option<Duration>,
    /// Name and password.
    pub(crate) user: Option<(String, String)>,
    /// Whether TLS options are given at all.
    pub(crate) tls: bool,
    pub(crate) ca: Option<Vec<u8>>,
    /// Certificate and key.
    pub(crate) identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl Way {
    /// Options for a new connection.
    pub(crate) fn options(&self) -> ConnectOptions {
        let mut options = self.settings();
        if let Some(namespace) = &self.namespace {
            options = options.with_namespace(namespace);
        }
        if self.tls {
            let mut tls = TlsOptions::new();
            if let Some(ca) = &self.ca {
                tls = tls.with_ca(ca.clone());
            }
            if let Some((cert, key)) = &self.identity {
                tls = tls.with_identity(cert.clone(), key.clone());
            }
            options = options.with_tls(tls);
        }
        if let Some((name, password)) = &self.user {
            options = options.with_user(name, password);
        }
        options
    }

    /// What does not belong to the connection.
    pub(crate) fn settings(&self) -> ConnectOptions {
        let mut options = ConnectOptions::new(&self.url);
        if let Some(patience) = self.patience {
            options = options.with_timeout(patience);
        }
        if let Some(ttl) = self.session_ttl {
            options = options.with_session_ttl(ttl);
        }
        options
    }

    /// Whether the store is in this process.
    pub(crate) fn is_embedded(&self) -> bool {
        is_embedded(&self.url)
    }
}

/// Whether the store at this address is in the process that uses it.
pub(crate) fn is_embedded(url: &str) -> bool {
    url.starts_with("file:") || url.starts_with("memory:")
}

/// Without what is secret in it.
impl std::fmt::Debug for Way {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Way")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}
