//! [`Hall`]: what all participants in one client share: what a view says to one of them, and the
//! Txns that publish a round and delete a key.

use std::sync::Arc;
use std::time::Duration;

use synod_store::{Compare, DeleteRequest, Key, KeyRange, PutRequest, Revision, Store, Txn};

use crate::settle::Settle;
use crate::sight::{LastingSight, View};
use crate::{Client, Error, Result, retry};

/// The most keys that are compared when the round is published, within etcd's limit of a Txn.
const COMPARED: usize = 100;

/// What all participants of one double barrier in one client share.
#[derive(Debug)]
pub(in crate::double_barrier) struct Hall {
    name: Key,
    pub(super) waiters: Key,
    pub(super) ready: Key,
    pub(super) store: Arc<dyn Store>,
    pub(super) settle: Settle,
    pub(super) patience: Duration,
    pub(super) sight: LastingSight,
}

/// The own key, and when it was created.
#[derive(Debug, Clone)]
pub(super) struct Own {
    pub(super) key: Key,
    pub(super) created: Revision,
}

/// What a view says to one who waits.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Lost,
    Full(Revision),
    /// All are there, and nobody has said so.
    Publish {
        /// Whether the own key completed them.
        last: bool,
        /// The view's revision.
        seen: Revision,
        /// When `ready` was put last.
        ready: Revision,
        /// Who they are.
        counted: Vec<(Revision, Key)>,
    },
}

impl Hall {
    pub(in crate::double_barrier) fn of(client: &Client, name: &Key) -> Arc<Hall> {
        client.registry().get("double-barrier/go", name, || {
            let (waiters, ready) = (name.join("/waiters"), name.join("/ready"));
            let range = match KeyRange::prefix(waiters.clone()) {
                KeyRange::Between(_, end) => KeyRange::between(ready.clone(), end),
                _ => KeyRange::from(ready.clone()),
            };
            let store = client.shared_store();
            Hall {
                name: name.clone(),
                sight: LastingSight::new(Arc::clone(&store), range, client.timeout()),
                waiters,
                ready,
                store,
                settle: client.settle(),
                patience: client.timeout(),
            }
        })
    }

    pub(super) fn too_many(&self, count: usize) -> Error {
        Error::TooManyParticipants {
            name: self.name.to_string(),
            count: u64::try_from(count).unwrap_or(u64::MAX),
        }
    }

    /// The waiters by create revision, with their modification revisions.
    pub(super) fn waiters(&self, view: &View) -> Vec<(Revision, Revision, Key)> {
        let mut waiters: Vec<_> = view
            .kvs
            .values()
            .filter(|kv| kv.key.starts_with(self.waiters.as_bytes()))
            .map(|kv| (kv.create_revision, kv.mod_revision, kv.key.clone()))
            .collect();
        waiters.sort();
        waiters
    }

    pub(super) fn step(&self, view: &View, own: &Own, count: usize) -> Option<Step> {
        if view.revision < own.created {
            return None;
        }
        let ready = view.modified(&self.ready);
        let waiters = self.waiters(view);
        let own_there =
            |(created, _, key): &(_, _, Key)| *created == own.created && *key == own.key;
        if !waiters.iter().any(own_there) {
            return Some(Step::Lost);
        }
        if ready > own.created {
            return Some(Step::Full(ready));
        }
        let counted: Vec<_> = waiters
            .into_iter()
            .map(|(created, _, key)| (created, key))
            .filter(|(created, _)| *created > ready)
            .take(count)
            .collect();
        let mine = counted.iter().position(|(_, key)| *key == own.key);
        (counted.len() >= count).then_some(Step::Publish {
            last: mine == count.checked_sub(1),
            seen: view.revision,
            ready,
            counted,
        })
    }

    /// Says that all are there, if they still are. `None` when something has changed.
    pub(super) async fn publish(
        &self,
        own: &Own,
        ready: Revision,
        counted: &[(Revision, Key)],
    ) -> Result<Option<Revision>> {
        let others = counted
            .iter()
            .filter(|(_, key)| *key != own.key)
            .rev()
            .take(COMPARED);
        let txn = Txn::new()
            .when([
                Compare::created_at(own.key.clone(), own.created),
                Compare::modified_at(self.ready.clone(), ready),
            ])
            .when(others.map(|(created, key)| Compare::created_at(key.clone(), *created)))
            .and_then([PutRequest::new(self.ready.clone(), "")]);
        // A second copy finds another modification revision; what the first did is seen then.
        let response = retry::read(self.patience, || self.store.txn(txn.clone())).await?;
        Ok(response.succeeded.then_some(response.header.revision))
    }

    /// Deletes the own key, and the flag if it is as seen. Returns whether the key was still there, if
    /// that is known: a Txn that was sent again may have found what it did itself.
    pub(super) async fn delete(&self, own: &Own, flag: Option<Revision>) -> Result<Option<bool>> {
        let mut txn = Txn::new()
            .when([Compare::created_at(own.key.clone(), own.created)])
            .and_then([DeleteRequest::new(own.key.clone())]);
        if let Some(ready) = flag {
            txn = txn.and_then([Txn::new()
                .when([Compare::modified_at(self.ready.clone(), ready)])
                .and_then([DeleteRequest::new(self.ready.clone())])]);
        }
        let mut again = None;
        let send = || {
            again = Some(again.is_some());
            self.store.txn(txn.clone())
        };
        let response = retry::read(self.patience, send).await?;
        let known = response.succeeded || again == Some(false);
        Ok(known.then_some(response.succeeded))
    }
}
