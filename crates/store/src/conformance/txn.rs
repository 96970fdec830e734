//! Transactions: which branch runs, in which order, what each operation answers, and what is
//! refused whole.

use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};

use crate::{
    Compare, CompareOp, DeleteRequest, ErrorKind, Header, KeyRange, PutLease, PutRequest, PutValue,
    RangeRequest, Revision, SortOrder, SortTarget, Txn, TxnOp, TxnOpResponse, WatchRequest,
};

use super::case::{Case, case};
use super::check::{Checked, Failure, holds, refused, same};
use super::ctx::Ctx;
use super::factory::{Needs, Quirk};
use super::revisions::unknown_lease;

pub(super) const CASES: &[Case] = &[
    case!(one_branch_runs_and_the_other_does_not),
    case!(each_operation_answers_in_its_place),
    case!(reads_see_the_writes_before_them),
    case!(deletes_see_the_writes_before_them),
    case!(answers_inside_carry_only_a_revision),
    case!(a_put_answers_with_the_pair_before),
    case!(a_delete_answers_with_the_pairs_before),
    case!(the_second_delete_of_a_key_finds_nothing),
    case!(ranges_obey_their_options),
    case!(an_old_revision_is_read_inside),
    case!(a_lease_is_attached_inside),
    case!(values_and_leases_are_kept_inside),
    case!(a_key_put_twice_is_refused),
    case!(a_key_put_and_deleted_is_refused),
    case!(a_key_put_and_deleted_by_range_is_refused),
    case!(a_key_put_and_deleted_with_all_greater_ones_runs_in_order)
        .needing(Needs::Fresh)
        .excused_by(Quirk::EveryRangeEnds),
    case!(duplicates_are_refused_in_the_branch_not_taken_too),
    case!(a_key_put_in_both_branches_is_fine),
    case!(a_key_put_and_read_is_fine),
    case!(an_empty_key_is_refused_in_either_branch),
    case!(a_future_revision_fails_the_whole),
    case!(an_unknown_lease_fails_the_whole),
    case!(a_missing_key_to_keep_fails_the_whole),
    case!(the_branch_not_taken_is_not_checked_for_leases),
    case!(the_branch_not_taken_is_not_checked_for_revisions),
    case!(a_failed_condition_answers_with_what_is_there),
    case!(readers_see_all_of_it_or_nothing),
    case!(one_of_many_creates_a_key),
    case!(no_update_is_lost),
];

/// The operation's answer, as a reading of the value of its only key.
fn value_read(response: Option<&TxnOpResponse>) -> Checked<Option<Bytes>> {
    match response {
        Some(TxnOpResponse::Range(range)) => Ok(range.kvs.first().map(|kv| kv.value.clone())),
        other => Err(Failure::new(format!("expected a range, found {other:?}"))),
    }
}

async fn one_branch_runs_and_the_other_does_not(t: Ctx) -> Checked {
    let txn = Txn::new()
        .when([Compare::absent(t.one("a"))])
        .and_then([t.putting("a", "then")])
        .or_else([t.putting("b", "else")]);
    let response = t.txn(txn.clone()).await?;
    same("first time", response.succeeded, true)?;
    same("keys", t.names(&t.everything().await?.kvs), ["a"])?;
    let response = t.txn(txn).await?;
    same("second time", response.succeeded, false)?;
    same("keys", t.names(&t.everything().await?.kvs), ["a", "b"])?;
    same(
        "value of a",
        t.existing("a").await?.value,
        Bytes::from("then"),
    )?;
    same(
        "value of b",
        t.existing("b").await?.value,
        Bytes::from("else"),
    )
}

async fn each_operation_answers_in_its_place(t: Ctx) -> Checked {
    t.put("x", "1").await?;
    let txn = Txn::new().and_then([
        TxnOp::from(t.putting("a", "1")),
        DeleteRequest::new(t.one("x")).into(),
        RangeRequest::new(t.one("a")).into(),
        Txn::new().into(),
    ]);
    let response = t.txn(txn).await?;
    let kinds: Vec<&str> = response
        .responses
        .iter()
        .map(|response| match response {
            TxnOpResponse::Put(_) => "put",
            TxnOpResponse::Delete(_) => "delete",
            TxnOpResponse::Range(_) => "range",
            TxnOpResponse::Txn(_) => "txn",
        })
        .collect();
    same("answers", kinds, ["put", "delete", "range", "txn"])
}

async fn reads_see_the_writes_before_them(t: Ctx) -> Checked {
    t.put("a", "old").await?;
    let read = || TxnOp::from(RangeRequest::new(t.one("a")));
    let txn = Txn::new().and_then([read(), t.putting("a", "new").into(), read()]);
    let response = t.txn(txn).await?;
    let found = value_read(response.responses.first())?;
    same("before the put", found, Some(Bytes::from("old")))?;
    let found = value_read(response.responses.get(2))?;
    same("after the put", found, Some(Bytes::from("new")))?;
    let txn = Txn::new().and_then([DeleteRequest::new(t.one("a")).into(), read()]);
    let response = t.txn(txn).await?;
    same(
        "after the delete",
        value_read(response.responses.get(1))?,
        None,
    )
}

async fn deletes_see_the_writes_before_them(t: Ctx) -> Checked {
    t.put_all(&["a", "b", "c"]).await?;
    let txn = Txn::new().and_then([
        DeleteRequest::new(t.one("b")),
        DeleteRequest::new(t.all()).with_prev_kv(),
    ]);
    let mut responses = t.txn(txn).await?.responses.into_iter();
    let mut deleted = || responses.next().and_then(TxnOpResponse::into_delete);
    same("first", deleted().map(|response| response.deleted), Some(1))?;
    let second = deleted().map(|response| (response.deleted, t.names(&response.prev_kvs)));
    same(
        "second",
        second,
        Some((2, vec!["a".to_string(), "c".to_string()])),
    )
}

async fn answers_inside_carry_only_a_revision(t: Ctx) -> Checked {
    let before = t.put("x", "1").await?;
    let txn = Txn::new().and_then([
        TxnOp::from(RangeRequest::new(t.one("x"))),
        t.putting("a", "1").into(),
        RangeRequest::new(t.one("x")).into(),
        DeleteRequest::new(t.one("x")).into(),
        DeleteRequest::new(t.one("none")).into(),
    ]);
    let response = t.txn(txn).await?;
    let headers: Vec<Header> = response
        .responses
        .into_iter()
        .map(|response| match response {
            TxnOpResponse::Put(response) => response.header,
            TxnOpResponse::Delete(response) => response.header,
            TxnOpResponse::Range(response) => response.header,
            TxnOpResponse::Txn(response) => response.header,
        })
        .collect();
    let bare = |revision| Header {
        revision,
        ..Header::default()
    };
    let (old, new) = (bare(before), bare(before.next()));
    same("headers", headers, vec![old, new, new, new, new])
}

async fn a_put_answers_with_the_pair_before(t: Ctx) -> Checked {
    t.put("a", "old").await?;
    let before = t.existing("a").await?;
    let txn = Txn::new().and_then([
        t.putting("a", "new").with_prev_kv(),
        t.putting("b", "new").with_prev_kv(),
    ]);
    let responses = t.txn(txn).await?.responses;
    let prev: Vec<_> = responses
        .into_iter()
        .filter_map(TxnOpResponse::into_put)
        .map(|response| response.prev_kv)
        .collect();
    same("pairs before", prev, vec![Some(before), None])
}

async fn a_delete_answers_with_the_pairs_before(t: Ctx) -> Checked {
    t.put_all(&["b", "a"]).await?;
    let before = t.everything().await?.kvs;
    let txn = Txn::new().and_then([DeleteRequest::new(t.all()).with_prev_kv()]);
    let mut responses = t.txn(txn).await?.responses;
    let response = responses.pop().and_then(TxnOpResponse::into_delete);
    let found = response.map(|response| (response.deleted, response.prev_kvs));
    same("deleted and pairs before", found, Some((2, before)))
}

async fn the_second_delete_of_a_key_finds_nothing(t: Ctx) -> Checked {
    t.put("a", "1").await?;
    let delete = || DeleteRequest::new(t.one("a"));
    let responses = t
        .txn(Txn::new().and_then([delete(), delete()]))
        .await?
        .responses;
    let deleted: Vec<u64> = responses
        .into_iter()
        .filter_map(TxnOpResponse::into_delete)
        .map(|response| response.deleted)
        .collect();
    same("deleted", deleted, [1, 0])
}

async fn ranges_obey_their_options(t: Ctx) -> Checked {
    t.put_all(&["a", "b", "c"]).await?;
    let all = || RangeRequest::new(t.all());
    let txn = Txn::new().and_then([
        all().with_limit(2),
        all().count_only(),
        all().keys_only(),
        all().sorted_by(SortTarget::ModRevision, SortOrder::Descending),
    ]);
    let responses = t.txn(txn).await?.responses;
    let found: Vec<_> = responses
        .into_iter()
        .filter_map(TxnOpResponse::into_range)
        .map(|range| {
            let bytes: usize = range.kvs.iter().map(|kv| kv.value.len()).sum();
            (t.names(&range.kvs).concat(), range.count, range.more, bytes)
        })
        .collect();
    let expected = vec![
        ("ab".to_string(), 3, true, 2),
        (String::new(), 3, false, 0),
        ("abc".to_string(), 3, false, 0),
        ("cba".to_string(), 3, false, 3),
    ];
    same("answers", found, expected)
}

async fn an_old_revision_is_read_inside(t: Ctx) -> Checked {
    let old = t.put("a", "old").await?;
    t.put("a", "middle").await?;
    let txn = Txn::new().and_then([
        TxnOp::from(t.putting("a", "new")),
        RangeRequest::new(t.one("a")).at(old).into(),
        RangeRequest::new(t.one("a")).into(),
    ]);
    let responses = t.txn(txn).await?.responses;
    same(
        "then",
        value_read(responses.get(1))?,
        Some(Bytes::from("old")),
    )?;
    same(
        "now",
        value_read(responses.get(2))?,
        Some(Bytes::from("new")),
    )
}

async fn a_lease_is_attached_inside(t: Ctx) -> Checked {
    let lease = t.lease(60).await?;
    let txn = Txn::new().and_then([t.putting("a", "1").with_lease(lease), t.putting("b", "2")]);
    t.txn(txn).await?;
    same("lease", t.existing("a").await?.lease, Some(lease))?;
    let left = t.store.lease_time_to_live(lease, true).await?;
    same("keys of the lease", left.keys, vec![t.key("a")])?;
    t.store.lease_revoke(lease).await?;
    same("keys", t.names(&t.everything().await?.kvs), ["b"])
}

async fn values_and_leases_are_kept_inside(t: Ctx) -> Checked {
    let lease = t.lease(60).await?;
    t.put_leased("a", "1", lease).await?;
    t.put_leased("b", "1", lease).await?;
    let txn = Txn::new().and_then([
        PutRequest {
            value: PutValue::Keep,
            ..t.putting("a", "")
        },
        PutRequest {
            lease: PutLease::Keep,
            ..t.putting("b", "2")
        },
    ]);
    t.txn(txn).await?;
    let (a, b) = (t.existing("a").await?, t.existing("b").await?);
    same("a", (a.value, a.lease), (Bytes::from("1"), None))?;
    same("b", (b.value, b.lease), (Bytes::from("2"), Some(lease)))
}

async fn a_key_put_twice_is_refused(t: Ctx) -> Checked {
    let txn = Txn::new().and_then([
        t.putting("a", "1"),
        t.putting("b", "1"),
        t.putting("a", "1"),
    ]);
    let error = refused(t.txn(txn).await, ErrorKind::DuplicateKey)?;
    let text = error.to_string();
    holds(
        text.contains("duplicate key given in txn request"),
        format!("the text is {text:?}"),
    )?;
    same("count", t.everything().await?.count, 0)
}

async fn a_key_put_and_deleted_is_refused(t: Ctx) -> Checked {
    t.put("a", "1").await?;
    let put = || TxnOp::from(t.putting("a", "2"));
    let delete = || TxnOp::from(DeleteRequest::new(t.one("a")));
    for ops in [[put(), delete()], [delete(), put()]] {
        let txn = Txn::new().and_then(ops);
        refused(t.txn(txn).await, ErrorKind::DuplicateKey)?;
    }
    same("value", t.existing("a").await?.value, Bytes::from("1"))
}

async fn a_key_put_and_deleted_by_range_is_refused(t: Ctx) -> Checked {
    let put = || TxnOp::from(t.putting("b", "2"));
    for range in [t.all(), t.between("a", "c"), t.between("b", "b\0")] {
        let delete = TxnOp::from(DeleteRequest::new(range));
        for ops in [[put(), delete.clone()], [delete, put()]] {
            let txn = Txn::new().and_then(ops);
            refused(t.txn(txn).await, ErrorKind::DuplicateKey)?;
        }
    }
    // A range that ends before the key does not cover it, and one that ends before it begins
    // covers nothing.
    for range in [t.between("a", "b"), t.between("c", "a")] {
        let txn = Txn::new().and_then([put(), DeleteRequest::new(range).into()]);
        t.txn(txn).await?;
    }
    Ok(())
}

async fn a_key_put_and_deleted_with_all_greater_ones_runs_in_order(t: Ctx) -> Checked {
    // etcd does not count a delete without an end as one that covers the key.
    t.put("c", "1").await?;
    let put = || TxnOp::from(t.putting("b", "2").with_prev_kv());
    let delete = || TxnOp::from(DeleteRequest::new(KeyRange::From(t.key("a"))).with_prev_kv());
    let before = t.revision().await?;
    let response = t.txn(Txn::new().and_then([put(), delete()])).await?;
    let deleted = response
        .responses
        .into_iter()
        .nth(1)
        .and_then(TxnOpResponse::into_delete);
    let deleted = deleted.map(|response| t.names(&response.prev_kvs).concat());
    same("deleted", deleted.as_deref(), Some("bc"))?;
    same("count", t.everything().await?.count, 0)?;
    t.txn(Txn::new().and_then([delete(), put()])).await?;
    let kv = t.existing("b").await?;
    same("version", kv.version, 1)?;
    same("create revision", kv.create_revision, before.next().next())?;
    // Both at once: deleted and created anew at one revision.
    let response = t.txn(Txn::new().and_then([delete(), put()])).await?;
    let put = response
        .responses
        .into_iter()
        .nth(1)
        .and_then(TxnOpResponse::into_put);
    same(
        "pair before",
        put.and_then(|response| response.prev_kv),
        None,
    )?;
    let kv = t.existing("b").await?;
    same("version", kv.version, 1)?;
    same(
        "create revision",
        kv.create_revision,
        response.header.revision,
    )?;
    let request = WatchRequest::new(t.all()).starting_at(before.next());
    let events = t.watch(request.with_prev_kv()).await?.events(6).await?;
    let told: Vec<String> = events
        .iter()
        .map(|event| {
            let before = event.prev_kv.as_ref().map_or(0, |kv| kv.version);
            format!("{:?} {} {before}", event.kind, t.name_of(&event.kv.key))
        })
        .collect();
    // The delete of what the same revision created has no pair before it, nor has the put of what
    // it deleted.
    let expected = [
        "Put b 0",
        "Delete b 0",
        "Delete c 1",
        "Put b 0",
        "Delete b 1",
        "Put b 0",
    ];
    same("events", told, expected)
}

async fn duplicates_are_refused_in_the_branch_not_taken_too(t: Ctx) -> Checked {
    let twice = [t.putting("a", "1"), t.putting("a", "2")];
    refused(
        t.txn(Txn::new().or_else(twice)).await,
        ErrorKind::DuplicateKey,
    )?;
    same("count", t.everything().await?.count, 0)
}

async fn a_key_put_in_both_branches_is_fine(t: Ctx) -> Checked {
    let txn = Txn::new()
        .when([Compare::absent(t.one("a"))])
        .and_then([
            TxnOp::from(t.putting("a", "1")),
            DeleteRequest::new(t.one("b")).into(),
        ])
        .or_else([
            TxnOp::from(t.putting("b", "1")),
            DeleteRequest::new(t.one("a")).into(),
        ]);
    same("first time", t.txn(txn.clone()).await?.succeeded, true)?;
    same("second time", t.txn(txn).await?.succeeded, false)?;
    same("keys", t.names(&t.everything().await?.kvs), ["b"])
}

async fn a_key_put_and_read_is_fine(t: Ctx) -> Checked {
    let txn = Txn::new().and_then([
        TxnOp::from(RangeRequest::new(t.one("a"))),
        t.putting("a", "1").into(),
        RangeRequest::new(t.one("a")).into(),
        RangeRequest::new(t.all()).into(),
    ]);
    same("answers", t.txn(txn).await?.responses.len(), 4)
}

async fn an_empty_key_is_refused_in_either_branch(t: Ctx) -> Checked {
    let ops = [
        TxnOp::from(PutRequest::new("", "1")),
        DeleteRequest::new(KeyRange::one("")).into(),
        RangeRequest::new(KeyRange::one("")).into(),
        RangeRequest::new(KeyRange::from("")).into(),
    ];
    for op in ops {
        let put = || TxnOp::from(t.putting("a", "1"));
        let then = Txn::new().and_then([put(), op.clone()]);
        refused(t.txn(then).await, ErrorKind::EmptyKey)?;
        let otherwise = Txn::new().and_then([put()]).or_else([op]);
        refused(t.txn(otherwise).await, ErrorKind::EmptyKey)?;
    }
    same("count", t.everything().await?.count, 0)
}

async fn a_future_revision_fails_the_whole(t: Ctx) -> Checked {
    let now = t.put("x", "1").await?;
    for future in [now.next().next(), Revision(u64::MAX)] {
        let txn = Txn::new().and_then([
            TxnOp::from(t.putting("a", "1")),
            RangeRequest::new(t.one("x")).at(future).into(),
        ]);
        refused(t.txn(txn).await, ErrorKind::FutureRevision)?;
    }
    same("the key", t.get("a").await?, None)?;
    same("revision after it", t.revision().await?, now)
}

async fn an_unknown_lease_fails_the_whole(t: Ctx) -> Checked {
    let before = t.put("x", "1").await?;
    let txn = Txn::new().and_then([
        TxnOp::from(t.putting("a", "1")),
        DeleteRequest::new(t.one("x")).into(),
        t.putting("b", "1").with_lease(unknown_lease()).into(),
    ]);
    let error = refused(t.txn(txn).await, ErrorKind::LeaseNotFound)?;
    holds(
        error.is_lease_gone(),
        "the error says that the lease is gone",
    )?;
    same("keys", t.names(&t.everything().await?.kvs), ["x"])?;
    same("revision after it", t.revision().await?, before)
}

async fn a_missing_key_to_keep_fails_the_whole(t: Ctx) -> Checked {
    let before = t.put("x", "1").await?;
    let keeping = [
        PutRequest {
            value: PutValue::Keep,
            ..t.putting("b", "")
        },
        PutRequest {
            lease: PutLease::Keep,
            ..t.putting("b", "1")
        },
    ];
    for keep in keeping {
        let txn = Txn::new().and_then([t.putting("a", "1"), keep]);
        refused(t.txn(txn).await, ErrorKind::KeyNotFound)?;
    }
    same("keys", t.names(&t.everything().await?.kvs), ["x"])?;
    same("revision after it", t.revision().await?, before)
}

async fn the_branch_not_taken_is_not_checked_for_leases(t: Ctx) -> Checked {
    let leased = || t.putting("b", "1").with_lease(unknown_lease());
    let txn = Txn::new()
        .and_then([t.putting("a", "1")])
        .or_else([leased()]);
    same("succeeded", t.txn(txn).await?.succeeded, true)?;
    let never = Compare::absent(t.one("a"));
    let txn = Txn::new().when([never]).and_then([leased()]);
    same("succeeded", t.txn(txn).await?.succeeded, false)
}

async fn the_branch_not_taken_is_not_checked_for_revisions(t: Ctx) -> Checked {
    let future = RangeRequest::new(t.one("x")).at(Revision(u64::MAX));
    let txn = Txn::new().and_then([t.putting("a", "1")]).or_else([future]);
    same("succeeded", t.txn(txn).await?.succeeded, true)?;
    t.existing("a").await?;
    Ok(())
}

async fn a_failed_condition_answers_with_what_is_there(t: Ctx) -> Checked {
    t.put("a", "theirs").await?;
    let before = t.existing("a").await?;
    let txn = Txn::new()
        .when([Compare::absent(t.one("a"))])
        .and_then([t.putting("a", "mine")])
        .or_else([RangeRequest::new(t.one("a"))]);
    let mut response = t.txn(txn).await?;
    same("succeeded", response.succeeded, false)?;
    same("revision", response.header.revision, before.mod_revision)?;
    let found = response.responses.pop().and_then(TxnOpResponse::into_range);
    same("pairs", found.map(|range| range.kvs), Some(vec![before]))
}

async fn readers_see_all_of_it_or_nothing(t: Ctx) -> Checked {
    let writes = async {
        for round in 0..30 {
            let value = round.to_string();
            let puts = ["a", "b", "c"].map(|name| t.putting(name, value.clone()));
            t.txn(Txn::new().and_then(puts)).await?;
        }
        Ok::<_, Failure>(())
    };
    let reads = async {
        for _ in 0..30 {
            let kvs = t.everything().await?.kvs;
            let first = kvs.first().map(|kv| (&kv.value, kv.mod_revision));
            holds(
                kvs.iter()
                    .all(|kv| Some((&kv.value, kv.mod_revision)) == first),
                format!("half of a txn shows: {kvs:?}"),
            )?;
        }
        Ok(())
    };
    futures_util::future::try_join(writes, reads).await?;
    Ok(())
}

async fn one_of_many_creates_a_key(t: Ctx) -> Checked {
    let attempts = (0..10).map(|number| {
        let txn = Txn::new()
            .when([Compare::absent(t.one("a"))])
            .and_then([t.putting("a", number.to_string())]);
        t.txn(txn)
    });
    let mut winners = Vec::new();
    for (number, response) in join_all(attempts).await.into_iter().enumerate() {
        if response?.succeeded {
            winners.push(number.to_string());
        }
    }
    same("winners", winners.len(), 1)?;
    let kv = t.existing("a").await?;
    same("value", Some(kv.value), winners.pop().map(Bytes::from))?;
    same("version", kv.version, 1)
}

async fn no_update_is_lost(t: Ctx) -> Checked {
    t.put("a", "0").await?;
    let worker = || async {
        let mut done = 0;
        // Each failure is somebody else's success: 40 in all.
        for _ in 0..40 {
            if done == 10 {
                break;
            }
            let kv = t.existing("a").await?;
            let number = String::from_utf8_lossy(&kv.value).parse::<u64>();
            let number = number.map_err(|_| Failure::new(format!("no number: {kv:?}")))?;
            let txn = Txn::new()
                .when([Compare::mod_revision(
                    t.one("a"),
                    CompareOp::Equal,
                    kv.mod_revision,
                )])
                .and_then([t.putting("a", (number + 1).to_string())]);
            if t.txn(txn).await?.succeeded {
                done += 1;
            }
        }
        same("updates of a worker", done, 10)
    };
    try_join_all((0..4).map(|_| worker())).await?;
    same("value", t.existing("a").await?.value, Bytes::from("40"))
}
