//! What can be refused about a request without looking at the store: empty keys, too many operations, keys written
//! twice, too many bytes. It runs in the caller's task, so that the writer has less to do.

use std::collections::{BTreeMap, HashSet};

use synod_store::{
    DeleteRequest, Error, ErrorKind, Key, KeyRange, PutRequest, PutValue, RangeRequest, Result,
    Txn, TxnOp,
};

use crate::options::Limits;

/// How many times what one path through nested transactions may have, all paths may have together. Siblings each have
/// what their parent leaves, so that without such a bound 128 allow for tens of thousands.
const PATHS: usize = 16;

/// Bytes that one operation or condition takes up beside its keys and values, about as on the wire.
const OP_BYTES: usize = 16;

fn key(key: &Key) -> Result<()> {
    if key.is_empty() {
        return Err(ErrorKind::EmptyKey.into());
    }
    Ok(())
}

/// Checks a range request.
pub(crate) fn range(request: &RangeRequest) -> Result<()> {
    key(request.range.start())
}

fn put(request: &PutRequest) -> Result<()> {
    key(&request.key)
}

fn delete(request: &DeleteRequest) -> Result<()> {
    key(request.range.start())
}

/// Checks a transaction; returns its size.
pub(crate) fn txn(txn: &Txn, limits: &Limits) -> Result<usize> {
    operations(txn, limits.max_txn_ops)?;
    if !within(txn, &mut limits.max_txn_ops.saturating_mul(PATHS)) {
        return Err(ErrorKind::TooManyOperations.into());
    }
    intervals(&txn.success)?;
    intervals(&txn.failure)?;
    let size = txn_size(txn);
    if !txn.is_read_only() && size > limits.max_request_bytes {
        return Err(Error::new(
            ErrorKind::TooLarge,
            format!(
                "{}: {size} bytes, of at most {}",
                ErrorKind::TooLarge.text(),
                limits.max_request_bytes
            ),
        ));
    }
    Ok(size)
}

/// Counts operations and looks for empty keys, in both branches and at every depth.
///
/// A list counts at most `budget`; a nested transaction gets what its parent's largest list leaves of it.
fn operations(txn: &Txn, budget: usize) -> Result<()> {
    let largest = txn
        .compares
        .len()
        .max(txn.success.len())
        .max(txn.failure.len());
    let Some(left) = budget.checked_sub(largest) else {
        return Err(ErrorKind::TooManyOperations.into());
    };
    for compare in &txn.compares {
        key(compare.range.start())?;
    }
    for op in txn.success.iter().chain(&txn.failure) {
        match op {
            TxnOp::Range(request) => range(request)?,
            TxnOp::Put(request) => put(request)?,
            TxnOp::Delete(request) => delete(request)?,
            TxnOp::Txn(txn) => operations(txn, left)?,
        }
    }
    Ok(())
}

/// Takes all conditions and operations of a transaction off `budget`, those of both branches and at every depth. False
/// when it does not last.
fn within(txn: &Txn, budget: &mut usize) -> bool {
    let own = [&txn.success, &txn.failure].map(Vec::len);
    let own = own
        .into_iter()
        .fold(txn.compares.len(), usize::saturating_add);
    let Some(left) = budget.checked_sub(own) else {
        return false;
    };
    *budget = left;
    let mut ops = txn.success.iter().chain(&txn.failure);
    ops.all(|op| match op {
        TxnOp::Txn(nested) => within(nested, budget),
        _ => true,
    })
}

/// What a list of operations writes, nested ones included.
#[derive(Default)]
struct Written<'t> {
    puts: HashSet<&'t Key>,
    deleted: Deleted<'t>,
}

/// The keys that deletions cover. Ranges that meet are one, so that a look takes the same time however many there are.
#[derive(Default)]
struct Deleted<'t> {
    keys: HashSet<&'t Key>,
    /// Ends of ranges by their beginnings.
    ranges: BTreeMap<&'t Key, &'t Key>,
}

impl<'t> Deleted<'t> {
    fn add(&mut self, range: &'t KeyRange) {
        match range {
            KeyRange::One(key) => {
                self.keys.insert(key);
            }
            KeyRange::Between(start, end) => self.add_range(start, end),
            // As in etcd, a deletion without an end conflicts with nothing: operations simply run in order.
            KeyRange::From(_) => {}
        }
    }

    fn add_range(&mut self, mut start: &'t Key, mut end: &'t Key) {
        if start >= end {
            return;
        }
        // The last one that begins no later than this one ends, for as long as it meets it.
        while let Some((&first, &last)) = self.ranges.range::<Key, _>(..=end).next_back() {
            if last < start {
                break;
            }
            self.ranges.remove(first);
            start = start.min(first);
            end = end.max(last);
        }
        self.ranges.insert(start, end);
    }

    fn add_all(&mut self, other: Deleted<'t>) {
        self.keys.extend(other.keys);
        for (start, end) in other.ranges {
            self.add_range(start, end);
        }
    }

    fn contains(&self, key: &Key) -> bool {
        let range = self.ranges.range::<Key, _>(..=key).next_back();
        range.is_some_and(|(_, end)| key < *end) || self.keys.contains(key)
    }
}

impl<'t> Written<'t> {
    fn add_put(&mut self, key: &'t Key) -> Result<()> {
        if self.deleted.contains(key) || !self.puts.insert(key) {
            return Err(ErrorKind::DuplicateKey.into());
        }
        Ok(())
    }
}

/// Refuses a list that puts a key twice, or puts and deletes it.
///
/// Exactly etcd's rules, in its order of looking: the list's own deletions, then its nested transactions one by one
/// (so a deletion in a later one does not conflict with a put in an earlier one), then the list's own puts. The
/// branches of one nested transaction may put the same key, since only one of them runs.
fn intervals(ops: &[TxnOp]) -> Result<Written<'_>> {
    let mut written = Written::default();
    for op in ops {
        if let TxnOp::Delete(request) = op {
            written.deleted.add(&request.range);
        }
    }
    for op in ops {
        let TxnOp::Txn(txn) = op else { continue };
        let success = intervals(&txn.success)?;
        let failure = intervals(&txn.failure)?;
        for key in &success.puts {
            written.add_put(key)?;
        }
        for key in failure.puts.difference(&success.puts) {
            written.add_put(key)?;
        }
        written.deleted.add_all(success.deleted);
        written.deleted.add_all(failure.deleted);
    }
    for op in ops {
        if let TxnOp::Put(request) = op {
            written.add_put(&request.key)?;
        }
    }
    Ok(written)
}

fn range_size(range: &KeyRange) -> usize {
    match range {
        KeyRange::One(key) | KeyRange::From(key) => key.len(),
        KeyRange::Between(start, end) => start.len().saturating_add(end.len()),
    }
}

/// About how many bytes the transaction would be on the wire.
fn txn_size(txn: &Txn) -> usize {
    let compares = txn.compares.iter().map(|compare| {
        let operand = match &compare.operand {
            synod_store::CompareOperand::Value(value) => value.len(),
            _ => 0,
        };
        range_size(&compare.range).saturating_add(operand)
    });
    let ops = txn.success.iter().chain(&txn.failure).map(|op| match op {
        TxnOp::Range(request) => range_size(&request.range),
        TxnOp::Delete(request) => range_size(&request.range),
        TxnOp::Put(request) => match &request.value {
            PutValue::Set(value) => request.key.len().saturating_add(value.len()),
            PutValue::Keep => request.key.len(),
        },
        TxnOp::Txn(txn) => txn_size(txn),
    });
    compares.chain(ops).fold(0, |sum: usize, bytes| {
        sum.saturating_add(bytes).saturating_add(OP_BYTES)
    })
}

#[cfg(test)]
mod tests {
    use synod_store::Compare;

    use super::*;

    const LIMITS: Limits = Limits {
        max_txn_ops: 4,
        max_request_bytes: 1000,
    };

    fn kind(request: Txn) -> Option<ErrorKind> {
        txn(&request, &LIMITS).err().map(|error| error.kind())
    }

    fn put(key: &str) -> TxnOp {
        PutRequest::new(key, "v").into()
    }

    fn delete(range: impl Into<KeyRange>) -> TxnOp {
        DeleteRequest::new(range).into()
    }

    fn then(ops: impl IntoIterator<Item = TxnOp>) -> Txn {
        Txn::new().and_then(ops)
    }

    #[test]
    fn a_key_is_written_once_in_a_branch() {
        let duplicate = Some(ErrorKind::DuplicateKey);
        assert_eq!(kind(then([put("a"), put("a")])), duplicate);
        assert_eq!(kind(then([put("a"), delete("a")])), duplicate);
        assert_eq!(kind(then([delete("a"), put("a")])), duplicate);
        assert_eq!(
            kind(then([put("b"), delete(KeyRange::between("a", "c"))])),
            duplicate
        );
        assert_eq!(
            kind(then([put("c"), delete(KeyRange::between("a", "c"))])),
            None
        );
        assert_eq!(kind(then([put("b"), delete(KeyRange::from("a"))])), None);
        assert_eq!(kind(then([delete("a"), delete("a")])), None);
        assert_eq!(kind(then([put("a"), RangeRequest::new("a").into()])), None);
        assert_eq!(kind(then([put("a")]).or_else([put("a")])), None);
        assert_eq!(kind(Txn::new().or_else([put("a"), put("a")])), duplicate);
    }

    #[test]
    fn nested_branches_count_with_their_parent_and_siblings() {
        let duplicate = Some(ErrorKind::DuplicateKey);
        let nested = |ops: Vec<TxnOp>| TxnOp::from(then(ops));
        assert_eq!(kind(then([put("a"), nested(vec![put("a")])])), duplicate);
        assert_eq!(
            kind(then([nested(vec![put("a")]), nested(vec![put("a")])])),
            duplicate
        );
        assert_eq!(kind(then([nested(vec![put("a")]), delete("a")])), duplicate);
        assert_eq!(kind(then([nested(vec![delete("a")]), put("a")])), duplicate);
        assert_eq!(
            kind(then([nested(vec![delete("a")]), nested(vec![put("a")])])),
            duplicate
        );
        // etcd looks at nested transactions one after the other.
        assert_eq!(
            kind(then([nested(vec![put("a")]), nested(vec![delete("a")])])),
            None
        );
        let either = Txn::new().and_then([put("a")]).or_else([put("a")]);
        assert_eq!(kind(then([either.clone().into()])), None);
        assert_eq!(kind(then([either.into(), put("a")])), duplicate);
    }

    #[test]
    fn every_list_has_the_whole_budget_and_a_nested_one_what_is_left() {
        let too_many = Some(ErrorKind::TooManyOperations);
        let puts = |count: usize| {
            (0..count)
                .map(|i| put(&format!("k{i}")))
                .collect::<Vec<_>>()
        };
        let compares = |count: usize| (0..count).map(|_| Compare::absent("a")).collect::<Vec<_>>();
        assert_eq!(kind(then(puts(4)).when(compares(4)).or_else(puts(4))), None);
        assert_eq!(kind(then(puts(5))), too_many);
        assert_eq!(kind(Txn::new().or_else(puts(5))), too_many);
        assert_eq!(kind(Txn::new().when(compares(5))), too_many);
        assert_eq!(kind(then([then(puts(3)).into()])), None);
        assert_eq!(kind(then([then(puts(4)).into()])), too_many);
        assert_eq!(
            kind(then([then(puts(2)).into()]).when(compares(3))),
            too_many
        );
    }

    #[test]
    fn no_key_is_empty_anywhere() {
        let empty = Some(ErrorKind::EmptyKey);
        assert_eq!(kind(then([put("")])), empty);
        assert_eq!(kind(Txn::new().or_else([put("")])), empty);
        assert_eq!(
            kind(then([RangeRequest::new(KeyRange::from("")).into()])),
            empty
        );
        assert_eq!(kind(then([delete(KeyRange::between("", "b"))])), empty);
        assert_eq!(kind(Txn::new().when([Compare::absent("")])), empty);
        assert_eq!(kind(then([then([put("")]).into()])), empty);
    }

    #[test]
    fn a_request_has_a_size_limit_unless_it_only_reads() {
        let value = vec![0; 1000];
        assert_eq!(
            kind(then([PutRequest::new("a", value.clone()).into()])),
            Some(ErrorKind::TooLarge)
        );
        assert_eq!(
            kind(then([PutRequest::new("a", value[..900].to_vec()).into()])),
            None
        );
        let long = Key::from(value);
        assert_eq!(kind(then([RangeRequest::new(long).into()])), None);
    }

    /// As large as is let in. Comparing each of its puts with each of its deletions would take long.
    #[test]
    fn the_largest_transaction_is_checked_soon() {
        let limits = Limits {
            max_txn_ops: 128,
            max_request_bytes: 16 << 20,
        };
        let mut number = 0_u32;
        let mut leaf = || {
            let ops = (0..42).map(|_| {
                number += 1;
                let key = number.to_string();
                if number.is_multiple_of(2) {
                    put(&key)
                } else {
                    delete(KeyRange::between(key.clone(), format!("{key}-")))
                }
            });
            TxnOp::from(then(ops.collect::<Vec<_>>()))
        };
        let mut middle = || TxnOp::from(then((0..6).map(|_| leaf()).collect::<Vec<_>>()));
        let mut whole = then((0..7).map(|_| middle()).collect::<Vec<_>>());
        assert!(txn(&whole, &limits).is_ok());
        whole.success.extend([middle()]);
        assert_eq!(
            txn(&whole, &limits).err().map(|error| error.kind()),
            Some(ErrorKind::TooManyOperations)
        );
    }

    #[test]
    fn siblings_together_have_a_budget() {
        let reads = |count: usize| {
            let reads = (0..count).map(|_| TxnOp::from(RangeRequest::new("a")));
            TxnOp::from(then(reads.collect::<Vec<_>>()))
        };
        let limits = Limits {
            max_txn_ops: 128,
            max_request_bytes: 1000,
        };
        let passes = |ops: Vec<TxnOp>| txn(&then(ops), &limits).is_ok();
        assert!(!passes(vec![reads(60); 40]));
        assert!(passes(vec![reads(63); 32]));
        assert!(!passes(vec![reads(64); 32]));
        let mut ops = vec![TxnOp::from(RangeRequest::new("a")); 27];
        ops.push(reads(100));
        assert!(passes(ops));
    }

    #[test]
    fn deleted_ranges_hold_the_same_keys_however_they_overlap() {
        let bounds = ["a", "b", "c", "d", "e", "f"];
        let ranges: Vec<KeyRange> = bounds
            .iter()
            .flat_map(|start| bounds.map(|end| KeyRange::between(*start, end)))
            .chain(bounds.map(KeyRange::one))
            .collect();
        for first in &ranges {
            for second in &ranges {
                for third in ranges.iter().step_by(5) {
                    let list = [first, second, third];
                    for key in ["a", "aa", "b", "c", "cc", "d", "e", "ee", "f"] {
                        let held = list.iter().any(|range| range.contains(key.as_bytes()));
                        let ops = list.map(|range| delete(range.clone()));
                        let found = kind(then(ops).or_else([put(key)])).is_some();
                        assert!(!found, "other branches do not count");
                        let mut ops: Vec<TxnOp> = list.map(|range| delete(range.clone())).into();
                        ops.push(put(key));
                        let found = kind(then(ops)) == Some(ErrorKind::DuplicateKey);
                        assert_eq!(found, held, "{list:?} {key}");
                    }
                }
            }
        }
    }
}
