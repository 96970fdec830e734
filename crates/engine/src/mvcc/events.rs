//! Changes as watchers see them.

use synod_store::{Event, EventKind, Key, KeyValue, Revision};

use super::history::Version;
use super::state::State;

impl State {
    /// The event that the `index`th change of `revision` is, and with `prev` the pair before the revision. `None` when
    /// there is no such change.
    pub(crate) fn event(&self, revision: Revision, index: usize, prev: bool) -> Option<Event> {
        let keys = self.changed_at(revision);
        let key = keys.get(index)?;
        let history = self.history(key)?;
        let mut made = history.made_at(revision);
        let first = made.next()?;
        // A transaction may put a key and delete it again; then the key is listed twice.
        let version = match made.next() {
            None => first,
            Some(_) => {
                let earlier = keys.iter().take(index).filter(|k| *k == key).count();
                history.made_at(revision).nth(earlier)?
            }
        };
        let prev_kv = prev
            .then(|| history.at(revision.prev()))
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
