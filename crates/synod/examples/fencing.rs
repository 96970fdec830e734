//! A program holds a lock, is frozen past its lease, wakes up and writes: what it writes is refused.
//!
//! Run it with `cargo run -p synod --example fencing`, or give it the URL of a store:
//! `cargo run -p synod --example fencing -- http://127.0.0.1:2379`. It takes a few seconds, the life of a session.
//! It prints the tokens of both holders, that the late write is refused by the ledger and by the store, what
//! stayed there, and `all done`.
//!
//! Given `hold` after the URL it is one holder alone, which writes late when a line comes on its standard input: for whoever
//! wants to stop a real process (SIGSTOP), to take the lock, and to let it go on (SIGCONT).
//!
//! No lock can keep a frozen program from believing that it still holds it. So the thing that is written to has
//! to check: by a transaction with the lock as its condition, or by a number that rises from holder to holder.

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use synod::store::{PutRequest, RangeRequest, Store, Txn};
use synod::{Client, ConnectOptions, Error, MutexGuard};

/// Something outside the store, such as a disk or a service: it refuses a token lower than the highest it has seen.
#[derive(Default)]
struct Ledger(Mutex<Pages>);

#[derive(Default)]
struct Pages {
    highest: u64,
    entries: Vec<&'static str>,
}

impl Ledger {
    fn write(&self, token: u64, entry: &'static str) -> Result<(), String> {
        let mut pages = self.0.lock().map_err(|_| "the ledger is torn")?;
        if token < pages.highest {
            let highest = pages.highest;
            return Err(format!("token {token} is older than {highest}"));
        }
        pages.highest = token;
        pages.entries.push(entry);
        Ok(())
    }

    fn entries(&self) -> Vec<&'static str> {
        self.0
            .lock()
            .map_or_else(|_| Vec::new(), |pages| pages.entries.clone())
    }
}

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Takes the lock, then is frozen: nothing of this program runs until `thaw`, not even what keeps its session alive.
async fn frozen(
    client: Client,
    ledger: Arc<Ledger>,
    held: mpsc::Sender<u64>,
    thaw: mpsc::Receiver<()>,
) -> Result<(), Failure> {
    let guard = client.mutex("example/ledger").lock().await?;
    held.send(guard.fencing_token())?;
    // A long pause: the machine sleeps, a debugger stops it, the virtual machine is moved.
    thaw.recv()?;

    // It goes on as the holder, since for all it knows no time has passed.
    match ledger.write(guard.fencing_token(), "late") {
        Err(reason) => println!("the ledger refuses the late write: {reason}"),
        Ok(()) => return Err("the ledger took a stale write".into()),
    }
    write_late(&client, &guard).await
}

/// Writes as the holder that it was.
async fn write_late(client: &Client, guard: &MutexGuard) -> Result<(), Failure> {
    // A transaction of one's own, with the lock as a condition: the store decides, whatever this program believes.
    let late = Txn::new()
        .when([guard.is_owner()])
        .and_then([PutRequest::new("example/ledger-owner", "late")]);
    if client.store().txn(late).await?.succeeded {
        return Err("the store took a stale write".into());
    }
    println!("the store refuses the late write: the lock is not its own any more");
    // And the short way, which says so as an error.
    match guard
        .txn()
        .and_then([PutRequest::new("example/ledger-owner", "late")])
        .await
    {
        Err(error @ (Error::NotOwner { .. } | Error::SessionLost)) => {
            println!("its guard says: {error}")
        }
        other => return Err(format!("unexpected: {other:?}").into()),
    }
    Ok(())
}

/// Holds the lock in a process of its own, until it is told to write.
async fn hold(url: &str) -> Result<(), Failure> {
    let options = ConnectOptions::new(url).with_session_ttl(Duration::from_secs(2));
    let client = options.await?;
    let guard = client.mutex("example/ledger").lock().await?;
    println!("the first holder has token {}", guard.fencing_token());
    tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await??;
    write_late(&client, &guard).await
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    let url = args.next().unwrap_or_else(|| "memory:".to_owned());
    if args.next().is_some_and(|word| word == "hold") {
        return hold(&url).await;
    }
    let client = Client::connect(&url).await?;
    let ledger = Arc::new(Ledger::default());

    // The program that will be frozen, with a runtime and a session of its own: two seconds without a sign of life.
    let options = ConnectOptions::new(&url).with_session_ttl(Duration::from_secs(2));
    let store = Arc::clone(client.store());
    let (held, first) = mpsc::channel();
    let (thaw, frozen_until) = mpsc::channel();
    let its_ledger = Arc::clone(&ledger);
    let other = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime
            .block_on(async { frozen(options.over(store), its_ledger, held, frozen_until).await })
    });
    let first = tokio::task::spawn_blocking(move || first.recv()).await??;
    println!("the first holder has token {first}, and freezes");

    // Its lease runs out, and the next one gets in.
    let guard = client.mutex("example/ledger").lock().await?;
    println!("the second holder has token {}", guard.fencing_token());
    ledger.write(guard.fencing_token(), "second")?;
    guard
        .txn()
        .and_then([PutRequest::new("example/ledger-owner", "second")])
        .await?;

    thaw.send(())?;
    tokio::task::spawn_blocking(move || other.join())
        .await?
        .map_err(|_| "the first holder panicked")??;

    let owner = client
        .store()
        .range(RangeRequest::new("example/ledger-owner"))
        .await?;
    let owner: Vec<_> = owner.kvs.iter().map(|kv| kv.value.as_ref()).collect();
    assert_eq!(owner, [b"second"]);
    assert_eq!(ledger.entries(), ["second"]);
    println!("the second holder's writes stand");
    guard.unlock().await?;
    client.close().await?;
    println!("all done");
    Ok(())
}
