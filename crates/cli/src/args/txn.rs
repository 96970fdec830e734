//! `synod txn`: what can be typed.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

const EXAMPLES: &str = "\
Examples:
  synod txn --when 'version(k) = 0' --then 'put k v' --else 'get k'
  synod txn --then 'put a 1' --then 'put b 2'           both at one revision
  synod txn --file seat.txn
  synod txn                                             etcdctl's form, from standard input
  printf 'mod(\"k\") > \"0\"\\n\\nput k v\\n\\nget k\\n\\n' | synod txn

A condition is TARGET(KEY) OP VALUE: the target is one of value, version, create, mod (revisions)
and lease (in hexadecimal), the operator one of = != < >. A key that does not exist has 0 for every
number, and no value. All conditions must hold; none at all do.
An operation is one of
  put KEY VALUE [--lease ID] [--prev-kv] [--ignore-value] [--ignore-lease]
  get KEY [END] [--prefix] [--from-key] [--limit N] [--rev N] [--order ASCEND|DESCEND]
      [--sort-by CREATE|KEY|MODIFY|VALUE|VERSION] [--keys-only] [--count-only]
  del KEY [END] [--prefix] [--from-key] [--prev-kv]
Words are quoted as for etcdctl: \"...\" with \\n, \\\" and the like, '...' as it is.

A file, or standard input, has one of two forms. etcdctl's: conditions, a blank line, what runs
when they hold, a blank line, what runs when they do not. Or this one:
  # Take the seat if it is free.
  when version(seat/1) = 0
  then put seat/1 alice
       put taken/alice seat/1
  else get seat/1

Prints what etcdctl does: SUCCESS or FAILURE (the conditions did not hold), and an answer for each
operation after a blank line. Exit code 0 in either case.
The transaction happens once or never, also when an answer is lost.
JSON: succeeded, revision, responses: a list of objects with get (a list of objects with key, value,
create_revision, mod_revision, version, lease), count and more; or put and prev; or deleted and
prev.";

/// `synod txn`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TxnArgs {
    /// A condition; may be given several times
    #[arg(long, value_name = "CONDITION")]
    pub(crate) when: Vec<OsString>,
    /// What runs when all conditions hold; may be given several times
    #[arg(long = "then", value_name = "OPERATION")]
    pub(crate) and_then: Vec<OsString>,
    /// What runs when one does not; may be given several times
    #[arg(long = "else", value_name = "OPERATION")]
    pub(crate) or_else: Vec<OsString>,
    /// Read the transaction from a file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["when", "and_then", "or_else"])]
    pub(crate) file: Option<PathBuf>,
}

impl TxnArgs {
    /// Whether the transaction stands on the command line.
    pub(crate) fn is_given(&self) -> bool {
        !(self.when.is_empty() && self.and_then.is_empty() && self.or_else.is_empty())
    }
}
