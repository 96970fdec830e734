//! Answering a range request page by page, so that a long one holds no lock for long.
//!
//! Order of work, as in etcd: revision filters, sort, limit; the count is the whole range's. One peculiarity is etcd's
//! too: a sort target other than the key *without* an order sorts what the limit left.

use synod_store::{KeyValue, RangeRequest, RangeResponse, Revision, SortOrder, SortTarget};

use crate::mvcc::{StoredKey, Version, View};

/// Keys that are only counted in one page; one that is returned counts [`PAIR_COST`] times.
pub(crate) const PAGE: usize = 2048;
const PAIR_COST: usize = 8;

/// A range request on its way.
#[derive(Debug)]
pub(crate) struct RangeCursor<'r> {
    request: &'r RangeRequest,
    /// The last key that was looked at.
    after: Option<StoredKey>,
    /// Pairs beyond this many are only counted.
    keep: usize,
    kvs: Vec<KeyValue>,
    count: u64,
}

impl<'r> RangeCursor<'r> {
    pub(crate) fn new(request: &'r RangeRequest) -> RangeCursor<'r> {
        let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
        let keep = if request.count_only {
            0
        } else if limit == 0 || request.sort_order != SortOrder::None || is_filtered(request) {
            usize::MAX
        } else {
            // One more tells whether something was cut off, and takes part in a sort without an order.
            limit.saturating_add(1)
        };
        RangeCursor {
            request,
            after: None,
            keep,
            kvs: Vec::new(),
            count: 0,
        }
    }

    /// Reads the next page of about `budget`; true when there are more.
    pub(crate) fn step(&mut self, view: &View<'_>, budget: usize) -> bool {
        let after = self.after.take();
        // A value is looked up only to be shown, or to sort by.
        let bare = self.request.keys_only && self.request.sort_target != SortTarget::Value;
        self.after = view.walk(
            &self.request.range,
            after.as_deref(),
            budget,
            |key, version| {
                self.count = self.count.saturating_add(1);
                if self.kvs.len() < self.keep && passes(self.request, version) {
                    self.kvs.push(if bare {
                        version.to_bare_pair(key)
                    } else {
                        version.to_pair(key)
                    });
                    PAIR_COST
                } else {
                    1
                }
            },
        );
        self.after.is_some()
    }

    /// The answer, but for its header.
    pub(crate) fn finish(mut self) -> RangeResponse {
        let request = self.request;
        sort(&mut self.kvs, request);
        let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
        let more = limit > 0 && self.kvs.len() > limit;
        if more {
            self.kvs.truncate(limit);
        }
        if request.keys_only {
            self.kvs.iter_mut().for_each(|kv| kv.value.clear());
        }
        RangeResponse {
            kvs: self.kvs,
            more,
            count: self.count,
            ..RangeResponse::default()
        }
    }
}

fn is_filtered(request: &RangeRequest) -> bool {
    bounds(request).iter().any(|bound| !bound.is_zero())
}

/// The four revision filters; zero for one that is not set, as on the wire.
fn bounds(request: &RangeRequest) -> [Revision; 4] {
    [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ]
    .map(Option::unwrap_or_default)
}

fn passes(request: &RangeRequest, version: &Version) -> bool {
    let [min_mod, max_mod, min_create, max_create] = bounds(request);
    let within = |revision: Revision, min: Revision, max: Revision| {
        revision >= min && (max.is_zero() || revision <= max)
    };
    within(version.modified, min_mod, max_mod) && within(version.created, min_create, max_create)
}

/// Sorts pairs that are in key order. Equal ones stay in it, in both directions, as in etcd.
fn sort(kvs: &mut [KeyValue], request: &RangeRequest) {
    let order = |a: &KeyValue, b: &KeyValue| match request.sort_target {
        SortTarget::Key => a.key.cmp(&b.key),
        SortTarget::Version => a.version.cmp(&b.version),
        SortTarget::CreateRevision => a.create_revision.cmp(&b.create_revision),
        SortTarget::ModRevision => a.mod_revision.cmp(&b.mod_revision),
        SortTarget::Value => a.value.cmp(&b.value),
    };
    match (request.sort_target, request.sort_order) {
        (SortTarget::Key, SortOrder::None | SortOrder::Ascending) => {}
        (_, SortOrder::None | SortOrder::Ascending) => kvs.sort_by(order),
        (_, SortOrder::Descending) => kvs.sort_by(|a, b| order(b, a)),
    }
}
