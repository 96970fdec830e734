//! [`Run`]: the parts of a measurement, from their start to what they tell at the end.

use std::time::Duration;

use synod::Client;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::clock::now;
use super::part::{self, Order, Outcome, Progress, Report, Share};
use super::processes::Worker;
use super::progress::Bar;
use super::spec::{Case, Spec, Workload};
use crate::failure::{Failure, Result};
use crate::way::Way;

/// How long all parts together may take to connect.
const READY: Duration = Duration::from_secs(60);

/// How long parts may take to give up what is under way.
const GIVE_UP: Duration = Duration::from_secs(20);

/// How long to wait for items whose enqueue failed: they may come or not.
const DOUBT: Duration = Duration::from_secs(1);

/// The parts of a measurement, under way.
pub(super) struct Run {
    orders: Vec<mpsc::UnboundedSender<Order>>,
    reports: Vec<mpsc::UnboundedReceiver<Report>>,
    workers: Vec<Worker>,
    latest: Vec<Progress>,
    ended: Vec<bool>,
    done: Vec<Option<Outcome>>,
    failed: Option<String>,
}

impl Run {
    pub(super) fn start(spec: &Spec, way: &Way, client: &Client) -> Result<Run> {
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
    pub(super) async fn watch(&mut self, spec: &Spec, stall: Duration, bar: &Bar) -> Result<u64> {
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
    pub(super) async fn end(mut self, early: bool) -> Result<Outcome> {
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
