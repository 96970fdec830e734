//! Software transactional memory.

mod delays;
mod isolation;
mod run;
mod sets;
#[cfg(test)]
mod tests;
mod tx;

pub use isolation::Isolation;
pub use run::{Committed, Stm};
pub use tx::Tx;
