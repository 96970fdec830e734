//! One operation: `put`, `get` or `del` with etcdctl's flags.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use clap::{Args, Parser, ValueEnum};
use synod_store::{
    DeleteRequest, Key, KeyRange, LeaseId, PutLease, PutRequest, PutValue, RangeRequest, Revision,
    SortOrder, SortTarget, TxnOp,
};

use super::quoted::{Wrong, words};

/// Reads an operation.
pub(super) fn op(line: &[u8]) -> Result<TxnOp, Wrong> {
    let words = words(line)?;
    if words.is_empty() {
        return Err("an operation is one of put, get and del".to_owned());
    }
    let words = words.into_iter().map(OsString::from_vec);
    let parsed = OpLine::try_parse_from(words).map_err(|error| {
        // The first paragraph; usage and tips follow.
        let text = error.to_string();
        let said: Vec<&str> = text
            .lines()
            .map(str::trim)
            .take_while(|line| !line.is_empty())
            .collect();
        said.join(" ").trim_start_matches("error: ").to_owned()
    })?;
    match parsed {
        OpLine::Put(args) => args.request().map(TxnOp::from),
        OpLine::Get(args) => args.request().map(TxnOp::from),
        OpLine::Del(args) => args.request().map(TxnOp::from),
    }
}

#[derive(Debug, Parser)]
#[command(
    no_binary_name = true,
    disable_help_flag = true,
    disable_help_subcommand = true
)]
enum OpLine {
    Put(PutLine),
    Get(GetLine),
    #[command(alias = "delete")]
    Del(DelLine),
}

#[derive(Debug, Args)]
struct PutLine {
    key: OsString,
    #[arg(
        allow_negative_numbers = true,
        required_unless_present = "ignore_value"
    )]
    value: Option<OsString>,
    #[arg(long, value_name = "ID", value_parser = lease)]
    lease: Option<i64>,
    #[arg(long)]
    prev_kv: bool,
    #[arg(long, conflicts_with = "value")]
    ignore_value: bool,
    #[arg(long, conflicts_with = "lease")]
    ignore_lease: bool,
}

impl PutLine {
    fn request(self) -> Result<PutRequest, Wrong> {
        let lease = match (self.ignore_lease, self.lease.and_then(LeaseId::new)) {
            (true, _) => PutLease::Keep,
            (false, Some(lease)) => PutLease::Attach(lease),
            (false, None) => PutLease::None,
        };
        Ok(PutRequest {
            key: key(self.key)?,
            value: match self.value {
                Some(value) => PutValue::Set(value.into_vec().into()),
                None => PutValue::Keep,
            },
            lease,
            prev_kv: self.prev_kv,
        })
    }
}

/// Which keys: one, or as the flags say.
#[derive(Debug, Args)]
struct Keys {
    key: OsString,
    /// Up to this key, which does not belong to them.
    range_end: Option<OsString>,
    #[arg(long, conflicts_with_all = ["range_end", "from_key"])]
    prefix: bool,
    #[arg(long, conflicts_with = "range_end")]
    from_key: bool,
}

impl Keys {
    fn range(self) -> Result<KeyRange, Wrong> {
        let start = Key::from(self.key.into_vec());
        match (self.range_end, self.prefix, self.from_key) {
            (_, true, _) => Ok(KeyRange::prefix(start)),
            (_, _, true) if start.is_empty() => Ok(KeyRange::all()),
            (_, _, true) => Ok(KeyRange::From(start)),
            _ if start.is_empty() => Err(empty_key()),
            (Some(end), ..) => Ok(KeyRange::Between(start, end.into_vec().into())),
            (None, ..) => Ok(KeyRange::One(start)),
        }
    }
}

#[derive(Debug, Args)]
struct GetLine {
    #[command(flatten)]
    keys: Keys,
    #[arg(long, default_value_t = 0)]
    limit: u64,
    #[arg(long, default_value_t = 0)]
    rev: u64,
    #[arg(long, ignore_case = true)]
    order: Option<Order>,
    #[arg(long, ignore_case = true)]
    sort_by: Option<SortBy>,
    #[arg(long, conflicts_with = "count_only")]
    keys_only: bool,
    #[arg(long)]
    count_only: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "UPPER")]
enum Order {
    Ascend,
    Descend,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "UPPER")]
enum SortBy {
    Create,
    Key,
    Modify,
    Value,
    Version,
}

impl GetLine {
    fn request(self) -> Result<RangeRequest, Wrong> {
        let mut request = RangeRequest::new(self.keys.range()?)
            .with_limit(self.limit)
            .at(Revision(self.rev))
            .sorted_by(
                match self.sort_by {
                    None | Some(SortBy::Key) => SortTarget::Key,
                    Some(SortBy::Create) => SortTarget::CreateRevision,
                    Some(SortBy::Modify) => SortTarget::ModRevision,
                    Some(SortBy::Value) => SortTarget::Value,
                    Some(SortBy::Version) => SortTarget::Version,
                },
                match self.order {
                    None => SortOrder::None,
                    Some(Order::Ascend) => SortOrder::Ascending,
                    Some(Order::Descend) => SortOrder::Descending,
                },
            );
        request.keys_only = self.keys_only;
        request.count_only = self.count_only;
        Ok(request)
    }
}

#[derive(Debug, Args)]
struct DelLine {
    #[command(flatten)]
    keys: Keys,
    #[arg(long)]
    prev_kv: bool,
}

impl DelLine {
    fn request(self) -> Result<DeleteRequest, Wrong> {
        Ok(DeleteRequest {
            range: self.keys.range()?,
            prev_kv: self.prev_kv,
        })
    }
}

fn key(key: OsString) -> Result<Key, Wrong> {
    if key.is_empty() {
        return Err(empty_key());
    }
    Ok(Key::from(key.into_vec()))
}

fn empty_key() -> Wrong {
    "the key is empty".to_owned()
}

fn lease(text: &str) -> Result<i64, Wrong> {
    i64::from_str_radix(text, 16)
        .map_err(|_| "give the lease as etcd shows it, in hexadecimal".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> TxnOp {
        op(line.as_bytes()).unwrap()
    }

    #[test]
    fn operations_are_etcdctls() {
        assert_eq!(read("put k \"v w\""), PutRequest::new("k", "v w").into());
        assert_eq!(
            read("put k v --lease=ff --prev-kv"),
            PutRequest::new("k", "v")
                .with_lease(LeaseId::new(255).unwrap())
                .with_prev_kv()
                .into()
        );
        assert_eq!(read("put k -5"), PutRequest::new("k", "-5").into());
        assert_eq!(read("put k -- --v"), PutRequest::new("k", "--v").into());
        let TxnOp::Put(kept) = read("put k --ignore-value --ignore-lease") else {
            panic!("a put");
        };
        assert_eq!((kept.value, kept.lease), (PutValue::Keep, PutLease::Keep));
        assert_eq!(read("get k"), RangeRequest::new("k").into());
        assert_eq!(
            read("get k --prefix --limit 3 --order=descend --sort-by MODIFY --keys-only"),
            RangeRequest::new(KeyRange::prefix("k"))
                .with_limit(3)
                .sorted_by(SortTarget::ModRevision, SortOrder::Descending)
                .keys_only()
                .into()
        );
        assert_eq!(
            read("get a b --rev 7 --count-only"),
            RangeRequest::new(KeyRange::between("a", "b"))
                .at(Revision(7))
                .count_only()
                .into()
        );
        assert_eq!(
            read("del '' --from-key --prev-kv"),
            DeleteRequest::new(KeyRange::all()).with_prev_kv().into()
        );
        assert_eq!(read("delete k"), DeleteRequest::new("k").into());
    }

    #[test]
    fn what_is_none_is_told_why() {
        for (line, why) in [
            ("pot k v", "pot"),
            ("put k", "not provided: <VALUE>"),
            ("put '' v", "key is empty"),
            ("get ''", "key is empty"),
            ("put k v w", "unexpected argument 'w'"),
            ("put k v --lease x", "hexadecimal"),
            ("get k --prefix --from-key", "cannot be used with"),
            ("get k --wat", "--wat"),
            ("", "one of put, get and del"),
        ] {
            let wrong = op(line.as_bytes()).unwrap_err();
            assert!(wrong.contains(why), "{line}: {wrong}");
        }
    }
}
