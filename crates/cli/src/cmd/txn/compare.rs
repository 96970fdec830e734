//! One condition: `TARGET(KEY) OP VALUE`, as etcdctl reads it; quotes may be left out where nothing
//! needs them.

use synod_store::{Compare, CompareOp, CompareOperand, KeyRange};

use super::quoted::{Scanner, Wrong};

/// Reads a condition.
pub(super) fn compare(line: &[u8]) -> Result<Compare, Wrong> {
    let mut scanner = Scanner::new(line);
    let target = scanner.word(b"(")?.unwrap_or_default();
    if !scanner.take(b'(') {
        return Err(malformed());
    }
    let key = scanner.word(b")")?.unwrap_or_default();
    if key.is_empty() {
        return Err("the key is empty".to_owned());
    }
    if !scanner.take(b')') {
        return Err(malformed());
    }
    let op = match scanner.run_of(b"=!<>") {
        b"=" => CompareOp::Equal,
        b"!=" => CompareOp::NotEqual,
        b"<" => CompareOp::Less,
        b">" => CompareOp::Greater,
        _ => return Err("the operator is one of = != < >".to_owned()),
    };
    // Something that ends no word: a value may be in back quotes, as a key may.
    let value = scanner.word(b"\0")?.ok_or_else(malformed)?;
    if !scanner.is_at_end() {
        return Err("more than one value follows the operator; quote one that has spaces".into());
    }
    let operand = match target.as_slice() {
        b"version" | b"ver" => CompareOperand::Version(number(&value, 10)?),
        b"create" | b"c" => CompareOperand::CreateRevision(number(&value, 10)?),
        b"mod" | b"m" => CompareOperand::ModRevision(number(&value, 10)?),
        b"lease" => CompareOperand::Lease(number(&value, 16)?),
        b"value" | b"val" => CompareOperand::Value(value.into()),
        _ => return Err("a condition is about value, version, create, mod or lease".to_owned()),
    };
    Ok(Compare {
        range: KeyRange::one(key),
        op,
        operand,
    })
}

fn malformed() -> Wrong {
    "a condition looks like version(KEY) = 0 or value(\"KEY\") = \"VALUE\"".to_owned()
}

fn number(value: &[u8], radix: u32) -> Result<i64, Wrong> {
    std::str::from_utf8(value)
        .ok()
        .and_then(|text| i64::from_str_radix(text, radix).ok())
        .ok_or_else(|| {
            let kind = if radix == 16 {
                "a lease as etcd shows it, in hexadecimal"
            } else {
                "a number"
            };
            format!("{} is not {kind}", value.escape_ascii())
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use synod_store::Revision;

    #[test]
    fn conditions_are_read_as_etcdctl_and_as_people_write_them() {
        let one = |line: &str| compare(line.as_bytes()).unwrap();
        let above = Compare::mod_revision("key1", CompareOp::Greater, Revision(0));
        assert_eq!(one(r#"mod("key1") > "0""#), above);
        assert_eq!(one("mod(key1)>0"), above);
        assert_eq!(one("m ( `key1` ) > `0`"), above);
        assert_eq!(
            one(r#"val("a b)") != "x y""#),
            Compare::value("a b)", CompareOp::NotEqual, "x y")
        );
        assert_eq!(
            one("lease(k) = ff").operand,
            CompareOperand::Lease(255),
            "as etcd shows leases"
        );
        assert_eq!(one("create(k) = 0"), Compare::absent("k"));
        assert_eq!(
            one("version(k) < 3"),
            Compare::version("k", CompareOp::Less, 3)
        );
    }

    #[test]
    fn what_is_none_is_told_why() {
        for (line, why) in [
            ("version k = 0", "looks like"),
            ("version(k = 0", "looks like"),
            ("version() = 0", "key is empty"),
            ("version(k) == 0", "= != < >"),
            ("version(k) =", "looks like"),
            ("version(k) = x", "not a number"),
            ("lease(k) = x", "hexadecimal"),
            ("value(k) = a b", "more than one"),
            ("size(k) = 1", "about value, version"),
            ("value(\"k) = 1", "inside a quote"),
        ] {
            let wrong = compare(line.as_bytes()).unwrap_err();
            assert!(wrong.contains(why), "{line}: {wrong}");
        }
    }
}
