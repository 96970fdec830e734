//! The folder of a cluster: what lies where in it, and the record of who runs.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::member::Member;
use crate::env::Env;
use crate::failure::{Failure, Result};
use crate::local::paths;

/// The folder of a cluster.
#[derive(Debug, Clone)]
pub(crate) struct Folder(PathBuf);

/// What `cluster.json` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// The version of etcd that made the data, or ran last.
    pub(crate) version: String,
    pub(crate) members: Vec<Member>,
}

impl Plan {
    /// All nodes, as `--addr` takes them.
    pub(crate) fn url(&self) -> String {
        let urls: Vec<String> = self.members.iter().map(Member::url).collect();
        urls.join(",")
    }
}

impl Folder {
    /// `named`, else the usual one.
    pub(crate) fn new(named: Option<&Path>, env: &Env) -> Result<Folder> {
        let dir = match named {
            Some(dir) => dir.to_owned(),
            None => paths::state_dir(env)?.join("cluster"),
        };
        std::path::absolute(&dir).map(Folder).map_err(|error| {
            Failure::failed(format!("cannot find the directory {}", dir.display())).because(&error)
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The data of a node.
    pub(crate) fn data(&self, member: &Member) -> PathBuf {
        self.0.join(&member.name)
    }

    /// What a node says.
    pub(crate) fn log(&self, member: &Member) -> PathBuf {
        self.0.join(format!("{}.log", member.name))
    }

    fn state(&self) -> PathBuf {
        self.0.join("cluster.json")
    }

    fn lock_file(&self) -> PathBuf {
        self.0.join("cluster.lock")
    }

    /// Makes the folder when it is not there.
    pub(super) fn make(&self) -> Result<()> {
        paths::make_private(&self.0)
    }

    /// Keeps every other `synod` from starting or ending this cluster as long as the file lives.
    pub(super) fn lock(&self) -> Result<File> {
        let path = self.lock_file();
        let cannot = |error: &io::Error| {
            Failure::failed(format!("cannot lock {}", path.display())).because(error)
        };
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|error| cannot(&error))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::Error(error)) => Err(cannot(&error)),
            Err(TryLockError::WouldBlock) => Err(Failure::failed(format!(
                "another synod is starting or ending the cluster in {}",
                self.0.display()
            ))
            .hint("wait until it is done, then look at `synod cluster status`")),
        }
    }

    /// What is recorded; `None` when there is no cluster here.
    pub(crate) fn plan(&self) -> Result<Option<Plan>> {
        let path = self.state();
        let cannot = |error: &(dyn std::error::Error + 'static)| {
            Failure::failed(format!("cannot read {}", path.display())).because(error)
        };
        match fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(plan) => Ok(Some(plan)),
                Err(error) => Err(cannot(&error)),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(cannot(&error)),
        }
    }

    /// Records `plan`; nobody ever reads half of it.
    pub(super) fn record(&self, plan: &Plan) -> Result<()> {
        let path = self.state();
        let write = || -> io::Result<()> {
            let beside = path.with_extension("json.new");
            let mut file = File::create(&beside)?;
            file.write_all(serde_json::to_string_pretty(plan)?.as_bytes())?;
            file.write_all(b"\n")?;
            drop(file);
            fs::rename(&beside, &path)
        };
        write().map_err(|error| {
            Failure::failed(format!("cannot write {}", path.display())).because(&error)
        })
    }

    /// Removes what belongs to the cluster, and the folder when nothing else is in it.
    pub(super) fn remove(&self, plan: &Plan) -> Result<()> {
        let cannot = |path: &Path, error: &io::Error| {
            Failure::failed(format!("cannot remove {}", path.display())).because(error)
        };
        for member in &plan.members {
            let data = self.data(member);
            gone(fs::remove_dir_all(&data)).map_err(|error| cannot(&data, &error))?;
            let log = self.log(member);
            gone(fs::remove_file(&log)).map_err(|error| cannot(&log, &error))?;
        }
        for path in [self.state(), self.lock_file()] {
            gone(fs::remove_file(&path)).map_err(|error| cannot(&path, &error))?;
        }
        match fs::remove_dir(&self.0) {
            // Somebody keeps other things here.
            Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => Ok(()),
            outcome => gone(outcome).map_err(|error| cannot(&self.0, &error)),
        }
    }
}

/// What was not there is removed.
fn gone(outcome: io::Result<()>) -> io::Result<()> {
    match outcome {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        outcome => outcome,
    }
}
