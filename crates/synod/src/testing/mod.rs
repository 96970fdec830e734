#![doc = include_str!("../../docs/testing.md")]

pub mod bridge;
mod faulty;
#[cfg(test)]
mod wait;

pub use bridge::{Bridge, Mode};
pub use faulty::{Fault, Faulty, WatchEnd};
#[cfg(test)]
pub(crate) use wait::{
    FAULTS, engine, idle_runtime, overdue, overdue_at_gate, overdue_in_trouble, pass, runtime,
    soon, stops_at_gate, txn_at_gate, until, until_async,
};
