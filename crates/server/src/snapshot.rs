//! Copies of the store over the Maintenance service, as `etcdctl snapshot save` and `synod snapshot save` ask for.
//!
//! The pieces come as they are read from the store. A client that does not take them holds back history that could be
//! forgotten, so each piece must be taken in time, and few copies are made at once.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::{BoxStream, unfold};
use synod_engine::Export;
use synod_wire::etcdserverpb as pb;
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::mpsc::{Sender, channel};
use tonic::Status;

use crate::state::{Api, status};

/// How long a client may take for a piece of 256 KiB.
const PATIENCE: Duration = Duration::from_secs(60);

impl Api {
    /// The pieces of a new copy.
    pub(crate) async fn begin_copy(
        &self,
    ) -> Result<BoxStream<'static, Result<pb::SnapshotResponse, Status>>, Status> {
        let Some(engine) = &self.state.engine else {
            return Err(Status::unimplemented(
                "synod: the store behind this server makes its own snapshots",
            ));
        };
        let turn = Arc::clone(&self.state.copies);
        let Ok(turn) = turn.try_acquire_owned() else {
            return Err(Status::resource_exhausted(
                "synod: other copies are being made; try again when they are done",
            ));
        };
        let export = engine.export().await.map_err(status)?;
        let (sender, receiver) = channel(1);
        // A task of its own: a client that takes nothing polls nothing.
        tokio::spawn(send(export, sender, turn));
        // Without a last word the task gave up waiting for the client.
        let late = Status::deadline_exceeded("synod: the copy was not taken in time");
        let pieces = unfold((receiver, Some(late)), |(mut receiver, late)| async {
            match receiver.recv().await {
                Some(Piece::Next(piece)) => Some((piece, (receiver, late))),
                Some(Piece::End) => None,
                None => late.map(|late| (Err(late), (receiver, None))),
            }
        });
        Ok(pieces.boxed())
    }
}

/// What the task tells the stream.
enum Piece {
    Next(Result<pb::SnapshotResponse, Status>),
    End,
}

/// Sends a copy, as long as somebody takes it.
async fn send(mut export: Export, sender: Sender<Piece>, _turn: OwnedSemaphorePermit) {
    let total = export.estimated_bytes();
    tracing::info!(revision = %export.revision(), "sending a copy of the store");
    let mut sent = 0_u64;
    loop {
        let piece = match export.next().await {
            None => Piece::End,
            Some(Err(error)) => Piece::Next(Err(status(error))),
            Some(Ok(blob)) => {
                sent = sent.saturating_add(blob.len() as u64);
                Piece::Next(Ok(pb::SnapshotResponse {
                    header: None,
                    remaining_bytes: total.saturating_sub(sent),
                    blob,
                    version: String::new(),
                }))
            }
        };
        let last = matches!(piece, Piece::End | Piece::Next(Err(_)));
        let taken = tokio::time::timeout(PATIENCE, sender.send(piece)).await;
        if last || !matches!(taken, Ok(Ok(()))) {
            return;
        }
    }
}
