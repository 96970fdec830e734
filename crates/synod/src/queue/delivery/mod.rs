//! Reliable deliveries.

mod claim;
mod depot;
mod face;
mod gate;
mod held;
mod keys;
mod leases;
mod options;
mod outlook;
mod record;
mod stock;
mod taker;
mod tender;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub(crate) use gate::Gate;
pub use held::Delivery;
pub(crate) use options::Options;
use options::{LONGEST, check_bound, too_long};
pub(crate) use taker::Taker;

/// The pause after a watch or a read that failed.
const PAUSE: Duration = Duration::from_millis(50);

/// How often a consumer that never waits looks at what is on its way.
const ROUNDS: Duration = Duration::from_secs(5);
