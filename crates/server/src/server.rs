//! [`Server`]: the services behind one or more listeners, from the first connection to the last.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use synod_engine::Engine;
use synod_store::Store;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Certificate, Identity, ServerTlsConfig};
use tower::util::{MapRequestLayer, MapResponseLayer};

use crate::auth::{Accounts, name_user};
use crate::connection::{Connections, Peer, Stream, accept, incoming};
use crate::limits::{Bounds, bound_arrival, name_oversize};
use crate::meter::MeterLayer;
use crate::options::Tls;
use crate::state::{Api, State};
use crate::{ServerError, ServerOptions};

/// How much of requests that are still arriving is held, in whole requests of the largest size.
const ARRIVING_REQUESTS: usize = 128;

/// The part of that for the requests of one connection, when the whole is short.
const ARRIVING_PARTS: usize = 8;

/// How much the buffers of streams of requests may take, in the same measure.
const KEPT_REQUESTS: usize = 64;

/// The largest headers of one request, as in Go's and Rust's HTTP libraries alike.
const MAX_HEADER_BYTES: u32 = 16 * 1024;

/// How many bytes of requests that no service has read yet one connection may hold.
///
/// Not for large requests, which are read as they come, but for small ones in a burst: the transport (h2) charges each frame
/// with what it lacks to 256 bytes, and ends a connection whose unread frames have used up half of this window. gRPC
/// for Go sends each message in a frame of its own, and renews all leases of a client at once. This lets some 17,000
/// of these wait, the usual 1 MiB no more than 2,200.
const CONNECTION_WINDOW: u32 = 8 << 20;

/// How long cut connections may take to notice.
const CUT_TIMEOUT: Duration = Duration::from_secs(2);

/// A server that speaks the etcd v3 API over a store. Clones are the same server.
#[derive(Debug, Clone)]
pub struct Server {
    state: Arc<State>,
}

impl Server {
    /// A server over `store`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, options: ServerOptions) -> Server {
        Server {
            state: Arc::new(State::new(store, options)),
        }
    }

    /// A server over an embedded store: with users and roles, and copies for backups.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corrupt`](synod_store::ErrorKind::Corrupt) when the stored users cannot be read.
    pub fn embedded(engine: Engine, options: ServerOptions) -> synod_store::Result<Server> {
        Ok(Server {
            state: Arc::new(State::embedded(engine, options)?),
        })
    }

    /// Whether clients must log in: authentication is on.
    #[must_use]
    pub fn is_auth_enabled(&self) -> bool {
        let accounts = self.state.accounts.as_ref();
        accounts.is_some_and(Accounts::is_enabled)
    }

    /// Makes the user `root`, who may do everything, with this password, and switches authentication on. What is there
    /// already stays: the password of a `root` that exists is not changed.
    ///
    /// # Cancel safety
    ///
    /// Once begun, the change is made all the same, whole.
    ///
    /// # Errors
    ///
    /// [`ServerError::Accounts`] when the password is empty, the change could not be stored, or the server was not made
    /// by [`Server::embedded`].
    pub async fn set_up_root(&self, password: &str) -> Result<(), ServerError> {
        let set_up = self.state.set_up_root(password).await;
        set_up.map_err(|refused| ServerError::Accounts(refused.message().to_owned()))
    }

    /// Serves the clients that connect to `listener` until `shutdown` completes: then it accepts
    /// none any more, ends watches and other endless calls with UNAVAILABLE, lets the other
    /// requests finish within [`ServerOptions::with_shutdown_timeout`], cuts what is left, and
    /// returns. The store stays open.
    ///
    /// A server can serve several listeners at once, one call for each.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the listener and cuts every connection that came in through it.
    /// Requests that were under way may have been applied.
    ///
    /// # Errors
    ///
    /// When the certificate is not usable, or the listener's address cannot be read.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), ServerError> {
        let address = listener.local_addr().map_err(ServerError::Listen)?;
        self.serve_incoming(incoming(listener), address, shutdown)
            .await
    }

    /// [`Server::serve`] for connections that come in another way than through a socket of the system: the seam where
    /// a simulated network is put in. `address` is what the member list shows.
    ///
    /// # Errors
    ///
    /// When the certificate is not usable.
    #[doc(hidden)]
    pub async fn serve_incoming<S: Stream>(
        &self,
        incoming: impl futures_util::Stream<Item = io::Result<S>> + Send + 'static,
        address: SocketAddr,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), ServerError> {
        let options = &self.state.options;
        let ending = Ending {
            stop: CancellationToken::new(),
            connections: Connections::new(Arc::clone(&self.state.connections)),
        };
        let api = Api {
            state: Arc::clone(&self.state),
            stop: ending.stop.clone(),
        };
        let _listening = Listening::new(&self.state, address);
        let auth = self.is_auth_enabled();
        tracing::info!(%address, tls = options.tls.is_some(), auth, "serving");

        let mut transport = tonic::transport::Server::builder()
            .accept_http1(true)
            .max_concurrent_streams(options.max_concurrent_streams)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .http2_max_header_list_size(MAX_HEADER_BYTES)
            .http2_keepalive_interval(Some(options.keepalive_interval))
            .http2_keepalive_timeout(Some(options.keepalive_timeout));
        if let Some(tls) = &options.tls {
            transport = transport
                .tls_config(tls_config(tls, options.receive_timeout))
                .map_err(|error| ServerError::Tls(error.into()))?;
        }
        let serving = transport
            .layer(MeterLayer::new(self.state.metrics.clone()))
            .layer(MapRequestLayer::new(self.arrival()))
            .layer(MapResponseLayer::new(name_oversize))
            .serve_with_incoming_shutdown(
                api.services(),
                accept(
                    incoming,
                    Arc::clone(&ending.connections),
                    options.max_connections,
                    options.receive_timeout,
                ),
                ending.stop.clone().cancelled_owned(),
            );
        tokio::pin!(serving);

        let transport_error = |error: tonic::transport::Error| ServerError::Transport(error.into());
        tokio::select! {
            ended = &mut serving => return ended.map_err(transport_error),
            () = shutdown => {
                tracing::info!(%address, "ending");
                ending.stop.cancel();
            }
        }
        if let Ok(ended) = tokio::time::timeout(options.shutdown_timeout, &mut serving).await {
            return ended.map_err(transport_error);
        }
        tracing::warn!("cutting the connections whose requests did not finish");
        ending.connections.cut();
        match tokio::time::timeout(CUT_TIMEOUT, serving).await {
            Ok(ended) => ended.map_err(transport_error),
            Err(_) => Ok(()),
        }
    }

    /// What happens to each request before it is served.
    fn arrival(
        &self,
    ) -> impl Fn(http::Request<tonic::body::Body>) -> http::Request<tonic::body::Body> + Clone + use<>
    {
        let state = Arc::clone(&self.state);
        let message = state.options.max_message_bytes();
        let arriving = message.saturating_mul(ARRIVING_REQUESTS);
        let bounds = Bounds {
            arriving,
            part: arriving / ARRIVING_PARTS,
            own: Bounds::OWN,
            kept: message.saturating_mul(KEPT_REQUESTS),
            message,
            time: state.options.receive_timeout,
        };
        // Without an authority to verify them nobody is asked for a certificate.
        let verified = state.options.tls.as_ref();
        let verified = verified.is_some_and(|tls| tls.client_ca.is_some());
        move |mut request| {
            let logins = state.accounts.as_ref().is_some_and(Accounts::is_enabled);
            name_user(&mut request, verified && logins);
            state.requests.fetch_add(1, Ordering::Relaxed);
            // Every connection has a part; without one a request would have it for itself.
            let part = Peer::of(request.extensions()).map(|peer| Arc::clone(peer.part()));
            bound_arrival(request, &state.arriving, &part.unwrap_or_default(), bounds)
        }
    }
}

/// Ends everything of a listener when it is dropped.
struct Ending {
    stop: CancellationToken,
    connections: Arc<Connections>,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.stop.cancel();
        self.connections.cut();
    }
}

/// A listener's URL, known to the server's state while it lives.
struct Listening<'a> {
    state: &'a State,
    url: String,
}

impl<'a> Listening<'a> {
    fn new(state: &'a State, address: SocketAddr) -> Listening<'a> {
        let url = format!("{}://{address}", state.options.scheme());
        state.listening().push(url.clone());
        Listening { state, url }
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        let mut urls = self.state.listening();
        if let Some(place) = urls.iter().position(|url| *url == self.url) {
            urls.remove(place);
        }
    }
}

pub(crate) fn tls_config(tls: &Tls, handshake: Duration) -> ServerTlsConfig {
    // With more than one provider of cryptography in a program the TLS library would not know which
    // to take, and panic.
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // Another thread may have been first: then there is one, which is all that matters.
        drop(rustls::crypto::ring::default_provider().install_default());
    }
    let config = ServerTlsConfig::new()
        .identity(Identity::from_pem(&tls.certificate, &tls.key))
        .timeout(handshake);
    match &tls.client_ca {
        Some(ca) => config
            .client_ca_root(Certificate::from_pem(ca))
            .client_auth_optional(!tls.require_client_certificate),
        None => config,
    }
}
