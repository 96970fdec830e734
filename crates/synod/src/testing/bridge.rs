//! A TCP bridge between a client and a server, which breaks the network on command.
//!
//! It forwards bytes and knows nothing of what they mean. A test that wants *this* reply lost
//! swallows replies, sends its request, sees over another way that the server has applied it, and
//! then resets the connection: no timing is involved. TLS passes as it is.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

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

/// A loopback port that stays this bridge's own while it refuses connections.
#[derive(Debug)]
struct Reserved {
    address: SocketAddr,
    /// Bound, but not listening: who connects is refused, and the system gives the port to nobody else.
    _socket: TcpSocket,
}

impl Reserved {
    fn with_listener() -> io::Result<(Reserved, TcpListener)> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = socket.local_addr()?;
        let listener = listen(address)?;
        let reserved = Reserved {
            address,
            _socket: socket,
        };
        Ok((reserved, listener))
    }
}

/// Listens at a port that a [`Reserved`] holds.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}

/// A bridge to one server. It ends, with its connections, when it is dropped.
#[derive(Debug)]
pub struct Bridge {
    shared: Arc<Shared>,
    port: Reserved,
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
    /// # Cancel safety
    ///
    /// It does not wait.
    ///
    /// # Panics
    ///
    /// When it cannot listen.
    #[expect(clippy::expect_used, reason = "a test without a port cannot go on")]
    pub async fn start(upstream: SocketAddr) -> Bridge {
        let (port, listener) = Reserved::with_listener().expect("a loopback port to listen at");
        let shared = Arc::new(Shared {
            upstream,
            mode: watch::Sender::default(),
            ends: watch::Sender::default(),
            open: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
            requested: AtomicU64::new(0),
            replied: AtomicU64::new(0),
        });
        let task = tokio::spawn(accept(Arc::clone(&shared), listener, port.address));
        Bridge { shared, port, task }
    }

    /// A bridge to the server at a URL such as `http://127.0.0.1:2379`.
    ///
    /// # Cancel safety
    ///
    /// It does not wait.
    ///
    /// # Panics
    ///
    /// When the URL has no address and port, or the bridge cannot listen.
    #[expect(
        clippy::expect_used,
        reason = "a test with a wrong address cannot go on"
    )]
    pub async fn to(url: &str) -> Bridge {
        let address = url.rsplit('/').next().unwrap_or(url);
        Bridge::start(address.parse().expect("a URL with an address and a port")).await
    }

    /// Where clients connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address
    }

    /// Where clients connect to, without TLS. Only with
    /// [`with_member_sync(None)`](crate::ConnectOptions::with_member_sync): else a client learns the server's
    /// own address, and goes round the bridge.
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
            .send_modify(|(count, end)| (*count, *end) = (count.wrapping_add(1), how));
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
            None => match listen(address) {
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
        let piece = buffer.get(..read).ok_or(Broken)?;
        to.write_all(piece).await.map_err(|_| Broken)?;
        if direction == Direction::Request {
            counter.fetch_add(read as u64, Ordering::SeqCst);
        }
    }
}
