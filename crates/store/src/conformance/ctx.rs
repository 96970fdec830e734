//! [`Ctx`]: what a case asks its store with, under a prefix of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt;

use crate::{
    DeleteRequest, DeleteResponse, Event, Key, KeyRange, KeyValue, LeaseGrantRequest, LeaseId,
    PutRequest, RangeRequest, RangeResponse, Result, Revision, Store, Txn, TxnResponse, Watch,
    WatchItem, WatchRequest,
};

use super::check::{Checked, Failure};
use super::factory::{Factory, Instance};

/// How long a case waits for what must come.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A store, and a part of it that belongs to one case.
#[derive(Debug)]
pub struct Ctx {
    /// The store under test.
    pub store: Arc<dyn Store>,
    prefix: Key,
    life: Option<(Arc<dyn Factory>, Instance)>,
}

impl Ctx {
    /// A part of `store` for the case `name`.
    pub(super) fn new(store: Arc<dyn Store>, name: &str) -> Ctx {
        let unique: u64 = rand::random();
        Ctx {
            store,
            prefix: Key::from(format!("case/{name}/{unique:016x}/")),
            life: None,
        }
    }

    /// The same, knowing how its store is closed and opened.
    pub(super) fn living(mut self, factory: Arc<dyn Factory>, instance: Instance) -> Ctx {
        self.life = Some((factory, instance));
        self
    }

    /// Closes the store and opens it again.
    pub(super) async fn restart(self) -> Checked<Ctx> {
        let Ctx {
            store,
            prefix,
            life,
        } = self;
        let (factory, instance) = life.ok_or_else(|| Failure::new("nothing to restart"))?;
        // The instance is the only one left that holds the store.
        drop(store);
        let instance = factory.restart(instance).await?;
        Ok(Ctx {
            store: Arc::clone(&instance.store),
            prefix,
            life: Some((factory, instance)),
        })
    }

    /// A key of this case.
    pub(super) fn key(&self, name: impl AsRef<[u8]>) -> Key {
        self.prefix.join(name)
    }

    /// One key of this case.
    pub(super) fn one(&self, name: impl AsRef<[u8]>) -> KeyRange {
        KeyRange::One(self.key(name))
    }

    /// The keys of this case from one name to another.
    pub(super) fn between(&self, start: &str, end: &str) -> KeyRange {
        KeyRange::Between(self.key(start), self.key(end))
    }

    /// The keys of this case that start with `name`; all of them for an empty one.
    pub(super) fn prefix(&self, name: &str) -> KeyRange {
        KeyRange::prefix(self.key(name))
    }

    /// All keys of this case.
    pub(super) fn all(&self) -> KeyRange {
        self.prefix("")
    }

    /// A key's name within the case.
    pub(super) fn name_of(&self, key: &Key) -> String {
        let name = key.strip_prefix(self.prefix.as_bytes());
        String::from_utf8_lossy(name.unwrap_or(key)).into_owned()
    }

    /// The names of pairs within the case.
    pub(super) fn names(&self, kvs: &[KeyValue]) -> Vec<String> {
        kvs.iter().map(|kv| self.name_of(&kv.key)).collect()
    }

    /// The store's revision.
    pub(super) async fn revision(&self) -> Result<Revision> {
        let response = self.range(RangeRequest::new(self.one("none"))).await?;
        Ok(response.header.revision)
    }

    pub(super) async fn range(&self, request: RangeRequest) -> Result<RangeResponse> {
        self.store.range(request).await
    }

    /// Reads everything of the case.
    pub(super) async fn everything(&self) -> Result<RangeResponse> {
        self.range(RangeRequest::new(self.all())).await
    }

    /// Reads one key.
    pub(super) async fn get(&self, name: &str) -> Result<Option<KeyValue>> {
        let response = self.range(RangeRequest::new(self.one(name))).await?;
        Ok(response.kvs.into_iter().next())
    }

    /// Reads one key that must be there.
    #[track_caller]
    pub(super) fn existing(&self, name: &str) -> impl Future<Output = Checked<KeyValue>> {
        let missing = Failure::new(format!("the key {name} should exist"));
        async move { self.get(name).await?.ok_or(missing) }
    }

    /// A put under the case's prefix.
    pub(super) fn putting(&self, name: &str, value: impl Into<Bytes>) -> PutRequest {
        PutRequest::new(self.key(name), value)
    }

    /// Puts, and gives the revision.
    pub(super) async fn put(&self, name: &str, value: &str) -> Result<Revision> {
        self.put_request(self.putting(name, value.to_string()))
            .await
    }

    /// Puts with a lease.
    pub(super) async fn put_leased(
        &self,
        name: &str,
        value: &str,
        lease: LeaseId,
    ) -> Result<Revision> {
        self.put_request(self.putting(name, value.to_string()).with_lease(lease))
            .await
    }

    pub(super) async fn put_request(&self, request: PutRequest) -> Result<Revision> {
        Ok(self.store.put(request).await?.header.revision)
    }

    /// Puts a value of the same text under each name.
    pub(super) async fn put_all(&self, names: &[&str]) -> Result<()> {
        for name in names {
            self.put(name, name).await?;
        }
        Ok(())
    }

    /// Deletes.
    pub(super) async fn delete(&self, range: KeyRange) -> Result<DeleteResponse> {
        self.store.delete(DeleteRequest::new(range)).await
    }

    pub(super) async fn txn(&self, txn: Txn) -> Result<TxnResponse> {
        self.store.txn(txn).await
    }

    /// Grants a lease of so many seconds.
    pub(super) async fn lease(&self, seconds: u64) -> Result<LeaseId> {
        let request = LeaseGrantRequest::new(Duration::from_secs(seconds));
        Ok(self.store.lease_grant(request).await?.id)
    }

    /// Begins a watch.
    pub(super) async fn watch(&self, request: WatchRequest) -> Result<Events> {
        Ok(Events {
            watch: self.store.watch(request).await?,
            ready: Vec::new(),
        })
    }

    /// Watches all keys of the case from a revision on.
    pub(super) async fn watch_from(&self, revision: Revision) -> Result<Events> {
        self.watch(WatchRequest::new(self.all()).starting_at(revision))
            .await
    }
}

/// A watch, read with patience but not for ever.
#[derive(Debug)]
pub(super) struct Events {
    pub(super) watch: Watch,
    /// Events of a batch that were not asked for yet.
    ready: Vec<Event>,
}

impl Events {
    /// The next item.
    #[track_caller]
    pub(super) fn item(&mut self) -> impl Future<Output = Checked<WatchItem>> {
        let late = Failure::new(format!("the watch yields nothing within {PATIENCE:?}"));
        let ended = Failure::new("the watch ended");
        let broken = Failure::new("the watch broke");
        async move {
            match tokio::time::timeout(PATIENCE, self.watch.next()).await {
                Err(_) => Err(late),
                Ok(None) => Err(ended),
                Ok(Some(Err(error))) => {
                    Err(Failure::new(format!("{}: {error:?}", broken.message())))
                }
                Ok(Some(Ok(item))) => Ok(item),
            }
        }
    }

    /// The next batch of events, without any progress before it.
    #[track_caller]
    pub(super) fn batch(&mut self) -> impl Future<Output = Checked<Vec<Event>>> {
        let item = self.item();
        let wrong = Failure::new("expected events");
        async move {
            match item.await? {
                WatchItem::Events(batch) => {
                    let last = batch.events.last().map(|event| event.kv.mod_revision);
                    if last.is_none_or(|last| batch.revision < last) {
                        return Err(Failure::new(format!(
                            "a batch with the revision {} ends with an event of {last:?}",
                            batch.revision
                        )));
                    }
                    Ok(batch.events)
                }
                other => Err(Failure::new(format!(
                    "{}, found {other:?}",
                    wrong.message()
                ))),
            }
        }
    }

    /// The next `count` events, in whatever batches they come.
    pub(super) async fn events(&mut self, count: usize) -> Checked<Vec<Event>> {
        while self.ready.len() < count {
            let batch = self.batch().await?;
            self.ready.extend(batch);
        }
        let rest = self.ready.split_off(count);
        Ok(std::mem::replace(&mut self.ready, rest))
    }

    /// The next event.
    pub(super) async fn event(&mut self) -> Checked<Event> {
        let mut events = self.events(1).await?;
        events.pop().ok_or_else(|| Failure::new("no event"))
    }

    /// Waits until the watch says that it has told everything up to `revision`; a failure when it
    /// tells of any event first. Asks again and again: a store may answer a request for progress
    /// with less than that, or lose it.
    pub(super) async fn silent_until(&mut self, revision: Revision) -> Checked {
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE / 2 {
            self.watch.request_progress();
            match tokio::time::timeout(Duration::from_millis(200), self.watch.next()).await {
                Err(_) => {}
                Ok(Some(Ok(WatchItem::Progress(at)))) if at >= revision => return Ok(()),
                Ok(Some(Ok(WatchItem::Progress(_)))) => {}
                Ok(other) => {
                    return Err(Failure::new(format!("expected progress, found {other:?}")));
                }
            }
        }
        Err(Failure::new(format!(
            "no progress up to {revision} within {:?}",
            PATIENCE / 2
        )))
    }
}
