//! Leases: granted, asked about, renewed and revoked.

use std::time::Duration;

use crate::{ErrorKind, Key, LeaseGrantRequest, LeaseId};

use super::case::{Case, case};
use super::check::{Checked, Failure, holds, refused, same};
use super::ctx::Ctx;
use super::revisions::unknown_lease;

pub(super) const CASES: &[Case] = &[
    case!(the_store_chooses_distinct_positive_ids),
    case!(a_chosen_id_is_kept),
    case!(a_used_id_is_refused),
    case!(a_revoked_id_can_be_used_again),
    case!(the_ttl_asked_for_is_granted),
    case!(a_short_ttl_is_raised_to_two_seconds),
    case!(a_ttl_is_rounded_up_to_whole_seconds),
    case!(the_largest_ttl_is_granted),
    case!(a_larger_ttl_is_refused),
    case!(a_key_shows_its_lease),
    case!(time_to_live_tells_what_is_left),
    case!(time_to_live_tells_keys_only_when_asked),
    case!(time_to_live_of_nothing_is_no_error),
    case!(a_keep_alive_answers_with_the_full_ttl),
    case!(a_keep_alive_of_nothing_is_refused),
    case!(a_keep_alive_after_a_revoke_is_refused),
    case!(a_revoke_deletes_all_keys),
    case!(a_revoke_leaves_other_keys),
    case!(a_revoke_of_nothing_is_refused),
    case!(a_lease_is_revoked_once),
    case!(a_revoked_lease_takes_no_keys),
    case!(leases_are_listed),
    case!(many_keys_hang_on_one_lease),
    case!(many_leases_live_at_once),
];

async fn the_store_chooses_distinct_positive_ids(t: Ctx) -> Checked {
    let mut ids = Vec::new();
    for _ in 0..10 {
        let id = t.lease(60).await?;
        holds(id.get() > 0, format!("{id} is not positive"))?;
        ids.push(id);
    }
    ids.sort_unstable();
    ids.dedup();
    same("distinct ids", ids.len(), 10)
}

fn a_minute() -> LeaseGrantRequest {
    LeaseGrantRequest::new(Duration::from_secs(60))
}

async fn a_chosen_id_is_kept(t: Ctx) -> Checked {
    let id = unknown_lease();
    let response = t.store.lease_grant(a_minute().with_id(id)).await?;
    same("id", response.id, id)?;
    t.put_leased("a", "1", id).await?;
    same("lease", t.existing("a").await?.lease, Some(id))
}

async fn a_used_id_is_refused(t: Ctx) -> Checked {
    let id = t.lease(60).await?;
    let again = t.store.lease_grant(a_minute().with_id(id)).await;
    let error = refused(again, ErrorKind::LeaseExists)?;
    let text = error.to_string();
    holds(
        text.contains("lease already exists"),
        format!("the text is {text:?}"),
    )?;
    // The lease is as it was.
    t.put_leased("a", "1", id).await?;
    Ok(())
}

async fn a_revoked_id_can_be_used_again(t: Ctx) -> Checked {
    let id = t.lease(60).await?;
    t.put_leased("a", "1", id).await?;
    t.store.lease_revoke(id).await?;
    t.store.lease_grant(a_minute().with_id(id)).await?;
    let left = t.store.lease_time_to_live(id, true).await?;
    same("keys", left.keys, Vec::new())
}

async fn granted(t: &Ctx, ttl: Duration) -> Checked<Duration> {
    let response = t.store.lease_grant(LeaseGrantRequest::new(ttl)).await?;
    let left = t.store.lease_time_to_live(response.id, false).await?;
    same("granted, as told later", left.granted, response.ttl)?;
    Ok(response.ttl)
}

async fn the_ttl_asked_for_is_granted(t: Ctx) -> Checked {
    for seconds in [2, 3, 60, 86_400] {
        let ttl = Duration::from_secs(seconds);
        same("ttl", granted(&t, ttl).await?, ttl)?;
    }
    Ok(())
}

async fn a_short_ttl_is_raised_to_two_seconds(t: Ctx) -> Checked {
    for ttl in [
        Duration::ZERO,
        Duration::from_millis(1),
        Duration::from_secs(1),
    ] {
        same("ttl", granted(&t, ttl).await?, Duration::from_secs(2))?;
    }
    Ok(())
}

async fn a_ttl_is_rounded_up_to_whole_seconds(t: Ctx) -> Checked {
    let ttl = granted(&t, Duration::from_millis(10_001)).await?;
    same("ttl", ttl, Duration::from_secs(11))
}

/// The most seconds that a lease may live: some 285 years.
const MOST: u64 = 9_000_000_000;

async fn the_largest_ttl_is_granted(t: Ctx) -> Checked {
    let ttl = Duration::from_secs(MOST);
    same("ttl", granted(&t, ttl).await?, ttl)
}

async fn a_larger_ttl_is_refused(t: Ctx) -> Checked {
    for ttl in [Duration::from_secs(MOST + 1), Duration::MAX] {
        let response = t.store.lease_grant(LeaseGrantRequest::new(ttl)).await;
        let error = refused(response, ErrorKind::LeaseTtlTooLarge)?;
        let text = error.to_string();
        holds(
            text.contains("too large lease TTL"),
            format!("the text is {text:?}"),
        )?;
    }
    Ok(())
}

async fn a_key_shows_its_lease(t: Ctx) -> Checked {
    let lease = t.lease(60).await?;
    t.put_leased("a", "1", lease).await?;
    t.put("b", "1").await?;
    same("lease", t.existing("a").await?.lease, Some(lease))?;
    same("no lease", t.existing("b").await?.lease, None)
}

async fn time_to_live_tells_what_is_left(t: Ctx) -> Checked {
    let lease = t.lease(60).await?;
    let left = t.store.lease_time_to_live(lease, false).await?;
    same("id", left.id, lease)?;
    same("granted", left.granted, Duration::from_secs(60))?;
    let remaining = left
        .remaining
        .ok_or_else(|| Failure::new("the lease is there"))?;
    let plausible = remaining <= left.granted && remaining > Duration::from_secs(30);
    holds(plausible, format!("{remaining:?} left of a minute"))
}

async fn time_to_live_tells_keys_only_when_asked(t: Ctx) -> Checked {
    let lease = t.lease(60).await?;
    for name in ["b", "c", "a"] {
        t.put_leased(name, "1", lease).await?;
    }
    let left = t.store.lease_time_to_live(lease, false).await?;
    same("keys, not asked for", left.keys, Vec::new())?;
    let left = t.store.lease_time_to_live(lease, true).await?;
    same(
        "keys",
        left.keys,
        ["a", "b", "c"].map(|name| t.key(name)).to_vec(),
    )
}

async fn time_to_live_of_nothing_is_no_error(t: Ctx) -> Checked {
    let id = unknown_lease();
    let left = t.store.lease_time_to_live(id, true).await?;
    same("id", left.id, id)?;
    same("remaining", left.remaining, None)?;
    same("granted", left.granted, Duration::ZERO)?;
    same("keys", left.keys, Vec::new())
}

async fn a_keep_alive_answers_with_the_full_ttl(t: Ctx) -> Checked {
    let lease = t.lease(60).await?;
    for _ in 0..3 {
        let kept = t.store.lease_keep_alive(lease).await?;
        same("ttl", kept.ttl, Duration::from_secs(60))?;
    }
    Ok(())
}

async fn a_keep_alive_of_nothing_is_refused(t: Ctx) -> Checked {
    let kept = t.store.lease_keep_alive(unknown_lease()).await;
    let error = refused(kept, ErrorKind::LeaseNotFound)?;
    holds(
        error.is_lease_gone(),
        "the error says that the lease is gone",
    )
}

async fn a_keep_alive_after_a_revoke_is_refused(t: Ctx) -> Checked {
    let lease = t.lease(60).await?;
    t.store.lease_keep_alive(lease).await?;
    t.store.lease_revoke(lease).await?;
    refused(
        t.store.lease_keep_alive(lease).await,
        ErrorKind::LeaseNotFound,
    )?;
    Ok(())
}

async fn a_revoke_deletes_all_keys(t: Ctx) -> Checked {
    let lease = t.lease(60).await?;
    for name in ["a", "b", "c"] {
        t.put_leased(name, "1", lease).await?;
    }
    t.store.lease_revoke(lease).await?;
    same("count", t.everything().await?.count, 0)
}

async fn a_revoke_leaves_other_keys(t: Ctx) -> Checked {
    let (lease, other) = (t.lease(60).await?, t.lease(60).await?);
    t.put_leased("a", "1", lease).await?;
    t.put_leased("b", "1", other).await?;
    t.put("c", "1").await?;
    t.store.lease_revoke(lease).await?;
    same("keys", t.names(&t.everything().await?.kvs), ["b", "c"])
}

async fn a_revoke_of_nothing_is_refused(t: Ctx) -> Checked {
    let revoked = t.store.lease_revoke(unknown_lease()).await;
    let error = refused(revoked, ErrorKind::LeaseNotFound)?;
    let text = error.to_string();
    holds(
        text.contains("requested lease not found"),
        format!("the text is {text:?}"),
    )
}

async fn a_lease_is_revoked_once(t: Ctx) -> Checked {
    let lease = t.lease(60).await?;
    t.store.lease_revoke(lease).await?;
    refused(t.store.lease_revoke(lease).await, ErrorKind::LeaseNotFound)?;
    let left = t.store.lease_time_to_live(lease, false).await?;
    same("remaining", left.remaining, None)
}

async fn a_revoked_lease_takes_no_keys(t: Ctx) -> Checked {
    let lease = t.lease(60).await?;
    t.store.lease_revoke(lease).await?;
    refused(
        t.put_leased("a", "1", lease).await,
        ErrorKind::LeaseNotFound,
    )?;
    same("the key", t.get("a").await?, None)
}

async fn leases_are_listed(t: Ctx) -> Checked {
    let (kept, revoked) = (t.lease(60).await?, t.lease(60).await?);
    let listed = t.store.leases().await?.leases;
    holds(
        listed.contains(&kept) && listed.contains(&revoked),
        "both are listed",
    )?;
    t.store.lease_revoke(revoked).await?;
    let listed = t.store.leases().await?.leases;
    holds(listed.contains(&kept), "the one that lives is listed")?;
    holds(
        !listed.contains(&revoked),
        "the one that was revoked is not",
    )
}

async fn many_keys_hang_on_one_lease(t: Ctx) -> Checked {
    let lease = t.lease(60).await?;
    let names: Vec<String> = (0..300).map(|number| format!("{number:03}")).collect();
    for names in names.chunks(100) {
        let puts = names
            .iter()
            .map(|name| t.putting(name, "1").with_lease(lease));
        t.txn(crate::Txn::new().and_then(puts)).await?;
    }
    let left = t.store.lease_time_to_live(lease, true).await?;
    let expected: Vec<Key> = names.iter().map(|name| t.key(name)).collect();
    same("keys", left.keys, expected)?;
    let before = t.revision().await?;
    let revoked = t.store.lease_revoke(lease).await?;
    same(
        "revision of the revoke",
        revoked.header.revision,
        before.next(),
    )?;
    same("count", t.everything().await?.count, 0)
}

async fn many_leases_live_at_once(t: Ctx) -> Checked {
    let mut leases: Vec<LeaseId> = Vec::new();
    for _ in 0..100 {
        leases.push(t.lease(60).await?);
    }
    for lease in &leases {
        t.put_leased(&lease.to_string(), "1", *lease).await?;
    }
    for lease in leases.iter().skip(1) {
        t.store.lease_revoke(*lease).await?;
    }
    let left = leases.first().map(ToString::to_string);
    same(
        "keys",
        t.names(&t.everything().await?.kvs),
        Vec::from_iter(left),
    )
}
