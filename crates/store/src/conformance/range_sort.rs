//! Sorting and filtering ranges, and what comes before what.

use bytes::Bytes;

use crate::{RangeRequest, Revision, SortOrder, SortTarget};

use super::case::{Case, case};
use super::check::{Checked, same};
use super::ctx::Ctx;

pub(super) const CASES: &[Case] = &[
    case!(keys_sort_both_ways),
    case!(versions_sort_both_ways),
    case!(create_revisions_sort_both_ways),
    case!(mod_revisions_sort_both_ways),
    case!(values_sort_both_ways),
    case!(values_sort_by_bytes),
    case!(equal_pairs_stay_in_key_order_both_ways),
    case!(a_target_without_an_order_ascends),
    case!(sorting_comes_before_the_limit),
    case!(without_an_order_the_limit_comes_first),
    case!(keys_only_still_sorts_by_value),
    case!(an_old_revision_sorts_by_what_was),
    case!(min_mod_revision_filters),
    case!(max_mod_revision_filters),
    case!(min_create_revision_filters),
    case!(max_create_revision_filters),
    case!(filters_are_combined),
    case!(filters_come_before_the_limit),
    case!(the_count_is_taken_before_filters),
];

/// Four keys in which every target gives another order:
///
/// | key | version | created | modified | value |
/// | --- | ------- | ------- | -------- | ----- |
/// | `a` | 3       | third   | third    | `2`   |
/// | `b` | 1       | first   | first    | `4`   |
/// | `c` | 2       | fourth  | fourth   | `1`   |
/// | `d` | 4       | second  | last     | `3`   |
///
/// Returns the revisions at which `b`, `d`, `a` and `c` were created.
async fn fixture(t: &Ctx) -> Checked<[Revision; 4]> {
    let b = t.put("b", "4").await?;
    let d = t.put("d", "3").await?;
    let a = t.put("a", "2").await?;
    t.put("a", "2").await?;
    t.put("a", "2").await?;
    let c = t.put("c", "1").await?;
    t.put("c", "1").await?;
    for _ in 0..3 {
        t.put("d", "3").await?;
    }
    Ok([b, d, a, c])
}

async fn sorted(t: &Ctx, target: SortTarget, order: SortOrder) -> Checked<Vec<String>> {
    let response = t
        .range(RangeRequest::new(t.all()).sorted_by(target, order))
        .await?;
    same("count", response.count, 4)?;
    same("more", response.more, false)?;
    Ok(t.names(&response.kvs))
}

async fn both_ways(t: &Ctx, target: SortTarget, ascending: [&str; 4]) -> Checked {
    fixture(t).await?;
    same(
        "ascending",
        sorted(t, target, SortOrder::Ascending).await?,
        ascending,
    )?;
    let mut descending = ascending;
    descending.reverse();
    same(
        "descending",
        sorted(t, target, SortOrder::Descending).await?,
        descending,
    )
}

async fn keys_sort_both_ways(t: Ctx) -> Checked {
    both_ways(&t, SortTarget::Key, ["a", "b", "c", "d"]).await
}

async fn versions_sort_both_ways(t: Ctx) -> Checked {
    both_ways(&t, SortTarget::Version, ["b", "c", "a", "d"]).await
}

async fn create_revisions_sort_both_ways(t: Ctx) -> Checked {
    both_ways(&t, SortTarget::CreateRevision, ["b", "d", "a", "c"]).await
}

async fn mod_revisions_sort_both_ways(t: Ctx) -> Checked {
    both_ways(&t, SortTarget::ModRevision, ["b", "a", "c", "d"]).await
}

async fn values_sort_both_ways(t: Ctx) -> Checked {
    both_ways(&t, SortTarget::Value, ["c", "a", "d", "b"]).await
}

async fn values_sort_by_bytes(t: Ctx) -> Checked {
    let values: [(&str, &'static [u8]); 5] = [
        ("a", b"\xff"),
        ("b", b""),
        ("c", b"a\0"),
        ("d", b"a"),
        ("e", b"\0"),
    ];
    for (name, value) in values {
        t.put_request(t.putting(name, Bytes::from_static(value)))
            .await?;
    }
    let request = RangeRequest::new(t.all()).sorted_by(SortTarget::Value, SortOrder::Ascending);
    let response = t.range(request).await?;
    same("keys", t.names(&response.kvs), ["b", "e", "d", "c", "a"])
}

async fn equal_pairs_stay_in_key_order_both_ways(t: Ctx) -> Checked {
    // So few pairs etcd sorts that way; of many it promises nothing.
    t.put_all(&["c", "a", "b"]).await?;
    for order in [SortOrder::Ascending, SortOrder::Descending] {
        let request = RangeRequest::new(t.all()).sorted_by(SortTarget::Version, order);
        same(
            "keys",
            t.names(&t.range(request).await?.kvs),
            ["a", "b", "c"],
        )?;
    }
    Ok(())
}

async fn a_target_without_an_order_ascends(t: Ctx) -> Checked {
    fixture(&t).await?;
    for (target, expected) in [
        (SortTarget::Key, ["a", "b", "c", "d"]),
        (SortTarget::Version, ["b", "c", "a", "d"]),
        (SortTarget::CreateRevision, ["b", "d", "a", "c"]),
        (SortTarget::ModRevision, ["b", "a", "c", "d"]),
        (SortTarget::Value, ["c", "a", "d", "b"]),
    ] {
        same("keys", sorted(&t, target, SortOrder::None).await?, expected)?;
    }
    Ok(())
}

async fn sorting_comes_before_the_limit(t: Ctx) -> Checked {
    fixture(&t).await?;
    for (target, order, expected) in [
        (SortTarget::ModRevision, SortOrder::Descending, ["d", "c"]),
        (SortTarget::Value, SortOrder::Ascending, ["c", "a"]),
        (SortTarget::Key, SortOrder::Descending, ["d", "c"]),
    ] {
        let request = RangeRequest::new(t.all())
            .sorted_by(target, order)
            .with_limit(2);
        let response = t.range(request).await?;
        same("keys", t.names(&response.kvs), expected)?;
        same("more", response.more, true)?;
        same("count", response.count, 4)?;
    }
    Ok(())
}

async fn without_an_order_the_limit_comes_first(t: Ctx) -> Checked {
    fixture(&t).await?;
    // What etcd does: with no order it reads only one key more than the limit, in key order, and
    // sorts those. Filters make it read all.
    let mut request = RangeRequest::new(t.all()).with_limit(2);
    request.sort_target = SortTarget::CreateRevision;
    let response = t.range(request.clone()).await?;
    same("keys", t.names(&response.kvs), ["b", "a"])?;
    same("more", response.more, true)?;
    same("count", response.count, 4)?;
    request.min_mod_revision = Some(Revision(1));
    let response = t.range(request).await?;
    same("keys with a filter", t.names(&response.kvs), ["b", "d"])?;
    same("more", response.more, true)
}

async fn keys_only_still_sorts_by_value(t: Ctx) -> Checked {
    fixture(&t).await?;
    let request = RangeRequest::new(t.all()).sorted_by(SortTarget::Value, SortOrder::Descending);
    let response = t.range(request.keys_only()).await?;
    same("keys", t.names(&response.kvs), ["b", "d", "a", "c"])?;
    let values: usize = response.kvs.iter().map(|kv| kv.value.len()).sum();
    same("bytes of values", values, 0)
}

async fn an_old_revision_sorts_by_what_was(t: Ctx) -> Checked {
    t.put("a", "1").await?;
    let old = t.put("b", "2").await?;
    t.put("a", "3").await?;
    let request = RangeRequest::new(t.all()).at(old);
    let by_value = request
        .clone()
        .sorted_by(SortTarget::Value, SortOrder::Descending);
    same(
        "by value",
        t.names(&t.range(by_value).await?.kvs),
        ["b", "a"],
    )?;
    let by_revision = request.sorted_by(SortTarget::ModRevision, SortOrder::Descending);
    same(
        "by revision",
        t.names(&t.range(by_revision).await?.kvs),
        ["b", "a"],
    )
}

/// The keys that pass the filters that `set` sets.
async fn filtered(t: &Ctx, set: impl FnOnce(&mut RangeRequest)) -> Checked<Vec<String>> {
    let mut request = RangeRequest::new(t.all());
    set(&mut request);
    let response = t.range(request).await?;
    same("count", response.count, 4)?;
    same("more", response.more, false)?;
    Ok(t.names(&response.kvs))
}

async fn min_mod_revision_filters(t: Ctx) -> Checked {
    let [.., c] = fixture(&t).await?;
    // `c` was modified at the next revision, `d` after that.
    let names = filtered(&t, |request| request.min_mod_revision = Some(c.next())).await?;
    same("keys from c's own on", names, ["c", "d"])?;
    let names = filtered(&t, |request| {
        request.min_mod_revision = Some(c.next().next())
    })
    .await?;
    same("keys after it", names, ["d"])
}

async fn max_mod_revision_filters(t: Ctx) -> Checked {
    let [.., c] = fixture(&t).await?;
    let names = filtered(&t, |request| request.max_mod_revision = Some(c.next())).await?;
    same("keys up to c's own", names, ["a", "b", "c"])?;
    let names = filtered(&t, |request| request.max_mod_revision = Some(c)).await?;
    same("keys before it", names, ["a", "b"])
}

async fn min_create_revision_filters(t: Ctx) -> Checked {
    let [_, _, a, _] = fixture(&t).await?;
    let names = filtered(&t, |request| request.min_create_revision = Some(a)).await?;
    same("keys from a's own on", names, ["a", "c"])?;
    let names = filtered(&t, |request| request.min_create_revision = Some(a.next())).await?;
    same("keys after it", names, ["c"])
}

async fn max_create_revision_filters(t: Ctx) -> Checked {
    let [_, d, ..] = fixture(&t).await?;
    let names = filtered(&t, |request| request.max_create_revision = Some(d)).await?;
    same("keys up to d's own", names, ["b", "d"])?;
    let names = filtered(&t, |request| request.max_create_revision = Some(d.prev())).await?;
    same("keys before it", names, ["b"])
}

async fn filters_are_combined(t: Ctx) -> Checked {
    let [_, d, a, c] = fixture(&t).await?;
    let names = filtered(&t, |request| {
        request.min_create_revision = Some(d);
        request.max_create_revision = Some(c);
        request.min_mod_revision = Some(a);
        request.max_mod_revision = Some(c.next());
    });
    same("keys", names.await?, ["a", "c"])
}

async fn filters_come_before_the_limit(t: Ctx) -> Checked {
    let [_, _, a, c] = fixture(&t).await?;
    let mut request = RangeRequest::new(t.all()).with_limit(1);
    request.min_create_revision = Some(a);
    let response = t.range(request.clone()).await?;
    same("keys", t.names(&response.kvs), ["a"])?;
    same("more", response.more, true)?;
    request.min_create_revision = Some(c);
    let response = t.range(request).await?;
    same("keys", t.names(&response.kvs), ["c"])?;
    same("more", response.more, false)
}

async fn the_count_is_taken_before_filters(t: Ctx) -> Checked {
    let [.., c] = fixture(&t).await?;
    let mut request = RangeRequest::new(t.all());
    request.min_create_revision = Some(c.next());
    let response = t.range(request).await?;
    same("pairs", response.kvs, Vec::new())?;
    same("count", response.count, 4)?;
    same("more", response.more, false)
}
