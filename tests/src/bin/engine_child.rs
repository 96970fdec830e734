//! A process that writes to an embedded store until it is killed, and says on its standard output what was
//! acknowledged: the other half of `tests/engine_killed.rs`.
//!
//! Arguments: the directory, and how many turns each writer does (0: without end). It prints `ready`, then a line
//! `WRITER TURN REVISION` for each put that was acknowledged, then `end`; and `error TEXT` for the first that was not.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use synod_engine::{Engine, EngineOptions, Retention};
use synod_store::{
    Error, LeaseGrantRequest, PutRequest, RangeRequest, Revision, Store, Txn, TxnOp,
};

/// Writers at once.
const WRITERS: u64 = 4;

fn say(line: std::fmt::Arguments<'_>) {
    // One write a line: a reader sees all of it or nothing.
    let line = format!("{line}\n");
    let mut out = std::io::stdout().lock();
    if out
        .write_all(line.as_bytes())
        .and_then(|()| out.flush())
        .is_err()
    {
        // Nobody listens any more.
        std::process::exit(0);
    }
}

/// The last turn that a writer's key shows.
async fn last_turn(store: &Engine, writer: u64) -> Result<u64, Error> {
    let found = store
        .range(RangeRequest::new(format!("w/{writer}")))
        .await?;
    let text = found
        .kvs
        .first()
        .map(|kv| String::from_utf8_lossy(&kv.value).into_owned());
    Ok(text
        .and_then(|text| text.split(' ').next()?.parse().ok())
        .unwrap_or(0))
}

/// Both keys of a writer move together, some values are long, some hang on a lease that soon ends.
async fn write(store: Engine, writer: u64, turns: u64) -> Result<(), Error> {
    let begin = last_turn(&store, writer).await?;
    for turn in begin + 1.. {
        if turns > 0 && turn > begin + turns {
            return Ok(());
        }
        let filler = "x".repeat(usize::try_from(turn * 37 % 400).unwrap_or(0));
        let mut ops = vec![
            TxnOp::from(PutRequest::new(
                format!("w/{writer}"),
                format!("{turn} {filler}"),
            )),
            PutRequest::new(format!("both/{writer}"), turn.to_string()).into(),
        ];
        if turn % 16 == 1 {
            let granted = store
                .lease_grant(LeaseGrantRequest::new(Duration::from_secs(2)))
                .await?;
            ops.push(
                PutRequest::new(format!("leased/{writer}"), "x")
                    .with_lease(granted.id)
                    .into(),
            );
        }
        let answer = store.txn(Txn::new().and_then(ops)).await?;
        say(format_args!("{writer} {turn} {}", answer.header.revision));
    }
    Ok(())
}

/// Compacts and writes snapshots, again and again.
async fn upkeep(store: Engine) {
    loop {
        tokio::time::sleep(Duration::from_millis(7)).await;
        if let Ok(hash) = store.hash_kv(Revision::ZERO).await
            && hash.hash_revision.0 > hash.compact_revision.0 + 50
        {
            // They fail once the store does, which its writers report.
            let _ = store
                .compact(Revision(hash.hash_revision.0 - 20), true)
                .await;
            let _ = store.defragment().await;
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(dir), Some(turns)) = (
        arguments.next(),
        arguments.next().and_then(|n| n.parse().ok()),
    ) else {
        eprintln!("usage: engine_child DIR TURNS");
        return ExitCode::from(2);
    };
    let options = EngineOptions::file(dir).with_retention(Retention::Revisions(500));
    let store = match Engine::open(options) {
        Ok(store) => store,
        Err(error) => {
            say(format_args!("error {error}"));
            return ExitCode::from(3);
        }
    };
    say(format_args!("ready"));
    let upkeep = tokio::spawn(upkeep(store.clone()));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write(store.clone(), writer, turns));
    }
    let mut failed = false;
    while let Some(ended) = writers.join_next().await {
        if let Ok(Err(error)) = ended {
            say(format_args!("error {:?} {error}", error.kind()));
            failed = true;
        }
    }
    upkeep.abort();
    if failed {
        // Nothing is acknowledged afterwards, whatever is asked.
        for _ in 0..3 {
            if let Ok(answer) = store.put(PutRequest::new("after", "x")).await {
                say(format_args!("9 0 {}", answer.header.revision));
            }
        }
    }
    say(format_args!("end"));
    ExitCode::from(u8::from(failed))
}
