//! Something is held while a command runs, or until Ctrl-C: a lock, permits, a leadership.
//!
//! The command gets what is needed to prove it (key and token) in its environment. It does not
//! outlive what it runs under: see [`Child::stay`](crate::child::Child::stay).

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value};
use synod::{Client, Session};
use synod_store::{Key, KeyRange, RangeRequest, SortOrder, SortTarget};

use super::Context;
use super::work::{show, unless_stopped};
use crate::args::{Global, HoldArgs};
use crate::child::{Child, command, result_of};
use crate::explain::{explain, explain_store};
use crate::failure::{Exit, Failure, Result};
use crate::output::insert_bytes;
use crate::signals::Signals;

/// What is held.
#[derive(Debug)]
pub(super) struct Held<'a> {
    /// `the lock deploy`.
    pub(super) what: &'a str,
    pub(super) key: &'a Key,
    pub(super) token: u64,
    /// A leader's value: printed under the key.
    pub(super) value: Option<Bytes>,
    /// How many permits.
    pub(super) permits: Option<u32>,
    /// The environment variables for key and token.
    pub(super) variables: &'static [[&'static str; 2]],
}

/// Those of locks; etcdctl's too.
pub(super) const LOCK_VARIABLES: &[[&str; 2]] = &[
    ["SYNOD_LOCK_KEY", "SYNOD_LOCK_TOKEN"],
    ["ETCD_LOCK_KEY", "ETCD_LOCK_REV"],
];

impl Held<'_> {
    /// Runs the command, or waits for Ctrl-C, as long as it is not `lost`.
    pub(super) async fn stay(
        &self,
        lost: impl Future<Output = ()>,
        args: &HoldArgs,
        context: &mut Context,
    ) -> Result<()> {
        match command(&args.command) {
            None => self.until_stopped(lost, context).await,
            Some(mut command) => {
                for [key, token] in self.variables {
                    use std::os::unix::ffi::OsStrExt;
                    command.env(key, std::ffi::OsStr::from_bytes(self.key));
                    command.env(token, self.token.to_string());
                }
                let child = Child::spawn(command, None)?;
                let lost = async {
                    lost.await;
                    format!("{} was lost: the command is ended", self.what)
                };
                let ended = child.stay(lost, args.grace, &mut context.signals).await?;
                if ended.lost {
                    let cause = format!("the command was ended, with code {}", ended.code);
                    return Err(self.lost().cause(cause));
                }
                result_of(ended.code)
            }
        }
    }

    async fn until_stopped(
        &self,
        lost: impl Future<Output = ()>,
        context: &mut Context,
    ) -> Result<()> {
        let mut text = self.key.to_vec();
        let mut fields = Map::new();
        insert_bytes(&mut fields, "key", self.key);
        fields.insert("token".into(), self.token.into());
        if let Some(value) = &self.value {
            text.push(b'\n');
            text.extend_from_slice(value);
            insert_bytes(&mut fields, "value", value);
        }
        if let Some(permits) = self.permits {
            fields.insert("permits".into(), permits.into());
        }
        context.out.bytes(&text, Value::Object(fields))?;
        tokio::select! {
            biased;
            stop = context.signals.stop() => Err(stop.failure()),
            () = lost => Err(self.lost()),
        }
    }

    fn lost(&self) -> Failure {
        Failure::new(Exit::Lost, format!("{} was lost", self.what)).hint(
            "its key was deleted, or the store could not be reached for longer than --ttl; another \
             may hold it now",
        )
    }
}

/// A session that lives as long as the command does.
pub(super) async fn session(
    client: &Client,
    ttl: Duration,
    signals: &mut Signals,
) -> Result<Session> {
    if ttl < Duration::from_secs(1) {
        return Err(Failure::usage("--ttl is a second at least"));
    }
    unless_stopped(signals, async {
        client
            .session()
            .ttl(ttl)
            .await
            .map_err(|error| explain("cannot begin a session", &error))
    })
    .await
}

/// How long to wait for it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wait {
    /// Not at all.
    Try,
    AtMost(Duration),
    ForEver,
}

impl Wait {
    pub(super) fn of(global: &Global, args: &HoldArgs) -> Result<Wait> {
        match (args.only_try, global.timeout) {
            (true, Some(_)) => Err(Failure::usage(
                "--try does not wait, so that it takes no --timeout",
            )),
            (true, None) => Ok(Wait::Try),
            (false, Some(limit)) => Ok(Wait::AtMost(limit)),
            (false, None) => Ok(Wait::ForEver),
        }
    }

    /// It was not had: `what` with who has it instead.
    pub(super) fn failure(self, what: &str, holders: Vec<String>) -> Failure {
        let text = match self {
            Wait::AtMost(limit) => format!("{what} was not to be had within {}", show(limit)),
            Wait::Try | Wait::ForEver => format!("{what} is held"),
        };
        holders
            .into_iter()
            .fold(Failure::new(Exit::Nothing, text), Failure::cause)
    }
}

/// `--name` stands elsewhere here.
pub(super) fn refuse_name(global: &Global, command: &str) -> Result<()> {
    match global.name {
        Some(_) => Err(Failure::usage(format!(
            "`synod {command}` takes no --name: the name follows the command"
        ))),
        None => Ok(()),
    }
}

/// The name, which must not be empty.
pub(super) fn checked<'a>(name: &'a str, command: &str) -> Result<&'a str> {
    if name.is_empty() {
        return Err(
            Failure::usage("the name is empty").hint(format!("synod {command} NAME ..."))
        );
    }
    Ok(name)
}

/// Who stands first in these lines, in words; a few of them at most.
pub(super) async fn first_in(client: &Client, prefix: &Key, most: u64) -> Result<Vec<String>> {
    let request = RangeRequest::new(KeyRange::prefix(prefix))
        .sorted_by(SortTarget::CreateRevision, SortOrder::Ascending)
        .with_limit(most);
    let found = client
        .store()
        .range(request)
        .await
        .map_err(|error| explain_store("cannot read who holds it", &error))?;
    let words = found.kvs.iter().map(|kv| {
        let key = &kv.key;
        if kv.value.is_empty() {
            format!("held by the key {key}")
        } else {
            format!("held by {} (key {key})", String::from_utf8_lossy(&kv.value))
        }
    });
    Ok(words.collect())
}
