//! What a transaction does: conditions, the branches they choose, the operations of these branches.
//!
//! Four steps, as in etcd, so that a transaction which fails has done nothing:
//! 1. every condition, nested ones too, is decided on the state before the transaction;
//! 2. the puts of the chosen branches are checked (lease exists; key exists where its value or lease is kept);
//! 3. the ranges of the chosen branches are checked (revision neither compacted nor in the future);
//! 4. the operations run in order on an overlay, which the caller applies to the state as one revision.
//!
//! What they may look at and show together is bounded (`room.rs`).

use synod_store::{
    Compare, CompareOp, CompareOperand, DeleteRequest, DeleteResponse, Error, ErrorKind, Header,
    KeyRange, KeyValue, LeaseId, PutLease, PutRequest, PutResponse, PutValue, RangeRequest, Result,
    Revision, Txn, TxnOp, TxnOpResponse, TxnResponse,
};

use crate::mvcc::{Change, Overlay, State, StoredKey, StoredValue, Version, View};
use crate::range::{PAGE, RangeCursor};
use crate::room::Room;

/// The chosen branch of a transaction, with those of its nested transactions in their order.
#[derive(Debug)]
pub(crate) struct Path {
    pub(crate) succeeded: bool,
    pub(crate) nested: Vec<Path>,
}

impl Path {
    /// The operations of the chosen branch.
    pub(crate) fn branch<'t>(&self, txn: &'t Txn) -> &'t [TxnOp] {
        if self.succeeded {
            &txn.success
        } else {
            &txn.failure
        }
    }
}

/// Chooses the branches of a transaction and of all nested ones that will run. `compare` decides a condition.
pub(crate) fn decide(txn: &Txn, compare: &mut dyn FnMut(&Compare) -> Result<bool>) -> Result<Path> {
    let mut succeeded = true;
    for condition in &txn.compares {
        if !compare(condition)? {
            succeeded = false;
            break;
        }
    }
    let mut path = Path {
        succeeded,
        nested: Vec::new(),
    };
    for op in path.branch(txn) {
        if let TxnOp::Txn(nested) = op {
            path.nested.push(decide(nested, compare)?);
        }
    }
    Ok(path)
}

/// Shows `visit` all operations that will run, at every depth; the nested transactions themselves are left out.
pub(crate) fn for_each_chosen(
    txn: &Txn,
    path: &Path,
    visit: &mut dyn FnMut(&TxnOp) -> Result<()>,
) -> Result<()> {
    let mut nested = path.nested.iter();
    for op in path.branch(txn) {
        match op {
            TxnOp::Txn(txn) => {
                if let Some(path) = nested.next() {
                    for_each_chosen(txn, path, visit)?;
                }
            }
            op => visit(op)?,
        }
    }
    Ok(())
}

/// Whether a condition holds for a pair, or for a missing one.
pub(crate) fn holds(compare: &Compare, version: Option<&Version>) -> bool {
    let number = |get: fn(&Version) -> i64, operand: i64| {
        let stored = version.map_or(0, get);
        ordering_holds(compare.op, stored.cmp(&operand))
    };
    match &compare.operand {
        CompareOperand::Version(operand) => number(
            |version| i64::try_from(version.version).unwrap_or(i64::MAX),
            *operand,
        ),
        CompareOperand::CreateRevision(operand) => {
            number(|version| version.created.as_i64(), *operand)
        }
        CompareOperand::ModRevision(operand) => {
            number(|version| version.modified.as_i64(), *operand)
        }
        CompareOperand::Lease(operand) => {
            number(|version| LeaseId::to_i64(version.lease), *operand)
        }
        CompareOperand::Value(operand) => version
            .and_then(|version| version.value.as_ref())
            .is_some_and(|value| ordering_holds(compare.op, value.as_ref().cmp(operand))),
    }
}

fn ordering_holds(op: CompareOp, ordering: std::cmp::Ordering) -> bool {
    match op {
        CompareOp::Equal => ordering.is_eq(),
        CompareOp::NotEqual => ordering.is_ne(),
        CompareOp::Greater => ordering.is_gt(),
        CompareOp::Less => ordering.is_lt(),
    }
}

/// A condition over a range, decided a page at a time.
#[derive(Debug)]
pub(crate) struct RangeCompare {
    after: Option<StoredKey>,
    found: bool,
    all: bool,
}

impl RangeCompare {
    pub(crate) fn new() -> RangeCompare {
        RangeCompare {
            after: None,
            found: false,
            all: true,
        }
    }

    /// Looks at the next page; `None` when there are more.
    pub(crate) fn step(
        &mut self,
        view: &View<'_>,
        compare: &Compare,
        budget: usize,
    ) -> Option<bool> {
        let after = self.after.take();
        self.after = view.walk(&compare.range, after.as_deref(), budget, |_, version| {
            self.found = true;
            self.all &= holds(compare, Some(version));
            1
        });
        if !self.all {
            return Some(false);
        }
        match (&self.after, self.found) {
            (Some(_), _) => None,
            (None, true) => Some(true),
            (None, false) => Some(holds(compare, None)),
        }
    }
}

/// Refuses a revision that cannot be read.
pub(crate) fn check_revision(
    revision: Revision,
    compacted: Revision,
    current: Revision,
) -> Result<()> {
    if revision > current {
        return Err(ErrorKind::FutureRevision.into());
    }
    if !revision.is_zero() && revision < compacted {
        return Err(ErrorKind::Compacted.into());
    }
    Ok(())
}

/// Whether a transaction may look at many keys.
pub(crate) fn is_wide(txn: &Txn) -> bool {
    let is_wide = |range: &KeyRange| !matches!(range, KeyRange::One(_));
    txn.compares.iter().any(|compare| is_wide(&compare.range))
        || txn.success.iter().chain(&txn.failure).any(|op| match op {
            TxnOp::Range(request) => is_wide(&request.range),
            TxnOp::Delete(request) => is_wide(&request.range),
            TxnOp::Put(_) => false,
            TxnOp::Txn(txn) => self::is_wide(txn),
        })
}

/// What a transaction runs on.
pub(crate) struct Ground<'a> {
    pub(crate) state: &'a State,
    /// The revision before the transaction.
    pub(crate) at: Revision,
    /// The compacted revision, one that waits in the same group included.
    pub(crate) compacted: Revision,
    /// Whether a lease exists.
    pub(crate) has_lease: &'a dyn Fn(LeaseId) -> bool,
}

/// What a transaction did.
pub(crate) struct Outcome {
    /// Its answer; the header holds the revision alone.
    pub(crate) response: TxnResponse,
    /// What to apply, as one revision; nothing when it changed nothing.
    pub(crate) changes: Vec<Change>,
}

/// Runs a transaction without touching the state.
pub(crate) fn run(ground: &Ground<'_>, txn: &Txn) -> Result<Outcome> {
    let mut room = Room::for_writes();
    let head = ground.at;
    let before = View::new(ground.state, head);
    let path = decide(txn, &mut |compare| {
        room.check()?;
        let mut pages = RangeCompare::new();
        loop {
            if let Some(holds) = pages.step(&before, compare, PAGE) {
                return Ok(holds);
            }
            room.look_at_page();
        }
    })?;
    for_each_chosen(txn, &path, &mut |op| match op {
        TxnOp::Put(put) => check_put(ground, &before, put),
        _ => Ok(()),
    })?;
    for_each_chosen(txn, &path, &mut |op| match op {
        TxnOp::Range(range) => check_revision(range.revision, ground.compacted, head),
        _ => Ok(()),
    })?;
    let mut run = Run {
        state: ground.state,
        head,
        overlay: Overlay::default(),
        room,
    };
    let responses = run.branch(txn, &path)?;
    let response = TxnResponse {
        header: run.header(),
        succeeded: path.succeeded,
        responses,
    };
    Ok(Outcome {
        response,
        changes: run.overlay.into_changes(),
    })
}

fn check_put(ground: &Ground<'_>, before: &View<'_>, put: &PutRequest) -> Result<()> {
    let keeps = put.value == PutValue::Keep || put.lease == PutLease::Keep;
    if keeps && before.get(&put.key).is_none() {
        return Err(ErrorKind::KeyNotFound.into());
    }
    if let PutLease::Attach(lease) = put.lease
        && !(ground.has_lease)(lease)
    {
        return Err(ErrorKind::LeaseNotFound.into());
    }
    Ok(())
}

/// A transaction while its operations run.
struct Run<'a> {
    state: &'a State,
    head: Revision,
    overlay: Overlay,
    room: Room,
}

impl Run<'_> {
    fn view(&self) -> View<'_> {
        View {
            state: self.state,
            at: self.head,
            overlay: Some(&self.overlay).filter(|overlay| !overlay.is_empty()),
        }
    }

    /// The revision before the first write, the transaction's own after it.
    fn header(&self) -> Header {
        let revision = if self.overlay.is_empty() {
            self.head
        } else {
            self.head.next()
        };
        Header {
            revision,
            ..Header::default()
        }
    }

    fn branch(&mut self, txn: &Txn, path: &Path) -> Result<Vec<TxnOpResponse>> {
        let mut nested = path.nested.iter();
        path.branch(txn)
            .iter()
            .map(|op| {
                self.overlay.settle();
                self.room.check()?;
                Ok(match op {
                    TxnOp::Range(request) => TxnOpResponse::Range(self.range(request)),
                    TxnOp::Put(request) => TxnOpResponse::Put(self.put(request)?),
                    TxnOp::Delete(request) => TxnOpResponse::Delete(self.delete(request)),
                    TxnOp::Txn(txn) => {
                        let path = nested.next().ok_or_else(lost_path)?;
                        TxnOpResponse::Txn(TxnResponse {
                            header: Header::default(),
                            succeeded: path.succeeded,
                            responses: self.branch(txn, path)?,
                        })
                    }
                })
            })
            .collect()
    }

    fn range(&mut self, request: &RangeRequest) -> synod_store::RangeResponse {
        // Not through a method: the room is used beside it.
        let view = if request.revision.is_zero() {
            View {
                state: self.state,
                at: self.head,
                overlay: Some(&self.overlay).filter(|overlay| !overlay.is_empty()),
            }
        } else {
            View::new(self.state, request.revision)
        };
        let mut cursor = RangeCursor::new(request);
        while cursor.step(&view, PAGE) {
            self.room.look_at_page();
        }
        let mut response = cursor.finish();
        self.room.show(&response.kvs);
        response.header = self.header();
        response
    }

    fn put(&mut self, request: &PutRequest) -> Result<PutResponse> {
        let view = self.view();
        let before = view.get(&request.key);
        let missing = || Error::from(ErrorKind::KeyNotFound);
        let value = match &request.value {
            // A copy of its own: a slice of a network buffer would keep all of that alive.
            PutValue::Set(value) => StoredValue::from(value.as_ref()),
            PutValue::Keep => before.and_then(|v| v.value.clone()).ok_or_else(missing)?,
        };
        let lease = match request.lease {
            PutLease::None => None,
            PutLease::Attach(lease) => Some(lease),
            PutLease::Keep => before.ok_or_else(missing)?.lease,
        };
        let revision = self.head.next();
        let version = Version {
            modified: revision,
            created: before.map_or(revision, |version| version.created),
            version: before.map_or(1, |version| version.version.saturating_add(1)),
            lease,
            value: Some(value),
        };
        let prev_kv = before
            .filter(|_| request.prev_kv)
            .map(|version| version.to_pair(&request.key));
        self.room.show(&prev_kv);
        let key = self
            .state
            .stored_key(&request.key)
            .cloned()
            .unwrap_or_else(|| StoredKey::from(request.key.as_bytes()));
        self.overlay.set(key, version);
        Ok(PutResponse {
            header: self.header(),
            prev_kv,
        })
    }

    fn delete(&mut self, request: &DeleteRequest) -> DeleteResponse {
        let mut keys: Vec<StoredKey> = Vec::new();
        let mut prev_kvs: Vec<KeyValue> = Vec::new();
        let mut after: Option<StoredKey> = None;
        loop {
            let from = after.as_deref();
            after = self
                .view()
                .walk(&request.range, from, PAGE, |key, version| {
                    keys.push(StoredKey::clone(key));
                    if request.prev_kv {
                        prev_kvs.push(version.to_pair(key));
                    }
                    1
                });
            if after.is_none() {
                break;
            }
            self.room.look_at_page();
        }
        self.room.show(&prev_kvs);
        let deleted = keys.len() as u64;
        for key in keys {
            self.overlay.set(key, Version::deletion(self.head.next()));
        }
        DeleteResponse {
            header: self.header(),
            deleted,
            prev_kvs,
        }
    }
}

/// Each nested transaction of a chosen branch was decided; this says that it was not.
pub(crate) fn lost_path() -> Error {
    Error::new(ErrorKind::Other, "a nested transaction was not decided")
}
