//! Ranges: which keys, how many, of when.

use bytes::Bytes;

use crate::{ErrorKind, Key, KeyRange, RangeRequest, Revision};

use super::case::{Case, case};
use super::check::{Checked, holds, refused, same};
use super::ctx::Ctx;
use super::factory::Needs;

pub(super) const CASES: &[Case] = &[
    case!(an_empty_key_is_refused),
    case!(a_missing_key_is_no_error),
    case!(one_key_is_found_without_its_neighbours),
    case!(a_range_includes_its_start_and_not_its_end),
    case!(a_range_that_ends_before_it_begins_is_empty),
    case!(a_range_up_to_the_successor_is_one_key),
    case!(a_prefix_is_all_keys_that_start_with_it),
    case!(from_a_key_is_all_greater_ones).needing(Needs::Fresh),
    case!(every_key_is_every_key).needing(Needs::Fresh),
    case!(keys_and_values_are_any_bytes),
    case!(keys_come_in_byte_order),
    case!(a_limit_cuts_and_says_so),
    case!(a_limit_that_cuts_nothing_says_so),
    case!(count_only_returns_the_count),
    case!(count_only_ignores_the_limit),
    case!(keys_only_leaves_out_values_alone),
    case!(an_old_revision_shows_the_old_state),
    case!(an_old_revision_counts_the_old_keys),
    case!(an_old_revision_obeys_the_limit),
    case!(the_current_revision_can_be_named),
    case!(a_future_revision_is_refused),
    case!(a_serializable_read_shows_a_state_that_was),
    case!(pages_at_one_revision_make_up_the_whole),
    case!(a_large_answer_comes_whole),
];

async fn an_empty_key_is_refused(t: Ctx) -> Checked {
    for range in [
        KeyRange::one(""),
        KeyRange::between("", "b"),
        KeyRange::from(""),
    ] {
        let error = refused(t.range(RangeRequest::new(range)).await, ErrorKind::EmptyKey)?;
        let text = error.to_string();
        holds(
            text.contains("key is not provided"),
            format!("the text is {text:?}"),
        )?;
    }
    Ok(())
}

async fn a_missing_key_is_no_error(t: Ctx) -> Checked {
    let response = t.everything().await?;
    same("pairs", response.kvs, Vec::new())?;
    same("count", response.count, 0)?;
    same("more", response.more, false)
}

async fn one_key_is_found_without_its_neighbours(t: Ctx) -> Checked {
    t.put_all(&["a", "aa", "b", "a\0"]).await?;
    let response = t.range(RangeRequest::new(t.one("a"))).await?;
    same("keys", t.names(&response.kvs), ["a"])?;
    same("count", response.count, 1)?;
    same(
        "value",
        response.kvs.into_iter().next().map(|kv| kv.value),
        Some(Bytes::from("a")),
    )
}

async fn a_range_includes_its_start_and_not_its_end(t: Ctx) -> Checked {
    t.put_all(&["a", "b", "bb", "c", "d"]).await?;
    let response = t.range(RangeRequest::new(t.between("b", "c"))).await?;
    same("keys", t.names(&response.kvs), ["b", "bb"])?;
    same("count", response.count, 2)
}

async fn a_range_that_ends_before_it_begins_is_empty(t: Ctx) -> Checked {
    t.put_all(&["a", "b", "c"]).await?;
    for range in [t.between("c", "a"), t.between("b", "b")] {
        let response = t.range(RangeRequest::new(range)).await?;
        same("pairs", response.kvs, Vec::new())?;
        same("count", response.count, 0)?;
        same("more", response.more, false)?;
    }
    Ok(())
}

async fn a_range_up_to_the_successor_is_one_key(t: Ctx) -> Checked {
    t.put_all(&["a", "a\0", "aa"]).await?;
    let start = t.key("a");
    let range = KeyRange::between(&start, start.successor());
    let response = t.range(RangeRequest::new(range)).await?;
    same("keys", t.names(&response.kvs), ["a"])
}

async fn a_prefix_is_all_keys_that_start_with_it(t: Ctx) -> Checked {
    t.put_all(&["a", "ab", "ab/1", "abc", "ac", "b"]).await?;
    let high = t.key(b"ab\xff\xff");
    t.put_request(crate::PutRequest::new(high, "")).await?;
    let response = t.range(RangeRequest::new(t.prefix("ab"))).await?;
    let names = t.names(&response.kvs);
    same(
        "keys",
        names.get(..3),
        Some(&["ab", "ab/1", "abc"].map(String::from)[..]),
    )?;
    same("count", response.count, 4)
}

async fn from_a_key_is_all_greater_ones(t: Ctx) -> Checked {
    t.put_all(&["a", "b", "c"]).await?;
    let response = t
        .range(RangeRequest::new(KeyRange::From(t.key("b"))))
        .await?;
    same("keys", t.names(&response.kvs), ["b", "c"])
}

async fn every_key_is_every_key(t: Ctx) -> Checked {
    let keys = [Key::from(b"\0"), Key::from("a"), Key::from(b"\xff\xff\xff")];
    for key in &keys {
        t.put_request(crate::PutRequest::new(key, "1")).await?;
    }
    let response = t.range(RangeRequest::new(KeyRange::all())).await?;
    let found: Vec<Key> = response.kvs.into_iter().map(|kv| kv.key).collect();
    same("keys", found, keys.to_vec())
}

async fn keys_and_values_are_any_bytes(t: Ctx) -> Checked {
    let all: Vec<u8> = (0..=255).collect();
    for (key, value) in [
        (&all[..], &b""[..]),
        (&b"\0"[..], &all[..]),
        (&b"\xff"[..], &b"\0"[..]),
    ] {
        let key = t.key(key);
        let value = Bytes::copy_from_slice(value);
        t.put_request(crate::PutRequest::new(&key, value.clone()))
            .await?;
        let response = t.range(RangeRequest::new(&key)).await?;
        let found = response.kvs.into_iter().next().map(|kv| (kv.key, kv.value));
        same("pair", found, Some((key, value)))?;
    }
    Ok(())
}

async fn keys_come_in_byte_order(t: Ctx) -> Checked {
    // Neither the order of writing, nor of length, nor of characters.
    let sorted: [&[u8]; 8] = [b"\0", b"A", b"a", b"a\0", b"aa", b"b", b"\x7f", b"\xc3\xa4"];
    for name in [3_usize, 0, 7, 5, 1, 6, 2, 4]
        .map(|at| sorted.get(at))
        .into_iter()
        .flatten()
    {
        t.put_request(crate::PutRequest::new(t.key(name), ""))
            .await?;
    }
    let response = t.everything().await?;
    let found: Vec<Key> = response.kvs.into_iter().map(|kv| kv.key).collect();
    same("keys", found, sorted.map(|name| t.key(name)).to_vec())
}

async fn a_limit_cuts_and_says_so(t: Ctx) -> Checked {
    t.put_all(&["a", "b", "c", "d"]).await?;
    let response = t.range(RangeRequest::new(t.all()).with_limit(2)).await?;
    same("keys", t.names(&response.kvs), ["a", "b"])?;
    same("more", response.more, true)?;
    same("count, which is the total", response.count, 4)
}

async fn a_limit_that_cuts_nothing_says_so(t: Ctx) -> Checked {
    t.put_all(&["a", "b", "c"]).await?;
    for limit in [0, 3, 4, u64::MAX] {
        let response = t
            .range(RangeRequest::new(t.all()).with_limit(limit))
            .await?;
        same("keys", t.names(&response.kvs), ["a", "b", "c"])?;
        same("more", response.more, false)?;
        same("count", response.count, 3)?;
    }
    Ok(())
}

async fn count_only_returns_the_count(t: Ctx) -> Checked {
    t.put_all(&["a", "b", "c"]).await?;
    let response = t.range(RangeRequest::new(t.all()).count_only()).await?;
    same("pairs", response.kvs, Vec::new())?;
    same("count", response.count, 3)?;
    same("more", response.more, false)
}

async fn count_only_ignores_the_limit(t: Ctx) -> Checked {
    t.put_all(&["a", "b", "c"]).await?;
    let request = RangeRequest::new(t.all()).count_only().with_limit(1);
    let response = t.range(request).await?;
    same("count", response.count, 3)?;
    same("more", response.more, false)
}

async fn keys_only_leaves_out_values_alone(t: Ctx) -> Checked {
    let lease = t.lease(60).await?;
    t.put("a", "1").await?;
    t.put_leased("a", "2", lease).await?;
    let full = t.existing("a").await?;
    let response = t.range(RangeRequest::new(t.all()).keys_only()).await?;
    let expected = crate::KeyValue {
        value: Bytes::new(),
        ..full
    };
    same("pairs", response.kvs, vec![expected])?;
    same("count", response.count, 1)
}

async fn an_old_revision_shows_the_old_state(t: Ctx) -> Checked {
    t.put("gone", "1").await?;
    let old = t.put("a", "old").await?;
    let before = t.everything().await?;
    t.put("a", "new").await?;
    t.put("later", "1").await?;
    t.delete(t.one("gone")).await?;
    let response = t.range(RangeRequest::new(t.all()).at(old)).await?;
    same("pairs", response.kvs, before.kvs)
}

async fn an_old_revision_counts_the_old_keys(t: Ctx) -> Checked {
    t.put_all(&["a", "b"]).await?;
    let old = t.put("c", "1").await?;
    t.delete(t.all()).await?;
    t.put("d", "1").await?;
    let response = t
        .range(RangeRequest::new(t.all()).at(old).count_only())
        .await?;
    same("count", response.count, 3)?;
    same("count now", t.everything().await?.count, 1)
}

async fn an_old_revision_obeys_the_limit(t: Ctx) -> Checked {
    t.put_all(&["a", "b"]).await?;
    let old = t.put("c", "1").await?;
    t.put("d", "1").await?;
    let response = t
        .range(RangeRequest::new(t.all()).at(old).with_limit(2))
        .await?;
    same("keys", t.names(&response.kvs), ["a", "b"])?;
    same("more", response.more, true)?;
    same("count", response.count, 3)?;
    let response = t
        .range(RangeRequest::new(t.all()).at(old).with_limit(3))
        .await?;
    same("more of all", response.more, false)
}

async fn the_current_revision_can_be_named(t: Ctx) -> Checked {
    let now = t.put("a", "1").await?;
    let response = t.range(RangeRequest::new(t.all()).at(now)).await?;
    same("answer", response.kvs, t.everything().await?.kvs)
}

async fn a_future_revision_is_refused(t: Ctx) -> Checked {
    let now = t.put("a", "1").await?;
    for future in [now.next(), Revision(now.0 + 1000), Revision(u64::MAX)] {
        let request = RangeRequest::new(t.all()).at(future);
        let error = refused(t.range(request).await, ErrorKind::FutureRevision)?;
        let text = error.to_string();
        holds(
            text.contains("required revision is a future revision"),
            format!("the text is {text:?}"),
        )?;
    }
    Ok(())
}

async fn a_serializable_read_shows_a_state_that_was(t: Ctx) -> Checked {
    let first = t.put("a", "1").await?;
    let second = t.put("a", "2").await?;
    let response = t.range(RangeRequest::new(t.all()).serializable()).await?;
    // It may be stale, but what it says is true of the revision it says it of.
    let expected = match response.header.revision {
        at if at >= second => Some(Bytes::from("2")),
        at if at >= first => Some(Bytes::from("1")),
        _ => None,
    };
    let found = response.kvs.into_iter().next().map(|kv| kv.value);
    same("value", found, expected)
}

async fn pages_at_one_revision_make_up_the_whole(t: Ctx) -> Checked {
    let names: Vec<String> = (0..50).map(|number| format!("{number:03}")).collect();
    for name in &names {
        t.put(name, "1").await?;
    }
    let pinned = t.revision().await?;
    let end = t.key("9");
    let mut start = t.key("0");
    let mut found = Vec::new();
    for _ in 0..names.len() {
        let range = KeyRange::between(&start, &end);
        let page = t
            .range(RangeRequest::new(range).at(pinned).with_limit(7))
            .await?;
        found.extend(t.names(&page.kvs));
        let Some(last) = page.kvs.last() else { break };
        start = last.key.successor();
        // What happens meanwhile does not show.
        t.delete(t.one("025")).await?;
        t.put("0255", "1").await?;
        if !page.more {
            break;
        }
    }
    same("keys", found, names)
}

async fn a_large_answer_comes_whole(t: Ctx) -> Checked {
    // Far more than one message of gRPC may have by default.
    let value = "x".repeat(1_200_000);
    for name in ["a", "b", "c", "d", "e"] {
        t.put(name, &value).await?;
    }
    let response = t.everything().await?;
    same("count", response.count, 5)?;
    let bytes: usize = response.kvs.iter().map(|kv| kv.value.len()).sum();
    same("bytes", bytes, 6_000_000)?;
    t.delete(t.all()).await?;
    Ok(())
}
