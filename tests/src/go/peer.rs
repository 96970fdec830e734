//! A running Go program: requests go to its input, answers come from its output, each a line of
//! JSON. `peers/go/recipes/main.go` says what the lines look like.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::timeout;

use crate::process::Process;
use crate::wait::{PATIENCE, TEST_LIMIT};

/// How long something is watched that should not happen.
pub(super) const A_WHILE: Duration = Duration::from_millis(200);

type Calls = Arc<Mutex<HashMap<u64, UnboundedSender<Answer>>>>;

/// A Go program with a client of its own. It is killed when this is dropped.
#[derive(Debug)]
pub struct Go {
    process: Process,
    stdin: Mutex<(u64, ChildStdin)>,
    calls: Calls,
    stderr: Option<JoinHandle<String>>,
}

/// What the program says about a request.
#[derive(Debug)]
enum Answer {
    Event(Vec<String>),
    Done(Vec<String>),
    Error(String),
}

/// A request that runs in the Go program, beside the others. Dropping it forgets it; the program
/// goes on.
#[derive(Debug)]
#[must_use]
pub struct Call {
    what: String,
    answers: UnboundedReceiver<Answer>,
}

impl Go {
    /// Starts the program on these endpoints.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    #[must_use]
    pub fn start(program: &Path, endpoints: &str) -> Go {
        let mut command = Command::new(program);
        command
            .arg("-limit")
            .arg(format!("{}s", TEST_LIMIT.as_secs()))
            .arg(endpoints)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = Process::spawn(&mut command, None).expect("the Go program starts");
        let child = process.child();
        let stdin = child.stdin.take().expect("it is a pipe");
        let stdout = child.stdout.take().expect("it is a pipe");
        let mut stderr = child.stderr.take().expect("it is a pipe");
        let calls = Calls::default();
        let answered = Arc::clone(&calls);
        std::thread::spawn(move || listen(BufReader::new(stdout), &answered));
        let stderr = std::thread::spawn(move || {
            let mut said = Vec::new();
            let _ = stderr.read_to_end(&mut said);
            String::from_utf8_lossy(&said).into_owned()
        });
        Go {
            process,
            stdin: Mutex::new((0, stdin)),
            calls,
            stderr: Some(stderr),
        }
    }

    /// Sends a request, which runs from now on: an action and its arguments.
    ///
    /// # Panics
    ///
    /// When the program has ended.
    pub fn begin(&self, words: &[&str]) -> Call {
        let (sender, answers) = unbounded_channel();
        let mut stdin = self.stdin.lock().unwrap_or_else(PoisonError::into_inner);
        stdin.0 += 1;
        let id = stdin.0;
        self.calls
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, sender);
        writeln!(stdin.1, "{}", json!({"id": id, "words": words})).expect("the Go program runs");
        Call {
            what: words.join(" "),
            answers,
        }
    }

    /// Sends a request and waits for what it answers.
    ///
    /// # Errors
    ///
    /// What the Go function returned.
    ///
    /// # Panics
    ///
    /// As [`Call::done`].
    pub async fn ask(&self, words: &[&str]) -> Result<Vec<String>, String> {
        self.begin(words).done().await
    }

    /// Sends a request, which must succeed, and returns the first word of its answer.
    ///
    /// # Panics
    ///
    /// When it fails, and as [`Call::done`].
    pub async fn ok(&self, words: &[&str]) -> String {
        self.begin(words).ok().await
    }

    /// Opens a session under this name, for later requests, and returns its lease in hexadecimal.
    ///
    /// # Panics
    ///
    /// As [`Go::ok`].
    pub async fn session(&self, name: &str, ttl: Duration) -> String {
        self.ok(&["session.open", name, &ttl.as_secs().to_string()])
            .await
    }

    /// Kills the program (SIGKILL): its leases are neither kept nor revoked from now on.
    pub fn kill(&mut self) {
        self.process.kill();
    }
}

impl Drop for Go {
    fn drop(&mut self) {
        self.process.kill();
        let said = self.stderr.take().map(JoinHandle::join);
        if let Some(Ok(said)) = said
            && std::thread::panicking()
        {
            println!("the Go program {} wrote:\n{said}", self.process.pid());
        }
    }
}

fn listen(lines: impl BufRead, calls: &Calls) {
    for line in lines.lines() {
        let Ok(line) = line else { break };
        let answer: Value = serde_json::from_str(&line).expect("the Go program writes JSON");
        let id = answer["id"].as_u64().expect("an answer has a number");
        let (answer, last) = if let Some(event) = words(&answer["event"]) {
            (Answer::Event(event), false)
        } else if let Some(done) = words(&answer["done"]) {
            (Answer::Done(done), true)
        } else {
            let error = answer["error"].as_str().unwrap_or("no error either");
            (Answer::Error(error.to_owned()), true)
        };
        let mut calls = calls.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(call) = calls.get(&id) {
            // Nobody may be waiting any more.
            let _ = call.send(answer);
        }
        if last {
            calls.remove(&id);
        }
    }
    // Whoever waits learns that nothing will come.
    calls.lock().unwrap_or_else(PoisonError::into_inner).clear();
}

fn words(value: &Value) -> Option<Vec<String>> {
    let words = value.as_array()?.iter();
    Some(
        words
            .filter_map(|word| word.as_str().map(str::to_owned))
            .collect(),
    )
}

impl Call {
    /// Waits for the answer; events are passed over.
    ///
    /// # Errors
    ///
    /// What the Go function returned.
    ///
    /// # Panics
    ///
    /// When there is none within twice [`PATIENCE`], or the program has ended.
    pub async fn done(mut self) -> Result<Vec<String>, String> {
        loop {
            match self.next().await {
                Answer::Event(_) => {}
                Answer::Done(words) => return Ok(words),
                Answer::Error(error) => return Err(error),
            }
        }
    }

    /// Waits for the answer, which must be no error, and returns its first word.
    ///
    /// # Panics
    ///
    /// When it is an error, and as [`Call::done`].
    pub async fn ok(self) -> String {
        let what = self.what.clone();
        match self.done().await {
            Ok(mut words) => words.swap_remove(0),
            Err(error) => panic!("Go: {what}: {error}"),
        }
    }

    /// Waits for an event.
    ///
    /// # Panics
    ///
    /// When the request has ended, and as [`Call::done`].
    pub async fn event(&mut self) -> Vec<String> {
        match self.next().await {
            Answer::Event(words) => words,
            answer => panic!("Go: {}: {answer:?} instead of an event", self.what),
        }
    }

    /// Asserts that the request is without an answer for a while: it waits.
    ///
    /// # Panics
    ///
    /// When it answers.
    pub async fn assert_waits(&mut self) {
        if let Ok(answer) = timeout(A_WHILE, self.answers.recv()).await {
            panic!("Go: {} does not wait: {answer:?}", self.what);
        }
    }

    async fn next(&mut self) -> Answer {
        let limit = PATIENCE * 2;
        match timeout(limit, self.answers.recv()).await {
            Ok(Some(answer)) => answer,
            Ok(None) => panic!("Go: {}: the program has ended", self.what),
            Err(_) => panic!("Go: {}: nothing within {limit:?}", self.what),
        }
    }
}
