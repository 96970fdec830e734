//! The bank: two tasks move money between two accounts and look at a third, one reads them all.
//!
//! Each transfer also writes its own name into a key of its task, so that the store's record tells which
//! transfers were committed at a revision, however many at once.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::Rng;
use synod::stm::Committed;
use synod::store::KeyRange;
use synod::{Client, Error, Tx};

use super::{Spawner, Task, text, value};
use crate::history::{Answer, Args, Call};
use crate::primitive::{ACCOUNTS, Primitive, TOTAL};

pub(super) fn spawn(spawner: &mut Spawner<'_>) {
    spawner.spawn("move-a", transfers);
    spawner.spawn("move-b", transfers);
    spawner.spawn("audit", audits);
}

/// The key of an account.
fn account(number: u32) -> String {
    format!("{}account/{number}", Primitive::Stm.prefix())
}

/// Puts the same sum into each account, before a run begins.
///
/// # Errors
///
/// What the store says.
pub async fn open_accounts(client: &Client) -> synod::Result<()> {
    let balance = TOTAL / i64::from(ACCOUNTS);
    let puts = (0..ACCOUNTS).map(|n| synod::txn::put(account(n), format!("{balance} opened")));
    client.txn().and_then(puts).await?;
    Ok(())
}

/// The balance in an account's value, `BALANCE TRANSFER`.
fn balance(value: &str) -> i64 {
    let balance = value.split(' ').next().and_then(|text| text.parse().ok());
    balance.expect("accounts hold balances")
}

async fn transfer(
    tx: &Tx,
    [from, to, third]: [&str; 3],
    amount: i64,
    (log, name): (&str, &str),
) -> Result<BTreeMap<String, String>, Error> {
    let mut reads = BTreeMap::new();
    for (key, change) in [(from, -amount), (to, amount)] {
        let held = text(&tx.get(key).await?.unwrap_or_default());
        tx.put(key, format!("{} {name}", balance(&held) + change));
        reads.insert(key.to_owned(), held);
    }
    // What is only read must be as it was, too.
    let held = text(&tx.get(third).await?.unwrap_or_default());
    reads.insert(third.to_owned(), held);
    tx.put(log, name.to_owned());
    Ok(reads)
}

fn committed(committed: &Committed<BTreeMap<String, String>>) -> Answer {
    Answer {
        revision: Some(committed.revision.0),
        place: committed.place,
        reads: committed.value.clone(),
        ..Answer::default()
    }
}

async fn transfers(mut task: Task) {
    let stm = task.client().stm().with_timeout(Duration::from_secs(6));
    let log = format!(
        "{}log/{}.{}",
        Primitive::Stm.prefix(),
        task.shared.name,
        task.name
    );
    while task.goes_on().await {
        let from = task.rng.random_range(0..ACCOUNTS);
        let to = (from + task.rng.random_range(1..ACCOUNTS)) % ACCOUNTS;
        // Any of the others.
        let others: Vec<u32> = (0..ACCOUNTS).filter(|n| ![from, to].contains(n)).collect();
        let third = account(others[task.rng.random_range(0..others.len())]);
        let (from, to) = (account(from), account(to));
        let amount: u32 = task.rng.random_range(1..10);
        let name = task.unique();
        let args = Args {
            keys: vec![from.clone(), to.clone(), log.clone()],
            number: Some(amount.into()),
            ..value(name.clone())
        };
        let run = stm.transact(async |tx| {
            let accounts = [&*from, &*to, &*third];
            transfer(&tx, accounts, amount.into(), (&log, &name)).await
        });
        task.op(Call::Transfer, args, run, committed).await;
    }
}

async fn audits(mut task: Task) {
    let stm = task.client().stm().with_timeout(Duration::from_secs(6));
    let accounts = KeyRange::prefix(format!("{}account/", Primitive::Stm.prefix()));
    while task.goes_on().await {
        let run = stm.transact(async |tx| {
            let pairs = tx.range(accounts.clone()).await?;
            let reads = pairs
                .iter()
                .map(|(key, held)| (key.to_string(), text(held)));
            Ok::<_, Error>(reads.collect())
        });
        task.op(Call::Audit, Args::default(), run, committed).await;
        task.pause(100..300).await;
    }
}
