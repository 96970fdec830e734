#![doc = include_str!("../../../docs/delivery.md")]
//!
//! # Key layout
//!
//! Below `__synod/queue/NAME/`, or `__synod/priority_queue/NAME/`:
//!
//! ```text
//! key              value      lease   written by              deleted by
//! taken/ID         record     none    the take                ack, nack; whoever returns it
//! taken-by/ID      identity   one     the take                ack, nack; the end of the lease
//! tries/PLACE      count      none    who puts an item back   the next take; whoever tidies up
//! later/DUE-ID     record     none    a delayed enqueue, nack whoever brings it
//! dead/TIME-ID     record     none    the last nack, whoever  requeue, clear
//!                                     returns it
//! once/ENQUEUE-ID  empty      shared  an enqueue with an id   the end of the lease
//! room             empty      none    enqueues under a        nobody
//!                                     capacity
//! ```
//!
//! `ID` is drawn by lot, 32 hexadecimal digits, and never used again. `PLACE` is what comes after `NAME/` in
//! the item's key. `DUE` and `TIME` are nanoseconds since 1970, 20 decimal digits. Records and counts are
//! text, with the version first; a record holds the attempts so far, their limit, the place, and the
//! payload:
//!
//! ```text
//! record: 1 ATTEMPTS MOST LENGTH PLACE\nPAYLOAD     (LENGTH bytes of place; MOST 0: no limit)
//! count:  1 ATTEMPTS
//! ```
//!
//! # Protocol
//!
//! *Take*: the queue's own look and watch find the items, in its order. The claim, for the first item `c`
//! with the modification revision `r` (and `GUARDS`, with which a priority queue makes sure that nothing more
//! urgent has come): `If mod(c)=r and mod(tries/c)!=r and GUARDS Then delete(c), put(taken/ID, attempt
//! 1), put(taken-by/ID, leased) Else (If mod(c)=r and GUARDS Then get(tries/c) Else (the next item))`. If
//! the tries were read, `c` has come back before: `If mod(c)=r and GUARDS Then delete(c), delete(tries/c),
//! put(taken/ID, attempt n+1), put(taken-by/ID, leased)`. Who lost a claim to another client tries up to
//! six items in the next.
//!
//! *Take several*, for callers of one client that wait together (`counter.rs`): up to 100 items in one Txn,
//! each with an `ID` and a lease of its own: `If mod(tries/i)!=r_i for each i, and GUARDS of the last Then
//! (If mod(i)=r_i Then delete(i), put(taken/ID_i), put(taken-by/ID_i)) for each i Else get(tries/i) for
//! each i`. After the Else, the same with the counts that were read. An answer that was lost is made up for
//! by reading the markers: those created at the Txn's revision are this client's. What was taken for a
//! caller that has left goes to the next who wants the same, else back, uncounted.
//!
//! Let `m` be the revision at which the marker `taken-by/ID` was created, the take's own.
//!
//! - *Ack*: `If create(taken-by/ID)=m Then delete(taken/ID), delete(taken-by/ID)`. Up to 60 that are made
//!   at once go together, all or none, and singly when that does not apply (`acks.rs`).
//! - *Nack*: the same, and *in* (below), or `put(dead/...)` after the last attempt, or `put(later/...)`.
//! - *Extend*: renew the lease; for longer than it can last, `If create(taken-by/ID)=m Then
//!   put(taken-by/ID)` with another.
//! - *In*: `create(item)=0 Then put(item, payload), put(tries/item, attempts)`, and what the order of
//!   the queue asks for; under the item's old key, or a new one if that is in use.
//! - *Return*, of what has lost its marker: `If mod(taken/ID)=t and create(taken-by/ID)=0` and *in*, or dead.
//! - *Bring*, of what is due: `If mod(later/...)=l` and *in*.
//! - *Enqueue*: see `put.rs`. *Requeue*: `If mod(dead/...)=d` and *in*, with no attempts.
//!
//! *The tender* finds what has to be returned and brought: a task of each client in which somebody waits
//! in a `take`, or has waited a second in a `dequeue`. It watches the deletions of `taken` and `taken-by` (a
//! marker that goes without its item was not acknowledged), and the puts of `later`, reads what is there, and
//! wakes when the next item is due. Its moves make items come into the queue, where all consumers wait for
//! them. When another was faster it holds back a random while before the next, up to 100 ms. Who takes
//! without waiting has one round of it every 5 s, who dequeues every 30 s, and both when an item is due that
//! the last round saw; who finds the queue empty before saying so; who puts something in for later, when it is
//! due.
//!
//! # Why it holds
//!
//! *In one place*: each Txn that moves an item deletes it where it was, under a compare with the revision
//! at which it was put there, and no key but the item's own in its queue is ever used again. So however many
//! try, and however late copies arrive, it moves once; the moves of the tender need no lane. Takes, acks and
//! nacks pass through lanes all the same, on stores that can lose answers, because their callers must learn
//! what happened: "both keys are gone" may mean acknowledged, or returned by another.
//!
//! *The count is right*: count and item are written in one Txn, so the count is the item's if and only if
//! their modification revisions are equal; what a plain dequeue leaves behind means nothing, and is tidied up.
//!
//! *No marker outlives its taker*: a lease is used for the next delivery only when the end of the one before
//! is certain. If it is not (`Error::Unknown`), the lease is left to run out.
//!
//! # Interoperates with
//!
//! Go's queue and priority queue, whose consumers and producers see ordinary items.

mod acks;
mod alarm;
mod claim;
mod counter;
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
mod wants;

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
