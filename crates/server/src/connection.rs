//! One accepted connection: counted, held to beginning to speak, and cut when the server must end.
//!
//! The transport owns its connections and gives no handle on them, so what the server needs to know
//! and do sits between the socket and the transport.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::Stream;
use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;
use tonic::transport::server::{Connected, TcpConnectInfo};

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
    fn admit(
        self: &Arc<Self>,
        stream: TcpStream,
        most: usize,
        greeting: Duration,
    ) -> Option<Connection> {
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
            greeting: Some((0, Box::pin(tokio::time::sleep(greeting)))),
        })
    }
}

/// The connections that `listener` accepts.
pub(crate) fn accept(
    listener: TcpListener,
    connections: Arc<Connections>,
    most: usize,
    greeting: Duration,
) -> impl Stream<Item = io::Result<Connection>> {
    futures_util::stream::unfold(
        (listener, connections, false),
        move |(listener, connections, mut full)| async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        // Without it small answers wait for the acknowledgement of earlier ones.
                        if let Err(error) = stream.set_nodelay(true) {
                            tracing::debug!(%error, "a connection broke as it opened");
                            continue;
                        }
                        if let Some(connection) = connections.admit(stream, most, greeting) {
                            return Some((Ok(connection), (listener, connections, false)));
                        }
                        // One line for each time that the bound is reached, not for each refusal.
                        if !full {
                            tracing::warn!(most, "refusing connections: too many are open");
                            full = true;
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "could not accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        },
    )
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    id: u64,
    line: Arc<Line>,
    connections: Arc<Connections>,
    /// The bytes that came so far and when there must be enough; `None` once there are.
    greeting: Option<(usize, Pin<Box<Sleep>>)>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.connections.lines().remove(&self.id);
        self.connections.total.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
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

impl AsyncWrite for Connection {
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
