//! The simulated network's streams as the server and the clients want them.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use synod_etcd::Connector;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::{Connected, TcpConnectInfo};
use turmoil::net::{TcpListener, TcpStream};

use crate::world::World;

/// A connection that the server has accepted.
pub(crate) struct Accepted(TcpStream);

impl Connected for Accepted {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        TcpConnectInfo {
            local_addr: self.0.local_addr().ok(),
            remote_addr: self.0.peer_addr().ok(),
        }
    }
}

/// The connections of a listener, as they come.
pub(crate) fn incoming(
    listener: TcpListener,
) -> impl futures_util::Stream<Item = io::Result<Accepted>> + Send + 'static {
    futures_util::stream::unfold(listener, async |listener| {
        let accepted = listener.accept().await;
        Some((accepted.map(|(stream, _)| Accepted(stream)), listener))
    })
}

/// Where the server listens.
pub(crate) fn address() -> SocketAddr {
    SocketAddr::from(([0, 0, 0, 0], 2379))
}

/// How a client connects: through connections that break on command.
pub(crate) fn connector(world: Arc<World>, client: usize) -> Connector {
    Connector::new(move |authority: String| {
        let world = Arc::clone(&world);
        Box::pin(async move {
            let stream = TcpStream::connect(authority).await?;
            let cuts = world.cuts(client);
            let connection = Connection {
                stream,
                world,
                client,
                cuts,
                broken: false,
            };
            Ok(Box::new(connection) as Box<dyn synod_etcd::Connection>)
        })
    })
}

/// A client's connection.
struct Connection {
    stream: TcpStream,
    world: Arc<World>,
    client: usize,
    cuts: u64,
    broken: bool,
}

impl Connection {
    fn check(&mut self) -> io::Result<()> {
        if !self.broken && self.world.cuts(self.client) != self.cuts {
            self.broken = true;
            self.world.note_cut_connection();
        }
        if self.broken {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check()?;
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.stream).poll_read(cx, buffer);
        let answered = result.is_ready() && buffer.filled().len() > before;
        if answered && self.world.loses_reply(self.client) {
            buffer.set_filled(before);
            self.broken = true;
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        result
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
