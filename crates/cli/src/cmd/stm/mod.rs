//! `synod stm`: transactions in memory, shown at work.

mod accounts;
mod bank;

use super::Context;
use super::work::{name_of, with_client};
use crate::args::{Global, StmArgs, StmCommand};
use crate::failure::Result;

/// What stands before the accounts when no name is given.
const DEFAULT_NAME: &str = "accts";

pub(super) async fn run(global: &Global, args: StmArgs, mut context: Context) -> Result<()> {
    let StmCommand::Bank(bank) = args.command;
    let name = name_of(global, DEFAULT_NAME)?;
    with_client(
        global,
        global.timeout,
        &mut context,
        async |client, _, context| bank::run(client, name, &bank, context).await,
    )
    .await
}
