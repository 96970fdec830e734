//! Something is held while a command runs, or until Ctrl-C: a lock, permits, a leadership.
//!
//! 1. A session of the command's own begins, with the lease that `--ttl` asks for.
//! 2. What is wanted is acquired, as long as `--timeout` and Ctrl-C let it.
//! 3. The command runs, with what it needs to prove that it may (key and token) in its environment.
//!    It does not outlive what it runs under: see [`Child::stay`](crate::child::Child::stay).
//! 4. It is released, and the session ends: its keys are gone even if the release was lost.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Map, Value};
use synod::election::Leadership;
use synod::mutex::Holder;
use synod::semaphore::SemaphorePermit;
use synod::{Client, MutexGuard, RwLockReadGuard, RwLockWriteGuard, Session};
use synod_store::Key;

use super::Context;
use super::work::{show, unless_stopped};
use crate::args::{Global, HoldArgs};
use crate::child::{Child, command, result_of};
use crate::explain::explain;
use crate::failure::{Exit, Failure, Result};
use crate::output::insert_bytes;
use crate::signals::Signals;

/// How long the release may take at the end; the lease is the backstop.
const RELEASE: Duration = Duration::from_secs(5);

/// What the guards of all these primitives have in common.
pub(super) trait Guard {
    fn key(&self) -> &Key;
    fn token(&self) -> u64;
    /// Completes when it is not held any more.
    fn lost(&self) -> impl Future<Output = ()> + Send + 'static;
    fn release(self) -> impl Future<Output = synod::Result<()>>;
}

macro_rules! guards {
    ($($guard:ty: $release:ident),+) => {
        $(impl Guard for $guard {
            fn key(&self) -> &Key {
                <$guard>::key(self)
            }

            fn token(&self) -> u64 {
                self.fencing_token()
            }

            fn lost(&self) -> impl Future<Output = ()> + Send + 'static {
                <$guard>::lost(self)
            }

            async fn release(self) -> synod::Result<()> {
                self.$release().await
            }
        })+
    };
}

guards!(MutexGuard: unlock, RwLockReadGuard: unlock, RwLockWriteGuard: unlock);
guards!(SemaphorePermit: release, Leadership: resign);

/// The environment variables for key and token.
type Variables = &'static [[&'static str; 2]];

/// Those of locks; etcdctl's too.
pub(super) const LOCK_VARIABLES: Variables = &[
    ["SYNOD_LOCK_KEY", "SYNOD_LOCK_TOKEN"],
    ["ETCD_LOCK_KEY", "ETCD_LOCK_REV"],
];

/// What is to be held, and how.
#[derive(Debug)]
pub(super) struct Hold<'a> {
    /// `the lock deploy`.
    pub(super) what: String,
    pub(super) wait: Wait,
    pub(super) args: &'a HoldArgs,
    pub(super) variables: Variables,
    /// A leader's value: printed under the key.
    pub(super) value: Option<Bytes>,
    /// How many permits.
    pub(super) permits: Option<u32>,
}

impl Hold<'_> {
    /// Acquires it, stays with it and releases it. `holders` tells who has it when it cannot be had.
    pub(super) async fn run<G: Guard>(
        &self,
        session: Session,
        acquire: impl Future<Output = synod::Result<Option<G>>>,
        holders: impl Future<Output = Vec<String>>,
        context: &mut Context,
    ) -> Result<()> {
        let acquired = unless_stopped(&mut context.signals, async {
            match acquire.await {
                Ok(Some(guard)) => Ok(guard),
                Ok(None) => Err(self.not_had(holders.await)),
                Err(error) => Err(explain(&format!("cannot have {}", self.what), &error)),
            }
        });
        match acquired.await {
            Ok(guard) => {
                let stayed = self.stay(&guard, context).await;
                self.end(stayed, guard.release(), session).await
            }
            // Whatever waited in line goes with the session, and at once.
            Err(failure) => {
                let nothing = std::future::ready(Ok(()));
                self.end(Err(failure), nothing, session).await
            }
        }
    }

    fn not_had(&self, holders: Vec<String>) -> Failure {
        let what = &self.what;
        let text = match self.wait {
            Wait::AtMost(limit) => format!("could not have {what} within {}", show(limit)),
            Wait::Try | Wait::ForEver => format!("cannot have {what} now"),
        };
        holders
            .into_iter()
            .fold(Failure::new(Exit::Nothing, text), Failure::cause)
    }

    /// Runs the command, or waits for Ctrl-C, as long as nothing is lost.
    async fn stay(&self, guard: &impl Guard, context: &mut Context) -> Result<()> {
        let Some(mut command) = command(&self.args.command) else {
            self.show(guard, context)?;
            return tokio::select! {
                biased;
                stop = context.signals.stop() => Err(stop.failure()),
                () = guard.lost() => Err(self.lost()),
            };
        };
        for [key, token] in self.variables {
            command.env(key, OsStr::from_bytes(guard.key()));
            command.env(token, guard.token().to_string());
        }
        let child = Child::spawn(command, None)?;
        let lost = guard.lost();
        let lost = async {
            lost.await;
            format!("lost {}: the command is being ended", self.what)
        };
        let ended = child
            .stay(lost, self.args.grace, &mut context.signals)
            .await?;
        if ended.lost {
            let cause = format!("the command was ended, with code {}", ended.code);
            return Err(self.lost().cause(cause));
        }
        result_of(ended.code)
    }

    fn show(&self, guard: &impl Guard, context: &mut Context) -> Result<()> {
        let mut text = guard.key().to_vec();
        let mut fields = Map::new();
        insert_bytes(&mut fields, "key", guard.key());
        fields.insert("token".into(), guard.token().into());
        if let Some(value) = &self.value {
            text.push(b'\n');
            text.extend_from_slice(value);
            insert_bytes(&mut fields, "value", value);
        }
        if let Some(permits) = self.permits {
            fields.insert("permits".into(), permits.into());
        }
        Ok(context.out.bytes(&text, Value::Object(fields))?)
    }

    fn lost(&self) -> Failure {
        Failure::new(Exit::Lost, format!("lost {}", self.what)).hint(
            "the key was deleted, or the store could not be reached for longer than --ttl; another may \
             have it now",
        )
    }

    /// Releases it and ends the session. Says what `stayed` says, or else what went wrong now.
    async fn end(
        &self,
        stayed: Result<()>,
        released: impl Future<Output = synod::Result<()>>,
        session: Session,
    ) -> Result<()> {
        let ending = async {
            let released = released.await;
            released.and(session.close().await)
        };
        let ended = tokio::time::timeout(RELEASE, ending).await;
        stayed?;
        match ended {
            Ok(Ok(())) => Ok(()),
            // It was lost between the command's end and now.
            Ok(Err(error)) => Err(explain(&format!("cannot release {}", self.what), &error)),
            Err(_) => Err(Failure::new(
                Exit::Unreachable,
                format!(
                    "{} could not be released within {}",
                    self.what,
                    show(RELEASE)
                ),
            )
            .hint("that happens when the time of --ttl has run out")),
        }
    }
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
            (false, Some(Duration::ZERO)) => Ok(Wait::Try),
            (false, Some(limit)) => Ok(Wait::AtMost(limit)),
            (false, None) => Ok(Wait::ForEver),
        }
    }
}

/// A session that lives as long as the command does.
pub(super) async fn session(
    client: &Client,
    ttl: Duration,
    signals: &mut Signals,
) -> Result<Session> {
    check_ttl(ttl)?;
    unless_stopped(signals, async {
        let session = client.session().ttl(ttl).await;
        session.map_err(|error| explain("cannot begin a session", &error))
    })
    .await
}

/// The store counts in seconds.
pub(super) fn check_ttl(ttl: Duration) -> Result<()> {
    if ttl < Duration::from_secs(1) {
        return Err(Failure::usage("--ttl is a second at least"));
    }
    Ok(())
}

/// The name that follows the command.
pub(super) fn name_of<'a>(global: &Global, name: &'a str, command: &str) -> Result<&'a str> {
    if global.name.is_some() {
        return Err(Failure::usage(format!(
            "`synod {command}` takes no --name: the name follows the command"
        )));
    }
    if name.is_empty() {
        return Err(Failure::usage("the name is empty").hint(format!("synod {command} NAME")));
    }
    Ok(name)
}

/// Who holds it, in words.
pub(super) fn in_words(holder: &Holder) -> String {
    let key = &holder.key;
    if holder.identity.is_empty() {
        format!("held by the key {key}")
    } else {
        let identity = String::from_utf8_lossy(&holder.identity);
        format!("held by {identity} (key {key})")
    }
}
