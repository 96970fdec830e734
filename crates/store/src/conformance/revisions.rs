//! Revisions and headers: what takes a revision and what does not, and what every answer carries.

use std::time::Duration;

use crate::{
    Compare, CompareOp, ErrorKind, Header, LeaseGrantRequest, LeaseId, RangeRequest, Revision, Txn,
    TxnOp, WatchRequest,
};

use super::case::{Case, case};
use super::check::{Checked, holds, refused, same};
use super::ctx::Ctx;
use super::factory::Needs;

pub(super) const CASES: &[Case] = &[
    case!(a_fresh_store_is_at_revision_one).needing(Needs::Fresh),
    case!(the_first_write_is_revision_two).needing(Needs::Fresh),
    case!(a_put_takes_one_revision),
    case!(a_put_of_the_same_value_takes_one_revision),
    case!(a_delete_takes_one_revision_whatever_it_deletes),
    case!(a_delete_of_nothing_takes_none),
    case!(a_txn_takes_one_revision_for_all_its_writes),
    case!(a_txn_that_only_reads_takes_none),
    case!(an_empty_txn_takes_none),
    case!(a_txn_that_deletes_nothing_takes_none),
    case!(a_refused_put_takes_none),
    case!(a_refused_txn_takes_none),
    case!(leases_take_none),
    case!(a_revoke_takes_one_only_with_keys),
    case!(every_answer_carries_every_number),
    case!(all_answers_name_one_cluster),
    case!(the_first_put_of_a_key_creates_it),
    case!(versions_count_puts),
    case!(version_and_create_revision_restart_after_a_delete),
    case!(the_create_revision_stays_through_puts),
    case!(revisions_never_go_down),
    case!(a_read_of_an_old_revision_answers_with_the_current_header),
];

async fn a_fresh_store_is_at_revision_one(t: Ctx) -> Checked {
    same("revision", t.revision().await?, Revision(1))?;
    let status = t.store.status().await?;
    same(
        "revision of the status",
        status.header.revision,
        Revision(1),
    )
}

async fn the_first_write_is_revision_two(t: Ctx) -> Checked {
    same(
        "revision of the first put",
        t.put("a", "1").await?,
        Revision(2),
    )?;
    let kv = t.existing("a").await?;
    same("mod revision", kv.mod_revision, Revision(2))
}

async fn a_put_takes_one_revision(t: Ctx) -> Checked {
    let before = t.revision().await?;
    same("revision of the put", t.put("a", "1").await?, before.next())?;
    same("revision after it", t.revision().await?, before.next())
}

async fn a_put_of_the_same_value_takes_one_revision(t: Ctx) -> Checked {
    let first = t.put("a", "1").await?;
    same(
        "revision of the second put",
        t.put("a", "1").await?,
        first.next(),
    )?;
    let kv = t.existing("a").await?;
    same("mod revision", kv.mod_revision, first.next())?;
    same("version", kv.version, 2)
}

async fn a_delete_takes_one_revision_whatever_it_deletes(t: Ctx) -> Checked {
    t.put_all(&["a", "b", "c"]).await?;
    let before = t.revision().await?;
    let response = t.delete(t.all()).await?;
    same("deleted", response.deleted, 3)?;
    same(
        "revision of the delete",
        response.header.revision,
        before.next(),
    )?;
    same("revision after it", t.revision().await?, before.next())
}

async fn a_delete_of_nothing_takes_none(t: Ctx) -> Checked {
    let before = t.revision().await?;
    let response = t.delete(t.all()).await?;
    same("deleted", response.deleted, 0)?;
    same("revision of the delete", response.header.revision, before)?;
    same("revision after it", t.revision().await?, before)
}

async fn a_txn_takes_one_revision_for_all_its_writes(t: Ctx) -> Checked {
    t.put_all(&["x", "y"]).await?;
    let before = t.revision().await?;
    let txn = Txn::new().and_then([
        TxnOp::from(t.putting("a", "1")),
        t.putting("b", "2").into(),
        crate::DeleteRequest::new(t.between("x", "z")).into(),
    ]);
    let response = t.txn(txn).await?;
    same(
        "revision of the txn",
        response.header.revision,
        before.next(),
    )?;
    same("revision after it", t.revision().await?, before.next())?;
    for name in ["a", "b"] {
        same(
            "mod revision",
            t.existing(name).await?.mod_revision,
            before.next(),
        )?;
    }
    Ok(())
}

async fn a_txn_that_only_reads_takes_none(t: Ctx) -> Checked {
    t.put("a", "1").await?;
    let before = t.revision().await?;
    let response = t
        .txn(Txn::new().and_then([RangeRequest::new(t.all())]))
        .await?;
    same("revision of the txn", response.header.revision, before)?;
    same("revision after it", t.revision().await?, before)
}

async fn an_empty_txn_takes_none(t: Ctx) -> Checked {
    let before = t.revision().await?;
    let response = t.txn(Txn::new()).await?;
    holds(response.succeeded, "a txn without conditions succeeds")?;
    same("responses", response.responses, Vec::new())?;
    same("revision of the txn", response.header.revision, before)?;
    // The writes of the branch that is not taken do not count.
    let never = Compare::version(t.one("a"), CompareOp::Greater, 0);
    let txn = Txn::new().when([never]).and_then([t.putting("a", "1")]);
    same(
        "revision of a failed txn",
        t.txn(txn).await?.header.revision,
        before,
    )?;
    same("revision after it", t.revision().await?, before)
}

async fn a_txn_that_deletes_nothing_takes_none(t: Ctx) -> Checked {
    let before = t.revision().await?;
    let txn = Txn::new().and_then([crate::DeleteRequest::new(t.all())]);
    same(
        "revision of the txn",
        t.txn(txn).await?.header.revision,
        before,
    )?;
    same("revision after it", t.revision().await?, before)
}

async fn a_refused_put_takes_none(t: Ctx) -> Checked {
    let before = t.revision().await?;
    let lease = unknown_lease();
    refused(
        t.put_leased("a", "1", lease).await,
        ErrorKind::LeaseNotFound,
    )?;
    same("revision after it", t.revision().await?, before)?;
    same("the key", t.get("a").await?, None)
}

async fn a_refused_txn_takes_none(t: Ctx) -> Checked {
    let before = t.revision().await?;
    let txn = Txn::new().and_then([t.putting("a", "1"), t.putting("a", "2")]);
    refused(t.txn(txn).await, ErrorKind::DuplicateKey)?;
    same("revision after it", t.revision().await?, before)?;
    same("the key", t.get("a").await?, None)
}

async fn leases_take_none(t: Ctx) -> Checked {
    let before = t.revision().await?;
    let lease = t.lease(60).await?;
    let kept = t.store.lease_keep_alive(lease).await?;
    same("revision of a keep-alive", kept.header.revision, before)?;
    let left = t.store.lease_time_to_live(lease, true).await?;
    same("revision of a time to live", left.header.revision, before)?;
    let list = t.store.leases().await?;
    same("revision of a list", list.header.revision, before)?;
    t.store.lease_revoke(lease).await?;
    same("revision after all", t.revision().await?, before)
}

async fn a_revoke_takes_one_only_with_keys(t: Ctx) -> Checked {
    let before = t.revision().await?;
    let bare = t.lease(60).await?;
    let revoked = t.store.lease_revoke(bare).await?;
    same(
        "revision of a revoke without keys",
        revoked.header.revision,
        before,
    )?;
    let lease = t.lease(60).await?;
    t.put_leased("a", "1", lease).await?;
    let put = t.put_leased("b", "2", lease).await?;
    let revoked = t.store.lease_revoke(lease).await?;
    same(
        "revision of a revoke with two keys",
        revoked.header.revision,
        put.next(),
    )?;
    same("revision after it", t.revision().await?, put.next())
}

/// A lease id that nobody has granted.
pub(super) fn unknown_lease() -> LeaseId {
    let id = rand::random_range(1 << 40..1 << 50);
    LeaseId::new(id).unwrap_or_else(unknown_lease)
}

/// The headers of one answer of each kind.
async fn headers(t: &Ctx) -> Checked<Vec<(&'static str, Header)>> {
    let mut headers = Vec::new();
    let put = t.store.put(t.putting("a", "1")).await?;
    headers.push(("put", put.header));
    headers.push(("range", t.everything().await?.header));
    headers.push(("delete", t.delete(t.all()).await?.header));
    headers.push(("txn", t.txn(Txn::new()).await?.header));
    let request = LeaseGrantRequest::new(Duration::from_secs(60));
    let granted = t.store.lease_grant(request).await?;
    headers.push(("grant", granted.header));
    let kept = t.store.lease_keep_alive(granted.id).await?;
    headers.push(("keep-alive", kept.header));
    let left = t.store.lease_time_to_live(granted.id, false).await?;
    headers.push(("time to live", left.header));
    headers.push(("leases", t.store.leases().await?.header));
    headers.push(("revoke", t.store.lease_revoke(granted.id).await?.header));
    let gone = t.store.lease_time_to_live(granted.id, false).await?;
    headers.push(("time to live of nothing", gone.header));
    let watch = t.store.watch(WatchRequest::new(t.all())).await?;
    headers.push(("watch", watch.header()));
    headers.push(("status", t.store.status().await?.header));
    let hash = t.store.hash_kv(Revision::ZERO).await?;
    headers.push(("hash", hash.header));
    Ok(headers)
}

async fn every_answer_carries_every_number(t: Ctx) -> Checked {
    for (what, header) in headers(&t).await? {
        let complete = header.cluster_id != 0
            && header.member_id != 0
            && header.raft_term != 0
            && !header.revision.is_zero();
        holds(
            complete,
            format!("the header of a {what} has a zero: {header:?}"),
        )?;
    }
    Ok(())
}

async fn all_answers_name_one_cluster(t: Ctx) -> Checked {
    let headers = headers(&t).await?;
    let first = headers.first().map(|(_, header)| header.cluster_id);
    for (what, header) in headers {
        same(what, Some(header.cluster_id), first)?;
    }
    Ok(())
}

async fn the_first_put_of_a_key_creates_it(t: Ctx) -> Checked {
    let revision = t.put("a", "1").await?;
    let kv = t.existing("a").await?;
    same("create revision", kv.create_revision, revision)?;
    same("mod revision", kv.mod_revision, revision)?;
    same("version", kv.version, 1)?;
    same("lease", kv.lease, None)
}

async fn versions_count_puts(t: Ctx) -> Checked {
    for version in 1..=5 {
        t.put("a", "1").await?;
        same("version", t.existing("a").await?.version, version)?;
    }
    t.put("b", "1").await?;
    same("version of another key", t.existing("b").await?.version, 1)
}

async fn version_and_create_revision_restart_after_a_delete(t: Ctx) -> Checked {
    t.put("a", "1").await?;
    t.put("a", "2").await?;
    t.delete(t.one("a")).await?;
    let again = t.put("a", "3").await?;
    let kv = t.existing("a").await?;
    same("version", kv.version, 1)?;
    same("create revision", kv.create_revision, again)?;
    same("mod revision", kv.mod_revision, again)
}

async fn the_create_revision_stays_through_puts(t: Ctx) -> Checked {
    let first = t.put("a", "1").await?;
    let second = t.put("a", "2").await?;
    let kv = t.existing("a").await?;
    same("create revision", kv.create_revision, first)?;
    same("mod revision", kv.mod_revision, second)
}

async fn revisions_never_go_down(t: Ctx) -> Checked {
    let mut last = Revision::ZERO;
    for round in 0..20 {
        let put = t.put("a", &round.to_string()).await?;
        holds(put > last, format!("a put at {put} after {last}"))?;
        let read = t.everything().await?.header.revision;
        holds(
            read >= put,
            format!("a read at {read} after a put at {put}"),
        )?;
        last = read;
    }
    Ok(())
}

async fn a_read_of_an_old_revision_answers_with_the_current_header(t: Ctx) -> Checked {
    let old = t.put("a", "1").await?;
    let new = t.put("a", "2").await?;
    let response = t.range(RangeRequest::new(t.all()).at(old)).await?;
    same("header", response.header.revision, new)
}
