//! A store whose quota is used up: it says so, refuses what would add to it, and takes what frees
//! space, until it is told that all is well again.

use std::time::Duration;

use crate::{
    AlarmKind, Compare, CompareOp, DeleteRequest, ErrorKind, LeaseGrantRequest, RangeRequest, Txn,
    TxnOp,
};

use super::case::{Case, case};
use super::check::{Checked, Failure, holds, refused, same};
use super::ctx::Ctx;
use super::factory::{Needs, Quirk};

pub(super) const CASES: &[Case] = &[
    case!(a_full_store_raises_an_alarm).needing(Needs::Quota),
    case!(a_full_store_refuses_what_adds).needing(Needs::Quota),
    case!(a_full_store_still_reads_and_deletes).needing(Needs::Quota),
    case!(a_full_store_runs_txns_that_add_nothing)
        .needing(Needs::Quota)
        .excused_by(Quirk::TxnWithoutPutNeedsSpace),
    case!(a_full_store_goes_on_when_there_is_space).needing(Needs::Quota),
];

/// Puts until there is no space.
async fn fill(t: &Ctx) -> Checked {
    let value = "x".repeat(100_000);
    for number in 0..500 {
        match t.put(&format!("fill/{number:03}"), &value).await {
            Ok(_) => {}
            Err(error) => {
                let error = refused(Err::<(), _>(error), ErrorKind::NoSpace)?;
                let text = error.to_string();
                return holds(
                    text.contains("database space exceeded"),
                    format!("the text is {text:?}"),
                );
            }
        }
    }
    Err(Failure::new("50 MB fit into a store of 4 MiB"))
}

async fn a_full_store_raises_an_alarm(t: Ctx) -> Checked {
    fill(&t).await?;
    let alarms = t.store.alarms().await?;
    // Each member of a cluster may have noticed.
    holds(
        !alarms.is_empty() && alarms.iter().all(|alarm| alarm.kind == AlarmKind::NoSpace),
        format!("the alarms are {alarms:?}"),
    )?;
    let members = t.store.members().await?;
    let whose = alarms.first().map(|alarm| alarm.member_id);
    holds(
        members.iter().any(|member| Some(member.id) == whose),
        format!("the alarm is no member's: {alarms:?}"),
    )
}

async fn a_full_store_refuses_what_adds(t: Ctx) -> Checked {
    fill(&t).await?;
    let before = t.revision().await?;
    refused(t.put("a", "1").await, ErrorKind::NoSpace)?;
    let txn = Txn::new().and_then([t.putting("a", "1")]);
    refused(t.txn(txn).await, ErrorKind::NoSpace)?;
    let grant = LeaseGrantRequest::new(Duration::from_secs(60));
    refused(t.store.lease_grant(grant).await, ErrorKind::NoSpace)?;
    same("revision after it", t.revision().await?, before)
}

async fn a_full_store_still_reads_and_deletes(t: Ctx) -> Checked {
    let lease = t.lease(60).await?;
    t.put_leased("a", "1", lease).await?;
    t.put("b", "1").await?;
    fill(&t).await?;
    t.existing("a").await?;
    same("deleted", t.delete(t.one("b")).await?.deleted, 1)?;
    t.store.lease_keep_alive(lease).await?;
    t.store.lease_revoke(lease).await?;
    same("the key", t.get("a").await?, None)?;
    let now = t.revision().await?;
    t.store.compact(now, true).await?;
    Ok(())
}

async fn a_full_store_runs_txns_that_add_nothing(t: Ctx) -> Checked {
    t.put("a", "1").await?;
    fill(&t).await?;
    let read = TxnOp::from(RangeRequest::new(t.one("a")));
    t.txn(Txn::new().and_then([read.clone()])).await?;
    let delete = TxnOp::from(DeleteRequest::new(t.one("a")));
    let exists = Compare::version(t.one("a"), CompareOp::Equal, 1);
    let txn = Txn::new().when([exists]).and_then([delete]).or_else([read]);
    same("succeeded", t.txn(txn).await?.succeeded, true)?;
    same("the key", t.get("a").await?, None)
}

async fn a_full_store_goes_on_when_there_is_space(t: Ctx) -> Checked {
    fill(&t).await?;
    t.delete(t.all()).await?;
    let now = t.revision().await?;
    t.store.compact(now, true).await?;
    t.store.defragment().await?;
    t.store.disarm(AlarmKind::NoSpace).await?;
    same("alarms", t.store.alarms().await?, Vec::new())?;
    t.put("a", "1").await?;
    t.existing("a").await?;
    Ok(())
}
