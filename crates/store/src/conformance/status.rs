//! What a store says about itself.

use crate::{AlarmKind, ErrorKind, Revision};

use super::case::{Case, case};
use super::check::{Checked, holds, refused, same};
use super::ctx::Ctx;

pub(super) const CASES: &[Case] = &[
    case!(the_status_is_complete),
    case!(the_status_follows_the_revision),
    case!(the_leader_is_a_member),
    case!(no_alarm_stands),
    case!(disarming_nothing_is_no_error),
    case!(one_state_has_one_hash),
    case!(a_change_changes_the_hash),
    case!(an_old_state_keeps_its_hash),
    case!(a_future_state_has_no_hash),
    case!(a_compacted_state_has_no_hash),
    case!(a_defragmentation_changes_nothing),
];

async fn the_status_is_complete(t: Ctx) -> Checked {
    t.put("a", "1").await?;
    let status = t.store.status().await?;
    let mut parts = status.version.split('.');
    same("major version", parts.next(), Some("3"))?;
    holds(
        parts.all(|part| part.bytes().any(|byte| byte.is_ascii_digit())),
        format!("clients read the version {:?} as numbers", status.version),
    )?;
    holds(status.db_size > 0, "the store takes up space")?;
    holds(status.db_size_in_use > 0, "some of it is in use")?;
    holds(
        status.db_size_in_use <= status.db_size,
        "no more than all is in use",
    )?;
    holds(status.leader != 0, "there is a leader")?;
    holds(status.raft_index > 0, "entries were committed")?;
    holds(status.raft_applied_index > 0, "entries were applied")?;
    same("learner", status.is_learner, false)?;
    same("errors", status.errors, Vec::<String>::new())
}

async fn the_status_follows_the_revision(t: Ctx) -> Checked {
    let before = t.store.status().await?;
    for _ in 0..3 {
        t.put("a", "1").await?;
    }
    let now = t.revision().await?;
    // Each member answers for itself, and may lag.
    let mut after = t.store.status().await?;
    for _ in 0..100 {
        if after.header.revision == now {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        after = t.store.status().await?;
    }
    same("revision", after.header.revision, now)?;
    holds(
        after.raft_index > before.raft_index,
        "three more entries were committed",
    )
}

async fn the_leader_is_a_member(t: Ctx) -> Checked {
    let (status, members) = (t.store.status().await?, t.store.members().await?);
    let ids: Vec<u64> = members.iter().map(|member| member.id).collect();
    holds(!ids.contains(&0), "every member has an id")?;
    holds(ids.contains(&status.leader), "the leader is a member")?;
    holds(
        ids.contains(&status.header.member_id),
        "who answers is a member",
    )
}

async fn no_alarm_stands(t: Ctx) -> Checked {
    same("alarms", t.store.alarms().await?, Vec::new())
}

async fn disarming_nothing_is_no_error(t: Ctx) -> Checked {
    same(
        "alarms",
        t.store.disarm(AlarmKind::NoSpace).await?,
        Vec::new(),
    )?;
    same(
        "alarms",
        t.store.disarm(AlarmKind::Corrupt).await?,
        Vec::new(),
    )
}

async fn one_state_has_one_hash(t: Ctx) -> Checked {
    let now = t.put("a", "1").await?;
    let (first, second) = (t.store.hash_kv(now).await?, t.store.hash_kv(now).await?);
    same("hash", first.hash, second.hash)?;
    same("hashed revision", first.hash_revision, now)?;
    let current = t.store.hash_kv(Revision::ZERO).await?;
    same("hash of now", current.hash, first.hash)?;
    same("revision of now", current.hash_revision, now)
}

async fn a_change_changes_the_hash(t: Ctx) -> Checked {
    t.put("a", "1").await?;
    let before = t.store.hash_kv(Revision::ZERO).await?;
    t.put("a", "2").await?;
    let after = t.store.hash_kv(Revision::ZERO).await?;
    holds(before.hash != after.hash, "two states have one hash")
}

async fn an_old_state_keeps_its_hash(t: Ctx) -> Checked {
    let then = t.put("a", "1").await?;
    let before = t.store.hash_kv(then).await?;
    t.put("b", "1").await?;
    let after = t.store.hash_kv(then).await?;
    same("hash", after.hash, before.hash)?;
    same("hashed revision", after.hash_revision, then)
}

async fn a_future_state_has_no_hash(t: Ctx) -> Checked {
    let now = t.put("a", "1").await?;
    refused(t.store.hash_kv(now.next()).await, ErrorKind::FutureRevision)?;
    Ok(())
}

async fn a_compacted_state_has_no_hash(t: Ctx) -> Checked {
    let first = t.put("a", "1").await?;
    let second = t.put("a", "2").await?;
    t.store.compact(second, true).await?;
    let hash = t.store.hash_kv(Revision::ZERO).await?;
    same("compact revision", hash.compact_revision, second)?;
    refused(t.store.hash_kv(first).await, ErrorKind::Compacted)?;
    Ok(())
}

async fn a_defragmentation_changes_nothing(t: Ctx) -> Checked {
    t.put_all(&["a", "b"]).await?;
    let before = t.everything().await?;
    t.store.defragment().await?;
    same("answer", t.everything().await?.kvs, before.kvs)?;
    let put = t.put("c", "1").await?;
    same(
        "revision of the next put",
        put,
        before.header.revision.next(),
    )
}
