//! [`ServerOptions`]: what a server promises, allows and says of itself.

use std::sync::Arc;
use std::time::Duration;

use crate::error::ServerError;
use crate::metrics::Metrics;
use crate::server::tls_config;

/// What a server promises, allows and says of itself. The defaults are etcd's, where etcd has one.
#[derive(Debug, Clone)]
#[must_use]
pub struct ServerOptions {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) data: String,
    pub(crate) client_urls: Vec<String>,
    pub(crate) quota_bytes: u64,
    pub(crate) max_request_bytes: usize,
    pub(crate) max_txn_ops: usize,
    pub(crate) max_connections: usize,
    pub(crate) max_concurrent_streams: u32,
    pub(crate) max_open_streams: u64,
    pub(crate) max_watchers: u64,
    pub(crate) keepalive_interval: Duration,
    pub(crate) keepalive_timeout: Duration,
    pub(crate) receive_timeout: Duration,
    pub(crate) watch_progress_interval: Duration,
    pub(crate) shutdown_timeout: Duration,
    pub(crate) tls: Option<Tls>,
    pub(crate) auth_token_ttl: Duration,
    pub(crate) auth_stays_on: bool,
    pub(crate) metrics: Option<Arc<Metrics>>,
}

impl Default for ServerOptions {
    fn default() -> ServerOptions {
        ServerOptions {
            name: "default".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            data: String::new(),
            client_urls: Vec::new(),
            quota_bytes: 0,
            max_request_bytes: 1536 * 1024,
            max_txn_ops: 128,
            max_connections: 10_000,
            max_concurrent_streams: 10_000,
            max_open_streams: 100_000,
            max_watchers: 1_000_000,
            keepalive_interval: Duration::from_secs(60),
            keepalive_timeout: Duration::from_secs(20),
            receive_timeout: Duration::from_secs(30),
            watch_progress_interval: Duration::from_secs(600),
            shutdown_timeout: Duration::from_secs(5),
            tls: None,
            auth_token_ttl: Duration::from_secs(300),
            auth_stays_on: false,
            metrics: None,
        }
    }
}

impl ServerOptions {
    /// The defaults.
    pub fn new() -> ServerOptions {
        ServerOptions::default()
    }

    /// The name of the one member that an embedded store is; "default" by default.
    pub fn with_name(mut self, name: impl Into<String>) -> ServerOptions {
        self.name = name.into();
        self
    }

    /// The version of Synod that `synod.v1.Synod/Info` tells; this crate's by default. The version
    /// of etcd that Status tells is the store's.
    pub fn with_version(mut self, version: impl Into<String>) -> ServerOptions {
        self.version = version.into();
        self
    }

    /// Where the data are, for `synod.v1.Synod/Info`: a path, "memory", or a URL.
    pub fn with_data(mut self, data: impl Into<String>) -> ServerOptions {
        self.data = data.into();
        self
    }

    /// The URLs that MemberList names for clients. When there are none, it names the address at
    /// which the asking client reached the server.
    pub fn with_client_urls(
        mut self,
        urls: impl IntoIterator<Item = impl Into<String>>,
    ) -> ServerOptions {
        self.client_urls = urls.into_iter().map(Into::into).collect();
        self
    }

    /// The store's quota in bytes, for `synod.v1.Synod/Info` and Status: the store itself keeps it.
    /// 0, the default, says that there is none.
    pub fn with_quota_bytes(mut self, bytes: u64) -> ServerOptions {
        self.quota_bytes = bytes;
        self
    }

    /// The most bytes a request that changes something may have; 1.5 MiB by default. A message that
    /// is larger by more than 512 KiB is not even received. Answers have no limit.
    pub fn with_max_request_bytes(mut self, bytes: usize) -> ServerOptions {
        self.max_request_bytes = bytes;
        self
    }

    /// The most conditions, or operations of one branch, that a transaction may have; 128 by
    /// default. A nested transaction gets what its parent's largest list leaves, all together 16 times as many.
    pub fn with_max_txn_ops(mut self, ops: usize) -> ServerOptions {
        self.max_txn_ops = ops;
        self
    }

    /// The most connections at once; 10,000 by default. One more is closed as soon as it opens.
    pub fn with_max_connections(mut self, connections: usize) -> ServerOptions {
        self.max_connections = connections;
        self
    }

    /// The most requests and streams that may be open at once on one connection; 10,000 by default.
    /// Each waiting Lock or Campaign call and each Watch stream is one of them.
    pub fn with_max_concurrent_streams(mut self, streams: u32) -> ServerOptions {
        self.max_concurrent_streams = streams;
        self
    }

    /// The most calls at once that last for as long as their clients want, of all clients together; 100,000 by default:
    /// streams of watches, of renewals and of an election's leaders, and calls of Lock and Campaign that wait. One more is
    /// refused. Each takes some KiB.
    pub fn with_max_open_streams(mut self, streams: u64) -> ServerOptions {
        self.max_open_streams = streams;
        self
    }

    /// The most watches at once, of all clients together; 1,000,000 by default. One more is refused. Each KiB of a watch's
    /// keys counts as one more.
    pub fn with_max_watchers(mut self, watchers: u64) -> ServerOptions {
        self.max_watchers = watchers;
        self
    }

    /// A connection that was silent for `interval` is asked for a sign of life, and closed when it
    /// gives none within `timeout`; 60 s and 20 s by default.
    pub fn with_keepalive(mut self, interval: Duration, timeout: Duration) -> ServerOptions {
        self.keepalive_interval = interval;
        self.keepalive_timeout = timeout;
        self
    }

    /// How long a client may take to begin to speak, to end its TLS handshake, and to send one
    /// whole request; 30 s by default. Streams of requests may pause as long as they like.
    pub fn with_receive_timeout(mut self, timeout: Duration) -> ServerOptions {
        self.receive_timeout = timeout;
        self
    }

    /// How often a watch that asked for signs of progress gets one while nothing happens; 10
    /// minutes by default.
    pub fn with_watch_progress_interval(mut self, interval: Duration) -> ServerOptions {
        self.watch_progress_interval = interval;
        self
    }

    /// How long a shutdown waits for requests that are under way before it cuts connections; 5 s by
    /// default. Watches and other endless calls are ended at once.
    pub fn with_shutdown_timeout(mut self, timeout: Duration) -> ServerOptions {
        self.shutdown_timeout = timeout;
        self
    }

    /// How long a token of a user is good without being used; 5 minutes by default, as in etcd.
    pub fn with_auth_token_ttl(mut self, ttl: Duration) -> ServerOptions {
        self.auth_token_ttl = ttl;
        self
    }

    /// Refuses to switch authentication off, once it is on.
    pub fn with_auth_that_stays_on(mut self) -> ServerOptions {
        self.auth_stays_on = true;
        self
    }

    /// Counts requests and serves `/metrics`. Without it there is no such page.
    #[cfg(feature = "metrics")]
    pub fn with_metrics(mut self, metrics: Arc<Metrics>) -> ServerOptions {
        self.metrics = Some(metrics);
        self
    }

    /// Speaks TLS.
    pub fn with_tls(mut self, tls: Tls) -> ServerOptions {
        self.tls = Some(tls);
        self
    }

    /// The scheme of this server's URLs.
    pub(crate) fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// The most bytes of one message that are received at all.
    pub(crate) fn max_message_bytes(&self) -> usize {
        /// What etcd allows beyond the request itself.
        const OVERHEAD: usize = 512 * 1024;
        self.max_request_bytes.saturating_add(OVERHEAD)
    }
}

/// A server's certificate, and whose certificates it accepts.
#[derive(Clone)]
#[must_use]
pub struct Tls {
    pub(crate) certificate: Vec<u8>,
    pub(crate) key: Vec<u8>,
    pub(crate) client_ca: Option<Vec<u8>>,
    pub(crate) require_client_certificate: bool,
}

impl Tls {
    /// The certificate (and those between it and its root) and its private key, in PEM.
    pub fn new(certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Tls {
        Tls {
            certificate: certificate.into(),
            key: key.into(),
            client_ca: None,
            require_client_certificate: false,
        }
    }

    /// Accepts only clients whose certificate one of these, in PEM, has signed.
    pub fn requiring_client_certificates(mut self, ca: impl Into<Vec<u8>>) -> Tls {
        self.client_ca = Some(ca.into());
        self.require_client_certificate = true;
        self
    }

    /// Whether a server can use them, which says so only when it begins to serve.
    ///
    /// # Errors
    ///
    /// [`ServerError::Tls`] when something is not what it should be, or the key is that of another certificate.
    pub fn check(&self) -> Result<(), ServerError> {
        tonic::transport::Server::builder()
            .tls_config(tls_config(self, Duration::ZERO))
            .map(|_| ())
            .map_err(|error| ServerError::Tls(error.into()))
    }

    /// Verifies a client's certificate when it shows one: one of these, in PEM, must have signed it.
    pub fn verifying_client_certificates(mut self, ca: impl Into<Vec<u8>>) -> Tls {
        self.client_ca = Some(ca.into());
        self.require_client_certificate = false;
        self
    }
}

/// Without the private key.
impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("client_ca", &self.client_ca.is_some())
            .field(
                "require_client_certificate",
                &self.require_client_certificate,
            )
            .finish_non_exhaustive()
    }
}
