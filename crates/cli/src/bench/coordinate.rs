//! One measurement: its keys are made, its parts are started together, watched and ended, what they
//! did is added up and checked, and the keys are deleted.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use synod::Client;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::clock::now;
use super::items::{FILLER, Ledger, value};
use super::part::{self, Order, Outcome, Progress, Report, Share};
use super::processes::Worker;
use super::progress::Bar;
use super::result::Row;
use super::spec::{Case, Spec, Workload};
use super::{tidy, work};
use crate::explain::{explain, explain_store};
use crate::failure::{Failure, Result};
use crate::signals::Signals;
use crate::way::Way;

/// How many items a call of the filling before a measurement puts in.
const FILL_AT_ONCE: u64 = 1_000;

/// How long all parts together may take to connect.
const READY: Duration = Duration::from_secs(60);

/// How long parts may take to give up what is under way.
const GIVE_UP: Duration = Duration::from_secs(20);

/// How long to wait for items whose enqueue failed: they may come or not.
const DOUBT: Duration = Duration::from_secs(1);

/// Where and how to measure.
#[derive(Debug)]
pub(crate) struct Bench<'a> {
    pub(crate) client: &'a Client,
    pub(crate) way: &'a Way,
    /// When nothing is completed for so long, the measurement is given up.
    pub(crate) stall: Duration,
}

impl Bench<'_> {
    /// Measures once.
    pub(crate) async fn measure(
        &self,
        spec: &Spec,
        repeat: u64,
        signals: &mut Signals,
    ) -> Result<Row> {
        let measured = self.prepare_and_run(spec, repeat, signals).await;
        let cleared = tidy::clear(self.client, &spec.name).await;
        let row = measured?;
        cleared.map_err(|error| {
            explain_store(&format!("cannot delete the keys of {}", spec.name), &error)
        })?;
        Ok(row)
    }

    async fn prepare_and_run(
        &self,
        spec: &Spec,
        repeat: u64,
        signals: &mut Signals,
    ) -> Result<Row> {
        let title = format!("{}/{}", spec.workload, spec.case);
        let mut ledger = Ledger::default();
        tokio::select! {
            biased;
            stop = signals.stop() => return Err(stop.failure()),
            prepared = self.prepare(spec, &title, &mut ledger) => prepared?,
        }
        let started_at = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let mut run = Run::start(spec, self.way, self.client)?;
        let bar = Bar::new(&title, spec.limit().or(spec.fill_first));
        let ran = tokio::select! {
            biased;
            stop = signals.stop() => Err(stop.failure()),
            ran = run.watch(spec, self.stall, &bar) => ran,
        };
        drop(bar);
        let outcome = run.end(ran.is_err()).await;
        let start = ran?;
        let mut outcome = outcome?;
        outcome.ledger.merge(ledger);
        self.check(spec, &mut outcome).await?;
        Ok(Row::new(
            spec,
            repeat,
            started_at.as_secs(),
            start,
            outcome.measured,
        ))
    }

    /// Puts in what must be there before it is measured.
    async fn prepare(&self, spec: &Spec, title: &str, ledger: &mut Ledger) -> Result<()> {
        let cannot = |error: synod::Error| explain(&format!("cannot prepare {title}"), &error);
        match spec.workload {
            Workload::Stm => work::open_accounts(spec, self.client)
                .await
                .map_err(cannot)?,
            Workload::Raw if spec.case == Case::Get => {
                let prepared = work::prepare_keys(spec, self.client).await;
                prepared.map_err(|error| cannot(error.into()))?;
            }
            _ => {}
        }
        let Some(depth) = spec.fill_first.filter(|depth| *depth > 0) else {
            return Ok(());
        };
        let line = work::Line::of(spec, self.client);
        let size = usize::try_from(spec.value_size.unwrap_or(0)).unwrap_or(0);
        let bar = Bar::new(&format!("{title}: filling"), Some(depth));
        let mut done = 0u64;
        while done < depth {
            let next = done.saturating_add(FILL_AT_ONCE).min(depth);
            let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
            let values = (done..next)
                .map(|n| value(size, FILLER, number(n), 0))
                .collect();
            line.enqueue_many(number(done), values)
                .await
                .map_err(cannot)?;
            ledger.put(FILLER, number(next), next.saturating_sub(done), true);
            done = next;
            bar.at(done);
        }
        Ok(())
    }

    /// Checks what was done, while the store still holds what is left.
    async fn check(&self, spec: &Spec, outcome: &mut Outcome) -> Result<()> {
        let found = match spec.workload {
            Workload::Queue | Workload::PriorityQueue => {
                let left = work::Line::of(spec, self.client).len().await;
                let left = left.map_err(|error| explain("cannot count what is left", &error))?;
                outcome.ledger.violations(left as u64)
            }
            Workload::Stm => {
                let checked = work::check_accounts(spec, self.client).await;
                checked.map_err(|error| explain("cannot count the money", &error))?
            }
            _ => overlaps(&mut outcome.holds),
        };
        outcome.measured.violations.extend(found);
        Ok(())
    }
}

/// What is wrong with the times at which processes held a lock: token, from, to.
fn overlaps(holds: &mut [(u64, u64, u64)]) -> Vec<String> {
    holds.sort_unstable_by_key(|(_, from, _)| *from);
    let mut found = Vec::new();
    for pair in holds.windows(2) {
        let [(token, _, to), (next, from, _)] = pair else {
            continue;
        };
        if from < to {
            found.push(format!(
                "tokens {token} and {next} were held at the same time"
            ));
        } else if next <= token {
            found.push(format!("its token {next} came after {token}"));
        }
    }
    found.truncate(8);
    found
}

/// The parts of a measurement, under way.
struct Run {
    orders: Vec<mpsc::UnboundedSender<Order>>,
    reports: Vec<mpsc::UnboundedReceiver<Report>>,
    workers: Vec<Worker>,
    latest: Vec<Progress>,
    ended: Vec<bool>,
    done: Vec<Option<Outcome>>,
    failed: Option<String>,
}

impl Run {
    fn start(spec: &Spec, way: &Way, client: &Client) -> Result<Run> {
        let of = spec.processes.max(1);
        let mut run = Run {
            orders: Vec::new(),
            reports: Vec::new(),
            workers: Vec::new(),
            latest: Vec::new(),
            ended: Vec::new(),
            done: Vec::new(),
            failed: None,
        };
        for index in 0..of {
            let share = Share { index, of };
            let (order, orders) = mpsc::unbounded_channel();
            let (report, reports) = mpsc::unbounded_channel();
            if of == 1 {
                tokio::spawn(part::run(
                    spec.clone(),
                    share,
                    way.clone(),
                    client.clone(),
                    orders,
                    report,
                ));
            } else {
                let worker = Worker::start(spec, share, way, orders, report)?;
                run.workers.push(worker);
            }
            run.orders.push(order);
            run.reports.push(reports);
            run.latest.push(Progress::default());
            run.ended.push(false);
            run.done.push(None);
        }
        Ok(run)
    }

    fn tell(&self, order: Order) {
        for part in &self.orders {
            // One that is gone has reported so.
            let _ = part.send(order);
        }
    }

    /// The next report of any part, which is noted; `None` when all have ended.
    async fn next(&mut self) -> Option<Report> {
        let waiting = self.reports.iter_mut().enumerate().map(|(index, part)| {
            Box::pin(async move {
                match part.recv().await {
                    Some(report) => (index, report),
                    None => std::future::pending().await,
                }
            })
        });
        let over = self.done.iter().all(Option::is_some);
        if over || self.failed.is_some() {
            return None;
        }
        let ((index, report), ..) = futures_util::future::select_all(waiting).await;
        match &report {
            Report::Ready => {}
            Report::Progress(progress) => self.note(index, *progress),
            Report::Ended(progress) => {
                self.note(index, *progress);
                if let Some(ended) = self.ended.get_mut(index) {
                    *ended = true;
                }
            }
            Report::Done(outcome) => {
                if let Some(done) = self.done.get_mut(index) {
                    *done = Some((**outcome).clone());
                }
            }
            Report::Failed(why) => self.failed = Some(why.clone()),
        }
        Some(report)
    }

    fn note(&mut self, index: usize, progress: Progress) {
        if let Some(latest) = self.latest.get_mut(index) {
            *latest = progress;
        }
    }

    fn so_far(&self) -> Progress {
        let mut sum = Progress::default();
        for part in &self.latest {
            sum.operations = sum.operations.saturating_add(part.operations);
            sum.errors = sum.errors.saturating_add(part.errors);
            sum.put = sum.put.saturating_add(part.put);
            sum.unsure = sum.unsure.saturating_add(part.unsure);
            sum.out = sum.out.saturating_add(part.out);
        }
        sum
    }

    /// Runs to the end; returns when what is measured began.
    async fn watch(&mut self, spec: &Spec, stall: Duration, bar: &Bar) -> Result<u64> {
        let ready = async {
            let mut ready = 0usize;
            while ready < self.orders.len() {
                match self.next().await {
                    Some(Report::Ready) => ready = ready.saturating_add(1),
                    Some(_) => {}
                    None => return false,
                }
            }
            true
        };
        match tokio::time::timeout(READY, ready).await {
            Ok(true) => {}
            Ok(false) => return Err(self.failure()),
            Err(_) => {
                let seconds = READY.as_secs();
                return Err(Failure::failed("cannot connect all workers")
                    .cause(format!("they took longer than {seconds}s"))
                    .hint("fewer of them, or --connections shared"));
            }
        }
        let start = now().saturating_add(10_000_000);
        self.tell(Order::Go { start });
        let mut moved = (Progress::default(), Instant::now());
        // The warm-up counts nothing, and is no stall.
        let patience = stall.saturating_add(spec.warm_up);
        loop {
            let until = moved.1 + if self.doubtful() { DOUBT } else { patience };
            tokio::select! {
                report = self.next() => if report.is_none() {
                    break;
                },
                () = tokio::time::sleep_until(until) => {
                    if self.doubtful() {
                        self.tell(Order::Stop);
                        moved.1 = Instant::now() + GIVE_UP;
                        continue;
                    }
                    return Err(Failure::failed(format!(
                        "{}/{} came to a stop: nothing was completed for {}s",
                        spec.workload, spec.case, stall.as_secs(),
                    ))
                    .cause(self.standing(spec))
                    .hint("--timeout says how long to wait for something to happen"));
                }
            }
            let so_far = self.so_far();
            if so_far != moved.0 {
                moved = (so_far, Instant::now());
                bar.at(so_far.operations);
            }
            if self.is_over(spec, so_far) {
                self.tell(Order::Stop);
            }
        }
        if self.failed.is_some() {
            return Err(self.failure());
        }
        let warm_up = u64::try_from(spec.warm_up.as_nanos()).unwrap_or(u64::MAX);
        Ok(start.saturating_add(warm_up))
    }

    /// Whether what is left only waits for what will not come.
    fn is_over(&self, spec: &Spec, so_far: Progress) -> bool {
        match spec.case {
            // The others wait in vain for one that has ended.
            Case::Rounds => self.ended.iter().any(|ended| *ended),
            Case::Drain => so_far.out >= spec.fill_first.unwrap_or(0),
            Case::Transfer | Case::Idle => {
                let put = so_far.put.saturating_add(spec.fill_first.unwrap_or(0));
                let most = put.saturating_add(so_far.unsure);
                self.ended.iter().all(|ended| *ended) && so_far.out >= most
            }
            _ => false,
        }
    }

    /// Whether all that is certain to come has come, but more may.
    fn doubtful(&self) -> bool {
        let so_far = self.so_far();
        so_far.unsure > 0 && self.ended.iter().all(|ended| *ended) && so_far.out >= so_far.put
    }

    fn standing(&self, spec: &Spec) -> String {
        let so_far = self.so_far();
        match spec.workload {
            Workload::Queue | Workload::PriorityQueue => {
                let put = so_far.put.saturating_add(spec.fill_first.unwrap_or(0));
                format!(
                    "{put} items went in, {} came out, {} errors",
                    so_far.out, so_far.errors
                )
            }
            _ => format!("{} operations, {} errors", so_far.operations, so_far.errors),
        }
    }

    fn failure(&self) -> Failure {
        let why = self
            .failed
            .clone()
            .unwrap_or_else(|| "it ended early".to_owned());
        Failure::failed("cannot run the workers").cause(why)
    }

    /// Ends all parts, and adds up what they did.
    async fn end(mut self, early: bool) -> Result<Outcome> {
        if early {
            self.tell(Order::Stop);
        }
        let ended = async { while self.next().await.is_some() {} };
        let _ = tokio::time::timeout(GIVE_UP, ended).await;
        // Those that still run are told by the end of their input, and killed when dropped.
        self.orders.clear();
        for worker in std::mem::take(&mut self.workers) {
            let _ = tokio::time::timeout(GIVE_UP, worker.ended()).await;
        }
        let mut sum: Option<Outcome> = None;
        for outcome in self.done.into_iter().flatten() {
            match &mut sum {
                None => sum = Some(outcome),
                Some(sum) => {
                    sum.measured.merge(outcome.measured);
                    sum.ledger.merge(outcome.ledger);
                    sum.holds.extend(outcome.holds);
                }
            }
        }
        sum.ok_or_else(|| Failure::failed("no worker told what it did"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_that_overlap_are_found() {
        assert!(overlaps(&mut [(1, 10, 20), (3, 30, 40), (2, 20, 30)]).is_empty());
        assert!(overlaps(&mut [(1, 10, 21), (2, 20, 30)])[0].contains("same time"));
        assert!(overlaps(&mut [(2, 10, 20), (1, 20, 30)])[0].contains("came after"));
    }
}
