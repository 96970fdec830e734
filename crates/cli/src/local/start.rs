//! Finding the server on this machine, or starting it.

use std::fs::{self, File, TryLockError};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::paths::{self, LocalFiles};
use super::probe::{Found, look};
use crate::env::Env;
use crate::failure::{Exit, Failure, Result};
use crate::output::notice;

/// How long a server may take until it answers: it reads its data first.
const START: Duration = Duration::from_secs(60);

/// How often a wait looks whether it is over.
const LOOK: Duration = Duration::from_millis(20);

/// Sees to it that a server answers at `port` of this machine, and says on stderr which.
pub(crate) async fn ensure(env: &Env, port: u16) -> Result<()> {
    if let Some(name) = found(port).await? {
        notice(&format!("using {name}"));
        return Ok(());
    }
    let files = LocalFiles::new(env, port)?;
    if let Some(dir) = files.lock.parent() {
        paths::make_private(dir)?;
    }
    let lock = lock(&files.lock).await?;
    // Whoever had the lock has started one.
    if let Some(name) = found(port).await? {
        notice(&format!("using {name}"));
        return Ok(());
    }
    let data = paths::data_dir(env)?;
    let name = start(port, &data, &files).await?;
    drop(lock);
    notice(&format!(
        "started {name} in the background; `synod stop` ends it"
    ));
    Ok(())
}

/// The way out when something else listens where the server in the background would.
pub(crate) const ANOTHER_PLACE: &str =
    "name your server with --addr, or choose another port with $SYNOD_LOCAL_PORT";

/// What answers at `port`, in words; `None` when nothing listens there.
async fn found(port: u16) -> Result<Option<String>> {
    match look(port).await {
        Found::Nothing => Ok(None),
        Found::Server(server) => Ok(Some(server.name())),
        Found::Stranger(why) => Err(Failure::new(
            Exit::Unreachable,
            format!("what listens at 127.0.0.1:{port} does not answer as etcd does"),
        )
        .cause(why)
        .hint(ANOTHER_PLACE)),
    }
}

async fn lock(path: &Path) -> Result<File> {
    let cannot = |error: &std::io::Error| {
        Failure::failed(format!("cannot lock {}", path.display())).because(error)
    };
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .map_err(|error| cannot(&error))?;
    // Whoever has it gives up after START.
    let deadline = Instant::now() + START + Duration::from_secs(5);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(cannot(&error)),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                return Err(Failure::new(
                    Exit::Nothing,
                    "another synod has been starting the server for too long",
                )
                .cause(format!("{} is locked", path.display())));
            }
            Err(TryLockError::WouldBlock) => sleep(LOOK).await,
        }
    }
}

/// Starts a server and waits until it answers.
async fn start(port: u16, data: &Path, files: &LocalFiles) -> Result<String> {
    paths::make_private(data)?;
    let mut child = spawn(port, data, files)?;
    let deadline = Instant::now() + START;
    loop {
        // In this order: who has ended cannot answer any more.
        let ended = child.try_wait();
        if let Found::Server(server) = look(port).await {
            return Ok(server.name());
        }
        if let Ok(Some(status)) = ended {
            return Err(last_words(&files.log)
                .into_iter()
                .fold(
                    Failure::new(
                        Exit::Unreachable,
                        format!("the server in the background did not start ({status})"),
                    ),
                    Failure::cause,
                )
                .hint(format!("its log is {}", files.log.display())));
        }
        if Instant::now() >= deadline {
            return Err(Failure::new(
                Exit::Nothing,
                format!("the server in the background did not answer within {START:?}"),
            )
            .hint(format!(
                "it goes on starting; its log is {}",
                files.log.display()
            )));
        }
        sleep(LOOK).await;
    }
}

fn spawn(port: u16, data: &Path, files: &LocalFiles) -> Result<Child> {
    let cannot = |error: &std::io::Error| {
        Failure::failed("cannot start the server in the background").because(error)
    };
    let program = std::env::current_exe().map_err(|error| cannot(&error))?;
    // One log back is enough to see why the last one ended.
    let _ = fs::rename(&files.log, files.log.with_extension("log.1"));
    let log = File::create(&files.log).map_err(|error| {
        Failure::failed(format!("cannot write {}", files.log.display())).because(&error)
    })?;
    let errors = log.try_clone().map_err(|error| cannot(&error))?;
    Command::new(program)
        .arg("serve")
        .arg("--listen")
        .arg(format!("127.0.0.1:{port}"))
        .arg("--data")
        .arg(data)
        .arg("--state-file")
        .arg(&files.state)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(errors)
        // Not of our terminal's foreground group: Ctrl-C is not for it.
        .process_group(0)
        .spawn()
        .map_err(|error| cannot(&error))
}

/// The last error in a log with all that belongs to it, or else its last line.
fn last_words(log: &Path) -> Vec<String> {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let mut words: Vec<String> = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        if let Some(error) = line.strip_prefix("error: ") {
            words = vec![error.to_owned()];
        } else if let (Some(more), false) = (
            line.strip_prefix("cause: ")
                .or_else(|| line.strip_prefix("hint: ")),
            words.is_empty(),
        ) {
            words.push(more.to_owned());
        }
    }
    if words.is_empty() {
        words.extend(text.lines().next_back().map(str::to_owned));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_in_a_log_is_told_whole() {
        let log = std::env::temp_dir().join(format!("synod-log-{}", std::process::id()));
        fs::write(
            &log,
            "serving\nerror: old\nnoise\nerror: new\ncause: why\nhint: how\n",
        )
        .unwrap();
        assert_eq!(last_words(&log), ["new", "why", "how"]);
        fs::write(&log, "one\npanicked\n").unwrap();
        assert_eq!(last_words(&log), ["panicked"]);
        fs::remove_file(&log).unwrap();
        assert!(last_words(&log).is_empty());
    }
}
