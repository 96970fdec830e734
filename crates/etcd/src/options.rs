//! [`EtcdOptions`]: which cluster, who asks, how long to wait.

use std::fmt;
use std::time::Duration;

use crate::connector::Connector;

/// How to reach an etcd cluster: `EtcdOptions::new(["http://h1:2379", "http://h2:2379"])`.
///
/// An endpoint is `http://HOST:PORT` or `https://HOST:PORT`. Without a scheme it means http, or
/// https when [TLS options](EtcdOptions::with_tls) are given (one with `http://` is refused then); without a
/// port it means 2379.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use synod_etcd::EtcdOptions;
///
/// let options = EtcdOptions::new(["h1:2379", "h2:2379"])
///     .with_user("root", "secret")
///     .with_request_timeout(Duration::from_secs(2));
/// assert!(!format!("{options:?}").contains("secret"));
/// ```
#[derive(Clone)]
#[must_use]
pub struct EtcdOptions {
    pub(crate) endpoints: Vec<String>,
    pub(crate) user: Option<User>,
    pub(crate) tls: Option<TlsOptions>,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) keep_alive: KeepAlive,
    pub(crate) member_sync: Option<Duration>,
    pub(crate) connector: Option<Connector>,
}

impl EtcdOptions {
    /// Options for the cluster with these endpoints. One that answers is enough, but only those
    /// named here can be asked first.
    pub fn new(endpoints: impl IntoIterator<Item = impl Into<String>>) -> EtcdOptions {
        EtcdOptions {
            endpoints: endpoints.into_iter().map(Into::into).collect(),
            user: None,
            tls: None,
            connect_timeout: Duration::from_secs(3),
            request_timeout: Duration::from_secs(5),
            keep_alive: KeepAlive {
                interval: Duration::from_secs(10),
                timeout: Duration::from_secs(5),
            },
            member_sync: Some(Duration::from_secs(60)),
            connector: None,
        }
    }

    /// Asks as this user. A cluster whose authentication is off takes no notice.
    pub fn with_user(
        mut self,
        name: impl Into<String>,
        password: impl Into<String>,
    ) -> EtcdOptions {
        self.user = Some(User {
            name: name.into(),
            password: password.into(),
        });
        self
    }

    /// How `https` endpoints are verified, and who we are to them. `https` works without it too:
    /// then the system's certificate authorities are trusted.
    pub fn with_tls(mut self, tls: TlsOptions) -> EtcdOptions {
        self.tls = Some(tls);
        self
    }

    /// How long one endpoint may take to connect and to answer a first question. 3 s by default.
    /// With several endpoints nobody waits this long: the next one is tried beside it.
    pub fn with_connect_timeout(mut self, timeout: Duration) -> EtcdOptions {
        self.connect_timeout = timeout;
        self
    }

    /// How long a request may take in all, with its repetitions. 5 s by default. Compaction that
    /// waits for the space, and defragmentation, take the time that they need.
    pub fn with_request_timeout(mut self, timeout: Duration) -> EtcdOptions {
        self.request_timeout = timeout;
        self
    }

    /// How a connection that died in silence is noticed: after `interval` without a sign of life
    /// the other side is asked for one, and the connection is given up `timeout` later. 10 s and
    /// 5 s by default. etcd drops clients that ask more often than every 5 s
    /// (`--grpc-keepalive-min-time`).
    pub fn with_keep_alive(mut self, interval: Duration, timeout: Duration) -> EtcdOptions {
        self.keep_alive = KeepAlive { interval, timeout };
        self
    }

    /// How often the cluster is asked for its members, whose addresses are then used beside those
    /// given here; `None` for never. Every 60 s by default.
    ///
    /// Addresses that cannot be meant for others are left out: `0.0.0.0`, and loopback addresses
    /// unless an endpoint given here is one. So is whatever answers for another cluster.
    pub fn with_member_sync(mut self, interval: impl Into<Option<Duration>>) -> EtcdOptions {
        self.member_sync = interval.into();
        self
    }

    /// Connects by other means than TCP, for simulations.
    #[doc(hidden)]
    pub fn with_connector(mut self, connector: Connector) -> EtcdOptions {
        self.connector = Some(connector);
        self
    }
}

impl fmt::Debug for EtcdOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Endpoints may hold a password by mistake; they are refused at connect.
        f.debug_struct("EtcdOptions")
            .field("endpoints", &self.endpoints.len())
            .field("user", &self.user)
            .field("tls", &self.tls)
            .field("connect_timeout", &self.connect_timeout)
            .field("request_timeout", &self.request_timeout)
            .field("keep_alive", &self.keep_alive)
            .field("member_sync", &self.member_sync)
            .finish_non_exhaustive()
    }
}

/// Signs of life that are asked for on a silent connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KeepAlive {
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
}

/// A user and the password.
#[derive(Clone)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) password: String,
}

impl fmt::Debug for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Whom to trust over TLS, and who we are.
#[derive(Clone, Default)]
#[must_use]
pub struct TlsOptions {
    pub(crate) ca_pem: Option<Vec<u8>>,
    pub(crate) identity_pem: Option<(Vec<u8>, Vec<u8>)>,
    pub(crate) domain: Option<String>,
}

impl TlsOptions {
    /// Trusts the system's certificate authorities and shows no certificate.
    pub fn new() -> TlsOptions {
        TlsOptions::default()
    }

    /// Trusts these certificate authorities (PEM) instead of the system's.
    pub fn with_ca_pem(mut self, pem: impl Into<Vec<u8>>) -> TlsOptions {
        self.ca_pem = Some(pem.into());
        self
    }

    /// Shows this certificate (PEM, with its chain) to servers that ask for one, with its key.
    pub fn with_identity_pem(
        mut self,
        cert: impl Into<Vec<u8>>,
        key: impl Into<Vec<u8>>,
    ) -> TlsOptions {
        self.identity_pem = Some((cert.into(), key.into()));
        self
    }

    /// The name that the servers' certificates must bear, when it is not the endpoint's host.
    pub fn with_domain(mut self, domain: impl Into<String>) -> TlsOptions {
        self.domain = Some(domain.into());
        self
    }
}

impl fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsOptions")
            .field("own_ca", &self.ca_pem.is_some())
            .field("identity", &self.identity_pem.is_some())
            .field("domain", &self.domain)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_shown() {
        let tls = TlsOptions::new().with_identity_pem("CERTIFICATE", "PRIVATE");
        let options = EtcdOptions::new(["http://root:hunter2@h:1"])
            .with_user("root", "hunter2")
            .with_tls(tls);
        let shown = format!("{options:?}");
        assert!(
            shown.contains("root") && !shown.contains("hunter2"),
            "{shown}"
        );
        assert!(!shown.contains("PRIVATE"), "{shown}");
    }
}
