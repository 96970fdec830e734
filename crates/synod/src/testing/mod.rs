#![doc = include_str!("../../docs/testing.md")]

pub mod bridge;
mod faulty;
#[cfg(test)]
mod wait;

pub use bridge::{Bridge, Mode};
pub use faulty::{Fault, Faulty, WatchEnd};
#[cfg(test)]
pub(crate) use wait::{FAULTS, engine, soon, until, until_async};
