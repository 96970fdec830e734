//! The same etcdctl commands against a real etcd and against Synod's server: what it prints and how
//! it ends is the same, but for the differences that are listed here with their reasons.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use synod_tests::etcd::{EtcdConfig, etcdctl_binary};
use synod_tests::process::Process;
use synod_tests::target::{Served, Target};
use synod_tests::{etcd_or_skip, wait};

/// One command.
struct Step {
    /// Its arguments, separated by spaces. `{lease}` is the lease that was granted last, `_` an
    /// empty argument.
    line: &'static str,
    input: &'static str,
    /// For commands that do not end: after how many lines they are ended, all that they have to say.
    lines: Option<usize>,
}

const fn run(line: &'static str) -> Step {
    Step {
        line,
        input: "",
        lines: None,
    }
}

const fn with_input(line: &'static str, input: &'static str) -> Step {
    Step {
        line,
        input,
        lines: None,
    }
}

const fn until(line: &'static str, lines: usize) -> Step {
    Step {
        line,
        input: "",
        lines: Some(lines),
    }
}

const STEPS: &[Step] = &[
    run("version"),
    run("get a"),
    run("put a 1"),
    run("put a 2 --prev-kv"),
    run("put b 3 -w json"),
    run("put c 2"),
    run("put d/1 x"),
    run("put d/2 w"),
    with_input("put e", "from the standard input"),
    run("put a --ignore-value"),
    run("put none --ignore-value"),
    run("put _ v"),
    run("put f v --lease=123"),
    run("get a"),
    run("get a -w json"),
    run("get a -w fields"),
    run("get _"),
    run("get _ --prefix"),
    run("get d/ --prefix --print-value-only"),
    run("get a d"),
    run("get b --from-key"),
    run("get _ --prefix --limit=2"),
    run("get _ --prefix --limit=2 -w json"),
    run("get _ --prefix --sort-by=VALUE --order=DESCEND"),
    run("get _ --prefix --sort-by=MODIFY --order=ASCEND --limit=3"),
    run("get _ --prefix --sort-by=CREATE --order=DESCEND --keys-only"),
    run("get _ --prefix --sort-by=VERSION"),
    run("get _ --prefix --keys-only"),
    run("get _ --prefix --count-only -w fields"),
    run("get a --rev=2"),
    run("get a --rev=99"),
    run("get a --consistency=s"),
    run("del c --prev-kv"),
    run("del nothing"),
    run("del d/ --prefix"),
    run("del _"),
    with_input(
        "txn",
        "value(\"a\") = \"2\"\nmod(\"b\") > \"1\"\n\nput t 1\nget a\ndel b\nget b\n\nput t 0\n\n",
    ),
    with_input(
        "txn",
        "create(\"a\") = \"0\"\n\nput t 2\n\nget t\nput u 1\n\n",
    ),
    with_input(
        "txn -w json",
        "version(\"a\") > \"1\"\n\nput v 1\nget v\n\n\n",
    ),
    with_input("txn", "\nput w 1\nput w 2\n\n\n"),
    until("watch a --rev=1", 9),
    until("watch a --rev=2 --prev-kv", 13),
    until("watch _ --prefix --rev=5", 36),
    until("watch a --rev=3 -w json", 1),
    run("lease grant 60"),
    run("lease list"),
    run("put leased 1 --lease={lease}"),
    run("put leased/2 1 --lease={lease}"),
    run("get leased"),
    run("lease timetolive {lease}"),
    run("lease timetolive {lease} --keys"),
    run("lease timetolive 123abc"),
    run("lease keep-alive --once {lease}"),
    run("lease keep-alive --once 123abc"),
    until("lease keep-alive {lease}", 1),
    run("put leased --ignore-lease 2"),
    run("lease timetolive {lease} --keys -w json"),
    run("lease revoke {lease}"),
    run("lease revoke {lease}"),
    run("get leased"),
    run("lease list"),
    run("lease grant 9000000001"),
    run("lease grant 1"),
    run("lock l echo hello"),
    until("lock l", 1),
    run("get l/ --prefix"),
    until("elect e proposal", 2),
    run("compaction 5"),
    run("compaction 5"),
    run("compaction 99"),
    run("compaction 7 --physical -w json"),
    run("get a --rev=3"),
    run("watch a --rev=3"),
    run("endpoint health"),
    run("endpoint status"),
    run("endpoint status -w json"),
    run("endpoint hashkv"),
    run("endpoint hashkv --rev=99"),
    run("member list"),
    run("member list -w json"),
    run("member remove 123"),
    run("alarm list"),
    run("alarm disarm"),
    run("auth status"),
    run("auth enable"),
    run("auth disable"),
    run("user list"),
    run("user get nobody"),
    run("role list"),
    run("role get nothing"),
    run("user add someone --no-password"),
    run("user add root:secret"),
    run("user add root:secret"),
    run("user get root"),
    run("user list"),
    run("role add r"),
    run("role add r"),
    run("role grant-permission r readwrite a b"),
    run("role grant-permission r read p/ --prefix"),
    run("role grant-permission r write z --from-key"),
    run("role grant-permission nothing read a"),
    run("role get r"),
    run("role revoke-permission r a b"),
    run("role revoke-permission r a b"),
    run("role list"),
    run("user grant-role someone r"),
    run("user grant-role someone nothing"),
    run("user get someone"),
    run("user get someone --detail"),
    run("user revoke-role someone other"),
    run("auth status"),
    run("auth enable"),
    run("get a"),
    run("put a 1"),
    run("auth status"),
    run("user add other:x"),
    run("get a --user=root:wrong"),
    run("get a --user=root:secret"),
    run("get a --user=nobody:x"),
    run("get a --user=someone:x"),
    run("user add u:p --user=root:secret"),
    run("user grant-role u r --user=root:secret"),
    run("get p/ --prefix --user=u:p"),
    run("get p/ --from-key --user=u:p"),
    run("get a --user=u:p"),
    run("put a 1 --user=u:p"),
    run("put zz 1 --user=u:p"),
    run("del zz --user=u:p"),
    run("del a --user=u:p"),
    run("watch a --user=u:p"),
    run("lock a --user=u:p"),
    run("user list --user=u:p"),
    run("user get u --user=u:p"),
    run("role get r --user=u:p"),
    run("auth status --user=root:secret"),
    run("endpoint health --user=u:p"),
    run("user delete root --user=root:secret"),
    run("role delete r --user=root:secret"),
    run("user delete u --user=root:secret"),
    run("user delete u --user=root:secret"),
    run("auth disable --user=root:secret"),
    run("auth status"),
    run("move-leader 123"),
    run("defrag"),
    // Not right behind the other change of members: a real etcd would leave it without an answer.
    run("member promote 123"),
    run("snapshot save {file}"),
    run("get _ --prefix --keys-only"),
    // The last one: a real etcd waits for its new member from then on.
    run("member add other --peer-urls=http://127.0.0.1:1"),
];

/// What may differ, and why.
const DIFFERENCES: &[(&str, &str)] = &[
    (
        "endpoint status",
        "sizes and the numbers of Raft are each server's own",
    ),
    (
        "endpoint hashkv",
        "a hash is comparable between copies of one store only",
    ),
    (
        "member list",
        "an embedded store has no peers, and so no peer URLs",
    ),
    (
        "member list -w json",
        "an embedded store has no peers, and so no peer URLs",
    ),
    (
        "member add other --peer-urls=http://127.0.0.1:1",
        "an embedded store stays alone",
    ),
];

/// What a command printed, and how it ended; without what differs by nature.
#[derive(Debug, PartialEq)]
struct Outcome {
    code: Option<i32>,
    out: Vec<String>,
    err: Vec<String>,
}

struct Player<'a> {
    target: &'a Target,
    directory: PathBuf,
    lease: String,
}

impl Player<'_> {
    async fn play(&mut self, step: &Step) -> Outcome {
        println!("{}: etcdctl {}", self.target.name(), step.line);
        let out = self.directory.join("out");
        let err = self.directory.join("err");
        let input = self.directory.join("in");
        fs::write(&input, step.input).unwrap();
        let mut command = Command::new(etcdctl_binary().unwrap());
        let url = self.target.url();
        command
            .arg(format!("--endpoints={}", url.trim_start_matches("http://")))
            .env("ETCDCTL_API", "3")
            .stdin(File::open(&input).unwrap())
            .stdout(File::create(&out).unwrap())
            .stderr(Stdio::from(File::create(&err).unwrap()));
        let file = self.directory.join("snapshot");
        for argument in step.line.split(' ') {
            command.arg(match argument {
                "_" => String::new(),
                argument => argument
                    .replace("{lease}", &self.lease)
                    .replace("{file}", file.to_str().unwrap()),
            });
        }
        let mut process = Process::spawn(&mut command, None).unwrap();
        let code = match step.lines {
            None => process.wait(wait::PATIENCE).await.code(),
            Some(lines) => {
                wait::until(format!("{lines} lines of {}", step.line), || async {
                    fs::read_to_string(&out).unwrap().lines().count() >= lines
                })
                .await;
                // In order: what it holds on the server goes with it.
                process.terminate();
                process.wait(wait::PATIENCE).await;
                None
            }
        };
        let out = fs::read_to_string(&out).unwrap();
        if step.line.starts_with("lease grant")
            && let Some(id) = out.split(' ').nth(1)
        {
            self.lease = id.to_owned();
        }
        Outcome {
            code,
            out: out.lines().map(|line| self.plain(line)).collect(),
            err: fs::read_to_string(&err)
                .unwrap()
                .lines()
                .filter_map(|line| self.complaint(line))
                .collect(),
        }
    }

    /// A line without addresses, ids, times and what else is each server's own.
    fn plain(&self, line: &str) -> String {
        if let Ok(mut json) = serde_json::from_str::<Value>(line)
            && (json.is_object() || json.is_array())
        {
            plain_json(&mut json);
            return self.plain_text(&json.to_string());
        }
        self.plain_text(line)
    }

    fn plain_text(&self, line: &str) -> String {
        let url = self.target.url();
        let line = line.replace(url.trim_start_matches("http://"), "ADDRESS");
        let line = line.replace(self.directory.to_str().unwrap(), "DIRECTORY");
        for own in ["\"ClusterID\" :", "\"MemberID\" :", "\"RaftTerm\" :"] {
            if line.starts_with(own) {
                return own.to_owned();
            }
        }
        let line = match line.split_once("took = ") {
            Some((before, _)) => before.to_owned(),
            None => line,
        };
        let line = cut(&line, "remaining(", ")");
        let line = match self.lease.as_str() {
            "" => line,
            lease => line.replace(lease, "ID"),
        };
        without_ids(&without_lease(&in_order(&line)))
    }

    /// A line of the error output: of a log entry only the error.
    fn complaint(&self, line: &str) -> Option<String> {
        match serde_json::from_str::<Value>(line) {
            Ok(entry) => Some(self.plain_text(entry.get("error")?.as_str()?)),
            Err(_) => Some(self.plain_text(line)),
        }
    }
}

/// `line` without what stands between `begin` and `end`.
fn cut(line: &str, begin: &str, end: &str) -> String {
    let Some((before, rest)) = line.split_once(begin) else {
        return line.to_owned();
    };
    let after = rest.split_once(end).map_or("", |(_, after)| after);
    format!("{before}{begin}{end}{after}")
}

/// `line` with the keys of a lease in order: etcd has none for them.
fn in_order(line: &str) -> String {
    let Some((before, rest)) = line.split_once("attached keys([") else {
        return line.to_owned();
    };
    let (keys, after) = rest.split_once(']').unwrap_or((rest, ""));
    let mut keys: Vec<&str> = keys.split(' ').collect();
    keys.sort_unstable();
    format!("{before}attached keys([{}]{after}", keys.join(" "))
}

/// `line` without the lease in it when it is the key of a lock or of a candidate.
fn without_lease(line: &str) -> String {
    for prefix in ["l/", "e/"] {
        if let Some(lease) = line.strip_prefix(prefix)
            && !lease.is_empty()
            && lease.chars().all(|letter| letter.is_ascii_hexdigit())
        {
            return format!("{prefix}ID");
        }
    }
    line.to_owned()
}

/// `line` with the other ids, which are long hexadecimal numbers, made alike.
fn without_ids(line: &str) -> String {
    let mut plain = String::new();
    let mut digits = String::new();
    for letter in line.chars().chain(['\n']) {
        if letter.is_ascii_digit() || ('a'..='f').contains(&letter) {
            digits.push(letter);
            continue;
        }
        plain.push_str(if digits.len() > 12 { "ID" } else { &digits });
        digits.clear();
        plain.push(letter);
    }
    plain.trim_end().to_owned()
}

/// Takes out what is each server's own.
fn plain_json(json: &mut Value) {
    const OWN: &[&str] = &[
        "cluster_id",
        "member_id",
        "raft_term",
        "ID",
        "leader",
        "raftIndex",
        "raftTerm",
        "raftAppliedIndex",
        "dbSize",
        "dbSizeInUse",
        "ttl",
        "id",
    ];
    match json {
        Value::Object(fields) => {
            for (name, value) in fields.iter_mut() {
                // A pair's version is a number, and not its server's own.
                if let ("keys", Value::Array(keys)) = (name.as_str(), &mut *value) {
                    // Those of a lease, for which etcd has no order.
                    keys.sort_by_key(ToString::to_string);
                } else if OWN.contains(&name.as_str()) || (name == "version" && value.is_string()) {
                    // That it is not zero is asked of both.
                    *value = Value::from(value.as_i64() != Some(0));
                } else {
                    plain_json(value);
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(plain_json),
        _ => {}
    }
}

async fn play_all(target: &Target) -> Vec<Outcome> {
    let directory = tempfile::tempdir().unwrap();
    let mut player = Player {
        target,
        directory: directory.path().to_owned(),
        lease: String::new(),
    };
    let mut outcomes = Vec::new();
    for step in STEPS {
        outcomes.push(player.play(step).await);
    }
    outcomes
}

#[tokio::test(flavor = "multi_thread")]
async fn etcdctl_cannot_tell_them_apart() {
    let etcd = etcd_or_skip!(EtcdConfig::new());
    let theirs = play_all(&Target::Etcd(Box::new(etcd))).await;
    let ours = play_all(&Target::Served(Served::start().await)).await;
    let mut unexpected = Vec::new();
    for ((step, theirs), ours) in STEPS.iter().zip(&theirs).zip(&ours) {
        let allowed = DIFFERENCES.iter().any(|(line, _)| *line == step.line);
        if (theirs != ours) != allowed {
            unexpected.push(format!(
                "{}\n  etcd:  {theirs:?}\n  synod: {ours:?}",
                step.line
            ));
        }
    }
    assert!(unexpected.is_empty(), "{}", unexpected.join("\n"));
    for (line, reason) in DIFFERENCES {
        assert!(
            STEPS.iter().any(|step| step.line == *line),
            "{line}: {reason}"
        );
    }
}
