//! Spans: each operation has the one that docs/tracing.md lists, with its fields, and nothing that was stored is ever
//! written into one, nor into any event, at the most verbose level.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use synod::delivery::EnqueueOptions;
use synod::{Client, txn};
use synod_tests::wait;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// What stands in every value: names do not have it.
const SECRET: &str = "s3cret-value";

type Fields = BTreeMap<&'static str, String>;

/// A span that has ended.
#[derive(Debug, Clone)]
struct Span {
    name: &'static str,
    fields: Fields,
}

/// Keeps all that is recorded, of every thread.
#[derive(Debug, Clone, Default)]
struct Capture {
    open: Arc<Mutex<HashMap<u64, Span>>>,
    ended: Arc<Mutex<Vec<Span>>>,
    events: Arc<Mutex<Vec<Fields>>>,
}

struct Reader<'a>(&'a mut Fields);

impl Visit for Reader<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }
}

fn held<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Capture {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
        let mut span = Span {
            name: attributes.metadata().name(),
            fields: Fields::new(),
        };
        attributes.record(&mut Reader(&mut span.fields));
        held(&self.open).insert(id.into_u64(), span);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        if let Some(span) = held(&self.open).get_mut(&id.into_u64()) {
            values.record(&mut Reader(&mut span.fields));
        }
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::new();
        event.record(&mut Reader(&mut fields));
        held(&self.events).push(fields);
    }

    fn on_close(&self, id: Id, _: Context<'_, S>) {
        if let Some(span) = held(&self.open).remove(&id.into_u64()) {
            held(&self.ended).push(span);
        }
    }
}

impl Capture {
    /// The only span of this name that has ended with this field.
    fn one(&self, name: &str, field: &str, value: &str) -> Span {
        let ended = held(&self.ended);
        let mut found = ended.iter().filter(|span| {
            span.name == name && span.fields.get(field).is_some_and(|found| found == value)
        });
        let one = found.next();
        let one = one.unwrap_or_else(|| panic!("no {name} with {field}={value}: {ended:#?}"));
        assert!(found.next().is_none(), "{name} with {field}={value} twice");
        one.clone()
    }
}

fn value(what: &str) -> String {
    format!("{what} {SECRET}")
}

/// Every operation that has a span, once at least.
async fn everything(client: &Client) -> synod::Result<()> {
    queue(client).await?;
    priority_queue(client).await?;
    locks(client).await?;
    let barrier = client.barrier("gate");
    barrier.hold().await?;
    assert!(!barrier.wait_timeout(Duration::ZERO).await?);
    assert!(barrier.is_held().await?);
    assert!(barrier.release().await?);
    barrier.wait().await?;
    let round = client.double_barrier("round", 1);
    round.enter().await?;
    round.leave().await?;
    elections(client).await?;
    let txn = client.txn().and_then([txn::put("plain", value("txn"))]);
    txn.await?;
    let stm = client.stm();
    stm.run(async |tx| {
        tx.get("account").await?;
        tx.put("account", value("stm"));
        Ok(())
    })
    .await?;
    client.session().build().await?.close().await
}

async fn queue(client: &Client) -> synod::Result<()> {
    let jobs = client.queue("jobs");
    jobs.enqueue(value("a")).await?;
    let once = EnqueueOptions::new().with_id("id");
    jobs.enqueue_with(value("b"), once.clone()).await?;
    jobs.enqueue_with(value("b"), once).await?;
    jobs.enqueue_many((0..7).map(|_| value("c"))).await?;
    assert!(!jobs.is_empty().await?);
    assert_eq!((jobs.len().await?, jobs.list(3).await?.len()), (9, 3));
    assert!(jobs.peek().await?.unwrap().value.starts_with(b"a"));
    jobs.dequeue().await?;
    jobs.try_dequeue().await?;
    jobs.dequeue_many(2).await?;
    let job = jobs.take().await?;
    job.extend(Duration::from_secs(60)).await?;
    job.ack().await?;
    for job in jobs.take_many(2).await? {
        job.nack().await?;
    }
    let dying = jobs.clone().with_max_attempts(1);
    for _ in 0..2 {
        dying.try_take().await?.unwrap().nack().await?;
    }
    let dead = jobs.dead();
    assert_eq!(dead.len().await?, 2);
    let letters = dead.list(2).await?;
    assert!(dead.requeue(&letters[0].key).await?);
    assert_eq!(dead.requeue_all().await?, 1);
    assert_eq!((dead.clear().await?, jobs.clear().await?), (0, 4));
    assert_eq!(client.queue("empty").try_dequeue().await?, None);
    let waiting = client.queue("waiting");
    assert_eq!(waiting.dequeue_timeout(Duration::ZERO).await?, None);
    Ok(())
}

async fn priority_queue(client: &Client) -> synod::Result<()> {
    let tasks = client.priority_queue("tasks");
    tasks.enqueue(value("a"), 1).await?;
    let late = EnqueueOptions::new().with_id("id");
    tasks.enqueue_with(value("b"), 2, late).await?;
    tasks.enqueue_many((0..8).map(|_| (value("c"), 3))).await?;
    assert!(!tasks.is_empty().await?);
    assert_eq!((tasks.len().await?, tasks.list(3).await?.len()), (10, 3));
    assert!(tasks.peek().await?.is_some());
    tasks.dequeue().await?;
    tasks.try_dequeue().await?;
    tasks.dequeue_many(2).await?;
    tasks.take().await?.ack().await?;
    tasks.try_take().await?.unwrap().ack().await?;
    for task in tasks.take_many(2).await? {
        task.ack().await?;
    }
    assert_eq!(tasks.clear().await?, 2);
    Ok(())
}

async fn locks(client: &Client) -> synod::Result<()> {
    let mutex = client.mutex("mutex");
    let guard = mutex.lock().await?;
    assert!(mutex.holder().await?.is_some());
    assert!(mutex.try_lock().await?.is_none());
    guard.unlock().await?;
    drop(mutex.try_lock().await?.unwrap());
    let rwlock = client.rwlock("rwlock");
    rwlock.read().await?.unlock().await?;
    rwlock.try_read().await?.unwrap().unlock().await?;
    rwlock.write().await?.unlock().await?;
    rwlock.try_write().await?.unwrap().unlock().await?;
    rwlock.holders().await?;
    let semaphore = client.semaphore("permits", 2);
    semaphore.acquire().await?.release().await?;
    semaphore.try_acquire().await?.unwrap().release().await?;
    assert_eq!(semaphore.available_permits().await?, 2);
    semaphore.resize(3).await?.remove().await
}

async fn elections(client: &Client) -> synod::Result<()> {
    let election = client.election("leader");
    let leadership = election.campaign(value("n1")).await?;
    assert!(election.try_campaign(value("n2")).await?.is_none());
    leadership.proclaim(value("n1 again")).await?;
    assert!(election.leader().await?.is_some());
    assert!(election.observe().next().await.is_some());
    leadership.resign().await?;
    drop(election.try_campaign(value("n2")).await?.unwrap());
    Ok(())
}

/// The spans that the docs list, with their fields.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/tracing.md");
    let text = std::fs::read_to_string(path).unwrap();
    let names = |text: &str| -> Vec<String> {
        let parts = text.split('`').skip(1).step_by(2);
        parts.map(str::to_owned).collect()
    };
    text.lines()
        .filter(|line| line.starts_with("| `synod."))
        .map(|line| {
            let mut cells = line.split('|').skip(1);
            let span = names(cells.next().unwrap()).remove(0);
            (span, names(cells.next().unwrap()).into_iter().collect())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_has_its_span_and_none_tells_a_value() {
    let capture = Capture::default();
    let subscriber = tracing_subscriber::registry().with(capture.clone());
    // The only test of this file: the tasks of all threads are to be seen.
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let client = Client::connect("memory:").await.unwrap();
    wait::soon("every operation", everything(&client))
        .await
        .unwrap();
    // What failed tells its kind.
    let refused = client.barrier("__synod/x").hold().await.unwrap_err();
    assert!(matches!(refused, synod::Error::ReservedName { .. }));
    let token: synod::Token = "1.2.3.4.5.6".parse().unwrap();
    drop(client.resolve(&token).await);
    client.close().await.unwrap();
    // The ends of tasks come when they have ended, which nobody else waits for.
    wait::until("the tasks' ends", async || {
        held(&capture.ended)
            .iter()
            .any(|span| span.name == "synod.task")
    })
    .await;

    let ok = |name: &str, field: &str, value: &str| {
        let span = capture.one(name, field, value);
        assert_eq!(span.fields["outcome"], "ok", "{span:?}");
        span
    };
    let lock = ok("synod.mutex.lock", "object", "mutex");
    let unlock = capture.one("synod.mutex.unlock", "outcome", "ok");
    assert_eq!(lock.fields["token"], unlock.fields["token"]);
    assert_eq!(lock.fields["lease"], unlock.fields["lease"]);
    let begun: Vec<String> = held(&capture.ended)
        .iter()
        .filter(|span| span.name == "synod.session.begin")
        .map(|span| span.fields["lease"].clone())
        .collect();
    assert!(begun.contains(&lock.fields["lease"]), "{begun:?}");
    assert_eq!(ok("synod.queue.len", "object", "jobs").fields["count"], "9");
    ok("synod.queue.enqueue", "object", "jobs");
    capture.one("synod.queue.enqueue_with", "outcome", "already there");
    capture.one("synod.mutex.try_lock", "outcome", "none");
    let waiting = capture.one("synod.queue.dequeue", "object", "waiting");
    assert_eq!(waiting.fields["outcome"], "cancelled");
    let empty = capture.one("synod.queue.try_dequeue", "object", "empty");
    assert_eq!(empty.fields["outcome"], "none");
    let reserved = capture.one("synod.barrier.hold", "object", "__synod/x");
    assert_eq!(reserved.fields["outcome"], "ReservedName");
    let sent = capture.one("synod.txn.send", "outcome", "yes");
    assert!(sent.fields["revision"].parse::<u64>().unwrap() > 1);
    let run = capture.one("synod.stm.run", "outcome", "ok");
    assert_eq!(run.fields["attempts"], "1");

    let documented = documented();
    let mut seen: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let ended = held(&capture.ended);
    for span in ended.iter().filter(|span| span.name.starts_with("synod.")) {
        let fields = span.fields.keys().map(|field| (*field).to_owned());
        seen.entry(span.name.to_owned()).or_default().extend(fields);
        assert!(
            span.name == "synod.task" || span.fields.contains_key("outcome"),
            "{span:?}"
        );
    }
    for fields in seen.values_mut() {
        fields.remove("outcome");
    }
    assert_eq!(seen, documented);

    let told = format!("{ended:?} {:?}", held(&capture.open));
    let events = format!("{:?}", held(&capture.events));
    assert!(!told.contains(SECRET), "a value stands in a span");
    assert!(!events.contains(SECRET), "a value stands in an event");
}
