//! Who logs in: `--user NAME[:PASSWORD]`, the password from the environment, or asked for on the
//! terminal without showing it.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::args::Global;
use crate::env::Env;
use crate::failure::{Failure, Result};
use crate::signals::Signals;

/// Who logs in. Never shown: it holds the password.
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) password: String,
}

/// Who logs in, if anybody does.
pub(crate) async fn user(
    global: &Global,
    env: &Env,
    signals: &mut Signals,
) -> Result<Option<User>> {
    let given = match &global.user {
        Some(login) => Some(login.0.clone()),
        None => env
            .first(&["SYNOD_USER", "ETCDCTL_USER"])?
            .map(|(_, user)| user),
    };
    let Some(given) = given else {
        return Ok(None);
    };
    let (name, password) = match given.split_once(':') {
        Some((name, password)) => (name.to_owned(), Some(password.to_owned())),
        None => (given, None),
    };
    if name.is_empty() {
        return Err(Failure::usage("the user's name is empty").hint("--user NAME[:PASSWORD]"));
    }
    if let Some(password) = password {
        return Ok(Some(User { name, password }));
    }
    if let Some((_, password)) = env.first(&["SYNOD_PASSWORD", "ETCDCTL_PASSWORD"])? {
        return Ok(Some(User { name, password }));
    }
    let password = ask(&name, signals).await?;
    Ok(Some(User { name, password }))
}

/// Asks on the terminal, also when standard input is something else.
async fn ask(name: &str, signals: &mut Signals) -> Result<String> {
    let nobody = |error: io::Error| {
        Failure::usage(format!(
            "no password is given for {name}, and nobody can be asked"
        ))
        .because(&error)
        .hint("set $SYNOD_PASSWORD")
    };
    let mut terminal = File::options()
        .read(true)
        .write(true)
        .open("/dev/tty")
        .map_err(nobody)?;
    let silent = Silent::make(&terminal).map_err(nobody)?;
    write!(terminal, "Password of {name}: ").map_err(nobody)?;
    let reader = terminal.try_clone().map_err(nobody)?;
    let typed = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        BufReader::new(reader).read_line(&mut line).map(|_| line)
    });
    // A read that is given up ends with the process.
    let line = tokio::select! {
        stop = signals.stop() => Err(stop.failure()),
        typed = typed => typed
            .unwrap_or_else(|error| Err(io::Error::other(error)))
            .map_err(nobody),
    };
    drop(silent);
    let _ = writeln!(terminal);
    Ok(line?.trim_end_matches(['\n', '\r']).to_owned())
}

/// A terminal that does not show what is typed, as long as this lives.
struct Silent {
    terminal: File,
    usual: Termios,
}

impl Silent {
    fn make(terminal: &File) -> io::Result<Silent> {
        let usual = tcgetattr(terminal)?;
        let mut silent = usual.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(terminal, OptionalActions::Flush, &silent)?;
        Ok(Silent {
            terminal: terminal.try_clone()?,
            usual,
        })
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.usual);
    }
}
