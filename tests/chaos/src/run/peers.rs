//! The network between the members: a bridge before each member's peer port, which cuts the flow of data
//! from one member to another, in one direction or both.
//!
//! All members reach one bridge the same way, so who is at the other end is asked of the system: which
//! member's process has the socket. A connection on which something was held back is reset when the
//! network heals: what was sent into a partition never arrives.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use synod_tests::ports::Port;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// From which member to which.
type Flow = (usize, usize);

/// The bridges before all members.
#[derive(Debug)]
pub(super) struct Peers {
    shared: Arc<Shared>,
    ports: Vec<Port>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    /// The flows that are cut.
    cut: watch::Sender<BTreeSet<Flow>>,
    held: AtomicU64,
    pids: Mutex<Vec<Option<u32>>>,
}

impl Peers {
    /// Bridges to these peer addresses.
    pub(super) async fn start(upstreams: Vec<SocketAddr>) -> anyhow::Result<Peers> {
        let shared = Arc::new(Shared {
            cut: watch::Sender::default(),
            held: AtomicU64::new(0),
            pids: Mutex::new(vec![None; upstreams.len()]),
        });
        let (mut ports, mut tasks) = (Vec::new(), Vec::new());
        for (to, upstream) in upstreams.into_iter().enumerate() {
            let port = Port::reserve();
            let listener = TcpListener::bind(port.address()).await?;
            tasks.push(tokio::spawn(accept(
                Arc::clone(&shared),
                listener,
                to,
                upstream,
            )));
            ports.push(port);
        }
        Ok(Peers {
            shared,
            ports,
            tasks,
        })
    }

    /// Where others reach a member.
    pub(super) fn address(&self, member: usize) -> SocketAddr {
        self.ports[member].address()
    }

    /// A member's process, which may be another after a restart.
    pub(super) fn set_pid(&self, member: usize, pid: u32) {
        let mut pids = self
            .shared
            .pids
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        pids[member] = Some(pid);
    }

    /// Cuts these flows, and no others. How many bytes were held back so far.
    pub(super) fn cut(&self, flows: impl IntoIterator<Item = Flow>) {
        self.shared.cut.send_replace(flows.into_iter().collect());
    }

    /// Bytes that cut flows have swallowed since the beginning.
    pub(super) fn held(&self) -> u64 {
        self.shared.held.load(Ordering::SeqCst)
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn accept(shared: Arc<Shared>, listener: TcpListener, to: usize, upstream: SocketAddr) {
    loop {
        let Ok((client, from)) = listener.accept().await else {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            continue;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let own = listener_port(&client);
            let pids = shared
                .pids
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone();
            let owner = tokio::task::spawn_blocking(move || owner(from.port(), own, &pids)).await;
            // A process that cannot be told has just died, and its connection with it.
            if let Ok(Some(from)) = owner {
                let _ = connection(&shared, client, upstream, from, to).await;
            }
        });
    }
}

fn listener_port(stream: &TcpStream) -> u16 {
    stream.local_addr().map_or(0, |address| address.port())
}

/// Which of the processes has the connection between these ports.
fn owner(from: u16, to: u16, pids: &[Option<u32>]) -> Option<usize> {
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let port = |field: &str| u16::from_str_radix(field.rsplit(':').next()?, 16).ok();
    let inode = table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (local, remote) = (port(fields.get(1)?)?, port(fields.get(2)?)?);
        (local == from && remote == to).then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
    })?;
    let socket = format!("socket:[{inode}]");
    pids.iter().position(|pid| {
        let Some(pid) = pid else { return false };
        let Ok(files) = std::fs::read_dir(format!("/proc/{pid}/fd")) else {
            return false;
        };
        files
            .flatten()
            .any(|file| std::fs::read_link(file.path()).is_ok_and(|to| *to == *socket))
    })
}

async fn connection(
    shared: &Shared,
    mut client: TcpStream,
    upstream: SocketAddr,
    from: usize,
    to: usize,
) -> std::io::Result<()> {
    let mut server = TcpStream::connect(upstream).await?;
    for stream in [&client, &server] {
        stream.set_nodelay(true)?;
    }
    {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let requests = pump(shared, (from, to), from_client, to_server);
        let answers = pump(shared, (to, from), from_server, to_client);
        let _ = tokio::try_join!(requests, answers);
    }
    let _ = client.set_zero_linger();
    let _ = server.set_zero_linger();
    Ok(())
}

/// Carries one direction; an error when the connection is to be reset.
async fn pump(
    shared: &Shared,
    flow: Flow,
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
) -> Result<(), ()> {
    let mut cut = shared.cut.subscribe();
    let mut buffer = vec![0; 32 * 1024];
    loop {
        let read = from.read(&mut buffer).await.map_err(|_| ())?;
        if cut.borrow_and_update().contains(&flow) {
            shared.held.fetch_add(read as u64, Ordering::SeqCst);
            cut.wait_for(|cut| !cut.contains(&flow))
                .await
                .map_err(|_| ())?;
            return Err(());
        }
        if read == 0 {
            let _ = to.shutdown().await;
            return Ok(());
        }
        to.write_all(&buffer[..read]).await.map_err(|_| ())?;
    }
}
