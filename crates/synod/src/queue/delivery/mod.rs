//! Reliable deliveries.

mod alarm;
mod claim;
mod dead;
mod depot;
mod gate;
mod held;
mod keys;
mod leases;
mod options;
mod outlook;
mod put;
mod record;
mod rounds;
mod side;
mod stock;
mod taker;
mod tender;
#[cfg(test)]
mod tests;
mod tidy;

use std::time::Duration;

pub use dead::{DeadLetter, DeadLetters};
pub(crate) use gate::Gate;
pub use held::Delivery;
pub use options::{EnqueueOptions, Enqueued};
use options::{LONGEST, check_bound, too_long};
pub(crate) use side::{Handle, Side, delivery_methods};
pub(crate) use taker::Taker;

/// The pause after a watch or a read that failed.
const PAUSE: Duration = Duration::from_millis(50);

/// How often a taker that never waits looks at what is on its way.
const ROUNDS: Duration = Duration::from_secs(5);

/// How often those do it who take items out for good.
const GLANCES: Duration = Duration::from_secs(30);
