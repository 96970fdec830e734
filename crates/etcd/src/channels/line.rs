//! A channel to one endpoint, and what is known of where it leads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use synod_store::{Error, ErrorKind, Result};
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use super::address::Address;
use crate::options::EtcdOptions;
use crate::tls;

/// How the client names itself.
const USER_AGENT: &str = concat!("synod-etcd/", env!("CARGO_PKG_VERSION"));

/// A channel to one endpoint, for as long as the endpoint has not failed.
#[derive(Debug)]
pub(crate) struct Line {
    pub(super) slot: usize,
    url: Arc<str>,
    channel: Channel,
    /// No answer will come.
    down: CancellationToken,
    /// Answers may come, but not soon. Cancelled with `down` too.
    left: CancellationToken,
    pub(super) ordered_progress: AtomicBool,
    pub(super) suspected: AtomicBool,
}

impl Line {
    pub(super) fn new(slot: usize, address: &Address, channel: Channel) -> Arc<Line> {
        let down = CancellationToken::new();
        Arc::new(Line {
            slot,
            url: address.to_string().into(),
            channel,
            left: down.child_token(),
            down,
            ordered_progress: AtomicBool::new(false),
            suspected: AtomicBool::new(false),
        })
    }

    /// Where it leads.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// What to send on.
    pub(crate) fn channel(&self) -> &Channel {
        &self.channel
    }

    /// Returns when the endpoint is known to be dead: no answer will come.
    pub(crate) async fn down(&self) {
        self.down.cancelled().await;
    }

    /// Returns when the endpoint is dead or has lost its leader: what can be asked again had better
    /// be asked elsewhere.
    pub(crate) async fn left(&self) {
        self.left.cancelled().await;
    }

    pub(super) fn is_down(&self) -> bool {
        self.down.is_cancelled()
    }

    /// The endpoint is dead.
    pub(super) fn give_up(&self) {
        self.down.cancel();
    }

    /// The endpoint has lost its leader.
    pub(super) fn leave(&self) {
        self.left.cancel();
    }

    /// Whether a progress that was asked for comes in its place among the events of a watch.
    pub(crate) fn ordered_progress(&self) -> bool {
        self.ordered_progress.load(Ordering::Relaxed)
    }
}

/// What a channel to this address is made from.
pub(super) fn endpoint(address: &Address, options: &EtcdOptions) -> Result<Endpoint> {
    let malformed = |error: tonic::transport::Error| {
        Error::new(
            ErrorKind::InvalidAddress,
            format!("invalid address `{address}`: {error}"),
        )
    };
    let endpoint = Endpoint::from_shared(address.to_string())
        .and_then(|endpoint| endpoint.user_agent(USER_AGENT))
        .map_err(malformed)?
        .connect_timeout(options.connect_timeout)
        .http2_keep_alive_interval(options.keep_alive.interval)
        .keep_alive_timeout(options.keep_alive.timeout);
    if address.is_secure() {
        tls::secure(endpoint, options.tls.as_ref(), options.connect_timeout)
    } else {
        Ok(endpoint)
    }
}
