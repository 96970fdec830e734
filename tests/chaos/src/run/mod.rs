//! The runner: a cluster behind bridges, workers, a safety phase in which faults come one after another,
//! a liveness phase without, and the verdict.

mod cluster;
mod faults;
mod options;
mod peers;
mod progress;
mod report;
mod slow;
mod stage;
mod workers;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use crate::check;
use crate::history::{self, now};
use crate::primitive::Primitive;
use crate::record::Record;

pub use faults::Fault;
pub use options::{Options, Output};
use report::{Report, Window};
use stage::Stage;

/// Runs as the options say.
///
/// # Errors
///
/// When the run could not be made; what it found is in the exit code.
pub async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let seed = options
        .seed
        .unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let again = options.again(seed);
    options.say(format!("seed {seed}: {again}"));
    let directory = options.directory(seed)?;
    let interrupted = tokio::signal::ctrl_c();
    let outcome = tokio::select! {
        outcome = play(&options, seed, &directory) => outcome,
        _ = interrupted => {
            options.say("interrupted: all processes of the run end now");
            return Ok(ExitCode::from(130));
        }
    };
    let kept = format!("histories and logs are in {}", directory.display());
    if let Err(error) = &outcome
        && error.is::<Disagree>()
    {
        options.say(format!("{error}; seed {seed}; {kept}"));
        return Ok(ExitCode::from(Disagree::EXIT_CODE));
    }
    let report = outcome.with_context(|| format!("seed {seed} failed; again: {again}; {kept}"))?;
    report.print(&options, seed, &again, &kept)?;
    Ok(if report.passed() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The members of the cluster hold different data, so that nothing can be said of their clients.
#[derive(Debug)]
pub struct Disagree;

impl Disagree {
    /// What the program ends with then.
    pub const EXIT_CODE: u8 = 3;
}

impl std::fmt::Display for Disagree {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(
            "nothing can be concluded: the members of etcd do not hold the same data any more. etcd 3.5.0 to 3.5.2 lose \
             committed changes when they are killed (etcd issue 13766); 3.4 and later releases do not",
        )
    }
}

impl std::error::Error for Disagree {}

/// One run, from an empty cluster to the verdict.
async fn play(options: &Options, seed: u64, directory: &Path) -> anyhow::Result<Report> {
    let begun = Instant::now();
    let mut stage = Stage::set(options, seed, directory).await?;
    let mut report = Report::new(options.primitives(), seed);
    report.windows.push(Window::calm(now()));
    let calm = match torment(options, seed, begun, &mut stage, &mut report).await {
        Ok(calm) => calm,
        Err(error) if error.is::<Disagree>() => return Err(error),
        Err(error) => {
            // What came before it is checked all the same, as after the death of all workers.
            for worker in &mut stage.workers {
                worker.process.kill();
            }
            let record = stage.record().await.context(format!("{error:#}; then"))?;
            let entries = history::read_all(&stage.histories())?;
            for finding in check::check(&entries, &record, false) {
                options.say(format!("FAILED: {}", words(&finding)));
            }
            return Err(error);
        }
    };
    options.say(format!(
        "{:>6.0} s  workers have ended, the queues are drained; checking",
        begun.elapsed().as_secs_f64()
    ));
    report.own_deaths = stage.cluster.own_deaths;
    let record = stage.record().await?;
    let entries = history::read_all(&stage.histories())?;
    report.seconds = begun.elapsed().as_secs();
    report.take(&entries, &record, calm, patience(options));
    for finding in check::check(&entries, &record, true) {
        report.find(finding);
    }
    Ok(report)
}

/// Within which time everything must progress once the faults are over.
fn patience(options: &Options) -> Duration {
    Duration::from_secs(options.patience.unwrap_or(options.ttl + 5))
}

/// All faults, the calm after them, and the end of the workers. When the faults were over.
async fn torment(
    options: &Options,
    seed: u64,
    begun: Instant,
    stage: &mut Stage,
    report: &mut Report,
) -> anyhow::Result<u64> {
    let mut rng = StdRng::seed_from_u64(seed);
    let say =
        |text: String| options.say(format!("{:>6.0} s  {text}", begun.elapsed().as_secs_f64()));
    stage.calm(Duration::from_secs(3)).await?;
    let length = Duration::from_secs_f64(options.minutes * 60.0);
    let faults = options.faults()?;
    let mut bag: Vec<Fault> = Vec::new();
    // Each fault comes once at least, however short the time is.
    let mut rounds = 0;
    while begun.elapsed() < length || rounds == 0 || (rounds == 1 && !bag.is_empty()) {
        if bag.is_empty() {
            // Each fault once before any comes again.
            bag.clone_from(&faults);
            bag.shuffle(&mut rng);
            rounds += 1;
        }
        let Some(fault) = bag.pop() else { break };
        let from = now();
        match faults::inject(fault, stage, &mut rng).await {
            Ok(faults::Fired::Yes(evidence)) => {
                let healed = now();
                let seconds = Duration::from_nanos(healed - from).as_secs_f64();
                say(format!("{}: {evidence} ({seconds:.1} s)", fault.name()));
                report.windows.push(Window::new(fault, from, healed));
                if fault == Fault::KillLeader && !stage.cluster.agrees().await? {
                    bail!(Disagree);
                }
            }
            Ok(faults::Fired::Skipped(why)) => {
                if report.skip(fault, &why) {
                    say(format!("{}: skipped: {why}", fault.name()));
                }
                if faults.iter().all(|fault| report.was_skipped(*fault)) {
                    bail!("no fault can be made here");
                }
                continue;
            }
            Err(error) => bail!("the fault {} did not fire: {error:#}", fault.name()),
        }
        let pause = rng.random_range(options.pause.0..=options.pause.1);
        stage.calm(Duration::from_millis(pause)).await?;
    }
    say("faults are over; everything must progress".to_owned());
    let calm = now();
    report.windows.push(Window::calm(calm));
    if options.patience.is_some() {
        // What the rest takes is no time in which the workers have to do more.
        let seconds = begun.elapsed().as_secs();
        report.worked = Some(seconds);
        let calming = Instant::now();
        while calming.elapsed() < patience(options) {
            stage.calm(Duration::from_secs(1)).await?;
            let entries = history::read_all(&stage.histories())?;
            if report.lacking(&entries, calm, patience(options)).is_empty() {
                break;
            }
        }
    } else {
        stage
            .calm(patience(options) + Duration::from_secs(1))
            .await?;
    }
    stage.finish(report).await?;
    if !stage.cluster.agrees().await? {
        bail!(Disagree);
    }
    Ok(calm)
}

/// A finding in words.
fn words(finding: &check::Finding) -> String {
    let (primitive, kind) = (finding.primitive.name(), finding.kind);
    format!("{primitive}: {kind:?}: {}", finding.text)
}

/// Checks what an earlier run has kept.
///
/// # Errors
///
/// When something of it cannot be read, or there is nothing to check.
pub fn check_again(folder: &Path) -> anyhow::Result<ExitCode> {
    let entries = history::read_all(&folder.join("histories"))?;
    let record = Record::load(&folder.join("record.jsonl"))?;
    if entries.is_empty() || record.events.is_empty() {
        bail!(
            "{} holds no histories: nothing can be concluded",
            folder.display()
        );
    }
    // Only a run that came to its end has drained the queues.
    let drained = folder.join("result.json").is_file();
    let findings = check::check(&entries, &record, drained);
    for finding in &findings {
        println!("{}", words(finding));
    }
    println!(
        "{} operations, {} revisions, {} findings",
        entries.len(),
        record.revision(),
        findings.len()
    );
    Ok(if findings.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The primitives in words.
fn names(primitives: &[Primitive]) -> String {
    let names: Vec<&str> = primitives.iter().map(|p| p.name()).collect();
    names.join(",")
}
