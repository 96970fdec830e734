//! Notes: small things that are kept beside the keys, as durable as they are and in every copy of the store. They take
//! no revision, no watch sees them, and no request of a [`Store`](synod_store::Store) reaches them. The server keeps
//! its users and roles so.

use std::collections::BTreeMap;

use bytes::Bytes;
use synod_store::Result;

use crate::Engine;
use crate::record::NoteChange;
use crate::writer::Command;

impl Engine {
    /// All notes, by name.
    #[must_use]
    pub fn notes(&self) -> BTreeMap<String, Bytes> {
        self.shared().notes().clone()
    }

    /// Writes notes, or with `None` removes them: after a crash all of the changes stand, or none. At most 32 MiB are
    /// kept.
    ///
    /// # Cancel safety
    ///
    /// The changes are made all the same once the future was polled.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoSpace`](synod_store::ErrorKind::NoSpace) beyond that bound or on a full disk, and the errors of
    /// every write.
    pub async fn write_notes(
        &self,
        changes: impl IntoIterator<Item = (String, Option<Bytes>)> + Send,
    ) -> Result<()> {
        let changes: Vec<NoteChange> = changes
            .into_iter()
            .map(|(name, text)| NoteChange { name, text })
            .collect();
        let size = changes.iter().fold(0_usize, |sum, change| {
            let text = change.text.as_ref().map_or(0, Bytes::len);
            sum.saturating_add(change.name.len()).saturating_add(text)
        });
        let command = |reply| Command::Note { changes, reply };
        self.shared().ask(size, command).await
    }
}
