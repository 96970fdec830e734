//! The watches of a client, driven by orders and answers.

use std::task::{Context, Poll, Waker};

use synod_store::{ErrorKind, Revision};
use synod_wire::convert::watch::{NO_WATCH, WatchAnswer, WatchNews};

use super::super::buffer::Taken;
use super::super::tests::events;
use super::*;

/// Watches, and what their owners see.
struct Bench {
    hub: Hub,
    owners: Vec<Owner>,
}

struct Owner {
    buffer: Arc<Buffer>,
    created: oneshot::Receiver<Result<Header>>,
}

/// What is sent, in short.
#[derive(Debug, PartialEq, Eq)]
enum Sent {
    /// A watch with this id from this revision on.
    Create(i64, u64),
    Cancel(i64),
    Progress,
}

use Sent::{Cancel, Create, Progress as Ask};

impl Bench {
    fn new() -> Bench {
        Bench {
            hub: Hub::new(false),
            owners: Vec::new(),
        }
    }

    /// An owner orders a watch from this revision on.
    fn add(&mut self, start: u64) {
        self.add_with(start, 1 << 20);
    }

    fn add_with(&mut self, start: u64, limit: usize) {
        let buffer = Buffer::new(limit);
        let (created, answer) = oneshot::channel();
        let key = self.owners.len() as Key;
        self.owners.push(Owner {
            buffer: Arc::clone(&buffer),
            created: answer,
        });
        let add = Add {
            request: WatchRequest::new("k").starting_at(Revision(start)),
            buffer,
            created,
        };
        self.hub.order(key, Order::Add(Box::new(add)));
    }

    fn sent(&mut self) -> Vec<Sent> {
        let commands = self.hub.take_commands();
        let short = |command| match command {
            WatchCommand::Create(create) => {
                assert!(create.fragment);
                Create(create.watch_id, create.request.start_revision.0)
            }
            WatchCommand::Cancel(id) => Cancel(id),
            WatchCommand::Progress => Ask,
        };
        commands.into_iter().map(short).collect()
    }

    fn answer(&mut self, watch_id: i64, revision: u64, news: WatchNews) -> Result<()> {
        let header = Header {
            revision: Revision(revision),
            ..Header::default()
        };
        self.hub.answer(WatchAnswer {
            header,
            watch_id,
            news,
        })
    }

    fn created(&mut self, id: i64, revision: u64) {
        self.answer(id, revision, WatchNews::Created).unwrap();
    }

    fn refused(&mut self, id: i64, reason: &str) -> Result<()> {
        let reason = reason.to_string();
        self.answer(id, 9, WatchNews::Refused { reason })
    }

    fn events(&mut self, id: i64, revisions: &[u64]) {
        self.pieces(id, revisions, false);
    }

    fn pieces(&mut self, id: i64, revisions: &[u64], fragment: bool) {
        let events = events(revisions);
        let header = revisions.last().copied().unwrap_or_default();
        let news = WatchNews::Events { events, fragment };
        self.answer(id, header, news).unwrap();
    }

    fn progress(&mut self, id: i64, revision: u64) {
        self.answer(id, revision, WatchNews::Progress).unwrap();
    }

    fn is_created(&mut self, owner: usize) -> Option<Result<u64>> {
        let created = self.owners[owner].created.try_recv().ok()?;
        Some(created.map(|header| header.revision.0))
    }

    fn take(&self, owner: usize) -> Poll<Taken> {
        let mut cx = Context::from_waker(Waker::noop());
        self.owners[owner].buffer.poll_take(&mut cx)
    }

    /// The revisions that an owner finds, obeying the wish to go on.
    fn read(&mut self, owner: usize) -> Vec<u64> {
        let mut revisions = Vec::new();
        loop {
            let item = match self.take(owner) {
                Poll::Pending | Poll::Ready(Taken::End) => return revisions,
                Poll::Ready(Taken::Item(item)) => item,
                Poll::Ready(Taken::LastBeforePause(item)) => {
                    self.hub.order(owner as Key, Order::Continue);
                    item
                }
            };
            match item.unwrap() {
                WatchItem::Events(batch) => {
                    revisions.extend(batch.events.iter().map(|event| event.kv.mod_revision.0));
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn item(&self, owner: usize) -> Option<Result<WatchItem>> {
        match self.take(owner) {
            Poll::Ready(Taken::Item(item) | Taken::LastBeforePause(item)) => Some(item),
            _ => None,
        }
    }

    fn reads_progress(&self, owner: usize) -> Option<u64> {
        match self.item(owner)?.unwrap() {
            WatchItem::Progress(revision) => Some(revision.0),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_watch_waits_for_a_stream_and_stands_when_it_is_created() {
    let mut bench = Bench::new();
    assert!(!bench.hub.is_wanted());
    bench.add(0);
    assert!(bench.hub.is_wanted());
    assert_eq!(bench.sent(), []);
    bench.hub.opened(true);
    assert_eq!(bench.sent(), [Create(1, 0)]);
    assert!(bench.hub.is_waiting());
    assert!(bench.is_created(0).is_none());
    bench.created(1, 7);
    assert_eq!(bench.is_created(0).unwrap().unwrap(), 7);
    assert!(!bench.hub.is_waiting());
    bench.events(1, &[8, 9, 9]);
    assert_eq!(bench.read(0), [8, 9, 9]);
}

#[test]
fn after_a_break_each_watch_goes_on_where_it_was_under_a_new_id() {
    let mut bench = Bench::new();
    bench.add(0);
    bench.add(3);
    bench.add(0);
    bench.hub.opened(true);
    assert_eq!(bench.sent(), [Create(1, 0), Create(2, 3), Create(3, 0)]);
    bench.created(1, 7);
    bench.created(2, 7);
    bench.events(2, &[3, 5]);
    bench.hub.lost();
    bench.hub.opened(true);
    // The third had not been created: its *now* is still to come.
    assert_eq!(bench.sent(), [Create(4, 8), Create(5, 6), Create(6, 0)]);
    // Late answers of the old stream are nobody's.
    bench.events(2, &[5, 6]);
    bench.created(4, 9);
    bench.created(5, 9);
    bench.events(5, &[5, 6]);
    assert_eq!(bench.read(1), [3, 5, 6]);
    assert_eq!(bench.read(0), []);
}

#[test]
fn a_refusal_without_an_id_is_for_the_one_that_was_asked_for_first() {
    let mut bench = Bench::new();
    bench.hub.opened(true);
    bench.add(0);
    bench.add(0);
    bench.created(1, 7);
    bench
        .refused(NO_WATCH, "mvcc: watcher range is empty")
        .unwrap();
    assert_eq!(bench.is_created(0).unwrap().unwrap(), 7);
    let error = bench.is_created(1).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.message().contains("range is empty"), "{error}");
}

#[test]
fn answers_to_what_was_not_asked_make_no_sense() {
    let mut bench = Bench::new();
    bench.hub.opened(true);
    assert!(bench.answer(1, 7, WatchNews::Created).is_err());
    bench.add(0);
    bench.add(0);
    assert!(bench.answer(2, 7, WatchNews::Created).is_err());
}

#[test]
fn a_closed_watch_is_cancelled_and_its_answers_pass_by() {
    let mut bench = Bench::new();
    bench.hub.opened(true);
    bench.add(0);
    bench.hub.order(0, Order::Close);
    assert_eq!(bench.sent(), [Create(1, 0), Cancel(1)]);
    assert!(!bench.hub.is_wanted());
    bench.created(1, 7);
    bench.events(1, &[8]);
    let reason = String::new();
    bench.answer(1, 8, WatchNews::Canceled { reason }).unwrap();
    bench.add(0);
    assert_eq!(bench.sent(), [Create(2, 0)]);
    bench.created(2, 9);
    assert_eq!(bench.is_created(1).unwrap().unwrap(), 9);
}

#[test]
fn a_compaction_is_the_last_item() {
    let mut bench = Bench::new();
    bench.hub.opened(true);
    bench.add(3);
    bench.created(1, 9);
    bench.sent();
    let compact_revision = Revision(5);
    let news = WatchNews::Compacted { compact_revision };
    bench.answer(1, 9, news).unwrap();
    let item = bench.item(0).unwrap().unwrap();
    assert_eq!(item, WatchItem::Compacted { compact_revision });
    assert!(matches!(bench.take(0), Poll::Ready(Taken::End)));
    assert!(!bench.hub.is_wanted());
    assert_eq!(bench.sent(), []);
}

#[test]
fn a_reader_who_does_not_read_is_cancelled_and_goes_on_where_it_stopped() {
    let mut bench = Bench::new();
    bench.hub.opened(true);
    bench.add_with(0, 500);
    bench.created(1, 7);
    bench.sent();
    bench.events(1, &[8, 9]);
    assert_eq!(bench.sent(), []);
    bench.events(1, &[10]);
    assert_eq!(bench.sent(), [Cancel(1)]);
    // What was on its way is not taken twice, and costs nothing.
    bench.events(1, &[11]);
    assert!(!bench.hub.is_wanted());
    bench.hub.lost();
    bench.hub.opened(true);
    assert_eq!(bench.sent(), []);
    assert_eq!(bench.read(0), [8, 9, 10]);
    assert_eq!(bench.sent(), [Create(2, 11)]);
    bench.created(2, 11);
    bench.events(2, &[11, 12]);
    assert_eq!(bench.read(0), [11, 12]);
}

#[test]
fn a_revision_in_pieces_is_asked_for_again_as_a_whole() {
    let mut bench = Bench::new();
    bench.hub.opened(true);
    bench.add(1);
    bench.created(1, 9);
    bench.sent();
    bench.pieces(1, &[3, 4], true);
    assert_eq!(bench.read(0), [3]);
    bench.hub.lost();
    bench.hub.opened(true);
    assert_eq!(bench.sent(), [Create(2, 4)]);
    bench.created(2, 9);
    bench.pieces(2, &[4, 4], true);
    bench.pieces(2, &[4, 5], false);
    assert_eq!(bench.read(0), [4, 4, 4, 5]);
}

#[test]
fn a_member_that_is_behind_repeats_nothing() {
    let mut bench = Bench::new();
    bench.hub.opened(true);
    bench.add(0);
    bench.created(1, 7);
    bench.events(1, &[8]);
    bench.hub.lost();
    bench.hub.opened(true);
    bench.created(2, 5);
    bench.events(2, &[6, 7]);
    bench.events(2, &[8, 9]);
    assert_eq!(bench.read(0), [8, 9]);
}

#[test]
fn a_progress_of_one_watch_moves_it_on() {
    let mut bench = Bench::new();
    bench.hub.opened(true);
    bench.add(3);
    bench.created(1, 9);
    bench.progress(1, 9);
    assert_eq!(bench.reads_progress(0), Some(9));
    bench.sent();
    bench.hub.lost();
    bench.hub.opened(true);
    assert_eq!(bench.sent(), [Create(2, 10)]);
}

#[test]
fn a_progress_that_was_asked_for_comes_to_those_who_asked_while_they_stood() {
    let mut bench = Bench::new();
    bench.hub.opened(true);
    bench.add(0);
    bench.add(3);
    bench.created(1, 7);
    bench.hub.order(0, Order::Progress);
    bench.hub.order(0, Order::Progress);
    bench.hub.order(1, Order::Progress);
    assert_eq!(bench.sent(), [Create(1, 0), Create(2, 3), Ask]);
    // The second has been created since, but the answer may be older than it is.
    bench.created(2, 7);
    assert_eq!(bench.sent(), []);
    bench.progress(NO_WATCH, 7);
    assert_eq!(bench.reads_progress(0), Some(7));
    assert_eq!(bench.reads_progress(1), None);
    assert_eq!(bench.sent(), [Ask]);
    bench.events(2, &[3, 8]);
    bench.progress(NO_WATCH, 8);
    assert_eq!(bench.item(1).map(|item| item.is_ok()), Some(true));
    assert_eq!(bench.reads_progress(1), Some(8));
    assert_eq!(bench.reads_progress(0), None);
    assert_eq!(bench.sent(), []);
}

#[test]
fn of_an_old_server_a_second_answer_is_awaited_and_nothing_is_built_on_it() {
    let mut bench = Bench::new();
    bench.hub.opened(false);
    bench.add(0);
    bench.add(3);
    bench.created(1, 7);
    bench.created(2, 7);
    bench.sent();
    bench.hub.order(0, Order::Progress);
    bench.hub.order(1, Order::Progress);
    assert_eq!(bench.sent(), [Ask]);
    bench.progress(NO_WATCH, 9);
    assert_eq!(bench.reads_progress(0), None);
    assert_eq!(bench.sent(), [Ask]);
    // What the first answer overtook.
    bench.events(1, &[8]);
    bench.progress(NO_WATCH, 9);
    assert_eq!(bench.read_events_then_progress(0), ([8].to_vec(), 9));
    // The other one is behind, and asks once it is not.
    assert_eq!(bench.sent(), []);
    bench.events(2, &[3, 8]);
    assert_eq!(bench.sent(), [Ask]);
    bench.hub.lost();
    bench.hub.opened(false);
    assert_eq!(bench.sent(), [Create(3, 9), Create(4, 9)]);
}

impl Bench {
    fn read_events_then_progress(&mut self, owner: usize) -> (Vec<u64>, u64) {
        let Some(Ok(WatchItem::Events(batch))) = self.item(owner) else {
            panic!("events");
        };
        let revisions = batch.events.iter().map(|event| event.kv.mod_revision.0);
        let revisions = revisions.collect();
        (revisions, self.reads_progress(owner).unwrap())
    }
}

const DENIED: &str = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";

#[test]
fn a_want_of_permission_is_final_without_a_user() {
    let mut bench = Bench::new();
    bench.hub.opened(true);
    bench.add(0);
    bench.refused(1, DENIED).unwrap();
    let error = bench.is_created(0).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert_eq!(bench.hub.take_denied(), []);
}

#[test]
fn a_want_of_permission_is_looked_into_where_a_token_may_be_old() {
    let mut bench = Bench::new();
    bench.hub = Hub::new(true);
    bench.hub.opened(true);
    bench.add(0);
    bench.sent();
    for id in 1..=3 {
        bench.refused(id, DENIED).unwrap();
        let denied = bench.hub.take_denied();
        assert_eq!(denied.len(), 1);
        assert!(bench.is_created(0).is_none());
        bench.hub.settle(denied[0].key, Ok(()));
        assert_eq!(bench.sent(), [Create(id + 1, 0)]);
    }
    // Often enough.
    bench.refused(4, DENIED).unwrap();
    let error = bench.is_created(0).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    bench.add(0);
    bench.refused(5, DENIED).unwrap();
    let key = bench.hub.take_denied()[0].key;
    let verdict = ErrorKind::PermissionDenied.into();
    bench.hub.settle(key, Err(verdict));
    assert!(bench.is_created(1).unwrap().is_err());
}

#[test]
fn a_reason_that_may_go_away_asks_for_another_stream() {
    let mut bench = Bench::new();
    bench.hub.opened(true);
    bench.add(0);
    bench.created(1, 7);
    let reason = "rpc error: code = Unavailable desc = etcdserver: no leader".to_string();
    let canceled = bench.answer(1, 7, WatchNews::Canceled { reason });
    assert!(canceled.unwrap_err().is_transient());
    bench.sent();
    bench.hub.opened(true);
    assert_eq!(bench.sent(), [Create(2, 8)]);
}

#[test]
fn a_cluster_that_refuses_ends_all_watches_and_a_certificate_only_the_new_ones() {
    let mut bench = Bench::new();
    bench.hub.opened(true);
    bench.add(0);
    bench.created(1, 7);
    bench.add(0);
    bench.hub.lost();
    bench.hub.refuse_new(&ErrorKind::Tls.into());
    assert!(bench.is_created(0).unwrap().is_ok());
    let error = bench.is_created(1).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Tls);
    assert!(bench.item(0).is_none());
    assert!(bench.hub.is_wanted());
    bench.hub.refuse_all(&ErrorKind::Unauthenticated.into());
    let error = bench.item(0).unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert!(!bench.hub.is_wanted());
}
