//! Transactions within transactions: conditions are decided before anything runs, writes share one
//! revision, and rules about keys and numbers of operations reach through all levels.

use bytes::Bytes;

use crate::{
    Compare, CompareOp, DeleteRequest, ErrorKind, PutRequest, RangeRequest, Revision, Txn, TxnOp,
    TxnOpResponse, TxnResponse,
};

use super::case::{Case, case};
use super::check::{Checked, Failure, refused, same};
use super::ctx::Ctx;
use super::revisions::unknown_lease;

pub(super) const CASES: &[Case] = &[
    case!(a_nested_txn_runs_and_answers),
    case!(a_nested_txn_takes_its_other_branch),
    case!(conditions_are_decided_before_anything_runs),
    case!(nested_reads_see_outer_writes),
    case!(outer_reads_see_nested_writes),
    case!(all_levels_share_one_revision),
    case!(a_nested_txn_that_only_reads_takes_no_revision),
    case!(three_levels_work),
    case!(nested_txns_in_the_branch_not_taken_do_not_run),
    case!(a_key_put_outside_and_inside_is_refused),
    case!(a_key_put_outside_and_inside_another_branch_is_refused),
    case!(a_key_put_in_two_siblings_is_refused),
    case!(a_key_put_in_opposite_branches_of_siblings_is_refused),
    case!(a_key_put_in_both_nested_branches_is_fine),
    case!(a_key_put_inside_and_deleted_outside_is_refused),
    case!(a_key_deleted_inside_and_put_outside_is_refused),
    case!(a_key_deleted_outside_and_inside_is_fine),
    case!(an_empty_key_inside_is_refused),
    case!(an_unknown_lease_inside_fails_the_whole),
    case!(an_unknown_lease_in_a_nested_branch_not_taken_is_fine),
    case!(a_future_revision_inside_fails_the_whole),
];

fn nested(response: &TxnResponse, at: usize) -> Checked<&TxnResponse> {
    match response.responses.get(at) {
        Some(TxnOpResponse::Txn(nested)) => Ok(nested),
        other => Err(Failure::new(format!("expected a txn, found {other:?}"))),
    }
}

fn value(response: &TxnResponse, at: usize) -> Checked<Option<Bytes>> {
    match response.responses.get(at) {
        Some(TxnOpResponse::Range(range)) => Ok(range.kvs.first().map(|kv| kv.value.clone())),
        other => Err(Failure::new(format!("expected a range, found {other:?}"))),
    }
}

async fn a_nested_txn_runs_and_answers(t: Ctx) -> Checked {
    let inner = Txn::new().and_then([t.putting("b", "2")]);
    let txn = Txn::new().and_then([TxnOp::from(t.putting("a", "1")), inner.into()]);
    let response = t.txn(txn).await?;
    let inner = nested(&response, 1)?;
    same("succeeded", inner.succeeded, true)?;
    same("answers inside", inner.responses.len(), 1)?;
    same("header inside", inner.header, crate::Header::default())?;
    same("keys", t.names(&t.everything().await?.kvs), ["a", "b"])
}

async fn a_nested_txn_takes_its_other_branch(t: Ctx) -> Checked {
    let inner = Txn::new()
        .when([Compare::version(t.one("x"), CompareOp::Greater, 0)])
        .and_then([t.putting("then", "1")])
        .or_else([t.putting("else", "1")]);
    let response = t.txn(Txn::new().and_then([inner])).await?;
    same("succeeded", response.succeeded, true)?;
    same("succeeded inside", nested(&response, 0)?.succeeded, false)?;
    same("keys", t.names(&t.everything().await?.kvs), ["else"])
}

async fn conditions_are_decided_before_anything_runs(t: Ctx) -> Checked {
    t.put("a", "old").await?;
    let was_old = |inner: Txn| inner.when([Compare::value(t.one("a"), CompareOp::Equal, "old")]);
    let deeper = was_old(Txn::new()).and_then([t.putting("deeper", "1")]);
    let inner = was_old(Txn::new()).and_then([TxnOp::from(t.putting("inner", "1")), deeper.into()]);
    let txn = Txn::new().and_then([TxnOp::from(t.putting("a", "new")), inner.into()]);
    let response = t.txn(txn).await?;
    same("succeeded inside", nested(&response, 1)?.succeeded, true)?;
    same(
        "succeeded deeper",
        nested(nested(&response, 1)?, 1)?.succeeded,
        true,
    )?;
    same(
        "keys",
        t.names(&t.everything().await?.kvs),
        ["a", "deeper", "inner"],
    )
}

async fn nested_reads_see_outer_writes(t: Ctx) -> Checked {
    t.put("a", "old").await?;
    let read = || Txn::new().and_then([RangeRequest::new(t.one("a"))]);
    let ops = [
        read().into(),
        TxnOp::from(t.putting("a", "new")),
        read().into(),
    ];
    let response = t.txn(Txn::new().and_then(ops)).await?;
    same(
        "before",
        value(nested(&response, 0)?, 0)?,
        Some(Bytes::from("old")),
    )?;
    same(
        "after",
        value(nested(&response, 2)?, 0)?,
        Some(Bytes::from("new")),
    )
}

async fn outer_reads_see_nested_writes(t: Ctx) -> Checked {
    let inner = Txn::new().and_then([t.putting("a", "1")]);
    let ops = [TxnOp::from(inner), RangeRequest::new(t.one("a")).into()];
    let response = t.txn(Txn::new().and_then(ops)).await?;
    same("value", value(&response, 1)?, Some(Bytes::from("1")))
}

async fn all_levels_share_one_revision(t: Ctx) -> Checked {
    let before = t.revision().await?;
    let deeper = Txn::new().and_then([t.putting("c", "1")]);
    let inner = Txn::new().and_then([TxnOp::from(t.putting("b", "1")), deeper.into()]);
    let txn = Txn::new().and_then([TxnOp::from(t.putting("a", "1")), inner.into()]);
    same("revision", t.txn(txn).await?.header.revision, before.next())?;
    for kv in t.everything().await?.kvs {
        same("mod revision", kv.mod_revision, before.next())?;
    }
    same("revision after it", t.revision().await?, before.next())
}

async fn a_nested_txn_that_only_reads_takes_no_revision(t: Ctx) -> Checked {
    let before = t.revision().await?;
    let inner = Txn::new()
        .when([Compare::version(t.one("a"), CompareOp::Greater, 0)])
        .and_then([t.putting("a", "1")])
        .or_else([RangeRequest::new(t.all())]);
    let response = t.txn(Txn::new().and_then([inner])).await?;
    same("revision", response.header.revision, before)?;
    same("revision after it", t.revision().await?, before)
}

async fn three_levels_work(t: Ctx) -> Checked {
    let mut txn = Txn::new().and_then([t.putting("deepest", "1")]);
    for _ in 0..3 {
        txn = Txn::new().and_then([txn]);
    }
    let response = t.txn(txn).await?;
    let deepest = nested(nested(nested(&response, 0)?, 0)?, 0)?;
    same("answers", deepest.responses.len(), 1)?;
    t.existing("deepest").await?;
    Ok(())
}

async fn nested_txns_in_the_branch_not_taken_do_not_run(t: Ctx) -> Checked {
    let inner = || Txn::new().and_then([t.putting("a", "1")]);
    let response = t.txn(Txn::new().or_else([inner()])).await?;
    same("answers", response.responses.len(), 0)?;
    same("count", t.everything().await?.count, 0)
}

async fn is_duplicate<const N: usize>(t: &Ctx, ops: [TxnOp; N]) -> Checked {
    refused(
        t.txn(Txn::new().and_then(ops)).await,
        ErrorKind::DuplicateKey,
    )?;
    same("count", t.everything().await?.count, 0)
}

/// A nested txn whose taken branch puts `a`.
fn putting(t: &Ctx) -> TxnOp {
    Txn::new().and_then([t.putting("a", "1")]).into()
}

/// A nested txn whose other branch puts `a`.
fn putting_otherwise(t: &Ctx) -> TxnOp {
    Txn::new().or_else([t.putting("a", "1")]).into()
}

async fn a_key_put_outside_and_inside_is_refused(t: Ctx) -> Checked {
    let outer = || TxnOp::from(t.putting("a", "1"));
    is_duplicate(&t, [outer(), putting(&t)]).await?;
    is_duplicate(&t, [putting(&t), outer()]).await?;
    let deeper = Txn::new().and_then([putting(&t)]);
    is_duplicate(&t, [outer(), deeper.into()]).await
}

async fn a_key_put_outside_and_inside_another_branch_is_refused(t: Ctx) -> Checked {
    is_duplicate(&t, [t.putting("a", "1").into(), putting_otherwise(&t)]).await
}

async fn a_key_put_in_two_siblings_is_refused(t: Ctx) -> Checked {
    is_duplicate(&t, [putting(&t), putting(&t)]).await
}

async fn a_key_put_in_opposite_branches_of_siblings_is_refused(t: Ctx) -> Checked {
    is_duplicate(&t, [putting(&t), putting_otherwise(&t)]).await
}

async fn a_key_put_in_both_nested_branches_is_fine(t: Ctx) -> Checked {
    let inner = Txn::new()
        .and_then([t.putting("a", "then")])
        .or_else([t.putting("a", "else")]);
    t.txn(Txn::new().and_then([inner])).await?;
    same("value", t.existing("a").await?.value, Bytes::from("then"))
}

async fn a_key_put_inside_and_deleted_outside_is_refused(t: Ctx) -> Checked {
    let delete = || TxnOp::from(DeleteRequest::new(t.all()));
    is_duplicate(&t, [delete(), putting(&t)]).await?;
    is_duplicate(&t, [putting(&t), delete()]).await
}

async fn a_key_deleted_inside_and_put_outside_is_refused(t: Ctx) -> Checked {
    let delete = || TxnOp::from(Txn::new().and_then([DeleteRequest::new(t.one("a"))]));
    let put = || TxnOp::from(t.putting("a", "1"));
    is_duplicate(&t, [delete(), put()]).await?;
    is_duplicate(&t, [put(), delete()]).await
}

async fn a_key_deleted_outside_and_inside_is_fine(t: Ctx) -> Checked {
    t.put("a", "1").await?;
    let delete = || DeleteRequest::new(t.one("a"));
    let inner = Txn::new().and_then([delete()]);
    let response = t
        .txn(Txn::new().and_then([delete().into(), TxnOp::from(inner)]))
        .await?;
    let inner = nested(&response, 1)?.responses.first().cloned();
    let deleted = inner
        .and_then(TxnOpResponse::into_delete)
        .map(|response| response.deleted);
    same("deleted inside", deleted, Some(0))
}

async fn an_empty_key_inside_is_refused(t: Ctx) -> Checked {
    let put = Txn::new().and_then([PutRequest::new("", "1")]);
    let compare = Txn::new().when([Compare::absent("")]);
    for inner in [put, compare] {
        let then = Txn::new().and_then([TxnOp::from(t.putting("a", "1")), inner.clone().into()]);
        refused(t.txn(then).await, ErrorKind::EmptyKey)?;
        let otherwise = Txn::new().and_then([t.putting("a", "1")]).or_else([inner]);
        refused(t.txn(otherwise).await, ErrorKind::EmptyKey)?;
    }
    same("count", t.everything().await?.count, 0)
}

async fn an_unknown_lease_inside_fails_the_whole(t: Ctx) -> Checked {
    let before = t.revision().await?;
    let inner = Txn::new().and_then([t.putting("b", "1").with_lease(unknown_lease())]);
    let txn = Txn::new().and_then([TxnOp::from(t.putting("a", "1")), inner.into()]);
    refused(t.txn(txn).await, ErrorKind::LeaseNotFound)?;
    same("count", t.everything().await?.count, 0)?;
    same("revision after it", t.revision().await?, before)
}

async fn an_unknown_lease_in_a_nested_branch_not_taken_is_fine(t: Ctx) -> Checked {
    let inner = Txn::new().or_else([t.putting("b", "1").with_lease(unknown_lease())]);
    t.txn(Txn::new().and_then([TxnOp::from(t.putting("a", "1")), inner.into()]))
        .await?;
    same("keys", t.names(&t.everything().await?.kvs), ["a"])
}

async fn a_future_revision_inside_fails_the_whole(t: Ctx) -> Checked {
    let before = t.revision().await?;
    let inner = Txn::new().and_then([RangeRequest::new(t.all()).at(Revision(u64::MAX))]);
    let txn = Txn::new().and_then([TxnOp::from(t.putting("a", "1")), inner.into()]);
    refused(t.txn(txn).await, ErrorKind::FutureRevision)?;
    same("count", t.everything().await?.count, 0)?;
    same("revision after it", t.revision().await?, before)
}
