//! [`EtcdStore::snapshot`]: a copy of the whole store, as its server sends it.

use bytes::Bytes;
use synod_store::Result;
use synod_wire::convert::error::{Call, from_status};
use synod_wire::etcdserverpb::maintenance_client::MaintenanceClient;
use synod_wire::etcdserverpb::{SnapshotRequest, SnapshotResponse};
use tonic::Streaming;

use crate::EtcdStore;
use crate::retry::Class;
use crate::store::LARGEST_ANSWER;

/// A copy of a store on its way. Dropped before its end, the server stops sending.
#[derive(Debug)]
pub struct Snapshot {
    pieces: Streaming<SnapshotResponse>,
}

/// A piece of a [`Snapshot`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotPiece {
    /// What comes next of it.
    pub bytes: Bytes,
    /// About how many bytes follow.
    pub remaining: u64,
}

impl Snapshot {
    /// The next piece; `None` behind the last one.
    ///
    /// # Cancel safety
    ///
    /// No piece is lost.
    ///
    /// # Errors
    ///
    /// When the server or the connection fails; what was given is then of no use.
    pub async fn next(&mut self) -> Result<Option<SnapshotPiece>> {
        let piece = self.pieces.message().await;
        let piece = piece.map_err(|status| from_status(&status, Call::Read))?;
        Ok(piece.map(|piece| SnapshotPiece {
            bytes: piece.blob,
            remaining: piece.remaining_bytes,
        }))
    }
}

impl EtcdStore {
    /// Asks for a copy of the whole store, in its server's own format: a real etcd's is none that Synod can restore,
    /// and the other way round. It ends with its SHA-256.
    ///
    /// # Cancel safety
    ///
    /// Nothing stays behind.
    ///
    /// # Errors
    ///
    /// As every read. Where users must log in, only those with the role `root` may ask.
    pub async fn snapshot(&self) -> Result<Snapshot> {
        let ask = |channel, request| async {
            MaintenanceClient::new(channel)
                .max_decoding_message_size(LARGEST_ANSWER)
                .snapshot(request)
                .await
        };
        let pieces = self.caller().call(Class::Read, SnapshotRequest {}, ask);
        Ok(Snapshot {
            pieces: pieces.await?,
        })
    }
}
