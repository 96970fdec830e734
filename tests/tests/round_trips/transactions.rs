//! Transactions: the builder, and software transactional memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use synod::store::{Compare, KeyRange, RangeRequest};
use synod::txn::put;
use synod::{Client, Error, Tx};
use synod_tests::counted::Counted;
use tokio::task::JoinSet;

use crate::bench::{Bench, Sheet, VALUE};

async fn number(tx: &Tx, key: &str) -> Result<u64, Error> {
    let value = tx.get(key).await?.unwrap();
    Ok(std::str::from_utf8(&value).unwrap().parse().unwrap())
}

/// Moves 1 from one account to the other.
async fn transfer(tx: &Tx, from: &str, to: &str) -> Result<(), Error> {
    let (old_from, old_to) = (number(tx, from).await?, number(tx, to).await?);
    tx.put(from, (old_from - 1).to_string());
    tx.put(to, (old_to + 1).to_string());
    Ok(())
}

async fn accounts(client: &Client, accounts: usize) {
    for account in 0..accounts {
        let account = put(format!("bank/{account:02}"), "1000000");
        client.txn().and_then([account]).await.unwrap();
    }
}

pub(crate) async fn stm(bench: &Bench, sheet: &mut Sheet) {
    let peer = bench.peer().await;
    let client = &peer.client;
    accounts(client, 100).await;
    let stm = client.stm();

    let write = stm.run(async |tx| {
        tx.put("stm/a", VALUE.to_vec());
        Ok(())
    });
    let (done, counts) = peer.counted.measure(write).await;
    done.unwrap();
    sheet.alone(bench, "run", "1 key put", counts);
    let read = stm.run(async |tx| tx.get("bank/00").await);
    let (done, counts) = peer.counted.measure(read).await;
    done.unwrap();
    sheet.alone(bench, "run", "1 key read", counts);
    let range = stm.run(async |tx| tx.range(KeyRange::prefix("bank/")).await);
    let (done, counts) = peer.counted.measure(range).await;
    assert_eq!(done.unwrap().len(), 100);
    sheet.alone(bench, "run", "a range of 100 keys read", counts);
    let two = stm.run(async |tx| transfer(&tx, "bank/00", "bank/01").await);
    let (done, counts) = peer.counted.measure(two).await;
    done.unwrap();
    sheet.alone(bench, "run", "2 keys read and put", counts);
    let ahead = client.stm().with_prefetch(["bank/02", "bank/03"]);
    let two = ahead.run(async |tx| transfer(&tx, "bank/02", "bank/03").await);
    let (done, counts) = peer.counted.measure(two).await;
    done.unwrap();
    sheet.alone(bench, "run", "2 keys read ahead and put", counts);

    for (tasks, accounts) in [(10, 5), (10, 100)] {
        let one = bench.peer().await;
        let situation = format!("{tasks} tasks of a client, {accounts} accounts");
        let clients = vec![one.client; tasks];
        bank(bench, sheet, &situation, (clients, one.counted), accounts).await;
        let crowd = bench.crowd(tasks).await;
        let situation = format!("{tasks} clients, {accounts} accounts");
        bank(bench, sheet, &situation, crowd, accounts).await;
    }
}

/// Each client makes 20 transfers.
async fn bank(
    bench: &Bench,
    sheet: &mut Sheet,
    situation: &str,
    (clients, counted): (Vec<Client>, Counted),
    accounts: usize,
) {
    const TRANSFERS: usize = 20;
    let attempts = Arc::new(AtomicU64::new(0));
    let size = clients.len();
    let work = async {
        let mut tasks = JoinSet::new();
        for (task, client) in clients.into_iter().enumerate() {
            let attempts = Arc::clone(&attempts);
            tasks.spawn(async move {
                for turn in 0..TRANSFERS {
                    // Spread evenly, and the same at each run.
                    let from = (task * 7 + turn * 3) % accounts;
                    let to = (from + 1 + turn % (accounts - 1)) % accounts;
                    let (from, to) = (format!("bank/{from:02}"), format!("bank/{to:02}"));
                    let stm = client.stm();
                    let done = stm.transact(async |tx| transfer(&tx, &from, &to).await);
                    let done = done.await.unwrap();
                    attempts.fetch_add(u64::from(done.attempts), Ordering::Relaxed);
                }
            });
        }
        tasks.join_all().await
    };
    let (_, counts) = counted.measure(work).await;
    let transfers = size * TRANSFERS;
    let attempts = Some(attempts.load(Ordering::Relaxed));
    sheet.many_attempts(
        bench,
        "run, a transfer",
        situation,
        counts,
        transfers,
        attempts,
    );
}

pub(crate) async fn txn(bench: &Bench, sheet: &mut Sheet) {
    let peer = bench.peer().await;
    let client = &peer.client;
    let write = client.txn().when([Compare::absent("txn/a")]);
    let write = write.and_then([put("txn/a", VALUE.to_vec())]);
    let (done, counts) = peer.counted.measure(async { write.clone().await }).await;
    assert!(done.unwrap().succeeded);
    sheet.alone(bench, "txn", "1 condition that holds, 1 put", counts);
    let (done, counts) = peer.counted.measure(async { write.await }).await;
    assert!(!done.unwrap().succeeded);
    sheet.alone(bench, "txn", "1 condition that fails, 1 put", counts);
    let read = client.txn().and_then([RangeRequest::new("txn/a")]);
    let (done, counts) = peer.counted.measure(async { read.await }).await;
    assert_eq!(done.unwrap().range(0).unwrap().kvs.len(), 1);
    sheet.alone(bench, "txn", "1 read", counts);

    let guard = client.mutex("txn-guard").lock().await.unwrap();
    let fenced = guard.txn().and_then([put("txn/a", VALUE.to_vec())]);
    let (done, counts) = peer.counted.measure(async { fenced.await }).await;
    assert!(done.unwrap().succeeded);
    sheet.alone(bench, "guard.txn", "1 put", counts);
    guard.unlock().await.unwrap();
}
