//! Go programs beside ours: finds Go and etcd's own Go packages, builds the program in
//! `peers/go/recipes` with them, and runs it on the keys of the same store.
//!
//! # Layout
//!
//! - [`Go`]: a running Go program, which does what it is told ([`Call`]).
//! - [`Beside`]: a server for one test, on which Go and Rust meet; [`beside_go!`](crate::beside_go).
//!
//! The packages are those of Debian's `golang-etcd-server-dev`, found below `$SYNOD_GOPATH`, by
//! default where Debian puts them. Without them a test is skipped and says so, unless
//! `SYNOD_REQUIRE_GO` is 1.

mod beside;
mod peer;

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::sync::OnceCell;

use crate::process::Process;

pub use beside::{Beside, Kind, run, waits};
pub use peer::{Call, Go};

/// Why a test with Go programs did not run.
pub const NO_GO: &str = "no Go with etcd's packages found (apt-get install golang-go \
                         golang-etcd-server-dev, or set SYNOD_GO and SYNOD_GOPATH)";

/// Where Debian's Go packages are.
const GOPATH: &str = "/usr/share/gocode";

/// One of the packages; the others come with it.
const PACKAGE: &str = "src/go.etcd.io/etcd/contrib/recipes";

/// How long the compiler may take. The first time it compiles gRPC and etcd's client.
const BUILD_LIMIT: Duration = Duration::from_secs(240);

/// Go and the packages.
#[derive(Debug)]
struct Tools {
    go: PathBuf,
    gopath: PathBuf,
}

fn tools() -> Option<Tools> {
    let go = match env::var_os("SYNOD_GO").filter(|value| !value.is_empty()) {
        Some(named) => Some(PathBuf::from(named)),
        None => env::split_paths(&env::var_os("PATH")?)
            .map(|directory| directory.join("go"))
            .find(|path| path.is_file()),
    };
    let gopath = env::var_os("SYNOD_GOPATH").filter(|value| !value.is_empty());
    let gopath = PathBuf::from(gopath.unwrap_or_else(|| GOPATH.into()));
    let found = gopath.join(PACKAGE).is_dir();
    Some(Tools { go: go?, gopath }).filter(|_| found)
}

/// The Go program, built once for all tests of the process; `None` when this machine cannot.
///
/// # Panics
///
/// When it does not compile, and when `SYNOD_REQUIRE_GO` is 1 and there is no Go: a run that is
/// meant to be complete must not pass without it.
pub async fn program() -> Option<PathBuf> {
    static PROGRAM: OnceCell<Option<PathBuf>> = OnceCell::const_new();
    let make = || async {
        let tools = tools();
        if tools.is_none() && env::var_os("SYNOD_REQUIRE_GO").is_some_and(|value| value == "1") {
            panic!("SYNOD_REQUIRE_GO is set, but {NO_GO}");
        }
        match tools {
            Some(tools) => Some(build(&tools).await),
            None => None,
        }
    };
    PROGRAM.get_or_init(make).await.clone()
}

async fn build(tools: &Tools) -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the package lies in the workspace");
    let target = workspace.join("target/go");
    fs::create_dir_all(&target).expect("the target directory is writable");
    // Test programs of two runs may be here at once. Who waits longer than this waits in vain.
    let lock = File::create(target.join("lock")).expect("the target directory is writable");
    crate::wait::within(BUILD_LIMIT, "another build of the Go program", async {
        while lock.try_lock().is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await;
    let program = target.join("recipes");
    let log = target.join("build.log");
    let said = File::create(&log).expect("the target directory is writable");
    let mut command = Command::new(&tools.go);
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("GO") {
            command.env_remove(name);
        }
    }
    command
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(workspace.join("peers/go/recipes"))
        .env("GO111MODULE", "off")
        .env("GOENV", "off")
        .env("CGO_ENABLED", "0")
        .env("GOPATH", &tools.gopath)
        .env("GOCACHE", target.join("cache"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(said);
    let mut compiler = Process::spawn(&mut command, None)
        .unwrap_or_else(|error| panic!("{} cannot be started: {error}", tools.go.display()));
    let status = compiler.wait(BUILD_LIMIT).await;
    assert!(
        status.success(),
        "the Go program does not compile:\n{}",
        fs::read_to_string(&log).unwrap_or_default()
    );
    program
}
