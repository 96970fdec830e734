//! A TCP bridge between a client and a server, which breaks the network on command.
//!
//! It forwards bytes and knows nothing of what they mean. A test that wants *this* reply lost
//! swallows replies, sends its request, sees over another way that the server has applied it, and
//! then resets the connection: no timing is involved.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::ports::Port;

/// What a bridge does with bytes and connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Forwards everything.
    #[default]
    Pass,
    /// Forwards every piece after this long. Pieces of one connection wait one after another.
    Delay(Duration),
    /// Takes connections and bytes, and keeps them: a black hole, until the mode changes; then
    /// they arrive, late.
    Hold,
    /// Holds what clients send; what the server sends passes.
    HoldRequests,
    /// Holds what the server sends; what clients send passes.
    HoldReplies,
    /// Forwards what clients send and throws away what the server sends. A connection that has lost
    /// something this way is reset as soon as anything else would pass through it.
    SwallowReplies,
    /// Resets a connection as soon as the server sends anything on it.
    ResetOnReply,
    /// Closes all connections and refuses new ones, as if nothing listened.
    Refuse,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Request,
    Reply,
}

impl Mode {
    fn holds(self, direction: Direction) -> bool {
        match self {
            Mode::Hold => true,
            Mode::HoldRequests => direction == Direction::Request,
            Mode::HoldReplies => direction == Direction::Reply,
            _ => false,
        }
    }
}

/// How connections end on command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum End {
    #[default]
    Close,
    Reset,
}

/// A bridge to one server. It ends, with its connections, when it is dropped.
#[derive(Debug)]
pub struct Bridge {
    shared: Arc<Shared>,
    port: Port,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    mode: watch::Sender<Mode>,
    /// Raised to end all connections that exist at that moment.
    ends: watch::Sender<(u64, End)>,
    open: AtomicUsize,
    accepted: AtomicUsize,
    requested: AtomicU64,
    replied: AtomicU64,
}

impl Bridge {
    /// A bridge to the server at `upstream`.
    ///
    /// # Panics
    ///
    /// When it cannot listen.
    pub async fn start(upstream: SocketAddr) -> Bridge {
        let port = Port::reserve();
        let listener = TcpListener::bind(port.address())
            .await
            .expect("the reserved port is free");
        let shared = Arc::new(Shared {
            upstream,
            mode: watch::Sender::default(),
            ends: watch::Sender::default(),
            open: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
            requested: AtomicU64::new(0),
            replied: AtomicU64::new(0),
        });
        let task = tokio::spawn(accept(Arc::clone(&shared), listener, port.address()));
        Bridge { shared, port, task }
    }

    /// A bridge to the server at a URL such as `http://127.0.0.1:2379`.
    ///
    /// # Panics
    ///
    /// When the URL has no address and port, or the bridge cannot listen.
    pub async fn to(url: &str) -> Bridge {
        let address = url.rsplit('/').next().unwrap_or(url);
        Bridge::start(address.parse().expect("a URL with an address and a port")).await
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Where clients connect to, without TLS.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Changes what happens from now on.
    pub fn set(&self, mode: Mode) {
        self.shared.mode.send_replace(mode);
        if mode == Mode::Refuse {
            self.end(End::Close);
        }
    }

    /// Ends all connections with a reset.
    pub fn reset(&self) {
        self.end(End::Reset);
    }

    /// Ends all connections in an orderly way.
    pub fn close(&self) {
        self.end(End::Close);
    }

    fn end(&self, how: End) {
        self.shared
            .ends
            .send_modify(|(count, end)| (*count, *end) = (*count + 1, how));
    }

    /// How many connections stand.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// How many connections were taken so far.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many bytes were forwarded to the server.
    #[must_use]
    pub fn requested_bytes(&self) -> u64 {
        self.shared.requested.load(Ordering::SeqCst)
    }

    /// How many bytes the server sent, forwarded or not.
    #[must_use]
    pub fn replied_bytes(&self) -> u64 {
        self.shared.replied.load(Ordering::SeqCst)
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        self.task.abort();
        self.end(End::Close);
    }
}

async fn accept(shared: Arc<Shared>, listener: TcpListener, address: SocketAddr) {
    let mut listener = Some(listener);
    let mut mode = shared.mode.subscribe();
    loop {
        if *mode.borrow_and_update() == Mode::Refuse {
            listener = None;
            if mode.changed().await.is_err() {
                return;
            }
            continue;
        }
        let open = match listener.take() {
            Some(open) => open,
            // The port is reserved: nobody else can hold it for more than a moment.
            None => match TcpListener::bind(address).await {
                Ok(open) => open,
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    continue;
                }
            },
        };
        let open = listener.insert(open);
        tokio::select! {
            taken = open.accept() => if let Ok((client, _)) = taken {
                shared.accepted.fetch_add(1, Ordering::SeqCst);
                let ends = shared.ends.subscribe();
                tokio::spawn(connection(Arc::clone(&shared), client, ends));
            },
            changed = mode.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

/// Counts a connection for as long as it stands.
struct Open<'a>(&'a AtomicUsize);

impl<'a> Open<'a> {
    fn new(count: &'a AtomicUsize) -> Open<'a> {
        count.fetch_add(1, Ordering::SeqCst);
        Open(count)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn connection(
    shared: Arc<Shared>,
    mut client: TcpStream,
    mut ends: watch::Receiver<(u64, End)>,
) {
    let _open = Open::new(&shared.open);
    let connected = tokio::select! {
        connected = TcpStream::connect(shared.upstream) => connected,
        _ = ends.changed() => return,
    };
    let Ok(mut server) = connected else {
        let _ = client.set_zero_linger();
        return;
    };
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
    }
    let reset = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let broken = AtomicBool::new(false);
        let requests = pump(&shared, Direction::Request, from_client, to_server, &broken);
        let replies = pump(&shared, Direction::Reply, from_server, to_client, &broken);
        tokio::select! {
            ended = async { tokio::try_join!(requests, replies) } => ended.is_err(),
            _ = ends.changed() => ends.borrow().1 == End::Reset,
        }
    };
    if reset {
        // Closing a socket that may not linger sends a reset.
        let _ = client.set_zero_linger();
        let _ = server.set_zero_linger();
    }
}

/// The connection is to be reset.
struct Broken;

/// Carries one direction until its end. `broken` is set once bytes of this connection are lost.
async fn pump(
    shared: &Shared,
    direction: Direction,
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    broken: &AtomicBool,
) -> Result<(), Broken> {
    let mut modes = shared.mode.subscribe();
    let mut buffer = vec![0; 64 * 1024];
    let counter = match direction {
        Direction::Request => &shared.requested,
        Direction::Reply => &shared.replied,
    };
    loop {
        let read = from.read(&mut buffer).await.map_err(|_| Broken)?;
        if direction == Direction::Reply {
            counter.fetch_add(read as u64, Ordering::SeqCst);
        }
        let mode = *modes
            .wait_for(|mode| !mode.holds(direction))
            .await
            .map_err(|_| Broken)?;
        if read == 0 {
            let _ = to.shutdown().await;
            return Ok(());
        }
        match (mode, direction) {
            (Mode::SwallowReplies, Direction::Reply) => {
                broken.store(true, Ordering::SeqCst);
                continue;
            }
            (Mode::ResetOnReply, Direction::Reply) => return Err(Broken),
            (Mode::Delay(time), _) => tokio::time::sleep(time).await,
            _ => {}
        }
        if mode != Mode::SwallowReplies && broken.load(Ordering::SeqCst) {
            return Err(Broken);
        }
        to.write_all(&buffer[..read]).await.map_err(|_| Broken)?;
        if direction == Direction::Request {
            counter.fetch_add(read as u64, Ordering::SeqCst);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wait;

    /// A server that counts what it is sent and sends it back.
    async fn echo() -> (SocketAddr, Arc<AtomicU64>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    let mut buffer = [0; 100];
                    while let Ok(read @ 1..) = stream.read(&mut buffer).await {
                        count.fetch_add(read as u64, Ordering::SeqCst);
                        if stream.write_all(&buffer[..read]).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
        (address, seen)
    }

    async fn exchange(stream: &mut TcpStream) -> std::io::Result<()> {
        stream.write_all(b"hello").await?;
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).await?;
        assert_eq!(&answer, b"hello");
        Ok(())
    }

    #[tokio::test]
    async fn what_is_held_arrives_late() {
        let (address, seen) = echo().await;
        let bridge = Bridge::start(address).await;
        let mut stream = TcpStream::connect(bridge.address()).await.unwrap();
        wait::soon("an answer", exchange(&mut stream))
            .await
            .unwrap();
        bridge.set(Mode::Hold);
        stream.write_all(b"later").await.unwrap();
        let mut answer = [0; 5];
        let early =
            tokio::time::timeout(Duration::from_millis(100), stream.read_exact(&mut answer));
        assert!(early.await.is_err());
        assert_eq!(seen.load(Ordering::SeqCst), 5);
        bridge.set(Mode::Pass);
        wait::soon("the late answer", stream.read_exact(&mut answer))
            .await
            .unwrap();
        assert_eq!(&answer, b"later");
        assert_eq!((bridge.connections(), bridge.accepted()), (1, 1));
        assert_eq!((bridge.requested_bytes(), bridge.replied_bytes()), (10, 10));
    }

    #[tokio::test]
    async fn a_swallowed_reply_was_served_and_never_comes() {
        let (address, seen) = echo().await;
        let bridge = Bridge::start(address).await;
        let mut stream = TcpStream::connect(bridge.address()).await.unwrap();
        bridge.set(Mode::SwallowReplies);
        stream.write_all(b"hello").await.unwrap();
        let served = || async { seen.load(Ordering::SeqCst) == 5 && bridge.replied_bytes() == 5 };
        wait::until("the request is served", served).await;
        bridge.set(Mode::Pass);
        let error = wait::soon("a reset", exchange(&mut stream))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        let mut stream = TcpStream::connect(bridge.address()).await.unwrap();
        wait::soon("an answer", exchange(&mut stream))
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn connections_are_reset_closed_and_refused_on_command() {
        let (address, _) = echo().await;
        let bridge = Bridge::start(address).await;
        for (end, expected) in [
            (
                Bridge::reset as fn(&Bridge),
                Err(std::io::ErrorKind::ConnectionReset),
            ),
            (Bridge::close, Ok(0)),
        ] {
            let mut stream = TcpStream::connect(bridge.address()).await.unwrap();
            wait::soon("an answer", exchange(&mut stream))
                .await
                .unwrap();
            end(&bridge);
            let read = wait::soon("the end", stream.read(&mut [0; 5])).await;
            assert_eq!(read.map_err(|error| error.kind()), expected);
        }
        bridge.set(Mode::Refuse);
        wait::until("connections are refused", || async {
            TcpStream::connect(bridge.address()).await.is_err()
        })
        .await;
        bridge.set(Mode::Pass);
        wait::until("connections are taken again", || async {
            match TcpStream::connect(bridge.address()).await {
                Ok(mut stream) => exchange(&mut stream).await.is_ok(),
                Err(_) => false,
            }
        })
        .await;
        bridge.set(Mode::ResetOnReply);
        let mut stream = TcpStream::connect(bridge.address()).await.unwrap();
        let error = wait::soon("a reset", exchange(&mut stream))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_delay_delays() {
        let (address, _) = echo().await;
        let bridge = Bridge::start(address).await;
        bridge.set(Mode::Delay(Duration::from_millis(50)));
        let mut stream = TcpStream::connect(bridge.address()).await.unwrap();
        let begin = std::time::Instant::now();
        wait::soon("an answer", exchange(&mut stream))
            .await
            .unwrap();
        assert!(begin.elapsed() >= Duration::from_millis(100));
    }
}
