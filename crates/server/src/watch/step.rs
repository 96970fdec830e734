//! What a stream waits for between two answers.

use std::pin::Pin;

use futures_util::future::BoxFuture;
use futures_util::{StreamExt, future};
use synod_store::{Header, Revision, Watch};
use synod_wire::convert::watch::WatchCreate;
use synod_wire::etcdserverpb as pb;
use tokio::time::{Interval, Sleep};
use tonic::{Status, Streaming};

use crate::state::Share;

/// What carrying out a command came to.
pub(super) enum Step {
    Opened(Opened),
    /// One answer.
    Answer(pb::WatchResponse),
    /// The header from which a round of progress begins.
    Progress(Header),
    /// The store has failed.
    Failed(Status),
}

/// A watch that was made, or the failure to make it.
pub(super) struct Opened {
    pub(super) id: i64,
    pub(super) create: WatchCreate,
    pub(super) watch: synod_store::Result<Watch>,
    /// Where history begins, for a watch from before all history.
    pub(super) too_early: Option<Revision>,
    pub(super) share: Share,
}

/// The next of these; never, when there are none.
pub(super) async fn command(
    requests: &mut Option<Streaming<pb::WatchRequest>>,
) -> Option<Result<pb::WatchRequest, Status>> {
    match requests {
        Some(requests) => requests.next().await,
        None => future::pending().await,
    }
}

pub(super) async fn ready(step: &mut Option<BoxFuture<'static, Step>>) -> Step {
    match step {
        Some(step) => step.await,
        None => future::pending().await,
    }
}

pub(super) async fn elapsed(sleep: &mut Option<Pin<Box<Sleep>>>) {
    match sleep {
        Some(sleep) => sleep.await,
        None => future::pending().await,
    }
}

pub(super) async fn tick(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => drop(interval.tick().await),
        None => future::pending().await,
    }
}
