//! Compaction: what goes, what stays, and what is refused.

use bytes::Bytes;

use crate::{ErrorKind, RangeRequest, Revision, Txn, TxnOp};

use super::case::{Case, case};
use super::check::{Checked, holds, refused, same};
use super::ctx::Ctx;
use super::factory::Needs;

pub(super) const CASES: &[Case] = &[
    case!(what_was_before_cannot_be_read),
    case!(the_compact_revision_can_be_read),
    case!(the_present_stays_as_it_is),
    case!(live_keys_keep_their_numbers),
    case!(deleted_keys_stay_deleted),
    case!(a_compaction_takes_no_revision),
    case!(a_future_compaction_is_refused),
    case!(a_compaction_is_done_once),
    case!(an_older_compaction_is_refused),
    case!(revision_zero_is_refused_after_a_compaction),
    case!(the_current_revision_can_be_compacted),
    case!(a_physical_compaction_does_the_same),
    case!(a_txn_that_reads_before_it_fails_whole),
    case!(a_fresh_store_is_not_compacted).needing(Needs::Fresh),
    case!(a_compaction_survives_a_restart).needing(Needs::Restart),
    case!(data_survive_a_restart).needing(Needs::Restart),
    case!(history_survives_a_restart).needing(Needs::Restart),
];

async fn what_was_before_cannot_be_read(t: Ctx) -> Checked {
    let first = t.put("a", "1").await?;
    let second = t.put("a", "2").await?;
    let third = t.put("a", "3").await?;
    t.store.compact(third, false).await?;
    for at in [first, second, Revision(1)] {
        let read = t.range(RangeRequest::new(t.all()).at(at)).await;
        let error = refused(read, ErrorKind::Compacted)?;
        let text = error.to_string();
        holds(
            text.contains("required revision has been compacted"),
            format!("the text is {text:?}"),
        )?;
    }
    Ok(())
}

async fn the_compact_revision_can_be_read(t: Ctx) -> Checked {
    t.put("gone", "1").await?;
    t.put("a", "1").await?;
    let at = t.put("a", "2").await?;
    let before = t.everything().await?.kvs;
    t.put("a", "3").await?;
    t.delete(t.one("gone")).await?;
    t.store.compact(at, true).await?;
    let response = t.range(RangeRequest::new(t.all()).at(at)).await?;
    same("pairs", response.kvs, before)
}

async fn the_present_stays_as_it_is(t: Ctx) -> Checked {
    t.put_all(&["a", "b", "a"]).await?;
    t.delete(t.one("b")).await?;
    t.put("c", "1").await?;
    let before = t.everything().await?;
    t.store.compact(before.header.revision, true).await?;
    let after = t.everything().await?;
    same("pairs", after.kvs, before.kvs)?;
    same("count", after.count, before.count)
}

async fn live_keys_keep_their_numbers(t: Ctx) -> Checked {
    let created = t.put("a", "1").await?;
    t.put("a", "2").await?;
    let modified = t.put("a", "3").await?;
    t.put("b", "1").await?;
    let now = t.revision().await?;
    t.store.compact(now, true).await?;
    let kv = t.existing("a").await?;
    same("create revision", kv.create_revision, created)?;
    same("mod revision", kv.mod_revision, modified)?;
    same("version", kv.version, 3)?;
    t.put("a", "4").await?;
    let kv = t.existing("a").await?;
    same(
        "version after it",
        (kv.version, kv.create_revision),
        (4, created),
    )
}

async fn deleted_keys_stay_deleted(t: Ctx) -> Checked {
    t.put("a", "1").await?;
    t.delete(t.one("a")).await?;
    let now = t.put("b", "1").await?;
    t.store.compact(now, true).await?;
    same("the key", t.get("a").await?, None)?;
    let again = t.put("a", "2").await?;
    let kv = t.existing("a").await?;
    same("numbers", (kv.create_revision, kv.version), (again, 1))
}

async fn a_compaction_takes_no_revision(t: Ctx) -> Checked {
    t.put("a", "1").await?;
    let now = t.put("a", "2").await?;
    let response = t.store.compact(now, false).await?;
    same("revision of the compaction", response.header.revision, now)?;
    same("revision after it", t.revision().await?, now)?;
    same(
        "revision of a put after it",
        t.put("a", "3").await?,
        now.next(),
    )
}

async fn a_future_compaction_is_refused(t: Ctx) -> Checked {
    let now = t.put("a", "1").await?;
    for future in [now.next(), Revision(u64::MAX)] {
        refused(
            t.store.compact(future, false).await,
            ErrorKind::FutureRevision,
        )?;
    }
    t.range(RangeRequest::new(t.all()).at(now)).await?;
    Ok(())
}

async fn a_compaction_is_done_once(t: Ctx) -> Checked {
    let now = t.put("a", "1").await?;
    t.store.compact(now, false).await?;
    refused(t.store.compact(now, false).await, ErrorKind::Compacted)?;
    Ok(())
}

async fn an_older_compaction_is_refused(t: Ctx) -> Checked {
    let first = t.put("a", "1").await?;
    let second = t.put("a", "2").await?;
    t.store.compact(second, false).await?;
    refused(t.store.compact(first, false).await, ErrorKind::Compacted)?;
    Ok(())
}

async fn revision_zero_is_refused_after_a_compaction(t: Ctx) -> Checked {
    let now = t.put("a", "1").await?;
    t.store.compact(now, false).await?;
    refused(
        t.store.compact(Revision::ZERO, false).await,
        ErrorKind::Compacted,
    )?;
    // As the revision of a read, zero is the current one.
    t.range(RangeRequest::new(t.all()).at(Revision::ZERO))
        .await?;
    Ok(())
}

async fn the_current_revision_can_be_compacted(t: Ctx) -> Checked {
    t.put("a", "1").await?;
    let now = t.put("a", "2").await?;
    t.store.compact(now, false).await?;
    let response = t.range(RangeRequest::new(t.all()).at(now)).await?;
    let found = response.kvs.into_iter().next().map(|kv| kv.value);
    same("value", found, Some(Bytes::from("2")))
}

async fn a_physical_compaction_does_the_same(t: Ctx) -> Checked {
    let first = t.put("a", "1").await?;
    let second = t.put("a", "2").await?;
    let response = t.store.compact(second, true).await?;
    same(
        "revision of the compaction",
        response.header.revision,
        second,
    )?;
    let read = t.range(RangeRequest::new(t.all()).at(first)).await;
    refused(read, ErrorKind::Compacted)?;
    Ok(())
}

async fn a_txn_that_reads_before_it_fails_whole(t: Ctx) -> Checked {
    let first = t.put("a", "1").await?;
    let second = t.put("a", "2").await?;
    t.store.compact(second, true).await?;
    let txn = Txn::new().and_then([
        TxnOp::from(t.putting("b", "1")),
        RangeRequest::new(t.one("a")).at(first).into(),
    ]);
    refused(t.txn(txn).await, ErrorKind::Compacted)?;
    same("the key", t.get("b").await?, None)?;
    same("revision after it", t.revision().await?, second)
}

async fn a_fresh_store_is_not_compacted(t: Ctx) -> Checked {
    let first = t.put("a", "1").await?;
    t.put("a", "2").await?;
    t.range(RangeRequest::new(t.all()).at(first)).await?;
    t.range(RangeRequest::new(t.all()).at(Revision(1))).await?;
    Ok(())
}

async fn a_compaction_survives_a_restart(t: Ctx) -> Checked {
    let first = t.put("a", "1").await?;
    let second = t.put("a", "2").await?;
    t.put("a", "3").await?;
    t.store.compact(second, true).await?;
    let t = t.restart().await?;
    let read = t.range(RangeRequest::new(t.all()).at(first)).await;
    refused(read, ErrorKind::Compacted)?;
    t.range(RangeRequest::new(t.all()).at(second)).await?;
    refused(t.store.compact(second, false).await, ErrorKind::Compacted)?;
    Ok(())
}

async fn data_survive_a_restart(t: Ctx) -> Checked {
    t.put_all(&["a", "b", "a", "c"]).await?;
    t.delete(t.one("b")).await?;
    let before = t.everything().await?;
    let t = t.restart().await?;
    let after = t.everything().await?;
    same("pairs", after.kvs, before.kvs)?;
    same("revision", after.header.revision, before.header.revision)?;
    same("cluster", after.header.cluster_id, before.header.cluster_id)?;
    let members = t.store.members().await?;
    holds(
        members
            .iter()
            .any(|member| member.id == before.header.member_id),
        "who answered before is a member still",
    )?;
    let put = t.put("a", "2").await?;
    same(
        "revision of the next put",
        put,
        before.header.revision.next(),
    )
}

async fn history_survives_a_restart(t: Ctx) -> Checked {
    let first = t.put("a", "1").await?;
    let old = t.everything().await?.kvs;
    t.put("a", "2").await?;
    t.delete(t.one("a")).await?;
    let before = t.watch_from(first).await?.events(3).await?;
    let t = t.restart().await?;
    let response = t.range(RangeRequest::new(t.all()).at(first)).await?;
    same("pairs then", response.kvs, old)?;
    let after = t.watch_from(first).await?.events(3).await?;
    same("events", after, before)
}
