//! Compares: what each of them says of a key, of a missing key and of a range.

use crate::{Compare, CompareOp, CompareOperand, ErrorKind, KeyRange, Revision, Txn};

use super::case::{Case, case};
use super::check::{Checked, refused, same};
use super::ctx::Ctx;

pub(super) const CASES: &[Case] = &[
    case!(versions_compare_every_way),
    case!(create_revisions_compare_every_way),
    case!(mod_revisions_compare_every_way),
    case!(leases_compare_every_way),
    case!(values_compare_every_way),
    case!(values_compare_by_bytes),
    case!(numbers_of_a_missing_key_are_zero),
    case!(the_value_of_a_missing_key_compares_to_nothing),
    case!(numbers_compare_with_negative_ones),
    case!(a_deleted_key_compares_as_missing),
    case!(all_conditions_must_hold),
    case!(every_key_of_a_range_must_satisfy),
    case!(an_empty_range_is_one_missing_key),
    case!(a_range_of_values_without_keys_is_false),
    case!(an_inverted_range_is_one_missing_key),
    case!(a_range_ends_before_its_end),
    case!(from_a_key_compares_all_greater_ones),
    case!(an_empty_key_is_refused),
];

const OPS: [CompareOp; 4] = [
    CompareOp::Equal,
    CompareOp::NotEqual,
    CompareOp::Greater,
    CompareOp::Less,
];

/// Whether a txn with these conditions succeeds.
async fn succeeds(t: &Ctx, compares: impl IntoIterator<Item = Compare>) -> Checked<bool> {
    Ok(t.txn(Txn::new().when(compares)).await?.succeeded)
}

async fn says(t: &Ctx, range: KeyRange, operand: CompareOperand, expected: [bool; 4]) -> Checked {
    for (op, expected) in OPS.into_iter().zip(expected) {
        let compare = Compare {
            range: range.clone(),
            op,
            operand: operand.clone(),
        };
        let what = format!("{compare:?}");
        same(&what, succeeds(t, [compare]).await?, expected)?;
    }
    Ok(())
}

/// What the operators say when the stored number is equal to, greater than, less than the operand.
const EQUAL: [bool; 4] = [true, false, false, false];
const GREATER: [bool; 4] = [false, true, true, false];
const LESS: [bool; 4] = [false, true, false, true];

async fn versions_compare_every_way(t: Ctx) -> Checked {
    t.put_all(&["a", "a"]).await?;
    says(&t, t.one("a"), CompareOperand::Version(2), EQUAL).await?;
    says(&t, t.one("a"), CompareOperand::Version(1), GREATER).await?;
    says(&t, t.one("a"), CompareOperand::Version(0), GREATER).await?;
    says(&t, t.one("a"), CompareOperand::Version(3), LESS).await?;
    says(&t, t.one("a"), CompareOperand::Version(i64::MAX), LESS).await
}

async fn create_revisions_compare_every_way(t: Ctx) -> Checked {
    let created = t.put("a", "1").await?.as_i64();
    t.put("a", "2").await?;
    let operand = CompareOperand::CreateRevision;
    says(&t, t.one("a"), operand(created), EQUAL).await?;
    says(&t, t.one("a"), operand(created - 1), GREATER).await?;
    says(&t, t.one("a"), operand(created + 1), LESS).await
}

async fn mod_revisions_compare_every_way(t: Ctx) -> Checked {
    t.put("a", "1").await?;
    let modified = t.put("a", "2").await?.as_i64();
    let operand = CompareOperand::ModRevision;
    says(&t, t.one("a"), operand(modified), EQUAL).await?;
    says(&t, t.one("a"), operand(modified - 1), GREATER).await?;
    says(&t, t.one("a"), operand(modified + 1), LESS).await
}

async fn leases_compare_every_way(t: Ctx) -> Checked {
    let lease = t.lease(60).await?;
    t.put_leased("a", "1", lease).await?;
    let operand = CompareOperand::Lease;
    says(&t, t.one("a"), operand(lease.get()), EQUAL).await?;
    says(&t, t.one("a"), operand(lease.get() - 1), GREATER).await?;
    says(&t, t.one("a"), operand(0), GREATER).await?;
    says(&t, t.one("a"), operand(lease.get() + 1), LESS).await?;
    t.put("b", "without").await?;
    says(&t, t.one("b"), operand(0), EQUAL).await?;
    says(&t, t.one("b"), operand(lease.get()), LESS).await
}

fn value(value: &'static [u8]) -> CompareOperand {
    CompareOperand::Value(bytes::Bytes::from_static(value))
}

async fn values_compare_every_way(t: Ctx) -> Checked {
    t.put("a", "m").await?;
    says(&t, t.one("a"), value(b"m"), EQUAL).await?;
    says(&t, t.one("a"), value(b"l"), GREATER).await?;
    says(&t, t.one("a"), value(b""), GREATER).await?;
    says(&t, t.one("a"), value(b"n"), LESS).await
}

async fn values_compare_by_bytes(t: Ctx) -> Checked {
    t.put_request(t.putting("a", &b"m\0"[..])).await?;
    says(&t, t.one("a"), value(b"m"), GREATER).await?;
    says(&t, t.one("a"), value(b"m\0\0"), LESS).await?;
    says(&t, t.one("a"), value(b"\xff"), LESS).await?;
    says(&t, t.one("a"), value(b"M\xff"), GREATER).await?;
    t.put("b", "").await?;
    says(&t, t.one("b"), value(b""), EQUAL).await
}

async fn numbers_of_a_missing_key_are_zero(t: Ctx) -> Checked {
    let kinds: [fn(i64) -> CompareOperand; 4] = [
        CompareOperand::Version,
        CompareOperand::CreateRevision,
        CompareOperand::ModRevision,
        CompareOperand::Lease,
    ];
    for operand in kinds {
        says(&t, t.one("none"), operand(0), EQUAL).await?;
        says(&t, t.one("none"), operand(1), LESS).await?;
        says(&t, t.one("none"), operand(-1), GREATER).await?;
    }
    Ok(())
}

async fn the_value_of_a_missing_key_compares_to_nothing(t: Ctx) -> Checked {
    for operand in [value(b""), value(b"x")] {
        says(&t, t.one("none"), operand, [false; 4]).await?;
    }
    Ok(())
}

async fn numbers_compare_with_negative_ones(t: Ctx) -> Checked {
    t.put("a", "1").await?;
    says(&t, t.one("a"), CompareOperand::Version(-1), GREATER).await?;
    says(
        &t,
        t.one("a"),
        CompareOperand::ModRevision(i64::MIN),
        GREATER,
    )
    .await
}

async fn a_deleted_key_compares_as_missing(t: Ctx) -> Checked {
    t.put("a", "1").await?;
    t.delete(t.one("a")).await?;
    says(&t, t.one("a"), CompareOperand::Version(0), EQUAL).await?;
    says(&t, t.one("a"), CompareOperand::CreateRevision(0), EQUAL).await?;
    says(&t, t.one("a"), CompareOperand::ModRevision(0), EQUAL).await?;
    says(&t, t.one("a"), value(b"1"), [false; 4]).await
}

async fn all_conditions_must_hold(t: Ctx) -> Checked {
    t.put("a", "1").await?;
    let yes = || Compare::version(t.one("a"), CompareOp::Equal, 1);
    let no = || Compare::version(t.one("a"), CompareOp::Equal, 2);
    same("none", succeeds(&t, []).await?, true)?;
    same("two true ones", succeeds(&t, [yes(), yes()]).await?, true)?;
    same(
        "the last false",
        succeeds(&t, [yes(), yes(), no()]).await?,
        false,
    )?;
    same("the first false", succeeds(&t, [no(), yes()]).await?, false)
}

async fn every_key_of_a_range_must_satisfy(t: Ctx) -> Checked {
    t.put_all(&["a", "b", "c", "c"]).await?;
    let all = |op, version| Compare::version(t.all(), op, version);
    same(
        "all of 1 or more",
        succeeds(&t, [all(CompareOp::Greater, 0)]).await?,
        true,
    )?;
    same(
        "all 1",
        succeeds(&t, [all(CompareOp::Equal, 1)]).await?,
        false,
    )?;
    same(
        "none 2",
        succeeds(&t, [all(CompareOp::NotEqual, 2)]).await?,
        false,
    )?;
    same(
        "none 3",
        succeeds(&t, [all(CompareOp::NotEqual, 3)]).await?,
        true,
    )?;
    let some = Compare::version(t.between("a", "c"), CompareOp::Equal, 1);
    same("a and b", succeeds(&t, [some]).await?, true)?;
    let newest = Compare::mod_revision(t.all(), CompareOp::Less, t.revision().await?.next());
    same("nothing newer", succeeds(&t, [newest.clone()]).await?, true)?;
    t.put("bb", "1").await?;
    same("something newer", succeeds(&t, [newest]).await?, false)?;
    let values = Compare::value(t.between("a", "bb"), CompareOp::Less, "c");
    same("values below c", succeeds(&t, [values]).await?, true)
}

async fn an_empty_range_is_one_missing_key(t: Ctx) -> Checked {
    t.put("other", "1").await?;
    let range = || t.between("a", "b");
    says(&t, range(), CompareOperand::Version(0), EQUAL).await?;
    says(&t, range(), CompareOperand::CreateRevision(0), EQUAL).await?;
    says(&t, range(), CompareOperand::ModRevision(1), LESS).await?;
    says(&t, range(), CompareOperand::Lease(-1), GREATER).await?;
    same(
        "absent",
        succeeds(&t, [Compare::absent(range())]).await?,
        true,
    )?;
    t.put("a5", "1").await?;
    same(
        "absent no more",
        succeeds(&t, [Compare::absent(range())]).await?,
        false,
    )
}

async fn a_range_of_values_without_keys_is_false(t: Ctx) -> Checked {
    says(&t, t.between("a", "b"), value(b"x"), [false; 4]).await
}

async fn an_inverted_range_is_one_missing_key(t: Ctx) -> Checked {
    t.put_all(&["a", "b", "c"]).await?;
    says(&t, t.between("c", "a"), CompareOperand::Version(0), EQUAL).await?;
    says(&t, t.between("b", "b"), CompareOperand::Version(0), EQUAL).await
}

async fn a_range_ends_before_its_end(t: Ctx) -> Checked {
    t.put_all(&["a", "b", "b"]).await?;
    let range = t.between("a", "b");
    says(&t, range, CompareOperand::Version(1), EQUAL).await
}

async fn from_a_key_compares_all_greater_ones(t: Ctx) -> Checked {
    let created = t.put("a", "1").await?;
    let range = || KeyRange::From(t.key("a"));
    let exists = Compare::version(range(), CompareOp::Greater, 0);
    same("all exist", succeeds(&t, [exists]).await?, true)?;
    t.put("b", "1").await?;
    let old = Compare::create_revision(range(), CompareOp::Less, created.next());
    same("all are old", succeeds(&t, [old]).await?, false)?;
    let absent = Compare::create_revision(range(), CompareOp::Equal, Revision::ZERO);
    same("none exists", succeeds(&t, [absent]).await?, false)
}

async fn an_empty_key_is_refused(t: Ctx) -> Checked {
    for range in [KeyRange::one(""), KeyRange::between("", "b")] {
        let txn = Txn::new().when([Compare::absent(range)]);
        refused(t.txn(txn).await, ErrorKind::EmptyKey)?;
    }
    Ok(())
}
