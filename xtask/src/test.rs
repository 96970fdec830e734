//! `cargo xtask test`: every test on every store, with a real etcd, closed by a count.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::steps::{cargo, run as run_program};
use crate::{etcd, go, metadata};

/// What the command was asked.
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    /// Only tests whose names contain this.
    filter: Option<String>,
    /// Only the tests of this package.
    package: Option<String>,
}

/// What all test programs said together.
#[derive(Debug, Default, PartialEq, Eq)]
struct Count {
    passed: u64,
    failed: u64,
    skipped: u64,
}

/// Runs the command with the arguments after its name.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let options = Options::parse(args)?;
    let etcd = etcd::find_or_install()?;
    println!("==> {} ({})", etcd::version(&etcd)?, etcd.display());
    let go = go::find();
    match &go {
        Some(found) => println!("==> {found}"),
        None => println!(
            "==> no Go: tests beside Go programs will be skipped; they need {}",
            go::NEEDED
        ),
    }
    let target = metadata::target_directory()?;

    println!("==> the binary `synod`");
    run_program(&mut cargo(&[
        "build",
        "--package",
        "synod-cli",
        "--bin",
        "synod",
    ])?)?;

    println!("==> tests");
    let begin = Instant::now();
    let skipped = target.join(format!("skipped-{}.txt", std::process::id()));
    let mut command = options.command()?;
    command
        .env("SYNOD_ETCD", &etcd)
        .env("SYNOD_REQUIRE_ETCD", "1")
        .env("SYNOD_BIN", target.join("debug/synod"))
        .env("SYNOD_SKIPPED", &skipped);
    if go.is_some() {
        command.env("SYNOD_REQUIRE_GO", "1");
    }
    let (mut count, success) = stream(&mut command)?;
    let reasons = take_skipped(&skipped);
    // A test that skips itself returns without failing, so its program counts it as passed.
    let skips = reasons.len() as u64;
    count.passed = count.passed.saturating_sub(skips);
    count.skipped += skips;
    if !success && count.failed == 0 {
        // Something did not build, or a test program died without a word.
        count.failed = 1;
    }

    println!("\n==> tests took {:.0} s", begin.elapsed().as_secs_f32());
    for reason in &reasons {
        println!("{reason}");
    }
    println!("{count}");
    if count.failed > 0 {
        bail!("{} failed", count.failed);
    }
    Ok(())
}

impl Options {
    fn parse(args: &[String]) -> Result<Options> {
        let mut options = Options::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let (name, value) = match arg.split_once('=') {
                Some((name, value)) => (name, Some(value.to_string())),
                None => (arg.as_str(), args.next().cloned()),
            };
            let value = value.with_context(|| format!("{name} needs a value"));
            match name {
                "--filter" => options.filter = Some(value?),
                "--package" => options.package = Some(value?),
                _ => bail!("unknown option {name}; there are --filter and --package"),
            }
        }
        Ok(options)
    }

    fn command(&self) -> Result<Command> {
        let mut command = cargo(&["test", "--no-fail-fast"])?;
        match &self.package {
            Some(package) => command.args(["--package", package]),
            None => command.arg("--workspace"),
        };
        if let Some(filter) = &self.filter {
            command.args(["--", filter]);
        }
        Ok(command)
    }
}

/// Runs the tests, shows what they print, and counts.
fn stream(command: &mut Command) -> Result<(Count, bool)> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .context("cargo cannot be started")?;
    let stdout = child.stdout.take().context("cargo has no output")?;
    let mut count = Count::default();
    for line in BufReader::new(stdout).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        count.add(&line);
    }
    Ok((count, child.wait()?.success()))
}

impl Count {
    /// Adds a line such as `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else {
            return;
        };
        let words: Vec<&str> = result
            .split([' ', ';'])
            .filter(|word| !word.is_empty())
            .collect();
        for pair in words.windows(2) {
            let [number, what] = pair else { continue };
            let Ok(number) = number.parse::<u64>() else {
                continue;
            };
            match *what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }
}

impl std::fmt::Display for Count {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Count {
            passed,
            failed,
            skipped,
        } = self;
        write!(f, "{passed} passed, {failed} failed, {skipped} skipped")
    }
}

/// The lines that skipped tests wrote, and no file any more.
fn take_skipped(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    if let Err(error) = std::fs::remove_file(PathBuf::from(path))
        && error.kind() != std::io::ErrorKind::NotFound
    {
        println!("{} is left over: {error}", path.display());
    }
    text.lines().map(str::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_all_programs_are_added() {
        let mut count = Count::default();
        count.add("running 5 tests");
        count.add("test result: ok. 4 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.1s");
        count.add("test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 9 filtered out; finished in 0.1s");
        assert_eq!(count.to_string(), "5 passed, 2 failed, 1 skipped");
    }

    #[test]
    fn options_are_read_and_unknown_ones_refused() {
        let parse = |args: &[&str]| {
            Options::parse(&args.iter().map(ToString::to_string).collect::<Vec<_>>())
        };
        let options = parse(&["--filter", "queue", "--package=synod"]).unwrap();
        assert_eq!(options.filter.as_deref(), Some("queue"));
        assert_eq!(options.package.as_deref(), Some("synod"));
        assert!(parse(&["--filter"]).is_err());
        assert!(parse(&["--fast", "yes"]).is_err());
    }
}
