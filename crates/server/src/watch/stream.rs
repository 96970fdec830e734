//! One watch stream: its watches, what it is waiting for, and what it answers next.

use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{AbortHandle, Abortable, BoxStream, SelectAll};
use futures_util::{StreamExt, future, stream};
use synod_store::{Error, Header, Revision, Store, Watch, WatchBatch, WatchItem};
use synod_wire::convert::error::to_status;
use synod_wire::convert::watch::{
    DUPLICATE_ID, EMPTY_RANGE, NO_WATCH, WatchAnswer, WatchCreate, WatchNews,
};
use synod_wire::etcdserverpb as pb;
use synod_wire::etcdserverpb::watch_create_request::FilterType;
use synod_wire::etcdserverpb::watch_request::RequestUnion;
use tokio::time::{Interval, MissedTickBehavior, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::{Status, Streaming};

use super::fragment::fragment;
use super::ids::Ids;
use super::progress::{Progress, Reached};
use crate::info::compact_revision;
use crate::kv::own;
use crate::limits::name_oversize_status;
use crate::state::{Api, Counted, stopped};

/// After how long watches that have not said how far they are get asked again: a store behind a
/// network may lose the question, and a watch of the future has no answer yet.
const ASK_AGAIN: Duration = Duration::from_millis(500);

/// How many ended watches a stream remembers.
const MOST_OVER: usize = 10_000;

/// One client's stream of watches.
pub(super) struct WatchStream {
    api: Api,
    requests: Option<Streaming<pb::WatchRequest>>,
    /// The command that is being carried out. The next one is read after it, so that answers keep
    /// the commands' order: clients tell from it which watch an id belongs to.
    step: Option<BoxFuture<'static, Step>>,
    ids: Ids,
    watchers: HashMap<i64, Watcher>,
    /// Watches that the store has ended. As in etcd their ids stay in use until the client cancels
    /// them, which it may do in answer to the end or have done before it heard of it.
    over: HashSet<i64>,
    items: SelectAll<Abortable<BoxStream<'static, Tagged>>>,
    /// Tells a watch from an earlier one with its id.
    serial: u64,
    answers: VecDeque<pb::WatchResponse>,
    progress: Progress,
    reached: Option<(Header, Reached)>,
    ask_again: Option<Pin<Box<Sleep>>>,
    notify: Option<Interval>,
    /// The last header seen, with the highest revision.
    header: Header,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    ended: bool,
}

/// One watch.
struct Watcher {
    serial: u64,
    end: AbortHandle,
    header: Header,
    start: Revision,
    fragment: bool,
    /// Everything up to this revision has been delivered.
    delivered: Revision,
    /// Whether a request for progress waits for it.
    behind: bool,
    ask: Arc<dyn Fn() + Send + Sync>,
    notify: Option<Notify>,
    _counted: Counted,
}

/// The state of a watch that wants a sign of progress from time to time.
#[derive(Default)]
struct Notify {
    /// Whether it told something since the last time.
    busy: bool,
    /// Whether its next sign of progress goes to the client.
    due: bool,
}

/// An item, with the watch that it comes from. `None` at the watch's end.
type Tagged = (i64, u64, Option<synod_store::Result<WatchItem>>);

/// What carrying out a command came to.
enum Step {
    Opened(Opened),
    /// One answer.
    Answer(pb::WatchResponse),
    /// The header from which a round of progress begins.
    Progress(Header),
    /// The store has failed.
    Failed(Status),
}

/// A watch that was made, or the failure to make it.
struct Opened {
    id: i64,
    create: WatchCreate,
    watch: synod_store::Result<Watch>,
    /// Where history begins, for a watch from before all history.
    too_early: Option<Revision>,
}

/// Why no more watches can be opened.
const TOO_MANY: &str = "synod: too many watches are open";

impl WatchStream {
    pub(super) fn new(api: Api, requests: Streaming<pb::WatchRequest>) -> WatchStream {
        let stop = Box::pin(api.stop.clone().cancelled_owned());
        WatchStream {
            api,
            requests: Some(requests),
            step: None,
            ids: Ids::default(),
            watchers: HashMap::new(),
            over: HashSet::new(),
            items: SelectAll::new(),
            serial: 0,
            answers: VecDeque::new(),
            progress: Progress::default(),
            reached: None,
            ask_again: None,
            notify: None,
            header: Header::default(),
            stop,
            ended: false,
        }
    }

    /// The next answer; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Result<pb::WatchResponse, Status>> {
        loop {
            if let Some(answer) = self.answers.pop_front() {
                return Some(Ok(answer));
            }
            if let Some(answer) = self.next_reached() {
                return Some(Ok(answer));
            }
            if self.ended {
                return None;
            }
            if self.step.is_none() && self.progress.is_due() {
                self.begin_progress();
            }
            tokio::select! {
                () = &mut self.stop => return self.fail(stopped()),
                step = ready(&mut self.step), if self.step.is_some() => {
                    self.step = None;
                    if let Err(failure) = self.apply(step) {
                        return self.fail(failure);
                    }
                }
                request = command(&mut self.requests),
                    if self.step.is_none() && self.requests.is_some() =>
                {
                    match request {
                        Some(Ok(request)) => self.command(request),
                        Some(Err(failure)) => return self.fail(name_oversize_status(failure)),
                        // The client says no more, but still listens.
                        None => self.requests = None,
                    }
                }
                Some(item) = self.items.next(), if !self.items.is_empty() => self.item(item),
                () = elapsed(&mut self.ask_again), if self.ask_again.is_some() => {
                    self.ask_again = None;
                    self.ask_those_behind();
                }
                () = tick(&mut self.notify), if self.notify.is_some() => self.ask_the_quiet(),
            }
        }
    }

    fn fail(&mut self, failure: Status) -> Option<Result<pb::WatchResponse, Status>> {
        self.ended = true;
        Some(Err(failure))
    }

    /// Begins to carry out a command.
    fn command(&mut self, request: pb::WatchRequest) {
        // As in etcd, what is no command is passed over.
        match request.request_union {
            Some(RequestUnion::CreateRequest(create)) => self.create(create),
            Some(RequestUnion::CancelRequest(cancel)) => self.cancel(cancel.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => self.progress.ask(),
            None => {}
        }
    }

    fn create(&mut self, mut create: pb::WatchCreateRequest) {
        own(&mut create.key);
        own(&mut create.range_end);
        // As in etcd, an unknown filter is passed over.
        create
            .filters
            .retain(|filter| FilterType::try_from(*filter).is_ok());
        let too_early = create.start_revision < 0;
        if too_early {
            create.start_revision = 0;
        }
        let create = match WatchCreate::try_from(create) {
            Ok(create) => create,
            Err(error) => return self.refuse(to_status(&error).message().to_owned()),
        };
        if create.request.range.is_empty() {
            return self.refuse(EMPTY_RANGE.to_owned());
        }
        let state = &self.api.state;
        if state.watchers.load(Ordering::Relaxed) >= state.options.max_watchers {
            return self.refuse(TOO_MANY.to_owned());
        }
        let used = |id| self.watchers.contains_key(&id) || self.over.contains(&id);
        let Ok(id) = self.ids.take(create.watch_id, used) else {
            return self.refuse(DUPLICATE_ID.to_owned());
        };
        let store = Arc::clone(self.api.store());
        self.step = Some(Box::pin(async move {
            let mut request = create.request.clone();
            // The signs of progress are asked for here, at the server's own interval.
            request.progress_notify = false;
            let watch = store.watch(request).await;
            let too_early = if too_early {
                Some(compact_revision(store.as_ref()).await.max(Revision(1)))
            } else {
                None
            };
            Step::Opened(Opened {
                id,
                create,
                watch,
                too_early,
            })
        }));
    }

    /// Answers a *create* that makes no watch.
    fn refuse(&mut self, reason: String) {
        self.answer_with_header(NO_WATCH, WatchNews::Refused { reason });
    }

    fn cancel(&mut self, id: i64) {
        if self.remove(id) || self.over.remove(&id) {
            let reason = String::new();
            self.answer_with_header(id, WatchNews::Canceled { reason });
        }
    }

    /// Answers with the store's header of this moment.
    fn answer_with_header(&mut self, watch_id: i64, news: WatchNews) {
        let api = self.api.clone();
        self.step = Some(Box::pin(async move {
            match api.header().await {
                Ok(header) => Step::Answer(
                    WatchAnswer {
                        header,
                        watch_id,
                        news,
                    }
                    .into(),
                ),
                Err(error) => Step::Failed(to_status(&error)),
            }
        }));
    }

    fn begin_progress(&mut self) {
        let api = self.api.clone();
        self.step = Some(Box::pin(async move {
            match api.header().await {
                Ok(header) => Step::Progress(header),
                Err(error) => Step::Failed(to_status(&error)),
            }
        }));
    }

    fn apply(&mut self, step: Step) -> Result<(), Status> {
        match step {
            Step::Opened(opened) => self.opened(opened),
            Step::Answer(answer) => self.answers.push_back(answer),
            Step::Progress(header) => self.start_round(header),
            Step::Failed(failure) => return Err(failure),
        }
        Ok(())
    }

    fn opened(&mut self, opened: Opened) {
        let Opened {
            id,
            create,
            watch,
            too_early,
        } = opened;
        let watch = match watch {
            Ok(watch) => watch,
            Err(error) => return self.refuse(to_status(&error).message().to_owned()),
        };
        let header = watch.header();
        self.see(header);
        self.answer(header, id, WatchNews::Created);
        if let Some(compact_revision) = too_early {
            return self.end(id, WatchNews::Compacted { compact_revision });
        }
        let start = create.request.start_revision;
        let delivered = if start.is_zero() {
            header.revision
        } else {
            start.prev()
        };
        self.serial = self.serial.wrapping_add(1);
        let serial = self.serial;
        let ask = watch.progress_handle();
        let items = watch
            .map(move |item| (id, serial, Some(item)))
            .chain(stream::once(future::ready((id, serial, None))));
        let (end, registration) = AbortHandle::new_pair();
        self.items.push(Abortable::new(items.boxed(), registration));
        if create.request.progress_notify && self.notify.is_none() {
            let mut interval = tokio::time::interval(self.api.options().watch_progress_interval);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval.reset();
            self.notify = Some(interval);
        }
        let watcher = Watcher {
            serial,
            end,
            header,
            start,
            fragment: create.fragment,
            delivered,
            behind: false,
            ask,
            notify: create.request.progress_notify.then(Notify::default),
            _counted: Counted::new(&self.api.state.watchers),
        };
        self.watchers.insert(id, watcher);
    }

    /// Ends a watch; false when there is none.
    fn remove(&mut self, id: i64) -> bool {
        let Some(watcher) = self.watchers.remove(&id) else {
            return false;
        };
        watcher.end.abort();
        if watcher.behind {
            self.caught_up();
        }
        true
    }

    /// What a watch tells.
    fn item(&mut self, (id, serial, item): Tagged) {
        let Some(watcher) = self.watchers.get_mut(&id) else {
            return;
        };
        if watcher.serial != serial {
            return;
        }
        match item {
            Some(Ok(WatchItem::Events(batch))) => self.events(id, batch),
            Some(Ok(WatchItem::Progress(revision))) => self.progressed(id, revision),
            Some(Ok(WatchItem::Compacted { compact_revision })) => {
                self.end(id, WatchNews::Compacted { compact_revision });
            }
            Some(Err(error)) => self.broken(id, &error),
            // A store's watch that ends without saying why, or says what is not known here.
            Some(Ok(_)) | None => self.broken(id, &synod_store::ErrorKind::Unavailable.into()),
        }
    }

    fn broken(&mut self, id: i64, error: &Error) {
        let reason = to_status(error).message().to_owned();
        self.end(id, WatchNews::Canceled { reason });
    }

    /// Ends a watch that the store has ended.
    fn end(&mut self, id: i64, news: WatchNews) {
        self.remove(id);
        // A client that never cancels them gets their ids back sooner.
        if self.over.len() < MOST_OVER {
            self.over.insert(id);
        }
        self.answer(self.header, id, news);
    }

    fn events(&mut self, id: i64, batch: WatchBatch) {
        let Some(watcher) = self.watchers.get_mut(&id) else {
            return;
        };
        if let Some(notify) = &mut watcher.notify {
            notify.busy = true;
        }
        let last = batch.events.last().map(|event| event.kv.mod_revision);
        let answer = WatchAnswer::events(watcher.header, id, batch);
        let header = answer.header;
        if watcher.fragment {
            let most = self.api.options().max_message_bytes();
            self.answers.extend(fragment(answer.into(), most));
        } else {
            self.answers.push_back(answer.into());
        }
        self.see(header);
        self.delivered(id, last.unwrap_or_default());
    }

    fn progressed(&mut self, id: i64, revision: Revision) {
        let Some(watcher) = self.watchers.get_mut(&id) else {
            return;
        };
        let header = Header {
            revision,
            ..watcher.header
        };
        // A watch of the future hears nothing of what is before it.
        let wanted = watcher
            .notify
            .as_mut()
            .is_some_and(|notify| std::mem::take(&mut notify.due));
        if wanted && revision >= watcher.start {
            self.answer(header, id, WatchNews::Progress);
        }
        self.see(header);
        self.delivered(id, revision);
    }

    /// A watch has delivered everything up to `revision`.
    fn delivered(&mut self, id: i64, revision: Revision) {
        let Some(watcher) = self.watchers.get_mut(&id) else {
            return;
        };
        watcher.delivered = watcher.delivered.max(revision);
        if watcher.behind && !self.progress.is_behind(watcher.delivered) {
            watcher.behind = false;
            self.caught_up();
        }
    }

    /// Begins to wait for all watches to get to the store's revision, or, if one of them begins
    /// later, to its beginning.
    fn start_round(&mut self, header: Header) {
        self.see(header);
        let starts = self.watchers.values().map(|watcher| watcher.start);
        let revision = starts.max().unwrap_or_default().max(header.revision);
        let mut behind: usize = 0;
        for watcher in self.watchers.values_mut() {
            watcher.behind = watcher.delivered < revision;
            if watcher.behind {
                behind = behind.saturating_add(1);
            }
        }
        let reached = self.progress.begin(revision, behind);
        self.reach(reached);
        self.ask_those_behind();
    }

    fn caught_up(&mut self) {
        let reached = self.progress.caught_up();
        self.reach(reached);
    }

    fn reach(&mut self, reached: Option<Reached>) {
        if let Some(reached) = reached {
            let header = Header {
                revision: reached.revision,
                ..self.header
            };
            self.reached = Some((header, reached));
            self.ask_again = None;
        }
    }

    /// The answer to one of the requests for progress that can be answered.
    fn next_reached(&mut self) -> Option<pb::WatchResponse> {
        let (header, reached) = self.reached.as_mut()?;
        let header = *header;
        reached.requests = reached.requests.saturating_sub(1);
        if reached.requests == 0 {
            self.reached = None;
        }
        Some(
            WatchAnswer {
                header,
                watch_id: NO_WATCH,
                news: WatchNews::Progress,
            }
            .into(),
        )
    }

    fn ask_those_behind(&mut self) {
        if !self.progress.is_waiting() {
            return;
        }
        for watcher in self.watchers.values().filter(|watcher| watcher.behind) {
            (watcher.ask)();
        }
        self.ask_again = Some(Box::pin(tokio::time::sleep(ASK_AGAIN)));
    }

    /// Asks the watches that want signs of progress, and told nothing for a while, how far they are.
    fn ask_the_quiet(&mut self) {
        for watcher in self.watchers.values_mut() {
            let Some(notify) = &mut watcher.notify else {
                continue;
            };
            if !std::mem::take(&mut notify.busy) {
                notify.due = true;
                (watcher.ask)();
            }
        }
    }

    fn answer(&mut self, header: Header, watch_id: i64, news: WatchNews) {
        let answer = WatchAnswer {
            header,
            watch_id,
            news,
        };
        self.answers.push_back(answer.into());
    }

    fn see(&mut self, header: Header) {
        let revision = self.header.revision.max(header.revision);
        self.header = Header { revision, ..header };
    }
}

/// The next of these; never, when there are none.
async fn command(
    requests: &mut Option<Streaming<pb::WatchRequest>>,
) -> Option<Result<pb::WatchRequest, Status>> {
    match requests {
        Some(requests) => requests.next().await,
        None => future::pending().await,
    }
}

async fn ready(step: &mut Option<BoxFuture<'static, Step>>) -> Step {
    match step {
        Some(step) => step.await,
        None => future::pending().await,
    }
}

async fn elapsed(sleep: &mut Option<Pin<Box<Sleep>>>) {
    match sleep {
        Some(sleep) => sleep.await,
        None => future::pending().await,
    }
}

async fn tick(interval: &mut Option<Interval>) {
    match interval {
        Some(interval) => drop(interval.tick().await),
        None => future::pending().await,
    }
}
