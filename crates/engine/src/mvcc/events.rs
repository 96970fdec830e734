//! Changes as watchers see them.

use synod_store::{Event, EventKind, Key, KeyValue, Revision};

use super::history::Version;
use super::state::State;

impl State {
    /// The event that the `index`th change of `revision` is, and with `prev` the pair before the revision. `None` when
    /// there is no such change.
    pub(crate) fn event(&self, revision: Revision, index: usize, prev: bool) -> Option<Event> {
        let key = self.changed_at(revision).get(index)?;
        let version = self.version_of(revision, index)?;
        // A key that was deleted and put within the revision is a new one: as in etcd, its put has no pair before.
        let created = version.is_live() && version.created == version.modified;
        let prev_kv = (prev && !created)
            .then(|| self.history(key)?.at(revision.prev()))
            .flatten()
            .filter(|version| version.is_live())
            .map(|version| version.to_pair(key));
        Some(event(key, version, prev_kv))
    }
}

fn event(key: &[u8], version: &Version, prev_kv: Option<KeyValue>) -> Event {
    if version.is_live() {
        return Event {
            kind: EventKind::Put,
            kv: version.to_pair(key),
            prev_kv,
        };
    }
    Event {
        kind: EventKind::Delete,
        kv: KeyValue {
            key: Key::from(key),
            mod_revision: version.modified,
            ..KeyValue::default()
        },
        prev_kv,
    }
}
