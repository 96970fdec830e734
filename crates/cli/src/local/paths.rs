//! Where the server on this machine keeps its data, its log and its state, and the prompts their
//! histories.
//!
//! | what | where | or else |
//! | --- | --- | --- |
//! | data | `$SYNOD_DATA_DIR` | `$XDG_DATA_HOME/synod`, `~/.local/share/synod` |
//! | log, state, lock, histories | `$SYNOD_STATE_DIR` | `$XDG_STATE_HOME/synod`, `~/.local/state/synod` |
//!
//! Log, state and lock carry the port in their names: one server a port.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::env::Env;
use crate::failure::{Failure, Result};

/// etcd's port for clients.
const PORT: u16 = 2379;

/// The port of the server on this machine.
pub(crate) fn port(env: &Env) -> Result<u16> {
    match env.text("SYNOD_LOCAL_PORT")? {
        None => Ok(PORT),
        Some(text) => match text.parse() {
            Ok(port) if port > 0 => Ok(port),
            _ => Err(Failure::usage(format!(
                "$SYNOD_LOCAL_PORT is no port: {text}"
            ))),
        },
    }
}

/// The directory for data.
pub(crate) fn data_dir(env: &Env) -> Result<PathBuf> {
    user_dir(env, "SYNOD_DATA_DIR", "XDG_DATA_HOME", ".local/share")
}

/// The directory for everything that is not data.
pub(crate) fn state_dir(env: &Env) -> Result<PathBuf> {
    user_dir(env, "SYNOD_STATE_DIR", "XDG_STATE_HOME", ".local/state")
}

/// The files of the server at `port`, in the state directory.
#[derive(Debug, Clone)]
pub(crate) struct LocalFiles {
    /// What it says and complains of.
    pub(crate) log: PathBuf,
    /// Who and where it is; there only while it runs, or after it was killed.
    pub(crate) state: PathBuf,
    /// Locked by who starts it.
    pub(crate) lock: PathBuf,
}

impl LocalFiles {
    pub(crate) fn new(env: &Env, port: u16) -> Result<LocalFiles> {
        let dir = state_dir(env)?;
        let file = |kind| dir.join(format!("server-{port}.{kind}"));
        Ok(LocalFiles {
            log: file("log"),
            state: file("json"),
            lock: file("lock"),
        })
    }
}

/// Makes `dir`, for its owner alone.
pub(crate) fn make_private(dir: &Path) -> Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| {
            Failure::failed(format!("cannot make the directory {}", dir.display())).because(&error)
        })
}

fn user_dir(env: &Env, own: &str, xdg: &str, below_home: &str) -> Result<PathBuf> {
    if let Some(dir) = env.path(own) {
        return absolute(dir);
    }
    // A relative path in an XDG variable is to be ignored, says its specification.
    if let Some(dir) = env.path(xdg).filter(|dir| dir.is_absolute()) {
        return Ok(dir.join("synod"));
    }
    match env.path("HOME") {
        Some(home) => absolute(home.join(below_home).join("synod")),
        None => Err(
            Failure::usage("neither $HOME nor a directory of its own is set for synod")
                .hint(format!("set ${own} to a directory of yours")),
        ),
    }
}

fn absolute(dir: PathBuf) -> Result<PathBuf> {
    std::path::absolute(&dir).map_err(|error| {
        Failure::failed(format!("cannot find the directory {}", dir.display())).because(&error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_variable_then_xdg_then_home() {
        let home = ("HOME", "/h");
        let dir = |variables: &[(&str, &str)]| data_dir(&Env::of(variables)).unwrap();
        assert_eq!(dir(&[home]), Path::new("/h/.local/share/synod"));
        assert_eq!(dir(&[home, ("XDG_DATA_HOME", "/x")]), Path::new("/x/synod"));
        assert_eq!(
            dir(&[home, ("XDG_DATA_HOME", "x")]),
            Path::new("/h/.local/share/synod")
        );
        assert_eq!(
            dir(&[("XDG_DATA_HOME", "/x"), ("SYNOD_DATA_DIR", "/d")]),
            Path::new("/d")
        );
        assert!(data_dir(&Env::default()).is_err());
    }

    #[test]
    fn the_port_is_a_port() {
        assert_eq!(port(&Env::default()).unwrap(), 2379);
        assert_eq!(
            port(&Env::of(&[("SYNOD_LOCAL_PORT", "4000")])).unwrap(),
            4000
        );
        for bad in ["0", "x", "70000"] {
            assert!(
                port(&Env::of(&[("SYNOD_LOCAL_PORT", bad)])).is_err(),
                "{bad}"
            );
        }
    }
}
