//! Looking at a queue without taking anything: its length, its first item, a list; and clearing it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use bytes::Bytes;
use synod_store::{ErrorKind, Key, RangeRequest, Revision};

use super::QueueItem;
use super::claim::{Plan, delete};
use super::consumer::Core;
use super::look::{Candidate, Look, WINDOW, look};
use super::order::Order;
use super::scan::Scan;
use crate::Result;
use crate::settle::{MAX_OPS, Outcome};

/// Keys in a page without values.
const PAGE: usize = 2048;

/// Keys in a page with values: at first, and at most; a page grows while it is small in bytes.
const VALUE_PAGE: (usize, usize) = (16, 1024);

/// A page of more bytes is not followed by a larger one.
const PAGE_BYTES: usize = 256 << 10;

/// How often a walk begins anew because compaction has overtaken it.
const RESTARTS: usize = 3;

impl<O: Order> Core<O> {
    pub(crate) async fn len(&self) -> Result<usize> {
        let mut restarts = RESTARTS;
        'again: loop {
            let mut scan = self.scan(true);
            let mut count = 0usize;
            loop {
                match scan.next(PAGE).await {
                    Ok(Some(kvs)) => count = count.saturating_add(kvs.len()),
                    Ok(None) => return Ok(count),
                    Err(error) if error.kind() == Some(ErrorKind::Compacted) && restarts > 0 => {
                        restarts = restarts.saturating_sub(1);
                        continue 'again;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }

    pub(crate) async fn is_empty(&self) -> Result<bool> {
        Ok(self.head().await?.items.is_empty())
    }

    /// The first items, without their values.
    async fn head(&self) -> Result<Look> {
        let start = self.order.start();
        look(&*self.store, &self.order, start, &[], false, self.patience).await
    }

    fn scan(&self, keys_only: bool) -> Scan<'_, O> {
        Scan::new(
            &*self.store,
            &self.order,
            self.order.start(),
            keys_only,
            self.patience,
        )
    }

    pub(crate) async fn peek(&self) -> Result<Option<QueueItem>> {
        loop {
            let look = self.head().await?;
            let Some(first) = look.items.front() else {
                return Ok(None);
            };
            // At the look's revision it is there, whoever takes it meanwhile.
            let request = RangeRequest::new(first.key.clone()).at(look.revision);
            let answer =
                crate::retry::read(self.patience, || self.store.range(request.clone())).await;
            match answer {
                Ok(response) => {
                    if let Some(kv) = response.kvs.into_iter().next() {
                        return Ok(Some(QueueItem::new(kv.key, kv.value, kv.mod_revision)));
                    }
                }
                Err(error) if error.kind() == Some(ErrorKind::Compacted) => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) async fn list(&self, limit: usize) -> Result<Vec<QueueItem>> {
        let mut restarts = RESTARTS;
        loop {
            match self.list_once(limit).await {
                Err(error) if error.kind() == Some(ErrorKind::Compacted) && restarts > 0 => {
                    restarts = restarts.saturating_sub(1);
                }
                answer => return answer,
            }
        }
    }

    /// The order in which items come out is a window of [`WINDOW`] live keys that moves on by one
    /// key for each item that leaves it.
    async fn list_once(&self, limit: usize) -> Result<Vec<QueueItem>> {
        let mut scan = self.scan(false);
        let mut page = VALUE_PAGE.0;
        let mut window: BinaryHeap<Reverse<(Revision, Key, Bytes, Revision)>> = BinaryHeap::new();
        let mut list = Vec::new();
        let mut more = true;
        while list.len() < limit {
            while more && window.len() < WINDOW {
                let Some(kvs) = scan.next(page).await? else {
                    more = false;
                    break;
                };
                let bytes: usize = kvs.iter().map(|kv| kv.value.len()).sum();
                if bytes < PAGE_BYTES {
                    page = page.saturating_mul(2).min(VALUE_PAGE.1);
                }
                window.extend(kvs.into_iter().map(|kv| {
                    let rank = self.order.rank(kv.mod_revision);
                    Reverse((rank, kv.key, kv.value, kv.mod_revision))
                }));
            }
            match window.pop() {
                Some(Reverse((_, key, value, revision))) => {
                    list.push(QueueItem::new(key, value, revision));
                }
                None => break,
            }
        }
        Ok(list)
    }

    pub(crate) async fn clear(&self) -> Result<usize> {
        let mut cleared = 0usize;
        let mut restarts = RESTARTS;
        // All pages are of one revision: what producers put in meanwhile is not run after.
        let mut scan = self.scan(true);
        loop {
            let kvs = match scan.next(PAGE).await {
                Ok(Some(kvs)) => kvs,
                Ok(None) => return Ok(cleared),
                Err(error) if error.kind() == Some(ErrorKind::Compacted) && restarts > 0 => {
                    restarts = restarts.saturating_sub(1);
                    scan = self.scan(true);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let candidate = |kv| {
                let mut candidate = Candidate::new(kv, false);
                // Their values are not asked for.
                candidate.value = Some(Bytes::new());
                candidate
            };
            let mut window: VecDeque<Candidate> = kvs.into_iter().map(candidate).collect();
            while !window.is_empty() {
                let batch = window.len().min(MAX_OPS.saturating_sub(28));
                let singles = self
                    .settle
                    .room(MAX_OPS, (batch, batch), (1, 1))
                    .min(window.len())
                    .min(8);
                let plan = Plan::in_turn(batch, singles);
                match self
                    .settle
                    .run(plan.work(&window, |_| Vec::new(), delete))
                    .await?
                {
                    Outcome::Done { alternative, .. } => {
                        let taken = plan.taken(&mut window, alternative).len();
                        cleared = cleared.saturating_add(taken);
                    }
                    Outcome::GuardsFalse => plan.missed(&mut window),
                }
            }
        }
    }
}
