#![doc = include_str!("../../docs/stm.md")]
//!
//! # Protocol
//!
//! There are no keys but the user's; the commit passes through a lane on stores that can lose answers
//! (see *Guarantees*). Levels: **SS** `SerializableSnapshot`, **S** `Serializable`, **RR**
//! `RepeatableReads`, **RC** `ReadCommitted`.
//!
//! 1. *First read* (SS, S): linearizable; the revision in its answer is `R0`.
//! 2. *Later reads* (SS, S): at `R0`, linearizable too: the member that answers has caught up with it, so it is
//!    never in that member's future. `R0` compacted away: the attempt begins anew. RR and RC read the current state
//!    of whichever member answers.
//! 3. What was read or written before is not asked for again: reads see writes, and a key that was read keeps
//!    its value.
//! 4. *Commit*, one Txn: `If mod(k)=seen for each key read (0 for an absent one), mod(range)<R0+1 for each range
//!    read (SS, S), mod(k)<R0+1 for each key only written (SS, when anything was read) Then the writes, one a key
//!    Else read keys and ranges again`. A range that lost a key is noticed by the key's own compare. RC compares
//!    nothing. Without writes the same Txn validates, unless one request has read all (SS, S) or nothing was read.
//! 5. *Conflict*: the Else has brought the next attempt's `R0` and what the last one has read, all of one state.
//!    The first two conflicts are followed by another attempt at once, later ones after a random delay of at most
//!    1, 2, 4 ... 32 times the duration of a commit, and at most a second. After a delay all that is read again,
//!    in one request: it would be refused again otherwise, as old as it is.
//!
//! 6. *Together*: transactions of one client at one of the levels SS and S run in turn, and those that are ready at
//!    the same time are committed by one Txn of this form, in their order: the module `hall` says how, and why
//!    that changes no guarantee.
//!
//! *Why a commit is serializable*: at the commit's revision everything read is as it was read, so the transaction
//! could have run there, alone and in no time. *Why in real time*: that revision lies between call and return. A
//! transaction of one linearizable request has its place at that request's revision.
//!
//! *Interoperates with* the STM of etcd's Go package, which has no keys of its own either.

mod attempt;
mod course;
mod delays;
mod fetch;
mod hall;
mod isolation;
mod run;
mod sets;
#[cfg(test)]
mod tests;
mod tx;

pub use isolation::Isolation;
pub use run::{Committed, Stm};
pub use tx::Tx;
