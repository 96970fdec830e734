//! etcd's Watch service: many watches on one stream.
//!
//! # Protocol
//!
//! The client sends *create*, *cancel* and *progress*; each answer names a watch by its id.
//!
//! 0. Where logins are on, the stream is refused to who has none. (etcd lets it open, and refuses each watch.)
//! 1. *create* is answered with `created` and the store's revision, before any event. A watch that
//!    cannot be made is answered with `created` and `canceled` together, id -1 and a reason.
//! 2. Events come in order, all of one revision in one answer, unless the client allowed fragments
//!    and they are too large together.
//! 3. *cancel* is answered with `canceled` and no reason; no event of the watch comes after it, and
//!    its id may be used again. An unknown id is answered with nothing.
//! 4. A watch whose history was compacted away is answered with `canceled` and the oldest revision
//!    that can be watched from, and no reason.
//! 5. *progress* is answered with id -1 and a revision, once every watch of the stream has delivered
//!    everything up to it.
//!
//! - `stream.rs`: the stream's state and its client's commands; `step.rs`: what it waits for.
//! - `watcher.rs`: one watch; `delivery.rs`: what it tells; `fragment.rs`: cutting that.
//! - `rounds.rs`, `progress.rs`: how far the watches are; `ids.rs`: their ids.
//!
//! # Memory
//!
//! A stream is not a task that fills a queue but a state machine that the transport polls when the
//! client has room for an answer. A client that does not read leaves its events in the store's
//! watches, which are bounded; nobody else waits for it.

mod delivery;
mod fragment;
mod ids;
mod progress;
mod rounds;
mod step;
mod stream;
mod watcher;

use futures_util::StreamExt;
use futures_util::stream::{BoxStream, unfold};
use synod_wire::etcdserverpb as pb;
use synod_wire::etcdserverpb::watch_server::Watch;
use tonic::{Request, Response, Status, Streaming, async_trait};

use crate::auth::Credentials;
use crate::state::Api;
use stream::WatchStream;

#[async_trait]
impl Watch for Api {
    type WatchStream = BoxStream<'static, Result<pb::WatchResponse, Status>>;

    async fn watch(
        &self,
        request: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        // What a watch may see is checked when it is made; nobody who may make none holds a stream.
        self.access(request.metadata())?.somebody()?;
        let open = self.endless()?;
        let credentials = Credentials::of(request.metadata());
        let requests = request.into_inner();
        let state = Box::new(WatchStream::new(self.clone(), credentials, requests));
        let answers = unfold((state, open), |(mut state, open)| async move {
            state.next().await.map(|answer| (answer, (state, open)))
        });
        Ok(Response::new(answers.boxed()))
    }
}
