//! `synod bench`: measures, and tells. How is in [`crate::bench`].

use std::time::Duration;

use rand::Rng;

use super::Context;
use super::work::name_of;
use crate::address;
use crate::args::{BenchArgs, Format, Global, What};
use crate::bench::coordinate::Bench;
use crate::bench::machine::Server;
use crate::bench::report::Report;
use crate::bench::result::{Results, Row};
use crate::bench::{plan, processes, table, tidy};
use crate::cluster::{self, Folder};
use crate::connect::{Connected, Limits, connect};
use crate::explain::explain_store;
use crate::failure::{Failure, Result};
use crate::local::paths;
use crate::way::is_embedded;

/// When nothing happens for so long, a measurement is given up.
const STALL: Duration = Duration::from_secs(30);

/// How long a client may take to tidy up at the end.
const TIDY: Duration = Duration::from_secs(5);

pub(super) async fn run(global: &Global, args: BenchArgs, mut context: Context) -> Result<()> {
    if args.what == What::Worker {
        return processes::work().await;
    }
    let word = format!("bench-{:08x}", rand::rng().random::<u32>());
    let name = name_of(global, &word)?;
    // What means nothing is refused before anything is begun.
    let target = address::resolve(global, &context.env, paths::port(&context.env)?)?;
    let embedded = args.cluster.is_none() && is_embedded(&target.url);
    let plan = plan::specs(&args, name, embedded)?;
    let report = args.report.as_deref().map(Report::new).transpose()?;
    let job = Job {
        args: &args,
        plan,
        name,
        report,
    };
    match args.cluster {
        None => job.run(global, None, &mut context).await,
        Some(nodes) => job.run_on_cluster(global, nodes, &word, &mut context).await,
    }
}

/// What to do.
struct Job<'a> {
    args: &'a BenchArgs,
    plan: Vec<crate::bench::spec::Spec>,
    name: &'a str,
    report: Option<Report>,
}

impl Job<'_> {
    /// Measures on a cluster that is there for this alone.
    async fn run_on_cluster(
        &self,
        global: &Global,
        nodes: usize,
        word: &str,
        context: &mut Context,
    ) -> Result<()> {
        // Beside other data, not among temporary files: those may be in memory, where a sync costs
        // nothing.
        let dir = paths::state_dir(&context.env)?.join(format!("{word}-cluster"));
        let folder = Folder::new(Some(&dir), &context.env)?;
        let starting = async {
            let etcd = cluster::find(None, &context.env).await?;
            cluster::start(&folder, Some(nodes), &etcd).await
        };
        let started = tokio::select! {
            biased;
            stop = context.signals.stop() => return Err(stop.failure()),
            started = starting => started?,
        };
        let there = Global {
            addr: Some(started.url()),
            ..global.clone()
        };
        let data = folder.path().display().to_string();
        let done = self.run(&there, Some(data), context).await;
        let ended = cluster::stop(&folder, true).await;
        // What is left in it is the lock of who starts and ends the cluster.
        let _ = std::fs::remove_dir_all(&dir);
        done?;
        ended.map(|_| ())
    }

    /// Measures at an address; `data` is where the store keeps its data, if we know.
    async fn run(
        &self,
        global: &Global,
        data: Option<String>,
        context: &mut Context,
    ) -> Result<()> {
        let limits = Limits {
            patience: global.timeout,
            session_ttl: None,
        };
        let Connected { client, way, .. } =
            connect(global, &context.env, limits, &mut context.signals).await?;
        let name = self.name;
        let found = tidy::exists(&client, name).await;
        if found.map_err(|error| explain_store("cannot look for keys", &error))? {
            return Err(
                Failure::usage(format!("there are keys under {name}/ already"))
                    .cause("a measurement deletes what lies under its name")
                    .hint("choose another --name, or none: then it makes one up"),
            );
        }
        let server = Server::ask(&way, &client).await;
        let mut server =
            server.map_err(|error| explain_store("cannot ask the store what it is", &error))?;
        server.data = server.data.or(data);
        let bench = Bench {
            client: &client,
            way: &way,
            stall: global.timeout.unwrap_or(STALL),
        };
        let mut results = Results::new(server);
        let measured = self.measure(&bench, &mut results, context).await;
        let _ = tokio::time::timeout(TIDY, client.close()).await;
        measured?;
        let text = match context.out.format() {
            Format::Text => table::text(&results),
            Format::Json => String::new(),
        };
        context.out.line(&text, results.json())?;
        if let Some(report) = &self.report {
            report.write(&results)?;
        }
        verdict(&results.rows)
    }

    async fn measure(
        &self,
        bench: &Bench<'_>,
        results: &mut Results,
        context: &mut Context,
    ) -> Result<()> {
        for spec in &self.plan {
            for repeat in 1..=self.args.repeats {
                let row = bench.measure(spec, repeat, &mut context.signals).await?;
                results.rows.push(row);
            }
        }
        Ok(())
    }
}

/// A failure if anything is wrong with what was measured.
fn verdict(rows: &[Row]) -> Result<()> {
    for row in rows {
        let title = row.title();
        let measured = &row.measured;
        if let Some(first) = measured.violations.first() {
            let mut failure = Failure::failed(format!("{title} broke its word: {first}"));
            for other in measured.violations.iter().skip(1) {
                failure = failure.cause(other);
            }
            return Err(failure.hint("its figures are worthless"));
        }
        if measured.errors > 0 {
            let first = measured.first_error.clone().unwrap_or_default();
            let count = measured.errors;
            return Err(
                Failure::failed(format!("{title}: {count} operations failed")).cause(first),
            );
        }
        if measured.operations == 0 {
            return Err(Failure::failed(format!("{title}: nothing was completed"))
                .hint("a longer --duration, or a shorter --warm-up"));
        }
    }
    Ok(())
}
