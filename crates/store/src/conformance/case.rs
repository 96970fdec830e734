//! [`Case`]: one rule. [`run`]: all of them, on one kind of store.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;

use crate::{BoxFuture, Store};

use super::check::{Checked, Failure};
use super::ctx::Ctx;
use super::factory::{Factory, Needs, Quirk};

/// How long one case may take.
const LIMIT: Duration = Duration::from_secs(60);

/// One rule that a store must keep.
#[derive(Clone, Copy)]
pub struct Case {
    /// `theme::rule`.
    pub name: &'static str,
    /// What the case needs of its store.
    pub needs: Needs,
    /// The known fault that excuses a failure.
    pub quirk: Option<Quirk>,
    body: fn(Ctx) -> BoxFuture<'static, Checked>,
}

impl Case {
    pub(super) const fn new(
        name: &'static str,
        body: fn(Ctx) -> BoxFuture<'static, Checked>,
    ) -> Case {
        Case {
            name,
            needs: Needs::Quiet,
            quirk: None,
            body,
        }
    }

    pub(super) const fn needing(mut self, needs: Needs) -> Case {
        self.needs = needs;
        self
    }

    pub(super) const fn excused_by(mut self, quirk: Quirk) -> Case {
        self.quirk = Some(quirk);
        self
    }

    /// Runs the case on a store, under a prefix of its own.
    ///
    /// # Errors
    ///
    /// The rule that the store broke.
    pub async fn check(&self, store: Arc<dyn Store>) -> Result<(), Failure> {
        self.check_with(Ctx::new(store, self.name)).await
    }

    async fn check_with(&self, ctx: Ctx) -> Checked {
        match tokio::time::timeout(LIMIT, (self.body)(ctx)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Failure::new(format!("no end within {LIMIT:?}"))),
        }
    }
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case")
            .field("name", &self.name)
            .field("needs", &self.needs)
            .field("quirk", &self.quirk)
            .finish_non_exhaustive()
    }
}

/// Makes a [`Case`] of an `async fn(Ctx) -> Checked`, named after its module and itself.
macro_rules! case {
    ($function:ident) => {
        $crate::conformance::case::Case::new(
            // Without the path that all of them share.
            $crate::conformance::case::short(concat!(module_path!(), "::", stringify!($function))),
            |ctx| Box::pin($function(ctx)),
        )
    };
}
pub(super) use case;

/// The last two segments of a path.
pub(super) const fn short(path: &'static str) -> &'static str {
    let bytes = path.as_bytes();
    let mut at = bytes.len();
    let mut separators = 0;
    while at > 0 {
        at -= 1;
        // Each separator is two colons.
        if matches!(bytes.split_at(at).1, [b':', ..]) {
            separators += 1;
            if separators == 3 {
                return path.split_at(at + 1).1;
            }
        }
    }
    path
}

/// Every case of the suite.
#[must_use]
pub fn cases() -> Vec<Case> {
    [
        super::revisions::CASES,
        super::range::CASES,
        super::range_sort::CASES,
        super::put::CASES,
        super::delete::CASES,
        super::txn::CASES,
        super::txn_compare::CASES,
        super::txn_nested::CASES,
        super::limits::CASES,
        super::watch::CASES,
        super::watch_history::CASES,
        super::lease::CASES,
        super::lease_expiry::CASES,
        super::compaction::CASES,
        super::status::CASES,
        super::space::CASES,
    ]
    .concat()
}

/// How a case ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The store keeps the rule.
    Passed,
    /// It does not.
    Failed(Failure),
    /// It does not, as is known of this kind of store.
    Excused(Quirk, Failure),
    /// This kind of store cannot be asked.
    NotApplicable(Needs),
}

/// How each case ended.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Names and outcomes.
    pub outcomes: Vec<(&'static str, Outcome)>,
}

impl Report {
    /// How many cases passed.
    #[must_use]
    pub fn passed(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Passed))
    }

    /// How many failed.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Failed(_)))
    }

    /// How many failed as is known.
    #[must_use]
    pub fn excused(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Excused(..)))
    }

    fn count(&self, of: fn(&Outcome) -> bool) -> usize {
        self.outcomes
            .iter()
            .filter(|(_, outcome)| of(outcome))
            .count()
    }
}

/// A line with the numbers, and one for each case that did not simply pass.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} cases: {} passed, {} failed, {} excused, {} not applicable",
            self.outcomes.len(),
            self.passed(),
            self.failed(),
            self.excused(),
            self.count(|outcome| matches!(outcome, Outcome::NotApplicable(_))),
        )?;
        for (name, outcome) in &self.outcomes {
            match outcome {
                Outcome::Passed => {}
                Outcome::Failed(failure) => write!(f, "\n  FAILED {name}: {failure}")?,
                Outcome::Excused(quirk, failure) => {
                    write!(f, "\n  excused by {quirk:?} {name}: {failure}")?;
                }
                Outcome::NotApplicable(needs) => write!(f, "\n  not applicable {name}: {needs:?}")?,
            }
        }
        Ok(())
    }
}

/// Runs every case: those that need quiet one after another on one store, then those that do not
/// mind company all at once, then each of the others on a store of its own.
///
/// # Errors
///
/// When the factory cannot make a store. Broken rules are in the report.
pub async fn run(factory: &Arc<dyn Factory>) -> Result<Report, Failure> {
    let mut report = Report::default();
    let shared = factory.fresh().await?;
    let cases = cases();
    let (quiet, rest): (Vec<Case>, Vec<Case>) = cases
        .into_iter()
        .partition(|case| case.needs == Needs::Quiet);
    for case in quiet {
        let checked = case.check(Arc::clone(&shared.store)).await;
        report.add(factory, &case, checked);
    }
    let (company, rest): (Vec<Case>, Vec<Case>) = rest
        .into_iter()
        .partition(|case| case.needs == Needs::Company);
    let checks = company
        .iter()
        .map(|case| case.check(Arc::clone(&shared.store)));
    for (case, checked) in company.iter().zip(join_all(checks).await) {
        report.add(factory, case, checked);
    }
    drop(shared);
    for case in rest {
        let outcome = run_case(factory, &case).await?;
        report.outcomes.push((case.name, outcome));
    }
    Ok(report)
}

/// Runs one case on a store of its own.
///
/// # Errors
///
/// When the factory cannot make a store. A broken rule is an [`Outcome`].
pub async fn run_case(factory: &Arc<dyn Factory>, case: &Case) -> Result<Outcome, Failure> {
    let instance = match case.needs {
        Needs::Quota => factory.with_quota(Needs::QUOTA).await?,
        Needs::Restart if !factory.can_restart() => None,
        _ => Some(factory.fresh().await?),
    };
    let Some(instance) = instance else {
        return Ok(Outcome::NotApplicable(case.needs));
    };
    let ctx = Ctx::new(Arc::clone(&instance.store), case.name);
    let ctx = ctx.living(Arc::clone(factory), instance);
    Ok(outcome(factory, case, case.check_with(ctx).await))
}

fn outcome(factory: &Arc<dyn Factory>, case: &Case, checked: Checked) -> Outcome {
    match (checked, case.quirk) {
        (Ok(()), _) => Outcome::Passed,
        (Err(failure), Some(quirk)) if factory.quirks().contains(&quirk) => {
            Outcome::Excused(quirk, failure)
        }
        (Err(failure), _) => Outcome::Failed(failure),
    }
}

impl Report {
    fn add(&mut self, factory: &Arc<dyn Factory>, case: &Case, checked: Checked) {
        self.outcomes
            .push((case.name, outcome(factory, case, checked)));
    }
}
