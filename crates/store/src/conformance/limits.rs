//! Limits: 128 operations a transaction, shared along nested ones, and 1.5 MiB a request.

use crate::{Compare, CompareOp, ErrorKind, PutRequest, RangeRequest, Txn, TxnOp};

use super::case::{Case, case};
use super::check::{Checked, holds, refused, same};
use super::ctx::Ctx;

pub(super) const CASES: &[Case] = &[
    case!(as_many_operations_as_allowed),
    case!(one_condition_too_many),
    case!(one_operation_too_many),
    case!(one_operation_too_many_in_the_branch_not_taken),
    case!(reads_count_as_operations),
    case!(a_nested_txn_has_what_its_parent_leaves),
    case!(a_nested_txn_has_no_more_than_its_parent_leaves),
    case!(the_largest_list_of_the_parent_counts),
    case!(siblings_do_not_share_what_is_left),
    case!(a_large_value_fits),
    case!(a_request_too_large_is_refused),
    case!(a_request_far_too_large_is_refused),
    case!(a_txn_too_large_is_refused),
    case!(many_keys_come_in_one_answer),
];

/// The most conditions or operations in each list of a transaction.
const MOST: usize = 128;

fn puts(t: &Ctx, name: &str, count: usize) -> Vec<PutRequest> {
    (0..count)
        .map(|number| t.putting(&format!("{name}/{number:04}"), ""))
        .collect()
}

fn reads(t: &Ctx, count: usize) -> Vec<RangeRequest> {
    vec![RangeRequest::new(t.one("a")); count]
}

fn compares(t: &Ctx, count: usize) -> Vec<Compare> {
    vec![Compare::version(t.one("none"), CompareOp::Equal, 0); count]
}

async fn too_many(t: &Ctx, txn: Txn) -> Checked {
    let error = refused(t.txn(txn).await, ErrorKind::TooManyOperations)?;
    let text = error.to_string();
    holds(
        text.contains("too many operations in txn request"),
        format!("the text is {text:?}"),
    )?;
    same("count", t.everything().await?.count, 0)
}

async fn as_many_operations_as_allowed(t: Ctx) -> Checked {
    let txn = Txn::new()
        .when(compares(&t, MOST))
        .and_then(puts(&t, "then", MOST))
        .or_else(puts(&t, "else", MOST));
    let response = t.txn(txn).await?;
    same("answers", response.responses.len(), MOST)?;
    same("count", t.everything().await?.count, 128)
}

async fn one_condition_too_many(t: Ctx) -> Checked {
    too_many(
        &t,
        Txn::new()
            .when(compares(&t, MOST + 1))
            .and_then(puts(&t, "a", 1)),
    )
    .await
}

async fn one_operation_too_many(t: Ctx) -> Checked {
    too_many(&t, Txn::new().and_then(puts(&t, "a", MOST + 1))).await
}

async fn one_operation_too_many_in_the_branch_not_taken(t: Ctx) -> Checked {
    let txn = Txn::new()
        .and_then(puts(&t, "a", 1))
        .or_else(puts(&t, "b", MOST + 1));
    too_many(&t, txn).await
}

async fn reads_count_as_operations(t: Ctx) -> Checked {
    let response = t.txn(Txn::new().and_then(reads(&t, MOST))).await?;
    same("answers", response.responses.len(), MOST)?;
    too_many(&t, Txn::new().and_then(reads(&t, MOST + 1))).await
}

/// A transaction of `outer` operations, the last of which is one of `inner` operations.
fn nesting(t: &Ctx, outer: usize, inner: usize) -> Txn {
    let mut ops: Vec<TxnOp> = reads(t, outer - 1).into_iter().map(TxnOp::from).collect();
    ops.push(Txn::new().and_then(puts(t, "inner", inner)).into());
    Txn::new().and_then(ops)
}

async fn a_nested_txn_has_what_its_parent_leaves(t: Ctx) -> Checked {
    t.txn(nesting(&t, 100, 28)).await?;
    same("count", t.everything().await?.count, 28)
}

async fn a_nested_txn_has_no_more_than_its_parent_leaves(t: Ctx) -> Checked {
    too_many(&t, nesting(&t, 100, 29)).await?;
    too_many(&t, nesting(&t, MOST, 1)).await
}

async fn the_largest_list_of_the_parent_counts(t: Ctx) -> Checked {
    let inner = |count| Txn::new().and_then(puts(&t, "inner", count));
    let conditions = |count| Txn::new().when(compares(&t, 100)).and_then([inner(count)]);
    too_many(&t, conditions(29)).await?;
    let other = |count| Txn::new().and_then([inner(count)]).or_else(reads(&t, 100));
    too_many(&t, other(29)).await?;
    t.txn(conditions(28)).await?;
    t.txn(other(28)).await?;
    Ok(())
}

async fn siblings_do_not_share_what_is_left(t: Ctx) -> Checked {
    let inner = |name| Txn::new().and_then(puts(&t, name, 126));
    t.txn(Txn::new().and_then([inner("a"), inner("b")])).await?;
    same("count", t.everything().await?.count, 252)
}

async fn a_large_value_fits(t: Ctx) -> Checked {
    let value = "x".repeat(1_500_000);
    t.put("a", &value).await?;
    same("bytes", t.existing("a").await?.value.len(), 1_500_000)?;
    t.delete(t.all()).await?;
    Ok(())
}

async fn a_request_too_large_is_refused(t: Ctx) -> Checked {
    let value = "x".repeat(1_600_000);
    let error = refused(t.put("a", &value).await, ErrorKind::TooLarge)?;
    let text = error.to_string();
    holds(
        text.contains("request is too large"),
        format!("the text is {text:?}"),
    )?;
    same("the key", t.get("a").await?, None)
}

async fn a_request_far_too_large_is_refused(t: Ctx) -> Checked {
    let value = "x".repeat(5_000_000);
    refused(t.put("a", &value).await, ErrorKind::TooLarge)?;
    same("the key", t.get("a").await?, None)?;
    t.put("a", "1").await?;
    Ok(())
}

async fn a_txn_too_large_is_refused(t: Ctx) -> Checked {
    let value = "x".repeat(800_000);
    let txn = Txn::new().and_then(["a", "b"].map(|name| t.putting(name, value.clone())));
    refused(t.txn(txn).await, ErrorKind::TooLarge)?;
    same("count", t.everything().await?.count, 0)
}

async fn many_keys_come_in_one_answer(t: Ctx) -> Checked {
    for batch in 0..20 {
        t.txn(Txn::new().and_then(puts(&t, &batch.to_string(), 100)))
            .await?;
    }
    let response = t.everything().await?;
    same("count", response.count, 2000)?;
    same("pairs", response.kvs.len(), 2000)?;
    same("more", response.more, false)?;
    holds(
        response.kvs.is_sorted_by(|a, b| a.key < b.key),
        "the keys are in order",
    )?;
    same("deleted", t.delete(t.all()).await?.deleted, 2000)
}
