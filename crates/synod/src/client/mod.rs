//! [`Client`]: one connection to a store, and everything that is made from it.

mod open;
mod options;
mod url;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use synod_store::{ErrorKind, Key, Namespace, Store};

use crate::clock::Clock;
use crate::layout;
use crate::linger::Linger;
use crate::queue::Queue;
use crate::registry::Registry;
use crate::session::{Session, SessionBuilder, Shared};
use crate::settle::{self, Settle};
use crate::sight::Sight;
use crate::span::traced;
use crate::waiters::Vigils;
use crate::{Error, Resolution, Result, Token};

use options::Settings;
pub use options::{ConnectOptions, TlsOptions};
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use url::Address;

/// A store, and the primitives on it. Handles are cheap to clone; they share one connection.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> { tokio::runtime::Runtime::new()?.block_on(async {
/// let client = synod::Client::connect("memory:").await?;
/// client.queue("jobs").enqueue("hello").await?;
/// client.close().await?;
/// # Ok(()) }) }
/// ```
///
/// # Runtimes
///
/// A client may be used from several Tokio runtimes. What its callers share (a watch, the claims of a
/// queue, a commit) runs on the runtime of the caller who began it. When that one *ends*, the others begin
/// anew; while it only *stands still*, as a current-thread runtime does outside of `block_on`, those who
/// wait for what it carries wait with it. So give a runtime that is not always driven a client of its own. The
/// client's own session is kept by the runtime in which it was first needed, and is lost with it.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    settings: Settings,
    settle: Settle,
    session: Shared,
    vigils: Vigils,
    registry: Registry,
    /// The watches under which somebody waited last.
    lingering: Arc<Linger<Sight>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.settle.abandon();
    }
}

impl Client {
    /// Connects to the store that the URL names:
    ///
    /// - `http://HOST:PORT,http://HOST:PORT...`, or with `https`: an etcd cluster. No scheme means
    ///   http, no port 2379. Feature `etcd`.
    /// - `file:PATH`: an embedded store that lasts, in the directory `PATH`; one process at a time.
    ///   Feature `embedded`.
    /// - `memory:`: an embedded store that keeps nothing; each connect makes a new one. Feature
    ///   `embedded`.
    ///
    /// # Cancel safety
    ///
    /// A connect that is dropped leaves nothing behind.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidUrl`](crate::Error::InvalidUrl) for any other form,
    /// [`Error::FeatureMissing`](crate::Error::FeatureMissing) for a store that this program was
    /// built without, else what the store answered.
    pub async fn connect(url: impl AsRef<str>) -> Result<Client> {
        ConnectOptions::new(url).connect().await
    }

    /// A client to be, with options: await it.
    pub fn builder(url: impl AsRef<str>) -> ConnectOptions {
        ConnectOptions::new(url)
    }

    async fn open(options: ConnectOptions) -> Result<Client> {
        let store = open::open(&options).await?;
        Ok(Client::assemble(store, options.settings))
    }

    /// A client of a store that is open already; with options: [`ConnectOptions::over`].
    #[must_use]
    pub fn from_store(store: Arc<dyn Store>) -> Client {
        Client::assemble(store, Settings::default())
    }

    fn assemble(store: Arc<dyn Store>, settings: Settings) -> Client {
        let store: Arc<dyn Store> = if settings.namespace.is_empty() {
            store
        } else {
            Arc::new(Namespace::new(store, settings.namespace.clone()))
        };
        let settle = Settle::new(
            Arc::clone(&store),
            settle::Settings {
                prefix: settings.system_prefix.clone(),
                patience: settings.timeout,
                clock: Arc::clone(&settings.clock),
            },
        );
        Client {
            inner: Arc::new(Inner {
                vigils: Vigils::new(Arc::clone(&store)),
                store,
                settings,
                settle,
                session: Shared::default(),
                registry: Registry::default(),
                lingering: Arc::default(),
            }),
        }
    }

    /// The store, seen through the client's namespace.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }

    /// The queue of this name. Asks nobody: a queue exists as long as it holds something.
    ///
    /// Objects of different kinds need [different names](crate::guide#names).
    ///
    /// Handles of one name in one client share their reading, so that their callers do not compete.
    #[must_use]
    pub fn queue(&self, name: impl Into<Key>) -> Queue {
        Queue::new(self.clone(), name.into())
    }

    /// A session to be: await it. See [`Session`].
    pub fn session(&self) -> SessionBuilder {
        Session::builder(self)
    }

    /// Tells what became of an operation whose outcome was [unknown](crate::Error::Unknown), and
    /// makes sure that it stays so: an operation that has not happened never will.
    ///
    /// The token may come from another process, whose client has died. One round trip or two. It says
    /// nothing of the store that it belongs to: a client of another store, namespace or system prefix
    /// finds no record, and may answer that the operation never will happen.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing, but the operation may have been prevented.
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`](crate::Error::Unknown) again, when the store cannot be reached for the
    /// client's timeout.
    pub async fn resolve(&self, token: &Token) -> Result<Resolution> {
        traced!("synod.client.resolve", async move {
            self.inner.settle.resolve(token).await
        })
        .await
    }

    /// Ends the client in good order: waits for what is under way (at most the client's timeout),
    /// and deletes its own records. Without it they go when their lease ends, or are swept by a
    /// later client; and a runtime that is shut down may take an item with it that was being put
    /// back. The client's own session ends too, and with it what its locks and the like still hold;
    /// sessions that were made with [`Client::session`] are closed on their own.
    ///
    /// Other handles of the client stay usable, and whoever waits through one of them goes on waiting
    /// (locks, elections, semaphores and double barriers end with the session): such waits are among what
    /// is under way, so end them first.
    ///
    /// # Cancel safety
    ///
    /// When this is dropped, records may stay behind as above.
    ///
    /// # Errors
    ///
    /// What the store answered; the client has ended all the same.
    pub async fn close(self) -> Result<()> {
        traced!("synod.client.close", async move {
            let settled = self.inner.settle.close().await;
            let session = self.inner.session.close().await;
            settled.and(session)
        })
        .await
    }

    /// The client's own session, which its primitives share unless they are given another. It lives
    /// at this moment: when the last one was lost, this begins a new one.
    pub(crate) async fn own_session(&self) -> Result<Session> {
        let builder = self.session().ttl(self.inner.settings.session_ttl);
        self.inner.session.get(builder).await
    }

    /// What this client says of itself in the keys that it holds.
    pub(crate) fn identity(&self) -> Bytes {
        self.inner.settings.identity.clone()
    }

    /// The prefix of an object's own keys; see [`crate::layout`].
    pub(crate) fn own_prefix(&self, kind: &str, name: &Key) -> Key {
        layout::own(self.system_prefix(), kind, name)
    }

    /// What went wrong with Synod's own keys; a permission that is missing says which.
    pub(crate) fn about_own_keys(&self, error: Error) -> Error {
        match error {
            Error::Store(source) if source.kind() == ErrorKind::PermissionDenied => {
                let prefix = self.system_prefix().to_owned();
                Error::SystemPrefixDenied { prefix, source }
            }
            other => other,
        }
    }

    /// An error if the name lies where Synod keeps its own keys.
    pub(crate) fn check_name(&self, name: &Key) -> Result<()> {
        let prefix = self.system_prefix();
        if !prefix.is_empty() && name.join("/").starts_with(prefix.as_bytes()) {
            return Err(Error::ReservedName {
                name: name.to_string(),
                prefix: prefix.to_owned(),
            });
        }
        Ok(())
    }

    pub(crate) fn shared_store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.inner.store)
    }

    pub(crate) fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.inner.settings.clock)
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.inner.settings.timeout
    }

    pub(crate) fn system_prefix(&self) -> &str {
        &self.inner.settings.system_prefix
    }

    /// The watches that outlive their last waiter for a moment.
    pub(crate) fn lingering(&self) -> &Arc<Linger<Sight>> {
        &self.inner.lingering
    }

    /// The watches of single keys, which the client's waiters and holders share.
    pub(crate) fn vigils(&self) -> &Vigils {
        &self.inner.vigils
    }

    pub(crate) fn settle(&self) -> Settle {
        self.inner.settle.clone()
    }

    /// What handles of one object share in this client.
    pub(crate) fn registry(&self) -> &Registry {
        &self.inner.registry
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("store", &self.inner.store)
            .field("settings", &self.inner.settings)
            .finish_non_exhaustive()
    }
}
