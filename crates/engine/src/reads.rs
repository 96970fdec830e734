//! Reading at the published revision, page by page, without the writer.
//!
//! A read is pinned to the revision that was published when it began. Between two pages that revision may be compacted
//! away: a read of an explicit revision then says so; one of the current revision begins again at a newer one, and after
//! two attempts reads all at once under the lock, so that it ends however fast others write and compact.

use std::task::Poll;

use bytes::Bytes;
use synod_store::{
    BoxFuture, Compare, ErrorKind, HashResponse, Header, KeyRange, RangeRequest, RangeResponse,
    Result, Revision, Txn, TxnOp, TxnOpResponse, TxnResponse,
};

use crate::mvcc::{State, View};
use crate::range::{PAGE, RangeCursor};
use crate::shared::Shared;
use crate::txn::{self, Path, RangeCompare, check_revision};

/// After so many pages the task gives way to others.
const PAGES_A_TURN: usize = 16;
/// Attempts of a current read before it keeps the lock.
const ATTEMPTS: usize = 3;

/// A read's revision, and whether it may let go of the lock.
#[derive(Debug, Clone, Copy)]
struct Pinned {
    at: Revision,
    budget: usize,
}

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

impl Shared {
    /// Answers a range request.
    pub(crate) async fn range(&self, request: &RangeRequest) -> Result<RangeResponse> {
        let revision = request.revision;
        self.pinned(|pinned| {
            Box::pin(async move {
                check_revision(revision, self.state().compacted(), pinned.at)?;
                let mut response = self.range_at(request, pinned).await?;
                response.header = self.header_at(pinned.at);
                Ok(response)
            })
        })
        .await
    }

    /// Answers a transaction that writes nothing.
    pub(crate) async fn read_txn(&self, txn: &Txn) -> Result<TxnResponse> {
        self.pinned(|pinned| Box::pin(self.read_txn_at(txn, pinned)))
            .await
    }

    /// Runs a read at the published revision, and again at a newer one if that was compacted meanwhile.
    async fn pinned<'a, T>(
        &'a self,
        read: impl Fn(Pinned) -> BoxFuture<'a, Result<T>>,
    ) -> Result<T> {
        let mut attempt = 0_usize;
        loop {
            attempt = attempt.saturating_add(1);
            let at = self.published();
            let budget = if attempt < ATTEMPTS { PAGE } else { usize::MAX };
            let result = read(Pinned { at, budget }).await;
            // With the lock kept the revision may still have been compacted between two ranges of one transaction.
            let outrun = matches!(&result, Err(error) if error.kind() == ErrorKind::Compacted)
                && self.state().compacted() > at;
            if !outrun || attempt > ATTEMPTS {
                return result;
            }
        }
    }

    /// Shows `step` the state as of `at` page by page until it has a result.
    async fn pages<T>(
        &self,
        at: Revision,
        mut step: impl FnMut(&View<'_>) -> Option<T>,
    ) -> Result<T> {
        loop {
            for _ in 0..PAGES_A_TURN {
                let state = self.state();
                check_pin(&state, at)?;
                if let Some(result) = step(&View::new(&state, at)) {
                    return Ok(result);
                }
            }
            give_way().await;
        }
    }

    async fn range_at(&self, request: &RangeRequest, pinned: Pinned) -> Result<RangeResponse> {
        let at = if request.revision.is_zero() {
            pinned.at
        } else {
            request.revision
        };
        let mut cursor = RangeCursor::new(request);
        self.pages(at, |view| (!cursor.step(view, pinned.budget)).then_some(()))
            .await?;
        Ok(cursor.finish())
    }

    async fn compare_at(&self, compare: &Compare, pinned: Pinned) -> Result<bool> {
        let mut pages = RangeCompare::new();
        self.pages(pinned.at, |view| pages.step(view, compare, pinned.budget))
            .await
    }

    async fn read_txn_at(&self, txn: &Txn, pinned: Pinned) -> Result<TxnResponse> {
        let path = self.decide_at(txn, pinned).await?;
        txn::for_each_chosen(txn, &path, &mut |op| match op {
            TxnOp::Range(range) => {
                check_revision(range.revision, self.state().compacted(), pinned.at)
            }
            _ => Ok(()),
        })?;
        Ok(TxnResponse {
            header: self.header_at(pinned.at),
            succeeded: path.succeeded,
            responses: self.branch_at(txn, &path, pinned).await?,
        })
    }

    fn decide_at<'a>(&'a self, txn: &'a Txn, pinned: Pinned) -> BoxFuture<'a, Result<Path>> {
        Box::pin(async move {
            let mut path = Path {
                succeeded: true,
                nested: Vec::new(),
            };
            for compare in &txn.compares {
                if !self.compare_at(compare, pinned).await? {
                    path.succeeded = false;
                    break;
                }
            }
            for op in path.branch(txn) {
                if let TxnOp::Txn(nested) = op {
                    path.nested.push(self.decide_at(nested, pinned).await?);
                }
            }
            Ok(path)
        })
    }

    fn branch_at<'a>(
        &'a self,
        txn: &'a Txn,
        path: &'a Path,
        pinned: Pinned,
    ) -> BoxFuture<'a, Result<Vec<TxnOpResponse>>> {
        Box::pin(async move {
            let mut responses = Vec::new();
            let mut nested = path.nested.iter();
            for op in path.branch(txn) {
                match op {
                    TxnOp::Range(request) => {
                        let mut response = self.range_at(request, pinned).await?;
                        response.header.revision = pinned.at;
                        responses.push(TxnOpResponse::Range(response));
                    }
                    TxnOp::Txn(txn) => {
                        let path = nested.next().ok_or_else(txn::lost_path)?;
                        responses.push(TxnOpResponse::Txn(TxnResponse {
                            header: Header::default(),
                            succeeded: path.succeeded,
                            responses: self.branch_at(txn, path, pinned).await?,
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
        self.pinned(|pinned| {
            Box::pin(async move {
                check_revision(revision, self.state().compacted(), pinned.at)?;
                let at = if revision.is_zero() {
                    pinned.at
                } else {
                    revision
                };
                let mut hasher = crc32fast::Hasher::new();
                let mut after = None;
                let all = KeyRange::all();
                self.pages(at, |view| {
                    let last = after.take();
                    after = view.walk(&all, last.as_deref(), pinned.budget, |key, version| {
                        let lease = synod_store::LeaseId::to_i64(version.lease);
                        let value = version.value.as_ref().map_or(&[][..], Bytes::as_ref);
                        let lengths = [key.len() as u64, value.len() as u64];
                        let numbers = [version.created.0, version.modified.0, version.version];
                        for number in lengths.into_iter().chain(numbers) {
                            hasher.update(&number.to_le_bytes());
                        }
                        hasher.update(&lease.to_le_bytes());
                        hasher.update(key);
                        hasher.update(value);
                        2
                    });
                    after.is_none().then_some(())
                })
                .await?;
                Ok(HashResponse {
                    header: self.header_at(pinned.at),
                    hash: hasher.finalize(),
                    compact_revision: self.state().compacted(),
                    hash_revision: at,
                })
            })
        })
        .await
    }
}

fn check_pin(state: &State, at: Revision) -> Result<()> {
    if at < state.compacted() {
        return Err(ErrorKind::Compacted.into());
    }
    Ok(())
}
