//! One accepted connection: counted, held to beginning to speak, and cut when the server must end.
//!
//! The transport owns its connections and gives no handle on them, so what the server needs to know
//! and do sits between the socket and the transport.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::task::AtomicWaker;
use http::Extensions;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;
use tonic::transport::server::{Connected, TcpConnectInfo, TlsConnectInfo};

use crate::limits::Part;

/// What a client sends first is at least as long: the preface of HTTP/2, a TLS greeting.
const GREETING: usize = 24;

/// How long accepting pauses after a failure such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The connections that came in through one listener.
#[derive(Debug)]
pub(crate) struct Connections {
    open: Mutex<HashMap<u64, Arc<Line>>>,
    next: AtomicU64,
    shut: AtomicBool,
    /// How many the server has, those of its other listeners too.
    total: Arc<AtomicUsize>,
}

/// What is shared with one connection.
#[derive(Debug, Default)]
struct Line {
    cut: AtomicBool,
    reader: AtomicWaker,
}

impl Line {
    fn cut(&self) {
        self.cut.store(true, Ordering::Release);
        self.reader.wake();
    }
}

impl Connections {
    /// None yet. `total` counts those of all listeners.
    pub(crate) fn new(total: Arc<AtomicUsize>) -> Arc<Connections> {
        Arc::new(Connections {
            open: Mutex::default(),
            next: AtomicU64::new(0),
            shut: AtomicBool::new(false),
            total,
        })
    }

    /// Cuts all of them, and those that still come.
    pub(crate) fn cut(&self) {
        self.shut.store(true, Ordering::Release);
        self.lines().values().for_each(|line| line.cut());
    }

    fn lines(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Arc<Line>>> {
        // Nothing under this lock can leave the map half changed.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection up, unless there are `most` already.
    fn admit<S>(
        self: &Arc<Self>,
        stream: S,
        most: usize,
        greeting: Duration,
    ) -> Option<Connection<S>> {
        let line = Arc::new(Line::default());
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        {
            let mut lines = self.lines();
            if self.shut.load(Ordering::Acquire) || self.total.load(Ordering::Relaxed) >= most {
                return None;
            }
            self.total.fetch_add(1, Ordering::Relaxed);
            lines.insert(id, Arc::clone(&line));
        }
        Some(Connection {
            stream,
            id,
            line,
            connections: Arc::clone(self),
            part: Arc::default(),
            greeting: Some((0, Box::pin(tokio::time::sleep(greeting)))),
        })
    }
}

/// What a simulated network may put in the place of a [`TcpStream`].
pub trait Stream:
    AsyncRead + AsyncWrite + Connected<ConnectInfo = TcpConnectInfo> + Send + Unpin + 'static
{
}

impl<S> Stream for S where
    S: AsyncRead + AsyncWrite + Connected<ConnectInfo = TcpConnectInfo> + Send + Unpin + 'static
{
}

/// The connections that come in through `listener`.
pub(crate) fn incoming(
    listener: TcpListener,
) -> impl futures_util::Stream<Item = io::Result<TcpStream>> {
    futures_util::stream::unfold(listener, |listener| async move {
        loop {
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => return Some((Err(error), listener)),
            };
            // Without it small answers wait for the acknowledgement of earlier ones.
            match stream.set_nodelay(true) {
                Ok(()) => return Some((Ok(stream), listener)),
                Err(error) => tracing::debug!(%error, "a connection broke as it opened"),
            }
        }
    })
}

/// Those of the `incoming` connections that are taken up.
pub(crate) fn accept<S: Stream>(
    incoming: impl futures_util::Stream<Item = io::Result<S>> + Send + 'static,
    connections: Arc<Connections>,
    most: usize,
    greeting: Duration,
) -> impl futures_util::Stream<Item = io::Result<Connection<S>>> {
    futures_util::stream::unfold(
        (Box::pin(incoming), connections, false),
        move |(mut incoming, connections, mut told)| async move {
            loop {
                // One line for each time that something begins to stand in the way, not for each connection.
                match incoming.next().await? {
                    Ok(stream) => {
                        if let Some(connection) = connections.admit(stream, most, greeting) {
                            return Some((Ok(connection), (incoming, connections, false)));
                        }
                        if !told {
                            tracing::warn!(most, "refusing connections: too many are open");
                            told = true;
                        }
                    }
                    Err(error) => {
                        if !told {
                            tracing::warn!(%error, "could not accept a connection");
                            told = true;
                        }
                        // The next attempt would fail as soon.
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        },
    )
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection<S> {
    stream: S,
    id: u64,
    line: Arc<Line>,
    connections: Arc<Connections>,
    part: Arc<Part>,
    /// The bytes that came so far and when there must be enough; `None` once there are.
    greeting: Option<(usize, Pin<Box<Sleep>>)>,
}

impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        self.connections.lines().remove(&self.id);
        self.connections.total.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What requests know of the connection that they came through.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    addresses: TcpConnectInfo,
    part: Arc<Part>,
}

impl Peer {
    /// That of the request with these extensions, where the transport puts it.
    pub(crate) fn of(extensions: &Extensions) -> Option<&Peer> {
        let secured = || extensions.get::<TlsConnectInfo<Peer>>();
        extensions
            .get()
            .or_else(|| secured().map(TlsConnectInfo::get_ref))
    }

    /// Where the client reached the server.
    pub(crate) fn local_addr(&self) -> Option<SocketAddr> {
        self.addresses.local_addr()
    }

    /// What of the requests that are arriving came through the connection.
    pub(crate) fn part(&self) -> &Arc<Part> {
        &self.part
    }
}

impl<S: Stream> Connected for Connection<S> {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        Peer {
            addresses: self.stream.connect_info(),
            part: Arc::clone(&self.part),
        }
    }
}

impl<S: Stream> AsyncRead for Connection<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let result = Pin::new(&mut this.stream).poll_read(cx, buf);
        if result.is_pending() {
            this.line.reader.register(cx.waker());
        }
        if this.line.cut.load(Ordering::Acquire) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        let Some((received, deadline)) = &mut this.greeting else {
            return result;
        };
        *received = received.saturating_add(buf.filled().len().saturating_sub(before));
        if *received >= GREETING {
            this.greeting = None;
            return result;
        }
        if deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        result
    }
}

impl<S: Stream> AsyncWrite for Connection<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
