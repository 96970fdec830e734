//! The state file: who the server in the background is and where it listens. That server writes
//! it when it is ready and removes it when it ends; after a kill it is left behind, so whoever
//! reads it asks the server itself before believing it.

use std::fs;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, Result};

/// What a state file says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    /// The server's process.
    pub(crate) pid: u32,
    /// Its URL.
    pub(crate) address: String,
    /// Where its data are.
    pub(crate) data: String,
    /// Its version.
    pub(crate) version: String,
}

impl State {
    /// Reads a state file; `None` when there is none. One that cannot be understood counts as none:
    /// it says nothing that could be checked.
    pub(crate) fn read(path: &Path) -> Result<Option<State>> {
        match fs::read(path) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => {
                Err(Failure::failed(format!("cannot read {}", path.display())).because(&error))
            }
        }
    }
}

/// A state file that is there as long as this lives.
#[derive(Debug)]
pub(crate) struct StateFile(PathBuf);

impl StateFile {
    /// Writes `state` to `path`; nobody ever reads half of it.
    pub(crate) fn write(path: &Path, state: &State) -> Result<StateFile> {
        let written = || -> io::Result<()> {
            let beside = path.with_extension(format!("json.{}", state.pid));
            let mut file = fs::File::create(&beside)?;
            file.write_all(serde_json::to_string_pretty(state)?.as_bytes())?;
            file.write_all(b"\n")?;
            drop(file);
            fs::rename(&beside, path)
        };
        written().map_err(|error| {
            Failure::failed(format!("cannot write {}", path.display())).because(&error)
        })?;
        Ok(StateFile(path.to_owned()))
    }
}

impl Drop for StateFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_file_lives_as_long_as_its_owner() {
        let dir = std::env::temp_dir().join(format!("synod-state-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("server-1.json");
        assert_eq!(State::read(&path).unwrap(), None);
        let state = State {
            pid: 7,
            address: "http://127.0.0.1:1".into(),
            data: "/d".into(),
            version: "0".into(),
        };
        let file = StateFile::write(&path, &state).unwrap();
        assert_eq!(State::read(&path).unwrap(), Some(state));
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 1);
        drop(file);
        assert_eq!(State::read(&path).unwrap(), None);
        fs::write(&path, "{").unwrap();
        assert_eq!(State::read(&path).unwrap(), None);
        fs::remove_dir_all(&dir).unwrap();
    }
}
