//! Deletes: which keys, how many, and what was there.

use crate::{DeleteRequest, ErrorKind, KeyRange, RangeRequest};

use super::case::{Case, case};
use super::check::{Checked, refused, same};
use super::ctx::Ctx;
use super::factory::Needs;

pub(super) const CASES: &[Case] = &[
    case!(an_empty_key_is_refused),
    case!(a_deleted_key_is_gone),
    case!(a_missing_key_is_no_error),
    case!(a_key_is_deleted_once),
    case!(a_range_is_deleted_without_its_end),
    case!(a_range_that_ends_before_it_begins_deletes_nothing),
    case!(a_prefix_is_deleted_without_its_neighbours),
    case!(from_a_key_all_greater_ones_are_deleted).needing(Needs::Fresh),
    case!(the_pairs_before_come_in_key_order),
    case!(the_pairs_before_come_only_when_asked_for),
    case!(the_old_revision_still_shows_the_key),
    case!(a_deleted_key_leaves_its_lease),
    case!(many_keys_are_deleted_at_once),
];

async fn an_empty_key_is_refused(t: Ctx) -> Checked {
    t.put("a", "1").await?;
    for range in [
        KeyRange::one(""),
        KeyRange::between("", "b"),
        KeyRange::from(""),
    ] {
        refused(t.delete(range).await, ErrorKind::EmptyKey)?;
    }
    t.existing("a").await?;
    Ok(())
}

async fn a_deleted_key_is_gone(t: Ctx) -> Checked {
    t.put_all(&["a", "aa", "b"]).await?;
    same("deleted", t.delete(t.one("a")).await?.deleted, 1)?;
    same("the key", t.get("a").await?, None)?;
    same("keys", t.names(&t.everything().await?.kvs), ["aa", "b"])
}

async fn a_missing_key_is_no_error(t: Ctx) -> Checked {
    let response = t
        .store
        .delete(DeleteRequest::new(t.one("a")).with_prev_kv())
        .await?;
    same("deleted", response.deleted, 0)?;
    same("pairs before", response.prev_kvs, Vec::new())
}

async fn a_key_is_deleted_once(t: Ctx) -> Checked {
    t.put("a", "1").await?;
    same("first", t.delete(t.one("a")).await?.deleted, 1)?;
    same("second", t.delete(t.one("a")).await?.deleted, 0)
}

async fn a_range_is_deleted_without_its_end(t: Ctx) -> Checked {
    t.put_all(&["a", "b", "bb", "c", "d"]).await?;
    same("deleted", t.delete(t.between("b", "c")).await?.deleted, 2)?;
    same("keys", t.names(&t.everything().await?.kvs), ["a", "c", "d"])
}

async fn a_range_that_ends_before_it_begins_deletes_nothing(t: Ctx) -> Checked {
    t.put_all(&["a", "b", "c"]).await?;
    same("deleted", t.delete(t.between("c", "a")).await?.deleted, 0)?;
    same("deleted", t.delete(t.between("b", "b")).await?.deleted, 0)?;
    same("count", t.everything().await?.count, 3)
}

async fn a_prefix_is_deleted_without_its_neighbours(t: Ctx) -> Checked {
    t.put_all(&["a", "a/1", "a/2", "a0", "b"]).await?;
    same("deleted", t.delete(t.prefix("a/")).await?.deleted, 2)?;
    same(
        "keys",
        t.names(&t.everything().await?.kvs),
        ["a", "a0", "b"],
    )
}

async fn from_a_key_all_greater_ones_are_deleted(t: Ctx) -> Checked {
    t.put_all(&["a", "b", "c"]).await?;
    same(
        "deleted",
        t.delete(KeyRange::From(t.key("b"))).await?.deleted,
        2,
    )?;
    same("keys", t.names(&t.everything().await?.kvs), ["a"])
}

async fn the_pairs_before_come_in_key_order(t: Ctx) -> Checked {
    let lease = t.lease(60).await?;
    t.put_all(&["c", "a"]).await?;
    t.put_leased("b", "2", lease).await?;
    let before = t.everything().await?.kvs;
    let response = t
        .store
        .delete(DeleteRequest::new(t.all()).with_prev_kv())
        .await?;
    same("pairs before", response.prev_kvs, before)
}

async fn the_pairs_before_come_only_when_asked_for(t: Ctx) -> Checked {
    t.put_all(&["a", "b"]).await?;
    same(
        "pairs before",
        t.delete(t.all()).await?.prev_kvs,
        Vec::new(),
    )
}

async fn the_old_revision_still_shows_the_key(t: Ctx) -> Checked {
    let put = t.put("a", "1").await?;
    let before = t.everything().await?.kvs;
    let deleted = t.delete(t.all()).await?.header.revision;
    let response = t.range(RangeRequest::new(t.all()).at(put)).await?;
    same("pairs before the delete", response.kvs, before)?;
    let response = t.range(RangeRequest::new(t.all()).at(deleted)).await?;
    same("pairs at the delete", response.kvs, Vec::new())
}

async fn a_deleted_key_leaves_its_lease(t: Ctx) -> Checked {
    let lease = t.lease(60).await?;
    t.put_leased("a", "1", lease).await?;
    t.delete(t.all()).await?;
    let left = t.store.lease_time_to_live(lease, true).await?;
    same("keys of the lease", left.keys, Vec::new())?;
    // Put again without the lease, it does not belong to it.
    t.put("a", "2").await?;
    t.store.lease_revoke(lease).await?;
    t.existing("a").await?;
    Ok(())
}

async fn many_keys_are_deleted_at_once(t: Ctx) -> Checked {
    for batch in 0..10 {
        let puts = (0..100).map(|number| t.putting(&format!("{batch}/{number:02}"), "1"));
        t.txn(crate::Txn::new().and_then(puts)).await?;
    }
    let before = t.revision().await?;
    let response = t.delete(t.prefix("")).await?;
    same("deleted", response.deleted, 1000)?;
    same("revision", response.header.revision, before.next())?;
    same("count", t.everything().await?.count, 0)
}
