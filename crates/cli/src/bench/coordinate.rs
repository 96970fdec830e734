//! One measurement: its keys are made, its parts are started together, watched and ended, what they
//! did is added up and checked, and the keys are deleted.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use synod::Client;

use super::items::{FILLER, Ledger, value};
use super::part::{Outcome, Token};
use super::progress::Bar;
use super::result::Row;
use super::run::Run;
use super::spec::{Case, Spec, Workload};
use super::{tidy, work};
use crate::explain::{explain, explain_store};
use crate::failure::Result;
use crate::signals::Signals;
use crate::way::Way;

/// How many items a call of the filling before a measurement puts in.
const FILL_AT_ONCE: u64 = 1_000;

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
fn overlaps(holds: &mut [(Token, u64, u64)]) -> Vec<String> {
    holds.sort_unstable_by_key(|(_, from, _)| *from);
    let mut found = Vec::new();
    for pair in holds.windows(2) {
        let [(token, _, to), (next, from, _)] = pair else {
            continue;
        };
        if from < to {
            found.push(format!(
                "tokens {token:?} and {next:?} were held at the same time"
            ));
        } else if next <= token {
            found.push(format!("its token {next:?} came after {token:?}"));
        }
    }
    found.truncate(8);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_that_overlap_are_found() {
        assert!(overlaps(&mut [((1, 0), 10, 20), ((2, 0), 30, 40), ((1, 1), 20, 30)]).is_empty());
        assert!(overlaps(&mut [((1, 0), 10, 21), ((2, 0), 20, 30)])[0].contains("same time"));
        assert!(overlaps(&mut [((1, 1), 10, 20), ((1, 0), 20, 30)])[0].contains("came after"));
    }
}
