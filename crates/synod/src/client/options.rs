//! [`ConnectOptions`] and [`TlsOptions`]: how a client connects.

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use synod_store::Store;

use super::Client;
use crate::Result;
use crate::clock::{Clock, SystemClock};
use crate::span::traced;

/// How to connect; awaiting it connects.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> { tokio::runtime::Runtime::new()?.block_on(async {
/// use std::time::Duration;
/// use synod::Client;
///
/// let client = Client::builder("memory:")
///     .with_namespace("staging/")
///     .with_timeout(Duration::from_secs(5))
///     .await?;
/// # drop(client);
/// # Ok(()) }) }
/// ```
#[derive(Clone)]
#[must_use = "options do nothing until they are awaited"]
pub struct ConnectOptions {
    pub(super) url: String,
    pub(super) user: Option<(String, String)>,
    pub(super) tls: Option<TlsOptions>,
    pub(super) member_sync: Option<Duration>,
    pub(super) settings: Settings,
}

/// What a client needs to know beside its store.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) namespace: Bytes,
    pub(crate) system_prefix: String,
    pub(crate) timeout: Duration,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) session_ttl: Duration,
    pub(crate) identity: Bytes,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            namespace: Bytes::new(),
            system_prefix: "__synod/".to_owned(),
            timeout: Duration::from_secs(10),
            clock: Arc::new(SystemClock),
            // What etcd's Go package takes.
            session_ttl: Duration::from_secs(60),
            identity: identity(),
        }
    }
}

/// How often a cluster is asked for its members.
const MEMBER_SYNC: Duration = Duration::from_secs(60);

/// Longer than anybody waits, and short enough to be added to any time.
const LONGEST: Duration = Duration::from_secs(60 * 60 * 24 * 365);

/// `HOST/PID`.
fn identity() -> Bytes {
    #[cfg(unix)]
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    #[cfg(not(unix))]
    let host = std::env::var("COMPUTERNAME").unwrap_or_default();
    Bytes::from(format!("{host}/{}", std::process::id()))
}

impl ConnectOptions {
    /// Options for this URL; see [`Client::connect`] for its forms.
    pub fn new(url: impl AsRef<str>) -> ConnectOptions {
        ConnectOptions {
            url: url.as_ref().to_owned(),
            user: None,
            tls: None,
            member_sync: Some(MEMBER_SYNC),
            settings: Settings::default(),
        }
    }

    /// Puts `prefix` before every key, watches included; its users do not see it. It is taken as it
    /// is: end it with a `/` if you want one.
    pub fn with_namespace(mut self, prefix: impl AsRef<[u8]>) -> ConnectOptions {
        self.settings.namespace = Bytes::copy_from_slice(prefix.as_ref());
        self
    }

    /// Logs in to an etcd cluster.
    pub fn with_user(
        mut self,
        name: impl Into<String>,
        password: impl Into<String>,
    ) -> ConnectOptions {
        self.user = Some((name.into(), password.into()));
        self
    }

    /// Certificates for an etcd cluster; without this, `https` trusts the system's. An endpoint without a
    /// scheme means `https` then, and one with `http://` is refused when connecting.
    pub fn with_tls(mut self, tls: TlsOptions) -> ConnectOptions {
        self.tls = Some(tls);
        self
    }

    /// How often an etcd cluster is asked for its members, whose addresses are then used beside those of the
    /// URL; `None` for never, as where all must go through a proxy. Every 60 s unless set. An embedded
    /// store has no members.
    pub fn with_member_sync(mut self, interval: impl Into<Option<Duration>>) -> ConnectOptions {
        self.member_sync = interval.into();
        self
    }

    /// How long a call that needs no other process to act (an enqueue, a length) may go without an
    /// answer, and how long a blocking one bears an unreachable store. 10 s unless set.
    pub fn with_timeout(mut self, timeout: Duration) -> ConnectOptions {
        self.settings.timeout = timeout.min(LONGEST);
        self
    }

    /// Where Synod keeps its own records in a store that can lose answers; `__synod/` unless set.
    /// The user needs `readwrite` on this prefix. All clients of one store should have the same,
    /// as each sweeps up after those that died.
    pub fn with_system_prefix(mut self, prefix: impl Into<String>) -> ConnectOptions {
        self.settings.system_prefix = prefix.into();
        self
    }

    /// The clock to go by; the system's unless set.
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> ConnectOptions {
        self.settings.clock = clock;
        self
    }

    /// The time to live of the client's own session, which its locks and the like share unless they
    /// are given another: for so long what a dead process held stays held. 60 s unless set.
    pub fn with_session_ttl(mut self, ttl: Duration) -> ConnectOptions {
        self.settings.session_ttl = ttl;
        self
    }

    /// What this client writes into the keys that it holds, for people and for errors that say who
    /// holds something: `HOST/PID` unless set. Go's recipes write nothing there, and read nothing.
    pub fn with_identity(mut self, identity: impl AsRef<[u8]>) -> ConnectOptions {
        self.settings.identity = Bytes::copy_from_slice(identity.as_ref());
        self
    }

    /// A client of a store that is open already. The URL, user and certificates of these options do
    /// not matter then.
    #[must_use]
    pub fn over(self, store: Arc<dyn Store>) -> Client {
        Client::assemble(store, self.settings)
    }

    /// Connects; awaiting the options does the same.
    ///
    /// # Cancel safety
    ///
    /// A connect that is dropped leaves nothing behind.
    ///
    /// # Errors
    ///
    /// As [`Client::connect`].
    pub async fn connect(self) -> Result<Client> {
        traced!(
            "synod.client.connect",
            async move { Client::open(self).await }
        )
        .await
    }
}

impl IntoFuture for ConnectOptions {
    type Output = Result<Client>;
    type IntoFuture = Pin<Box<dyn Future<Output = Result<Client>> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.connect())
    }
}

impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the password, also one that stands in the URL by mistake.
        f.debug_struct("ConnectOptions")
            .field("url", &super::url::without_secrets(&self.url))
            .field("user", &self.user.as_ref().map(|(name, _)| name))
            .field("tls", &self.tls)
            .field("member_sync", &self.member_sync)
            .field("settings", &self.settings)
            .finish()
    }
}

/// Certificates for a TLS connection, as PEM.
#[derive(Clone, Default)]
#[must_use]
pub struct TlsOptions {
    pub(super) ca: Option<Vec<u8>>,
    pub(super) identity: Option<(Vec<u8>, Vec<u8>)>,
    pub(super) server_name: Option<String>,
}

impl TlsOptions {
    /// Trusts what the system trusts, and shows no certificate.
    pub fn new() -> TlsOptions {
        TlsOptions::default()
    }

    /// Trusts the authorities in this PEM text instead of the system's.
    pub fn with_ca(mut self, pem: impl Into<Vec<u8>>) -> TlsOptions {
        self.ca = Some(pem.into());
        self
    }

    /// Shows this certificate, with its key, to a server that asks for one.
    pub fn with_identity(
        mut self,
        certificate_pem: impl Into<Vec<u8>>,
        key_pem: impl Into<Vec<u8>>,
    ) -> TlsOptions {
        self.identity = Some((certificate_pem.into(), key_pem.into()));
        self
    }

    /// Expects this name in the server's certificate, instead of the host in the URL.
    pub fn with_server_name(mut self, name: impl Into<String>) -> TlsOptions {
        self.server_name = Some(name.into());
        self
    }
}

impl fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the key.
        f.debug_struct("TlsOptions")
            .field("ca", &self.ca.as_ref().map(|pem| pem.len()))
            .field("identity", &self.identity.is_some())
            .field("server_name", &self.server_name)
            .finish()
    }
}
