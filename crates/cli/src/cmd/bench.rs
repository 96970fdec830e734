//! `synod bench`: measures, and tells. How is in [`crate::bench`].

use std::time::Duration;

use rand::Rng;

use super::Context;
use super::work::name_of;
use crate::args::{BenchArgs, Format, Global, What};
use crate::bench::coordinate::Bench;
use crate::bench::machine::Server;
use crate::bench::report::Report;
use crate::bench::result::{Results, Row};
use crate::bench::{plan, processes, table, tidy};
use crate::connect::{Connected, Limits, connect};
use crate::explain::explain_store;
use crate::failure::{Failure, Result};

/// When nothing happens for so long, a measurement is given up.
const STALL: Duration = Duration::from_secs(30);

/// How long a client may take to tidy up at the end.
const TIDY: Duration = Duration::from_secs(5);

pub(super) async fn run(global: &Global, args: BenchArgs, mut context: Context) -> Result<()> {
    if args.what == What::Worker {
        return processes::work().await;
    }
    let unique = format!("bench-{:08x}", rand::rng().random::<u32>());
    let name = name_of(global, &unique)?;
    let report = args.report.as_deref().map(Report::new).transpose()?;
    // What means nothing is refused before anybody connects.
    plan::specs(&args, name, false)?;
    let limits = Limits {
        patience: global.timeout,
        session_ttl: None,
    };
    let Connected { client, way, .. } =
        connect(global, &context.env, limits, &mut context.signals).await?;
    let specs = plan::specs(&args, name, way.is_embedded())?;
    let found = tidy::exists(&client, name).await;
    if found.map_err(|error| explain_store("cannot look for keys", &error))? {
        return Err(
            Failure::usage(format!("there are keys under {name}/ already"))
                .cause("a measurement deletes what lies under its name")
                .hint("choose another --name, or none: then it makes one up"),
        );
    }
    let server = Server::ask(&way, &client).await;
    let server =
        server.map_err(|error| explain_store("cannot ask the store what it is", &error))?;
    let bench = Bench {
        client: &client,
        way: &way,
        stall: global.timeout.unwrap_or(STALL),
    };
    let mut results = Results::new(server);
    let mut measured = Ok(());
    'all: for spec in &specs {
        for repeat in 1..=args.repeats {
            match bench.measure(spec, repeat, &mut context.signals).await {
                Ok(row) => results.rows.push(row),
                Err(failure) => {
                    measured = Err(failure);
                    break 'all;
                }
            }
        }
    }
    let _ = tokio::time::timeout(TIDY, client.close()).await;
    measured?;
    let text = match context.out.format() {
        Format::Text => table::text(&results),
        Format::Json => String::new(),
    };
    context.out.line(&text, results.json())?;
    if let Some(report) = report {
        report.write(&results)?;
    }
    verdict(&results.rows)
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
