//! The command `synod`, run as its users run it, in a home of its own: no test touches another's
//! port, the port 2379, or anybody's data.

use std::fmt::Debug;
use std::io::Write;
use std::ops::RangeBounds;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::task::spawn_blocking;

use crate::ports::Port;
use crate::process::Process;
use crate::wait::PATIENCE;

/// The environment variable that names the program to test.
const PROGRAM: &str = "SYNOD_BIN";

/// The program to test: `$SYNOD_BIN`, or else the one that `cargo build` makes.
///
/// # Panics
///
/// When there is none.
#[must_use]
pub fn program() -> PathBuf {
    let path = std::env::var_os(PROGRAM).map_or_else(built, PathBuf::from);
    assert!(
        path.is_file(),
        "{} is missing: run `cargo build -p synod-cli` first, or set ${PROGRAM}",
        path.display()
    );
    path
}

fn built() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the package lies in the workspace");
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| workspace.join("target"), |dir| workspace.join(dir));
    target.join("debug").join("synod")
}

/// A user's home: a port for the server in the background, its data and its state. That server is
/// ended when this is dropped, and also when the test process dies.
#[derive(Debug)]
pub struct Home {
    port: Port,
    dir: TempDir,
    watchdog: Child,
}

/// What a command has done.
#[derive(Debug)]
pub struct Ran {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
}

impl Ran {
    /// Checks that the command failed as it should: with this code, a first line `error: ...` that
    /// begins like this, all of these words somewhere on standard error, and without a panic.
    ///
    /// # Panics
    ///
    /// When it did not.
    #[track_caller]
    pub fn assert_failed(&self, code: i32, error: &str, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        let first = self.stderr.lines().next().unwrap_or_default();
        assert!(first.starts_with(&format!("error: {error}")), "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "{word:?}: {self:?}");
        }
        assert!(!self.stderr.contains("panicked"), "{self:?}");
    }
}

/// Arguments: the state file, and the directory to remove.
const WATCHDOG: &str = r#"
trap '' INT TERM HUP
read -r line
pid=$(sed -n 's/.*"pid": *\([0-9]*\).*/\1/p' "$1" 2>/dev/null)
[ -z "$pid" ] || kill -9 "$pid" 2>/dev/null
for attempt in 1 2 3 4 5 6 7 8 9 10; do
    rm -rf -- "$2" 2>/dev/null
    [ -e "$2" ] || exit 0
    sleep 0.1
done
"#;

impl Home {
    /// An empty one.
    ///
    /// # Panics
    ///
    /// When it cannot be made.
    #[must_use]
    pub fn new() -> Home {
        let port = Port::reserve();
        let dir = tempfile::tempdir().expect("the temporary directory is writable");
        let watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "watchdog"])
            .arg(state_file(dir.path(), port.number()))
            .arg(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell can be started");
        Home {
            port,
            dir,
            watchdog,
        }
    }

    /// The port of the server in the background.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// A path in the home.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The data directory of the server in the background.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.path("data")
    }

    /// The file in which the server in the background says who it is.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        state_file(self.dir.path(), self.port())
    }

    /// The process of the server in the background, if its state file names one.
    #[must_use]
    pub fn background(&self) -> Option<u32> {
        let text = std::fs::read(self.state()).ok()?;
        let state: serde_json::Value = serde_json::from_slice(&text).ok()?;
        u32::try_from(state.get("pid")?.as_u64()?).ok()
    }

    /// `synod` with these arguments, and nothing of the environment that it would read.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        self.prepared(Command::new(program()), args)
    }

    /// The same for a process that may have `soft` files open, and may raise that to `hard` itself.
    #[must_use]
    pub fn command_with_files(&self, soft: u32, hard: u32, args: &[&str]) -> Command {
        let mut command = Command::new("sh");
        let script = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$0\" \"$@\"");
        command.arg("-c").arg(script).arg(program());
        self.prepared(command, args)
    }

    fn prepared(&self, mut command: Command, args: &[&str]) -> Command {
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("SYNOD_") || name.starts_with("ETCDCTL_") {
                command.env_remove(&*name);
            }
        }
        command
            .args(args)
            .env("HOME", self.dir.path())
            .env("SYNOD_LOCAL_PORT", self.port().to_string())
            .env("SYNOD_DATA_DIR", self.data())
            .env("SYNOD_STATE_DIR", self.path("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Starts `synod`; its standard streams are pipes.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[must_use]
    pub fn start(&self, args: &[&str]) -> Process {
        let mut command = self.command(args);
        command.stdin(Stdio::piped());
        Process::spawn(&mut command, None).expect("synod can be started")
    }

    /// Runs `synod` without input.
    ///
    /// # Panics
    ///
    /// As [`finish`].
    pub async fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, b"").await
    }

    /// Runs `synod` with this input.
    ///
    /// # Panics
    ///
    /// As [`finish`].
    pub async fn run_with(&self, args: &[&str], input: &[u8]) -> Ran {
        let mut command = self.command(args);
        command.stdin(Stdio::piped());
        finish(&mut command, input).await
    }

    /// Runs `synod`, which must succeed, and returns its standard output.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub async fn ok(&self, args: &[&str]) -> String {
        let ran = self.run(args).await;
        assert_eq!(ran.code, Some(0), "{args:?}: {ran:?}");
        ran.stdout
    }
}

impl Default for Home {
    fn default() -> Home {
        Home::new()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // The end of its input sends the shell to work.
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
    }
}

fn state_file(dir: &Path, port: u16) -> PathBuf {
    dir.join("state").join(format!("server-{port}.json"))
}

/// Runs a command to its end with this input.
///
/// # Panics
///
/// When it cannot be started, or has not ended after [`PATIENCE`] twice; then it is killed.
pub async fn finish(command: &mut Command, input: &[u8]) -> Ran {
    let mut process = Process::spawn(command, None).expect("synod can be started");
    let child = process.child();
    let stdin = child.stdin.take();
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    let input = input.to_vec();
    let writing = spawn_blocking(move || {
        // Who does not read its input to the end closes it early.
        stdin.map(|mut stdin| stdin.write_all(&input));
    });
    let stdout = spawn_blocking(move || stdout.map(read_all).unwrap_or_default());
    let stderr = spawn_blocking(move || stderr.map(read_all).unwrap_or_default());
    let status = process.wait(PATIENCE * 2).await;
    writing.await.expect("writing does not panic");
    Ran {
        code: status.code(),
        stdout: stdout.await.expect("reading does not panic"),
        stderr: stderr.await.expect("reading does not panic"),
    }
}

fn read_all(mut from: impl std::io::Read) -> String {
    let mut bytes = Vec::new();
    from.read_to_end(&mut bytes).expect("a pipe can be read");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A `synod serve` that ends with this.
#[derive(Debug)]
pub struct Served {
    process: Process,
    /// The URL where it listens.
    pub url: String,
    /// What its ready line says.
    pub ready: serde_json::Value,
    /// Keeps the pipe open, so that the server can go on writing.
    _stdout: std::io::BufReader<std::process::ChildStdout>,
}

impl Served {
    /// Starts `synod serve` with these arguments and waits until it is ready. Its errors go to the
    /// test's own.
    ///
    /// # Panics
    ///
    /// When it does not become ready.
    pub async fn start(home: &Home, args: &[&str]) -> Served {
        Served::start_logging(home, args, Stdio::inherit()).await
    }

    /// The same with its errors, and its log, going elsewhere.
    ///
    /// # Panics
    ///
    /// As [`Served::start`].
    pub async fn start_logging(home: &Home, args: &[&str], log: Stdio) -> Served {
        let mut command = home.command(&["serve", "--output", "json"]);
        command.args(args).stderr(log);
        Served::run(&mut command).await
    }

    /// The same in a process that may have `soft` files open, and may raise that to `hard` itself.
    ///
    /// # Panics
    ///
    /// As [`Served::start`].
    pub async fn start_with_files(
        home: &Home,
        (soft, hard): (u32, u32),
        args: &[&str],
        log: Stdio,
    ) -> Served {
        let mut command = home.command_with_files(soft, hard, &["serve", "--output", "json"]);
        command.args(args).stderr(log);
        Served::run(&mut command).await
    }

    async fn run(command: &mut Command) -> Served {
        let mut process = Process::spawn(command, None).expect("synod can be started");
        let stdout = process.child().stdout.take().expect("it is a pipe");
        let reading = spawn_blocking(move || {
            let mut stdout = std::io::BufReader::new(stdout);
            let mut line = String::new();
            std::io::BufRead::read_line(&mut stdout, &mut line).expect("a pipe can be read");
            (stdout, line)
        });
        let (stdout, line) = crate::wait::soon("the server is ready", reading)
            .await
            .expect("reading does not panic");
        let ready: serde_json::Value =
            serde_json::from_str(&line).unwrap_or_else(|_| panic!("no ready line: {line:?}"));
        let url = ready["listen"][0].as_str().expect("a URL").to_owned();
        Served {
            process,
            url,
            ready,
            _stdout: stdout,
        }
    }

    /// The server's process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Waits until the server has so many watchers: a `pop` that waits has one, and three after a while.
    ///
    /// # Panics
    ///
    /// When it does not come to that.
    pub async fn watched(&self, home: &Home, watchers: impl RangeBounds<u64> + Debug) {
        crate::wait::until(format!("{watchers:?} watchers"), || async {
            let status = home
                .ok(&["status", "--addr", &self.url, "--output", "json"])
                .await;
            let status: serde_json::Value = serde_json::from_str(&status).expect("an object");
            let found = status["watchers"].as_u64();
            found.is_some_and(|found| watchers.contains(&found))
        })
        .await;
    }

    /// Ends it as its user would, and returns its exit code.
    pub async fn stop(mut self) -> Option<i32> {
        self.process.terminate();
        self.process.wait(Duration::from_secs(30)).await.code()
    }
}
