//! The options that stand everywhere: where to connect, as whom, about what, and how to answer.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::failure::{Failure, Result};

/// How answers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// The answer alone.
    #[default]
    Text,
    /// One object a line.
    Json,
}

/// Who logs in, as it was given: it may hold the password, and is not shown.
#[derive(Clone)]
pub(crate) struct Login(pub(crate) String);

impl From<String> for Login {
    fn from(text: String) -> Login {
        Login(text)
    }
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = self.0.split(':').next().unwrap_or_default();
        f.debug_tuple("Login").field(&name).finish()
    }
}

/// The options that stand everywhere.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Global {
    /// Where the store is: http://HOST:PORT or https://HOST:PORT of a server or cluster, file:PATH
    /// or memory: for an embedded one. Without a scheme: http, or https with --cacert, --cert or --key
    #[arg(
        long,
        global = true,
        value_name = "URL[,URL...]",
        help_heading = "Connection"
    )]
    pub(crate) addr: Option<String>,

    /// Log in as this user. Better leave the password to $SYNOD_PASSWORD, or to be asked for:
    /// other users can read the command lines of running programs
    #[arg(
        long,
        global = true,
        value_name = "NAME[:PASSWORD]",
        help_heading = "Connection"
    )]
    pub(crate) user: Option<Login>,

    /// Trust servers whose certificate this authority signed (PEM)
    #[arg(long, global = true, value_name = "FILE", help_heading = "Connection")]
    pub(crate) cacert: Option<PathBuf>,

    /// Show this certificate to the server (PEM); needs --key
    #[arg(long, global = true, value_name = "FILE", help_heading = "Connection")]
    pub(crate) cert: Option<PathBuf>,

    /// The key of --cert (PEM)
    #[arg(long, global = true, value_name = "FILE", help_heading = "Connection")]
    pub(crate) key: Option<PathBuf>,

    /// Work under this prefix of all keys
    #[arg(
        long,
        global = true,
        value_name = "PREFIX",
        help_heading = "Connection"
    )]
    pub(crate) namespace: Option<String>,

    /// Give up after this long, such as 500ms, 5s or 2m. Without it: a request gets 10s, and
    /// waiting for others (an item, a lock, a barrier) has no end
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration, help_heading = "Connection")]
    pub(crate) timeout: Option<Duration>,

    /// The name of the queue, barrier or other object [default: my-test-queue, my-test-barrier and
    /// so on; accts for the bank]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) name: Option<String>,

    /// How to write answers
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: Format,
}

impl Global {
    /// Refuses options that mean nothing to `command`, rather than passing over them.
    pub(crate) fn refuse_connection(&self, command: &str, instead: &str) -> Result<()> {
        let given = [
            ("--addr", self.addr.is_some()),
            ("--user", self.user.is_some()),
            ("--cacert", self.cacert.is_some()),
            ("--cert", self.cert.is_some()),
            ("--key", self.key.is_some()),
            ("--namespace", self.namespace.is_some()),
            ("--timeout", self.timeout.is_some()),
        ];
        match given.iter().find(|(_, given)| *given) {
            Some((option, _)) => {
                Err(Failure::usage(format!("`synod {command}` takes no {option}")).hint(instead))
            }
            None => self.refuse_name(command),
        }
    }

    /// Refuses `--name` where nothing has one.
    pub(crate) fn refuse_name(&self, command: &str) -> Result<()> {
        match self.name {
            Some(_) => Err(Failure::usage(format!("`synod {command}` takes no --name"))),
            None => Ok(()),
        }
    }
}

/// A duration with its unit.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; give a number and a unit, such as 500ms, 5s or 2m"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_needs_its_unit() {
        assert_eq!(duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert!(duration("5").unwrap_err().contains("500ms"));
        assert!(duration("").is_err());
    }

    #[test]
    fn an_option_that_means_nothing_is_refused() {
        let global = Global {
            cacert: Some("ca.pem".into()),
            ..Global::default()
        };
        let refused = global
            .refuse_connection("serve", "use --cert-file")
            .unwrap_err();
        assert!(refused.render(Format::Text).contains("takes no --cacert"));
        assert!(Global::default().refuse_connection("serve", "").is_ok());
    }
}
