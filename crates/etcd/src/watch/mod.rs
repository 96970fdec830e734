//! Watches: one stream for all of a client, and watches that resume by themselves.
//!
//! # Protocol
//!
//! 1. A watch is asked for under an id of its own, with fragments, from the revision wanted (0 for
//!    *from now*), on the stream that stands or on a new one.
//! 2. It is returned once the server has answered that it is created.
//! 3. Its events are joined where they come in pieces, and put in its [buffer]; a watch whose
//!    buffer is too full is cancelled at the server, and asked for again from where it stopped when
//!    its reader has read on.
//! 4. When the stream ends for whatever reason, all watches are asked for on the next one, each
//!    [from the first revision that was not delivered](resume).
//! 5. It ends when it is dropped (the server is told), when history that it needs was compacted
//!    (the last item says so), or when the server refuses it for good (the last item is the error).
//!
//! # Guarantees
//!
//! Every event once, in order, each revision whole, across any number of streams and members.
//!
//! # Layout
//!
//! - `hub`: all of this as a state machine, without a connection. [`resume`], [`fragments`],
//!   [`buffer`]: its parts.
//! - Here: what users hold, and the [stream](crate::stream) under it.

mod buffer;
mod fragments;
mod hub;
mod resume;

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use futures_util::Stream;
use synod_store::{Error, ErrorKind, RangeRequest, Result, Watch, WatchItem, WatchRequest};
use synod_wire::convert::error::Call;
use synod_wire::convert::watch::WatchAnswer;
use synod_wire::etcdserverpb as pb;
use synod_wire::etcdserverpb::kv_client::KvClient;
use synod_wire::etcdserverpb::watch_client::WatchClient;
use tokio::sync::mpsc::{UnboundedSender, WeakUnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tonic::Request;
use tonic::transport::Channel;

use crate::auth::{Token, attach};
use crate::channels::Line;
use crate::error::{Cause, cause, error};
use crate::retry::Caller;
use crate::store::LARGEST_ANSWER;
use crate::stream::{self, Opening, Requests, Talk, Trouble};
use buffer::{Buffer, Taken};
use hub::{Add, Denied, Hub, Key, Order};

/// What a watch may hold for a reader who does not read, in bytes.
const BUFFER: usize = 4 << 20;

/// Makes watches.
#[derive(Debug)]
pub(crate) struct Watches {
    caller: Caller,
    trouble: Trouble,
    last_key: AtomicU64,
    /// To the task that owns the stream, started with the first watch.
    task: OnceLock<UnboundedSender<Command>>,
}

impl Watches {
    pub(crate) fn new(caller: Caller) -> Watches {
        Watches {
            caller,
            trouble: Trouble::default(),
            last_key: AtomicU64::new(0),
            task: OnceLock::new(),
        }
    }

    /// Makes a watch.
    pub(crate) async fn watch(&self, request: WatchRequest) -> Result<Watch> {
        let task = self.task.get_or_init(|| {
            let (sender, commands) = unbounded_channel();
            let (caller, trouble) = (self.caller.clone(), self.trouble.clone());
            let talk = Conversation {
                hub: Hub::new(caller.auth.has_user()),
                caller: caller.clone(),
                verdicts: sender.downgrade(),
                on: None,
                is_stale: false,
            };
            tokio::spawn(stream::run(talk, caller, commands, trouble));
            sender
        });
        let key = self.last_key.fetch_add(1, Ordering::Relaxed);
        let buffer = Buffer::new(BUFFER);
        let (created, answer) = oneshot::channel();
        // From here on, dropping this future closes the watch.
        let items = Items {
            key,
            buffer: Arc::clone(&buffer),
            task: task.clone(),
        };
        items.order(Order::Add(Box::new(Add {
            request,
            buffer,
            created,
        })));
        let header = match timeout(self.caller.timeout, answer).await {
            Ok(Ok(header)) => header?,
            Ok(Err(_)) => {
                let text = "the client's runtime has ended";
                return Err(Error::new(ErrorKind::Closed, text));
            }
            Err(_) => {
                let what = "the watch was not created";
                return Err(self.trouble.out_of_time(what, self.caller.timeout));
            }
        };
        let task = task.downgrade();
        let progress = move || {
            if let Some(task) = task.upgrade() {
                let _ = task.send(Command::Order(key, Order::Progress));
            }
        };
        Ok(Watch::new(header, items, progress))
    }
}

/// The items of a watch, in the hands of its reader.
#[derive(Debug)]
struct Items {
    key: Key,
    buffer: Arc<Buffer>,
    task: UnboundedSender<Command>,
}

impl Items {
    fn order(&self, order: Order) {
        // Fails only when the runtime has ended, and the task with it.
        let _ = self.task.send(Command::Order(self.key, order));
    }
}

impl Stream for Items {
    type Item = Result<WatchItem>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(match ready!(self.buffer.poll_take(cx)) {
            Taken::Item(item) => Some(item),
            Taken::LastBeforePause(item) => {
                self.order(Order::Continue);
                Some(item)
            }
            Taken::End => None,
        })
    }
}

impl Drop for Items {
    fn drop(&mut self) {
        self.order(Order::Close);
    }
}

/// What the stream's task is told.
#[derive(Debug)]
enum Command {
    /// By the owner of a watch.
    Order(Key, Order),
    /// What came of looking into a refusal.
    Verdict(Key, Result<()>),
    /// The stream's token is not good any more.
    OldToken,
}

/// All watches, on a stream.
#[derive(Debug)]
struct Conversation {
    hub: Hub,
    caller: Caller,
    verdicts: WeakUnboundedSender<Command>,
    /// Where the stream is, and with which token.
    on: Option<(Arc<Line>, Token)>,
    is_stale: bool,
}

impl Conversation {
    /// Looks into refusals. Some servers say that a permission is wanting when in truth the token
    /// is too old, and a stream keeps the token that it began with: so the keys are read with it.
    fn look_into(&self, denied: Vec<Denied>) {
        let Some((line, token)) = &self.on else {
            return;
        };
        for Denied { key, request } in denied {
            let (caller, verdicts) = (self.caller.clone(), self.verdicts.clone());
            let (line, token) = (Arc::clone(line), token.clone());
            tokio::spawn(async move {
                let limit = caller.timeout;
                let read = read_with(&line, &token, request);
                let command = match timeout(limit, read).await {
                    Ok(Err(status)) if cause(&status) == Cause::Token => {
                        caller.auth.refused(&token);
                        Command::OldToken
                    }
                    Ok(Err(status)) if cause(&status) == Cause::Definite => {
                        Command::Verdict(key, Err(error(status, Call::Read, line.url())))
                    }
                    _ => Command::Verdict(key, Ok(())),
                };
                if let Some(verdicts) = verdicts.upgrade() {
                    if matches!(command, Command::OldToken) {
                        let _ = verdicts.send(Command::Verdict(key, Ok(())));
                    }
                    let _ = verdicts.send(command);
                }
            });
        }
    }
}

/// Reads one key that a watch wants, with this token.
async fn read_with(
    line: &Line,
    token: &Token,
    request: WatchRequest,
) -> std::result::Result<(), tonic::Status> {
    let read = RangeRequest::new(request.range).with_limit(1).keys_only();
    let mut read = Request::new(pb::RangeRequest::from(&read.serializable()));
    attach(read.metadata_mut(), token);
    KvClient::new(line.channel().clone()).range(read).await?;
    Ok(())
}

impl Talk for Conversation {
    type Command = Command;
    type Request = pb::WatchRequest;
    type Answer = pb::WatchResponse;

    fn open(channel: Channel, requests: Requests<Self::Request>) -> Opening<Self::Answer> {
        Box::pin(async {
            let client = WatchClient::new(channel);
            let mut client = client.max_decoding_message_size(LARGEST_ANSWER);
            client.watch(requests).await
        })
    }

    fn command(&mut self, command: Command) {
        match command {
            Command::Order(key, order) => self.hub.order(key, order),
            Command::Verdict(key, verdict) => self.hub.settle(key, verdict),
            Command::OldToken => self.is_stale = true,
        }
    }

    fn is_wanted(&self) -> bool {
        self.hub.is_wanted()
    }

    fn opened(&mut self, line: &Arc<Line>, token: &Token) {
        self.is_stale = false;
        self.on = Some((Arc::clone(line), token.clone()));
        self.hub.opened(line.ordered_progress());
    }

    fn requests(&mut self) -> Vec<pb::WatchRequest> {
        let commands = self.hub.take_commands();
        commands.iter().map(Into::into).collect()
    }

    fn answer(&mut self, answer: pb::WatchResponse) -> Result<()> {
        let answered = self.hub.answer(WatchAnswer::try_from(answer)?);
        let denied = self.hub.take_denied();
        self.look_into(denied);
        answered
    }

    fn is_waiting(&self) -> bool {
        self.hub.is_waiting()
    }

    fn is_stale(&self) -> bool {
        self.is_stale
    }

    fn lost(&mut self) {
        self.on = None;
        self.hub.lost();
    }

    fn refused(&mut self, error: &Error) {
        match error.kind() {
            ErrorKind::Unauthenticated
            | ErrorKind::PermissionDenied
            | ErrorKind::Unsupported
            | ErrorKind::InvalidArgument => self.hub.refuse_all(error),
            // A certificate that is not accepted, another cluster: it may be mended.
            _ => self.hub.refuse_new(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use synod_store::{Event, EventKind, KeyValue, Revision};

    /// Puts at these revisions.
    pub(super) fn events(revisions: &[u64]) -> Vec<Event> {
        let event = |revision: &u64| Event {
            kind: EventKind::Put,
            kv: KeyValue {
                key: "k".into(),
                mod_revision: Revision(*revision),
                ..KeyValue::default()
            },
            prev_kv: None,
        };
        revisions.iter().map(event).collect()
    }
}
