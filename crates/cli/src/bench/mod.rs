//! How `synod bench` measures and reports.
//!
//! # Layout
//!
//! - `plan`: from what was typed to a list of [`spec::Spec`]s. `spec`: one thing to measure.
//! - `coordinate`: one measurement, from the first key to the last one deleted.
//! - `run`: the parts of it; `part`: what one process does; `processes`: those that are other processes.
//! - `work`: what the workers do, a file a workload. `turns`: when each operation begins.
//! - `meter`, `series`, `items`: what was done; `clock`: the time of it all. `clients`: connections.
//! - `result`: rows and the JSON of a report. `table`, `chart`: the same for a terminal.
//! - `report`: the same as a page or a picture.
//! - `tidy`: the keys of a measurement. `progress`: how far it is.

pub(crate) mod chart;
mod clients;
mod clock;
pub(crate) mod coordinate;
mod items;
pub(crate) mod machine;
mod meter;
pub(crate) mod part;
pub(crate) mod plan;
pub(crate) mod processes;
pub(crate) mod progress;
pub(crate) mod report;
pub(crate) mod result;
mod run;
#[cfg(test)]
mod samples;
mod series;
pub(crate) mod spec;
pub(crate) mod table;
pub(crate) mod tidy;
mod turns;
mod work;

use std::time::Duration;

/// How often a part tells how far it is.
const TICK: Duration = Duration::from_millis(20);
