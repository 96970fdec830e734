//! One watch stream: its watches, what it is waiting for, and what it answers next.

use std::collections::{HashMap, HashSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::{AbortHandle, Abortable, BoxStream, SelectAll};
use futures_util::{StreamExt, future, stream};
use synod_store::{Header, KeyRange, Revision, Store};
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

use super::ids::Ids;
use super::progress::{Progress, Reached};
use super::step::{Opened, Step, command, elapsed, ready, tick};
use super::watcher::{Notify, Tagged, Watcher};
use crate::auth::Credentials;
use crate::info::compact_revision;
use crate::kv::own;
use crate::limits::name_oversize_status;
use crate::state::{Api, Counted, Share, stopped};

/// One client's stream of watches.
pub(super) struct WatchStream {
    pub(super) api: Api,
    /// Who opened it.
    credentials: Credentials,
    pub(super) requests: Option<Streaming<pb::WatchRequest>>,
    /// The command that is being carried out. The next one is read after it, so that answers keep
    /// the commands' order: clients tell from it which watch an id belongs to.
    pub(super) step: Option<BoxFuture<'static, Step>>,
    pub(super) ids: Ids,
    pub(super) watchers: HashMap<i64, Watcher>,
    /// Watches that the store has ended. As in etcd their ids stay in use until the client cancels
    /// them, which it may do in answer to the end or have done before it heard of it.
    pub(super) over: HashSet<i64>,
    pub(super) items: SelectAll<Abortable<BoxStream<'static, Tagged>>>,
    /// Tells a watch from an earlier one with its id.
    pub(super) serial: u64,
    pub(super) answers: VecDeque<pb::WatchResponse>,
    pub(super) progress: Progress,
    pub(super) reached: Option<(Header, Reached)>,
    pub(super) ask_again: Option<Pin<Box<Sleep>>>,
    pub(super) notify: Option<Interval>,
    /// The last header seen, with the highest revision.
    pub(super) header: Header,
    pub(super) stop: Pin<Box<WaitForCancellationFutureOwned>>,
    pub(super) ended: bool,
}

/// So many bytes of a watch's keys count as one more watch: the server holds them for as long as it stands.
const BYTES_A_WATCH: usize = 1024;

/// What a watch counts against the bound on all watches.
fn weight(range: &KeyRange) -> u64 {
    let bytes = match range {
        KeyRange::One(key) | KeyRange::From(key) => key.len(),
        KeyRange::Between(start, end) => start.len().saturating_add(end.len()),
    };
    (bytes / BYTES_A_WATCH).saturating_add(1) as u64
}

/// Why no more watches can be opened.
const TOO_MANY: &str = "synod: too many watches are open";

impl WatchStream {
    pub(super) fn new(
        api: Api,
        credentials: Credentials,
        requests: Streaming<pb::WatchRequest>,
    ) -> WatchStream {
        let stop = Box::pin(api.stop.clone().cancelled_owned());
        WatchStream {
            api,
            credentials,
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
        if let Err(refused) = self.check(&create) {
            return self.refuse(refused);
        }
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
        let (shares, most) = (&state.watch_shares, state.options.max_watchers);
        let Some(share) = Share::take(shares, weight(&create.request.range), most) else {
            return self.refuse(TOO_MANY.to_owned());
        };
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
                share,
            })
        }));
    }

    /// The reason why its sender may not have a watch, as etcd gives it: with the code in the text, since there is no
    /// other place for it.
    fn check(&self, create: &pb::WatchCreateRequest) -> Result<(), String> {
        // What etcd takes an empty key for.
        const FIRST: &[u8] = b"\0";
        let key = if create.key.is_empty() {
            &Bytes::from_static(FIRST)
        } else {
            &create.key
        };
        let access = self.api.access_of(&self.credentials);
        access
            .and_then(|access| access.read(key, &create.range_end))
            .map_err(|refused| {
                let code = format!("{:?}", refused.code());
                format!("rpc error: code = {code} desc = {}", refused.message())
            })
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
            share,
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
            _share: share,
        };
        self.watchers.insert(id, watcher);
    }

    /// Ends a watch; false when there is none.
    pub(super) fn remove(&mut self, id: i64) -> bool {
        let Some(watcher) = self.watchers.remove(&id) else {
            return false;
        };
        watcher.end.abort();
        if watcher.behind {
            self.caught_up();
        }
        true
    }

    pub(super) fn answer(&mut self, header: Header, watch_id: i64, news: WatchNews) {
        let answer = WatchAnswer {
            header,
            watch_id,
            news,
        };
        self.answers.push_back(answer.into());
    }

    pub(super) fn see(&mut self, header: Header) {
        let revision = self.header.revision.max(header.revision);
        self.header = Header { revision, ..header };
    }
}
