//! Leases that end by themselves: late perhaps, early never. These cases take real time, so they
//! run at once.

use std::time::{Duration, Instant};

use crate::{ErrorKind, EventKind, LeaseId, WatchRequest};

use super::case::{Case, case};
use super::check::{Checked, Failure, holds, refused, same};
use super::ctx::{Ctx, PATIENCE};
use super::factory::Needs;

pub(super) const CASES: &[Case] = &[
    case!(an_expired_lease_deletes_all_keys_at_one_revision).needing(Needs::Company),
    case!(a_lease_never_expires_early).needing(Needs::Company),
    case!(a_kept_lease_does_not_expire).needing(Needs::Company),
    case!(a_keep_alive_counts_from_itself).needing(Needs::Company),
    case!(an_expired_lease_is_gone_for_everything).needing(Needs::Company),
    case!(a_detached_key_outlives_its_lease).needing(Needs::Company),
    case!(a_moved_key_lives_as_long_as_its_new_lease).needing(Needs::Company),
    case!(a_put_renews_nothing).needing(Needs::Company),
    case!(what_is_left_falls_with_time).needing(Needs::Company),
    case!(a_lease_survives_a_restart_with_its_full_ttl).needing(Needs::Restart),
    case!(a_lease_expires_after_a_restart).needing(Needs::Restart),
];

/// How many seconds a lease lives whose end a case waits for: what has to happen before is well within
/// it, on a machine that stops for a while as well.
const BRIEF: u64 = 6;

/// Waits until a lease is gone.
async fn expired(t: &Ctx, lease: LeaseId) -> Checked {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if t.store
            .lease_time_to_live(lease, false)
            .await?
            .remaining
            .is_none()
        {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(Failure::new(format!(
        "a lease of {BRIEF} s lives after {PATIENCE:?}"
    )))
}

async fn an_expired_lease_deletes_all_keys_at_one_revision(t: Ctx) -> Checked {
    let lease = t.lease(BRIEF).await?;
    t.put_leased("b", "1", lease).await?;
    t.put_leased("a", "1", lease).await?;
    let now = t.put("c", "1").await?;
    let mut watch = t.watch_from(now.next()).await?;
    let batch = watch.batch().await?;
    let names: Vec<String> = batch.iter().map(|event| t.name_of(&event.kv.key)).collect();
    same("deleted", names, ["a", "b"])?;
    let first = batch
        .first()
        .map(|event| (event.kind, event.kv.mod_revision));
    let same_moment = |event: &crate::Event| Some((event.kind, event.kv.mod_revision)) == first;
    holds(
        batch.iter().all(same_moment),
        format!("not at one revision: {batch:?}"),
    )?;
    same("kind", first.map(|(kind, _)| kind), Some(EventKind::Delete))?;
    same("keys left", t.names(&t.everything().await?.kvs), ["c"])
}

async fn a_lease_never_expires_early(t: Ctx) -> Checked {
    for ttl in [BRIEF, BRIEF + 1] {
        let sent = Instant::now();
        let lease = t.lease(ttl).await?;
        t.put_leased("a", "1", lease).await?;
        let now = t.existing("a").await?.mod_revision;
        let request = WatchRequest::new(t.one("a")).starting_at(now.next());
        let event = t.watch(request).await?.event().await?;
        same("kind", event.kind, EventKind::Delete)?;
        let lived = sent.elapsed();
        holds(
            lived >= Duration::from_secs(ttl),
            format!("{ttl} s were over after {lived:?}"),
        )?;
    }
    Ok(())
}

async fn a_kept_lease_does_not_expire(t: Ctx) -> Checked {
    let lease = t.lease(BRIEF).await?;
    t.put_leased("a", "1", lease).await?;
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(BRIEF + 3) {
        t.store.lease_keep_alive(lease).await?;
        t.existing("a").await?;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    expired(&t, lease).await?;
    same("the key", t.get("a").await?, None)
}

async fn a_keep_alive_counts_from_itself(t: Ctx) -> Checked {
    let lease = t.lease(BRIEF).await?;
    let now = t.put_leased("a", "1", lease).await?;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let sent = Instant::now();
    t.store.lease_keep_alive(lease).await?;
    t.watch_from(now.next()).await?.event().await?;
    let lived = sent.elapsed();
    holds(
        lived >= Duration::from_secs(BRIEF),
        format!("{BRIEF} s were over after {lived:?}"),
    )
}

async fn an_expired_lease_is_gone_for_everything(t: Ctx) -> Checked {
    let lease = t.lease(BRIEF).await?;
    expired(&t, lease).await?;
    refused(
        t.put_leased("a", "1", lease).await,
        ErrorKind::LeaseNotFound,
    )?;
    refused(
        t.store.lease_keep_alive(lease).await,
        ErrorKind::LeaseNotFound,
    )?;
    refused(t.store.lease_revoke(lease).await, ErrorKind::LeaseNotFound)?;
    let listed = t.store.leases().await?.leases;
    holds(!listed.contains(&lease), "an expired lease is not listed")
}

async fn a_detached_key_outlives_its_lease(t: Ctx) -> Checked {
    let lease = t.lease(BRIEF).await?;
    t.put_leased("kept", "1", lease).await?;
    t.put_leased("gone", "1", lease).await?;
    t.put("kept", "2").await?;
    expired(&t, lease).await?;
    same("keys", t.names(&t.everything().await?.kvs), ["kept"])
}

async fn a_moved_key_lives_as_long_as_its_new_lease(t: Ctx) -> Checked {
    let (short, long) = (t.lease(BRIEF).await?, t.lease(60).await?);
    t.put_leased("a", "1", short).await?;
    t.put_leased("a", "2", long).await?;
    expired(&t, short).await?;
    same("lease", t.existing("a").await?.lease, Some(long))
}

async fn a_put_renews_nothing(t: Ctx) -> Checked {
    let lease = t.lease(BRIEF).await?;
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        match t.put_leased("a", "1", lease).await {
            Ok(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            Err(error) if error.kind() == ErrorKind::LeaseNotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::new(
        "a lease that is only put with does not expire",
    ))
}

async fn what_is_left_falls_with_time(t: Ctx) -> Checked {
    let lease = t.lease(60).await?;
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        let left = t.store.lease_time_to_live(lease, false).await?;
        if left
            .remaining
            .is_some_and(|left| left <= Duration::from_secs(54))
        {
            // A renewal makes it whole again.
            t.store.lease_keep_alive(lease).await?;
            let left = t.store.lease_time_to_live(lease, false).await?;
            let whole = left
                .remaining
                .is_some_and(|left| left > Duration::from_secs(54));
            return holds(whole, format!("after a renewal, {left:?}"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(Failure::new("what is left of a lease does not fall"))
}

async fn a_lease_survives_a_restart_with_its_full_ttl(t: Ctx) -> Checked {
    let lease = t.lease(60).await?;
    t.put_leased("a", "1", lease).await?;
    let begin = Instant::now();
    // Some of it must be used up for the difference to show.
    while begin.elapsed() < PATIENCE {
        let left = t.store.lease_time_to_live(lease, false).await?.remaining;
        if left.is_some_and(|left| left <= Duration::from_secs(54)) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let t = t.restart().await?;
    same("lease", t.existing("a").await?.lease, Some(lease))?;
    let left = t.store.lease_time_to_live(lease, true).await?;
    same("granted", left.granted, Duration::from_secs(60))?;
    same("keys", left.keys, vec![t.key("a")])?;
    let remaining = left.remaining;
    let full = remaining.is_some_and(|left| left > Duration::from_secs(54));
    holds(
        full,
        format!("{remaining:?} left of a minute after a restart"),
    )?;
    t.store.lease_revoke(lease).await?;
    same("the key", t.get("a").await?, None)
}

async fn a_lease_expires_after_a_restart(t: Ctx) -> Checked {
    let lease = t.lease(BRIEF).await?;
    t.put_leased("a", "1", lease).await?;
    let t = t.restart().await?;
    expired(&t, lease).await?;
    same("the key", t.get("a").await?, None)
}
