//! [`beside_go!`](crate::beside_go): one test on a real etcd and on `synod serve`, where Go
//! programs and Rust programs use the same keys.
//!
//! ```text
//! beside_go! {
//!     async fn what_go_pushes_rust_pops(beside: Beside) {
//!         beside.go().ok(&["queue.push", "q", "hello"]).await;
//!         assert_eq!(beside.client().await.queue("q").dequeue().await.unwrap(), "hello");
//!     }
//! }
//! ```
//!
//! makes the tests `what_go_pushes_rust_pops::etcd` and `::synod`. Each has a server of its own: Go's
//! barrier up to 3.5.33 sleeps for ever when anybody writes between its hold and its wait.

use std::fmt::Display;
use std::future::Future;
use std::path::PathBuf;
use std::time::Duration;

use synod::Client;
use tokio::task::JoinHandle;

use super::{Go, NO_GO, program};
use crate::cli::{Home, Served};
use crate::etcd::{Etcd, EtcdConfig, NO_ETCD, http_get};
use crate::{skip, wait};

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A real etcd of one node. (With several, a Go STM can read a revision that a member does not
    /// have yet, and fails.)
    Etcd,
    /// `synod serve` on a directory.
    Synod,
}

#[derive(Debug)]
enum Server {
    Etcd(Etcd),
    // In the order in which they end.
    Synod(
        Served,
        #[expect(dead_code, reason = "kept until the test ends")] Home,
    ),
}

/// A server on which Go programs and Rust programs meet, for one test.
#[derive(Debug)]
pub struct Beside {
    server: Server,
    program: PathBuf,
}

impl Beside {
    /// Starts the server; the reason when this machine cannot.
    ///
    /// # Errors
    ///
    /// When there is no Go, or no etcd and it is needed.
    ///
    /// # Panics
    ///
    /// When something does not start.
    pub async fn new(kind: Kind) -> Result<Beside, &'static str> {
        let program = program().await.ok_or(NO_GO)?;
        let server = match kind {
            Kind::Etcd => {
                // One node elects itself: the sooner the better.
                let config = EtcdConfig::new()
                    .flag("--heartbeat-interval=10")
                    .flag("--election-timeout=100");
                Server::Etcd(Etcd::start(config).await.ok_or(NO_ETCD)?)
            }
            Kind::Synod => {
                let home = Home::new();
                let data = home.data().display().to_string();
                let args = ["--data", &data, "--listen", "127.0.0.1:0"];
                Server::Synod(Served::start(&home, &args).await, home)
            }
        };
        Ok(Beside { server, program })
    }

    /// Where the server listens.
    #[must_use]
    pub fn url(&self) -> String {
        match &self.server {
            Server::Etcd(etcd) => etcd.url(),
            Server::Synod(served, _) => served.url.clone(),
        }
    }

    /// How many watchers the server has; none when it does not say.
    ///
    /// # Panics
    ///
    /// When its address is none.
    pub async fn watchers(&self) -> Option<u64> {
        let url = self.url();
        let address = url.trim_start_matches("http://").parse();
        let page = http_get(address.expect("an address"), "/metrics")
            .await
            .ok()?;
        let mut lines = page.lines();
        lines.find_map(|line| {
            line.strip_prefix("etcd_debugging_mvcc_watcher_total ")?
                .parse()
                .ok()
        })
    }

    /// A new Go program.
    #[must_use]
    pub fn go(&self) -> Go {
        Go::start(&self.program, &self.url())
    }

    /// A new client of ours.
    ///
    /// # Panics
    ///
    /// When it cannot connect.
    pub async fn client(&self) -> Client {
        Client::connect(self.url()).await.expect("a connection")
    }
}

/// Runs a test on a server, in a runtime of its own and for a bounded time.
///
/// # Panics
///
/// When the test does, or does not end.
pub fn run<F: Future<Output = ()>>(kind: Kind, test: impl FnOnce(Beside) -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("a test").to_string();
    runtime.block_on(async {
        match Beside::new(kind).await {
            Ok(beside) => wait::within(wait::TEST_LIMIT, name, test(beside)).await,
            Err(why) => skip::report(why),
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
}

/// A future that runs from now on, and must go on running for a while: it waits.
///
/// # Panics
///
/// When it ends.
pub async fn waits<T: Send + 'static>(
    what: impl Display,
    future: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    let mut task = tokio::spawn(future);
    let ended = tokio::time::timeout(super::peer::A_WHILE, &mut task).await;
    assert!(ended.is_err(), "{what} does not wait");
    task
}

/// Makes a test for both servers of each `async fn name(beside: Beside) { .. }`. See
/// [`Beside`].
#[macro_export]
macro_rules! beside_go {
    ($($(#[$meta:meta])* async fn $name:ident($($beside:tt)+) $body:block)+) => {
        $($(#[$meta])*
        mod $name {
            use super::*;

            async fn test($($beside)+) $body

            #[test]
            fn etcd() {
                $crate::go::run($crate::go::Kind::Etcd, test);
            }

            #[test]
            fn synod() {
                $crate::go::run($crate::go::Kind::Synod, test);
            }
        })+
    };
}
