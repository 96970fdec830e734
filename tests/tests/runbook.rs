//! The runbook names everything that can go wrong: each kind of error, each error of the primitives, each exit code, each
//! alarm, and what the server writes into its log when it refuses.

use std::path::Path;

fn read(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    std::fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The names of an enum's variants, from its source.
fn variants(source: &str, name: &str) -> Vec<String> {
    let begin = source
        .find(&format!("pub enum {name} {{"))
        .expect("the enum");
    let body = &source[begin..];
    let body = &body[..body.find("\n}").unwrap()];
    let indented = |line: &str| line.starts_with("    ") && line.as_bytes()[4].is_ascii_uppercase();
    let word = |line: &str| {
        line.trim()
            .split(|c: char| !c.is_alphanumeric())
            .next()
            .unwrap()
            .to_owned()
    };
    body.lines()
        .filter(|line| line.len() > 4 && indented(line))
        .map(word)
        .collect()
}

fn missing<'a>(names: &'a [String], runbook: &str) -> Vec<&'a String> {
    names
        .iter()
        .filter(|name| !runbook.contains(&format!("`{name}`")))
        .collect()
}

#[test]
fn every_error_is_in_the_runbook() {
    let runbook = read("docs/runbook.md");
    let kinds = variants(&read("crates/store/src/error.rs"), "ErrorKind");
    assert!(kinds.len() > 30, "{kinds:?}");
    assert_eq!(missing(&kinds, &runbook), Vec::<&String>::new());
    let errors = variants(&read("crates/synod/src/error.rs"), "Error");
    assert!(errors.len() > 8, "{errors:?}");
    // Those that only pass on an error of the store, or say that time was up.
    let own: Vec<String> = errors.into_iter().filter(|name| name != "Store").collect();
    assert_eq!(missing(&own, &runbook), Vec::<&String>::new());
}

#[test]
fn every_exit_code_is_in_the_runbook() {
    let runbook = read("docs/runbook.md");
    let source = read("crates/cli/src/failure.rs");
    let codes: Vec<&str> = source
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Exit::")?.split_once(" => "))
        .filter_map(|(_, code)| code.strip_suffix(','))
        .filter(|code| code.bytes().all(|byte| byte.is_ascii_digit()))
        .collect();
    assert!(codes.len() >= 9, "{codes:?}");
    let section = runbook.split("## Exit codes").nth(1).unwrap();
    for code in codes {
        assert!(
            section.contains(&format!("| {code} |"))
                || section.contains(&format!("{code}, "))
                || section.contains(&format!(", {code} |")),
            "{code}"
        );
    }
}

/// The texts of what a crate logs at these levels.
fn logged(folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            logged(&path, found);
            continue;
        }
        let source = std::fs::read_to_string(&path).unwrap();
        for level in ["tracing::warn!(", "tracing::error!("] {
            for call in source.split(level).skip(1) {
                let call = call.split(");").next().unwrap();
                let text = call.rsplit('"').nth(1);
                let text = text.unwrap_or_else(|| panic!("a line without words: {path:?}: {call}"));
                found.push(text.to_owned());
            }
        }
    }
}

#[test]
fn every_warning_in_the_log_is_in_the_runbook() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut found = Vec::new();
    for name in ["synod", "etcd", "engine", "server", "cli"] {
        logged(&root.join("crates").join(name).join("src"), &mut found);
    }
    assert!(found.len() > 15, "{found:?}");
    assert_eq!(
        missing(&found, &read("docs/runbook.md")),
        Vec::<&String>::new()
    );
}

#[test]
fn every_refusal_of_a_login_is_in_the_runbook() {
    let runbook = read("docs/runbook.md").replace('\n', " ");
    let source = read("crates/server/src/auth/mod.rs");
    for text in [
        "etcdserver: authentication failed, invalid user ID or password",
        "etcdserver: invalid auth token",
        "etcdserver: user name is empty",
        "etcdserver: permission denied",
        "synod: this server serves other machines; its authentication stays on",
        "synod: too many logins at once; try again",
    ] {
        assert!(
            source.contains(text),
            "the server does not say {text:?} any more"
        );
        assert!(runbook.contains(text), "{text}");
    }
}

#[test]
fn every_alarm_and_refusal_of_the_server_is_in_the_runbook() {
    let runbook = read("docs/runbook.md").replace('\n', " ");
    for alarm in variants(&read("crates/store/src/status.rs"), "AlarmKind") {
        assert!(
            runbook.contains(&format!("`{}`", alarm.to_uppercase())),
            "{alarm}"
        );
    }
    for (file, words) in [
        (
            "crates/server/src/connection.rs",
            "refusing connections: too many are open",
        ),
        (
            "crates/server/src/connection.rs",
            "could not accept a connection",
        ),
        (
            "crates/server/src/server.rs",
            "cutting the connections whose requests did not finish",
        ),
        (
            "crates/server/src/limits/arrival.rs",
            "synod: too many large requests are arriving at once; try again",
        ),
        (
            "crates/server/src/limits/arrival.rs",
            "synod: too many streams have had large requests; try again",
        ),
        (
            "crates/server/src/limits/arrival.rs",
            "synod: the request did not arrive in time",
        ),
        (
            "crates/server/src/state.rs",
            "synod: too many streams are open",
        ),
        (
            "crates/server/src/watch/stream.rs",
            "synod: too many watches are open",
        ),
    ] {
        assert!(
            read(file).contains(words),
            "{file} does not say {words:?} any more"
        );
        assert!(runbook.contains(words), "{words}");
    }
}
