//! `synod txn`: one transaction, from options, a file or standard input.

mod compare;
mod form;
#[cfg(test)]
mod fuzzed;
mod op;
mod quoted;
mod show;

use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use synod::Client;
use synod_store::TxnResponse;

use super::Context;
use super::work::{unless_stopped, with_client};
use crate::args::{Global, TxnArgs};
use crate::explain::explain;
use crate::failure::{Failure, Result};
use crate::output::notice;
use crate::prompt::Lines;
use crate::signals::Signals;

use form::{Draft, Section};

/// Stands under every line that cannot be read.
const FORMS: &str = "conditions look like version(k) = 0, operations like put k v, get k or del k; \
                     see `synod txn --help`";

pub(super) async fn run(global: &Global, args: TxnArgs, mut context: Context) -> Result<()> {
    global.refuse_name("txn")?;
    // Before connecting: what is wrong with it needs no store.
    let draft = if args.is_given() {
        from_options(&args)?
    } else {
        match &args.file {
            Some(path) => from_file(path)?,
            None => from_stdin(&mut context.signals).await?,
        }
    };
    with_client(
        global,
        global.timeout,
        &mut context,
        async |client, _, context| {
            let response = unless_stopped(&mut context.signals, commit(client, draft)).await?;
            Ok(context
                .out
                .bytes(&show::text(&response), show::fields(&response))?)
        },
    )
    .await
}

async fn commit(client: &Client, draft: Draft) -> Result<TxnResponse> {
    client
        .txn()
        .when(draft.compares)
        .and_then(draft.success)
        .or_else(draft.failure)
        .await
        .map_err(|error| explain("cannot run the transaction", &error))
}

fn from_options(args: &TxnArgs) -> Result<Draft> {
    let mut draft = Draft::default();
    let sections: [(Section, &str, &[OsString]); 3] = [
        (Section::When, "--when", &args.when),
        (Section::Then, "--then", &args.and_then),
        (Section::Else, "--else", &args.or_else),
    ];
    for (section, option, entries) in sections {
        for text in entries {
            draft.entry(section, text.as_bytes()).map_err(|wrong| {
                unreadable(&format!("{option} {}", text.to_string_lossy()), wrong)
            })?;
        }
    }
    Ok(draft)
}

fn from_file(path: &Path) -> Result<Draft> {
    let text = std::fs::read(path).map_err(|error| {
        Failure::usage(format!("cannot read {}", path.display())).because(&error)
    })?;
    let mut draft = Draft::default();
    let lines = text
        .strip_suffix(b"\n")
        .unwrap_or(&text)
        .split(|byte| *byte == b'\n');
    for (number, line) in (1..).zip(lines) {
        draft
            .line(line)
            .map_err(|wrong| unreadable(&at(&path.display().to_string(), number, line), wrong))?;
    }
    Ok(draft)
}

async fn from_stdin(signals: &mut Signals) -> Result<Draft> {
    let cannot =
        |error: std::io::Error| Failure::failed("cannot read standard input").because(&error);
    let terminal = std::io::stdin().is_terminal();
    let mut lines = Lines::of_stdin().map_err(cannot)?;
    let mut draft = Draft::default();
    let mut number: u64 = 0;
    let mut announced = None;
    while draft.section() != Section::Over {
        if terminal && draft.is_etcdctl() && announced != Some(draft.section()) {
            announced = Some(draft.section());
            draft.section().title().into_iter().for_each(notice);
        }
        let line = unless_stopped(signals, async { lines.next().await.map_err(cannot) }).await?;
        let Some(line) = line else { break };
        number = number.saturating_add(1);
        match draft.line(&line) {
            Ok(()) => {}
            // Whoever types can type it again.
            Err(wrong) if terminal => notice(&wrong),
            Err(wrong) => return Err(unreadable(&at("standard input", number, &line), wrong)),
        }
    }
    Ok(draft)
}

fn at(source: &str, number: u64, line: &[u8]) -> String {
    format!(
        "line {number} of {source}: {}",
        String::from_utf8_lossy(line).trim()
    )
}

fn unreadable(what: &str, wrong: String) -> Failure {
    Failure::usage(format!("cannot read {what}"))
        .cause(wrong)
        .hint(FORMS)
}
