//! Puts: values and leases set, kept and refused; the pair that was there before.

use bytes::Bytes;

use crate::{ErrorKind, KeyValue, PutLease, PutRequest, PutValue};

use super::case::{Case, case};
use super::check::{Checked, holds, refused, same};
use super::ctx::Ctx;
use super::revisions::unknown_lease;

pub(super) const CASES: &[Case] = &[
    case!(an_empty_key_is_refused),
    case!(what_was_put_is_read),
    case!(an_empty_value_is_a_value),
    case!(the_pair_before_comes_when_asked_for),
    case!(a_new_key_has_no_pair_before),
    case!(a_deleted_key_has_no_pair_before),
    case!(an_unknown_lease_is_refused),
    case!(a_put_without_a_lease_detaches_the_key),
    case!(a_put_with_another_lease_moves_the_key),
    case!(a_kept_value_stays_while_the_rest_changes),
    case!(a_kept_value_can_change_its_lease),
    case!(a_kept_lease_stays_while_the_value_changes),
    case!(no_lease_can_be_kept),
    case!(value_and_lease_can_both_be_kept),
    case!(nothing_can_be_kept_of_a_missing_key),
    case!(nothing_can_be_kept_of_a_deleted_key),
    case!(what_a_put_keeps_shows_in_the_pair_before),
    case!(other_keys_stay_as_they_are),
];

async fn an_empty_key_is_refused(t: Ctx) -> Checked {
    let before = t.revision().await?;
    refused(
        t.store.put(PutRequest::new("", "1")).await,
        ErrorKind::EmptyKey,
    )?;
    let keep = PutRequest {
        value: PutValue::Keep,
        ..PutRequest::new("", "")
    };
    refused(t.store.put(keep).await, ErrorKind::EmptyKey)?;
    same("revision after it", t.revision().await?, before)
}

async fn what_was_put_is_read(t: Ctx) -> Checked {
    for value in ["one", "two", ""] {
        let revision = t.put("a", value).await?;
        let kv = t.existing("a").await?;
        same("value", kv.value, Bytes::from(value))?;
        same("mod revision", kv.mod_revision, revision)?;
    }
    Ok(())
}

async fn an_empty_value_is_a_value(t: Ctx) -> Checked {
    t.put("a", "").await?;
    let kv = t.existing("a").await?;
    same("value", kv.value, Bytes::new())?;
    same("version", kv.version, 1)
}

async fn the_pair_before_comes_when_asked_for(t: Ctx) -> Checked {
    let lease = t.lease(60).await?;
    t.put("a", "0").await?;
    t.put_leased("a", "1", lease).await?;
    let before = t.existing("a").await?;
    let response = t.store.put(t.putting("a", "2").with_prev_kv()).await?;
    same("pair before", response.prev_kv, Some(before))?;
    let response = t.store.put(t.putting("a", "3")).await?;
    same("pair before, not asked for", response.prev_kv, None)
}

async fn a_new_key_has_no_pair_before(t: Ctx) -> Checked {
    let response = t.store.put(t.putting("a", "1").with_prev_kv()).await?;
    same("pair before", response.prev_kv, None)
}

async fn a_deleted_key_has_no_pair_before(t: Ctx) -> Checked {
    t.put("a", "1").await?;
    t.delete(t.one("a")).await?;
    let response = t.store.put(t.putting("a", "2").with_prev_kv()).await?;
    same("pair before", response.prev_kv, None)
}

async fn an_unknown_lease_is_refused(t: Ctx) -> Checked {
    t.put("a", "1").await?;
    let error = refused(
        t.put_leased("a", "2", unknown_lease()).await,
        ErrorKind::LeaseNotFound,
    )?;
    holds(
        error.is_lease_gone(),
        "the error says that the lease is gone",
    )?;
    let text = error.to_string();
    holds(
        text.contains("requested lease not found"),
        format!("the text is {text:?}"),
    )?;
    same("value", t.existing("a").await?.value, Bytes::from("1"))
}

async fn a_put_without_a_lease_detaches_the_key(t: Ctx) -> Checked {
    let lease = t.lease(60).await?;
    t.put_leased("a", "1", lease).await?;
    t.put("a", "2").await?;
    same("lease", t.existing("a").await?.lease, None)?;
    let left = t.store.lease_time_to_live(lease, true).await?;
    same("keys of the lease", left.keys, Vec::new())?;
    t.store.lease_revoke(lease).await?;
    same("value", t.existing("a").await?.value, Bytes::from("2"))
}

async fn a_put_with_another_lease_moves_the_key(t: Ctx) -> Checked {
    let (first, second) = (t.lease(60).await?, t.lease(60).await?);
    t.put_leased("a", "1", first).await?;
    t.put_leased("a", "2", second).await?;
    same("lease", t.existing("a").await?.lease, Some(second))?;
    let left = t.store.lease_time_to_live(first, true).await?;
    same("keys of the first lease", left.keys, Vec::new())?;
    let left = t.store.lease_time_to_live(second, true).await?;
    same("keys of the second lease", left.keys, vec![t.key("a")])?;
    t.store.lease_revoke(first).await?;
    same("value", t.existing("a").await?.value, Bytes::from("2"))?;
    t.store.lease_revoke(second).await?;
    same("the key", t.get("a").await?, None)
}

/// A put that keeps the value.
fn keeping_value(t: &Ctx, name: &str, lease: PutLease) -> PutRequest {
    PutRequest {
        value: PutValue::Keep,
        lease,
        ..t.putting(name, "")
    }
}

/// A put that keeps the lease.
fn keeping_lease(t: &Ctx, name: &str, value: &'static str) -> PutRequest {
    PutRequest {
        lease: PutLease::Keep,
        ..t.putting(name, value)
    }
}

async fn a_kept_value_stays_while_the_rest_changes(t: Ctx) -> Checked {
    let lease = t.lease(60).await?;
    let created = t.put_leased("a", "1", lease).await?;
    let modified = t
        .put_request(keeping_value(&t, "a", PutLease::None))
        .await?;
    let expected = KeyValue {
        key: t.key("a"),
        value: Bytes::from("1"),
        create_revision: created,
        mod_revision: modified,
        version: 2,
        lease: None,
    };
    same("pair", t.existing("a").await?, expected)
}

async fn a_kept_value_can_change_its_lease(t: Ctx) -> Checked {
    let lease = t.lease(60).await?;
    t.put("a", "1").await?;
    t.put_request(keeping_value(&t, "a", PutLease::Attach(lease)))
        .await?;
    let kv = t.existing("a").await?;
    same("value", kv.value, Bytes::from("1"))?;
    same("lease", kv.lease, Some(lease))?;
    t.store.lease_revoke(lease).await?;
    same("the key", t.get("a").await?, None)
}

async fn a_kept_lease_stays_while_the_value_changes(t: Ctx) -> Checked {
    let lease = t.lease(60).await?;
    t.put_leased("a", "1", lease).await?;
    t.put_request(keeping_lease(&t, "a", "2")).await?;
    let kv = t.existing("a").await?;
    same("value", kv.value, Bytes::from("2"))?;
    same("lease", kv.lease, Some(lease))?;
    same("version", kv.version, 2)?;
    t.store.lease_revoke(lease).await?;
    same("the key", t.get("a").await?, None)
}

async fn no_lease_can_be_kept(t: Ctx) -> Checked {
    t.put("a", "1").await?;
    t.put_request(keeping_lease(&t, "a", "2")).await?;
    let kv = t.existing("a").await?;
    same("value", kv.value, Bytes::from("2"))?;
    same("lease", kv.lease, None)
}

async fn value_and_lease_can_both_be_kept(t: Ctx) -> Checked {
    let lease = t.lease(60).await?;
    t.put_leased("a", "1", lease).await?;
    let revision = t
        .put_request(keeping_value(&t, "a", PutLease::Keep))
        .await?;
    let kv = t.existing("a").await?;
    same("value", kv.value, Bytes::from("1"))?;
    same("lease", kv.lease, Some(lease))?;
    same("version", kv.version, 2)?;
    same("mod revision", kv.mod_revision, revision)
}

async fn nothing_can_be_kept_of_a_missing_key(t: Ctx) -> Checked {
    let before = t.revision().await?;
    for request in [
        keeping_value(&t, "a", PutLease::None),
        keeping_value(&t, "a", PutLease::Keep),
        keeping_lease(&t, "a", "1"),
    ] {
        refused(t.put_request(request).await, ErrorKind::KeyNotFound)?;
    }
    same("the key", t.get("a").await?, None)?;
    same("revision after it", t.revision().await?, before)
}

async fn nothing_can_be_kept_of_a_deleted_key(t: Ctx) -> Checked {
    t.put("a", "1").await?;
    t.delete(t.one("a")).await?;
    let request = keeping_value(&t, "a", PutLease::None);
    refused(t.put_request(request).await, ErrorKind::KeyNotFound)?;
    let request = keeping_lease(&t, "a", "1");
    refused(t.put_request(request).await, ErrorKind::KeyNotFound)?;
    same("the key", t.get("a").await?, None)
}

async fn what_a_put_keeps_shows_in_the_pair_before(t: Ctx) -> Checked {
    t.put("a", "1").await?;
    let before = t.existing("a").await?;
    let request = keeping_value(&t, "a", PutLease::None).with_prev_kv();
    let response = t.store.put(request).await?;
    same("pair before", response.prev_kv, Some(before))?;
    // Keeping something does not return the pair by itself.
    let response = t.store.put(keeping_value(&t, "a", PutLease::None)).await?;
    same("pair before, not asked for", response.prev_kv, None)
}

async fn other_keys_stay_as_they_are(t: Ctx) -> Checked {
    t.put_all(&["a", "b", "c"]).await?;
    let before = (t.get("a").await?, t.get("c").await?);
    t.put("b", "2").await?;
    same("neighbours", (t.get("a").await?, t.get("c").await?), before)
}
