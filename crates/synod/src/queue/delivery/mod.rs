//! Reliable deliveries.

mod claim;
mod depot;
mod face;
mod held;
mod keys;
mod leases;
mod options;
mod record;
mod stock;
mod tender;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub(crate) use depot::Depot;
pub use held::Delivery;
pub(crate) use options::Options;
use options::{LONGEST, check_bound, too_long};

/// The pause after a watch or a read that failed.
const PAUSE: Duration = Duration::from_millis(50);

/// How often a consumer that never waits looks at what is on its way.
const ROUNDS: Duration = Duration::from_secs(5);
