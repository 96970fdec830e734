//! Many seeds of the simulation, each in a process of its own; the same seed twice; and faults planted in the store.
//!
//! `SYNOD_SEEDS=10000` runs more of them, `SYNOD_SEED=17` one, with its trace.

use std::process::{Command, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text:?} is no number")),
    )
}

/// How many seeds are run unless told otherwise: a build without optimization takes ten times as long for each.
const SEEDS: u64 = if cfg!(debug_assertions) { 80 } else { 300 };
/// Seeds beyond those that found something once, run each time since.
const FOUND: [u64; 1] = [42768];

/// A planted fault is found within so many seeds of the workloads that it concerns.
const SEEDS_A_PLANT: u64 = 40;
/// A run that takes longer hangs.
const LONGEST: Duration = Duration::from_secs(120);

/// Runs one seed; killed when it takes too long.
fn run(seed: u64, more: &[&str]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_synod-sim"))
        .arg(seed.to_string())
        .args(more)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the simulation starts");
    let id = child.id();
    let mut stdout = child.stdout.take().expect("piped");
    let mut stderr = child.stderr.take().expect("piped");
    let read = |from: &mut dyn std::io::Read| {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).expect("its output");
        bytes
    };
    std::thread::scope(|scope| {
        let (out, err) = (
            scope.spawn(|| read(&mut stdout)),
            scope.spawn(|| read(&mut stderr)),
        );
        let begin = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child of ours") {
                break status;
            }
            if begin.elapsed() > LONGEST {
                let _ = child.kill();
                let _ = child.wait();
                panic!("seed {seed} (process {id}) takes longer than {LONGEST:?}");
            }
            std::thread::sleep(Duration::from_millis(2));
        };
        Output {
            status,
            stdout: out.join().expect("read"),
            stderr: err.join().expect("read"),
        }
    })
}

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&text).into_owned()
}

/// `seed N: INVARIANT: ...`, what was broken.
fn finding(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.lines().last().unwrap_or_default().to_owned()
}

/// Runs seeds on all processors until one of them fails; what it said.
fn first_failure(seeds: impl Iterator<Item = u64> + Send, more: &[&str]) -> Option<(u64, String)> {
    let failed = first(seeds, more, |output| !output.status.success());
    failed.map(|(seed, output)| (seed, said(&output)))
}

/// Runs seeds on all processors until one of them ends in a certain way.
fn first(
    seeds: impl Iterator<Item = u64> + Send,
    more: &[&str],
    is_it: impl Fn(&Output) -> bool + Sync,
) -> Option<(u64, Output)> {
    let seeds = Mutex::new(seeds);
    let failed = Mutex::new(None);
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while failed.lock().unwrap().is_none() {
                    let Some(seed) = seeds.lock().unwrap().next() else {
                        return;
                    };
                    let output = run(seed, more);
                    if is_it(&output) {
                        failed.lock().unwrap().get_or_insert((seed, output));
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap()
}

#[test]
fn no_seed_breaks_a_promise() {
    if let Some(seed) = number("SYNOD_SEED") {
        let output = run(seed, &["--trace"]);
        println!("{}", said(&output));
        assert!(output.status.success(), "seed {seed} broke a promise");
        return;
    }
    let seeds = number("SYNOD_SEEDS").unwrap_or(SEEDS);
    let begin = Instant::now();
    if let Some((seed, said)) = first_failure((0..seeds).chain(FOUND), &[]) {
        panic!(
            "{said}\nagain, with its trace: \
             SYNOD_SEED={seed} cargo test -p synod-sim --test seeds no_seed -- --nocapture"
        );
    }
    println!("{seeds} seeds in {:?}", begin.elapsed());
}

#[test]
fn one_seed_is_one_run() {
    for seed in [0, 5, 7, 9] {
        let (first, second) = (run(seed, &["--trace"]), run(seed, &["--trace"]));
        assert!(
            first.stdout.len() > 10_000,
            "the trace of seed {seed} is too short to tell"
        );
        assert!(
            first.stdout == second.stdout,
            "two runs of seed {seed} differ"
        );
    }
    let (one, other) = (run(7, &["--trace"]), run(17, &["--trace"]));
    assert!(one.stdout != other.stdout, "two seeds make one run");
}

#[test]
fn planted_faults_are_found() {
    // Where it is planted, with which faults, and which invariants are to object. The fence matters to who was
    // frozen while it held something.
    type Plant = (
        &'static str,
        &'static str,
        &'static [&'static str],
        &'static [&'static str],
    );
    let plants: [Plant; 8] = [
        ("ignored-compare", "queue", &[], &["queue:"]),
        ("ignored-compare", "stm", &[], &["stm:"]),
        (
            "ignored-fence",
            "mutex",
            &["--fault", "client-pause"],
            &["fence:", "holds:"],
        ),
        ("early-answer", "queue", &[], &["store:", "kv:", "queue:"]),
        ("early-answer", "stm", &[], &["store:", "kv:", "stm:"]),
        ("applied-twice", "stm", &[], &["stm:"]),
        ("applied-twice", "queue", &[], &["queue:"]),
        ("unread-compare", "stm", &[], &["stm:"]),
    ];
    for (plant, workload, faults, invariants) in plants {
        let tried = AtomicU64::new(0);
        let seeds = (0..SEEDS_A_PLANT).inspect(|_| {
            tried.fetch_add(1, Ordering::SeqCst);
        });
        let more = [&["--plant", plant, "--workload", workload], faults].concat();
        // Neither a panic, nor a misspelt name, nor an invariant of something else is a find.
        let found = first(seeds, &more, |output| {
            output.status.code() == Some(1)
                && invariants.iter().any(|name| finding(output).contains(name))
        });
        let Some((_, output)) = found else {
            panic!(
                "{plant} in {workload} was not found by {invariants:?} in {SEEDS_A_PLANT} seeds"
            );
        };
        let words: String = finding(&output).chars().take(160).collect();
        println!(
            "{plant} in {workload}: found in {} seeds: {words}",
            tried.into_inner()
        );
    }
}

#[test]
fn a_misspelt_name_is_no_find() {
    let output = run(0, &["--plant", "unknown"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
}
