//! `cargo xtask compare`: Synod beside etcd's own Go recipes, beside raw calls and beside Redis, in
//! turns on the same store; and `docs/performance.md`, which holds no figure that was not measured.
//!
//! Each row of [`rows`] gets a fresh store (`synod cluster`, `synod serve`, a Redis, a directory), and
//! its contestants run on it in turns: A B C, A B C and so on. What they print is kept, whole, in
//! `target/compare`, a file for each row and number of nodes; the page is made from what lies there,
//! so rows may be measured in several goes.
//!
//! Ended by Ctrl-C, it leaves an etcd behind, which the next run ends first; or do so yourself:
//! `synod cluster stop --dir target/compare/stage/etcd --remove-data`.

mod bounds;
mod goals;
mod machine;
mod measure;
mod memory;
mod page;
mod programs;
mod record;
mod redis;
mod rows;
mod stage;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::metadata::target_directory;
use programs::Programs;
use record::Archive;

/// What the command was asked.
#[derive(Debug, PartialEq)]
struct Options {
    /// Only rows whose name contains one of these.
    rows: Vec<String>,
    nodes: Vec<usize>,
    repeats: usize,
    duration: Duration,
    render_only: bool,
    /// Take the programs that were built before.
    no_build: bool,
}

/// Runs the command with the arguments after its name.
pub(crate) fn run(args: &[String]) -> Result<()> {
    let options = Options::parse(args)?;
    let archive = Archive::new(target_directory()?.join("compare"))?;
    let rows = rows::rows();
    if !options.render_only {
        let chosen: Vec<&rows::Row> = rows
            .iter()
            .filter(|row| {
                options.rows.is_empty() || options.rows.iter().any(|f| row.name.contains(f))
            })
            .collect();
        if chosen.is_empty() {
            let names: Vec<&str> = rows.iter().map(|row| row.name).collect();
            bail!("no such row; there are {}", names.join(", "));
        }
        let programs = Programs::find(archive.directory(), !options.no_build)?;
        let begin = Instant::now();
        for nodes in &options.nodes {
            for row in chosen.iter().filter(|row| row.nodes.contains(nodes)) {
                println!(
                    "==> {} on {nodes} (at {:.0} s)",
                    row.name,
                    begin.elapsed().as_secs_f32()
                );
                let record = measure::measure(row, *nodes, &options, &programs, &archive)?;
                archive.write(&record)?;
            }
        }
        println!("==> measured in {:.0} s", begin.elapsed().as_secs_f32());
    }
    page::write(&rows, &archive)
}

impl Options {
    fn parse(args: &[String]) -> Result<Options> {
        let mut options = Options {
            rows: Vec::new(),
            nodes: vec![1, 3],
            repeats: 5,
            duration: Duration::from_secs(2),
            render_only: false,
            no_build: false,
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "--render-only" => {
                    options.render_only = true;
                    continue;
                }
                "--no-build" => {
                    options.no_build = true;
                    continue;
                }
                _ => {}
            }
            let (name, value) = match arg.split_once('=') {
                Some((name, value)) => (name, Some(value.to_string())),
                None => (arg.as_str(), args.next().cloned()),
            };
            let value = value.with_context(|| format!("{name} needs a value"))?;
            let list = || value.split(',').map(str::to_string);
            match name {
                "--rows" => options.rows = list().collect(),
                "--nodes" => {
                    options.nodes = list()
                        .map(|n| match n.parse() {
                            Ok(nodes @ (1 | 3)) => Ok(nodes),
                            _ => bail!("--nodes is 1, 3 or 1,3"),
                        })
                        .collect::<Result<_>>()?;
                }
                "--repeats" => match value.parse() {
                    Ok(repeats @ 1..=100) => options.repeats = repeats,
                    _ => bail!("--repeats is a number from 1 to 100"),
                },
                "--seconds" => match value.parse() {
                    Ok(seconds) if (0.1..=600.0).contains(&seconds) => {
                        options.duration = Duration::from_secs_f64(seconds);
                    }
                    _ => bail!("--seconds is a number from 0.1 to 600"),
                },
                _ => bail!(
                    "unknown option {name}; there are --rows, --nodes, --repeats, --seconds, \
                     --render-only and --no-build"
                ),
            }
        }
        Ok(options)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_and_unknown_ones_refused() {
        let parse = |line: &str| {
            let args: Vec<String> = line.split_whitespace().map(str::to_string).collect();
            Options::parse(&args)
        };
        let options = parse("--rows queue,lock --nodes=3 --repeats 2 --seconds 0.5").unwrap();
        assert_eq!(options.rows, ["queue", "lock"]);
        assert_eq!(options.nodes, [3]);
        assert_eq!(options.duration, Duration::from_millis(500));
        assert!(parse("--render-only").unwrap().render_only);
        for bad in [
            "--rows",
            "--nodes 2",
            "--repeats 0",
            "--seconds x",
            "--fast 1",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
