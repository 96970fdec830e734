//! Reading at the published revision, page by page, without the writer.
//!
//! A read is pinned to the revision that was published when it began. Between two pages that revision may be compacted
//! away: a read of an explicit revision then says so; one of the current revision begins again at a newer one, and after
//! two attempts has that one kept until it is done, so that it ends however fast others write and compact. It never keeps
//! the lock for longer than a page.

use std::task::Poll;

use synod_store::{
    BoxFuture, Compare, ErrorKind, HashResponse, Header, KeyRange, LeaseId, RangeRequest,
    RangeResponse, Result, Revision, Txn, TxnOp, TxnOpResponse, TxnResponse,
};

use crate::mvcc::{State, StoredKey, View};
use crate::range::{PAGE, RangeCursor};
use crate::room::Room;
use crate::shared::Shared;
use crate::txn::{self, Path, RangeCompare, check_revision};

/// After so many pages the task gives way to others.
const PAGES_A_TURN: usize = 16;
/// Attempts of a read before it has its revision kept.
const ATTEMPTS: usize = 2;

/// Lets other tasks run once.
async fn give_way() {
    let mut given = false;
    std::future::poll_fn(|cx| {
        if given {
            return Poll::Ready(());
        }
        given = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// The revision to read: the one asked for, or the current one.
fn asked(revision: Revision, current: Revision) -> Revision {
    if revision.is_zero() {
        current
    } else {
        revision
    }
}

/// The revision that a read is of, and how much it may look at.
#[derive(Debug)]
struct Pin {
    at: Revision,
    /// What it needs is kept until it ends, also when it is compacted meanwhile.
    held: bool,
    room: Room,
}

impl Pin {
    /// Refuses to go on at `revision` when that may be gone.
    fn check(&self, state: &State, revision: Revision) -> Result<()> {
        let kept = self.held && revision >= self.at;
        if revision < state.compacted() && !kept {
            return Err(ErrorKind::Compacted.into());
        }
        Ok(())
    }
}

impl Shared {
    /// Answers a range request.
    pub(crate) async fn range(&self, request: &RangeRequest) -> Result<RangeResponse> {
        let mut answer = self
            .pinned(|mut pin| {
                Box::pin(async move {
                    check_revision(request.revision, self.state().compacted(), pin.at)?;
                    let answer = self.range_at(request, &mut pin).await?;
                    Ok((answer, pin.at))
                })
            })
            .await?;
        answer.0.header = self.header_at(answer.1);
        Ok(answer.0)
    }

    /// Answers a transaction that writes nothing.
    pub(crate) async fn read_txn(&self, txn: &Txn) -> Result<TxnResponse> {
        let mut answer = self
            .pinned(|pin| Box::pin(self.read_txn_at(txn, pin)))
            .await?;
        answer.header = self.header_at(answer.header.revision);
        Ok(answer)
    }

    /// Runs a read in pages at the published revision, and again at a newer one if that was compacted meanwhile; in the
    /// end at one that is kept for it.
    async fn pinned<'a, T>(
        &'a self,
        in_pages: impl Fn(Pin) -> BoxFuture<'a, Result<T>>,
    ) -> Result<T> {
        for _ in 0..ATTEMPTS {
            let at = self.published();
            let result = in_pages(Pin {
                at,
                held: false,
                room: Room::for_reads(),
            })
            .await;
            let outrun = matches!(&result, Err(error) if error.kind() == ErrorKind::Compacted)
                && self.state().compacted() > at;
            if !outrun {
                return result;
            }
        }
        let held = self.hold();
        in_pages(Pin {
            at: held.revision(),
            held: true,
            room: Room::for_held_reads(),
        })
        .await
    }

    /// Shows `step` the state as of `at` page by page until it has a result.
    async fn pages<T>(
        &self,
        pin: &mut Pin,
        at: Revision,
        mut step: impl FnMut(&View<'_>) -> Option<T>,
    ) -> Result<T> {
        loop {
            for _ in 0..PAGES_A_TURN {
                let state = self.state();
                pin.check(&state, at)?;
                if let Some(result) = step(&View::new(&state, at)) {
                    return Ok(result);
                }
                pin.room.look_at_page();
            }
            give_way().await;
        }
    }

    async fn range_at(&self, request: &RangeRequest, pin: &mut Pin) -> Result<RangeResponse> {
        let mut cursor = RangeCursor::new(request);
        let at = asked(request.revision, pin.at);
        self.pages(pin, at, |view| (!cursor.step(view, PAGE)).then_some(()))
            .await?;
        Ok(cursor.finish())
    }

    async fn compare_at(&self, compare: &Compare, pin: &mut Pin) -> Result<bool> {
        let mut pages = RangeCompare::new();
        let at = pin.at;
        self.pages(pin, at, |view| pages.step(view, compare, PAGE))
            .await
    }

    async fn read_txn_at(&self, txn: &Txn, mut pin: Pin) -> Result<TxnResponse> {
        let at = pin.at;
        let path = self.decide_at(txn, &mut pin).await?;
        txn::for_each_chosen(txn, &path, &mut |op| match op {
            TxnOp::Range(range) => check_revision(range.revision, self.state().compacted(), at),
            _ => Ok(()),
        })?;
        Ok(TxnResponse {
            header: bare(at),
            succeeded: path.succeeded,
            responses: self.branch_at(txn, &path, &mut pin).await?,
        })
    }

    fn decide_at<'a>(&'a self, txn: &'a Txn, pin: &'a mut Pin) -> BoxFuture<'a, Result<Path>> {
        Box::pin(async move {
            let mut path = Path {
                succeeded: true,
                nested: Vec::new(),
            };
            for compare in &txn.compares {
                pin.room.check()?;
                if !self.compare_at(compare, pin).await? {
                    path.succeeded = false;
                    break;
                }
            }
            for op in path.branch(txn) {
                if let TxnOp::Txn(nested) = op {
                    path.nested.push(self.decide_at(nested, pin).await?);
                }
            }
            Ok(path)
        })
    }

    fn branch_at<'a>(
        &'a self,
        txn: &'a Txn,
        path: &'a Path,
        pin: &'a mut Pin,
    ) -> BoxFuture<'a, Result<Vec<TxnOpResponse>>> {
        Box::pin(async move {
            let mut responses = Vec::new();
            let mut nested = path.nested.iter();
            for op in path.branch(txn) {
                pin.room.check()?;
                match op {
                    TxnOp::Range(request) => {
                        let mut response = self.range_at(request, pin).await?;
                        pin.room.show(&response.kvs);
                        response.header = bare(pin.at);
                        responses.push(TxnOpResponse::Range(response));
                    }
                    TxnOp::Txn(txn) => {
                        let path = nested.next().ok_or_else(txn::lost_path)?;
                        responses.push(TxnOpResponse::Txn(TxnResponse {
                            header: Header::default(),
                            succeeded: path.succeeded,
                            responses: self.branch_at(txn, path, pin).await?,
                        }));
                    }
                    // The caller knows that it only reads.
                    TxnOp::Put(_) | TxnOp::Delete(_) => return Err(txn::lost_path()),
                }
            }
            Ok(responses)
        })
    }

    /// Hashes every pair that can be seen at `revision`, or now: CRC-32 of each pair's numbers, key and value in key
    /// order. It can be compared between stores of this kind alone.
    pub(crate) async fn hash(&self, revision: Revision) -> Result<HashResponse> {
        let (hash, current) = self
            .pinned(|mut pin| {
                Box::pin(async move {
                    check_revision(revision, self.state().compacted(), pin.at)?;
                    let mut pages = Hash::default();
                    let done = |view: &View<'_>| (!pages.step(view, PAGE)).then_some(());
                    let at = asked(revision, pin.at);
                    self.pages(&mut pin, at, done).await?;
                    Ok((pages.hasher.finalize(), pin.at))
                })
            })
            .await?;
        Ok(HashResponse {
            header: self.header_at(current),
            hash,
            compact_revision: self.state().compacted(),
            hash_revision: asked(revision, current),
        })
    }
}

/// A hash of all pairs on its way.
#[derive(Default)]
struct Hash {
    hasher: crc32fast::Hasher,
    after: Option<StoredKey>,
}

impl Hash {
    /// Hashes the next page; true when there are more.
    fn step(&mut self, view: &View<'_>, budget: usize) -> bool {
        let after = self.after.take();
        let hasher = &mut self.hasher;
        self.after = view.walk(
            &KeyRange::all(),
            after.as_deref(),
            budget,
            |key, version| {
                let value = version.value.as_deref().unwrap_or_default();
                let lengths = [key.len() as u64, value.len() as u64];
                let numbers = [version.created.0, version.modified.0, version.version];
                for number in lengths.into_iter().chain(numbers) {
                    hasher.update(&number.to_le_bytes());
                }
                hasher.update(&LeaseId::to_i64(version.lease).to_le_bytes());
                hasher.update(key);
                hasher.update(value);
                2
            },
        );
        self.after.is_some()
    }
}

/// A header inside a transaction.
fn bare(revision: Revision) -> Header {
    Header {
        revision,
        ..Header::default()
    }
}
