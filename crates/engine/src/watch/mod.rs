//! Watches: every change from a revision on, in order, each revision whole, none lost and none twice.
//!
//! A watch is *live* or *behind*. The writer hands each published group, once it is answered, to the live ones
//! ([`Hub::dispatch`]), found by key or range, so that it does not matter how many others there are; those that see the
//! same share the events. A watch from the past starts behind; so does one from then on whose consumer is so slow that its
//! queue is full, so that no watch costs more than its bound. A watch that is behind reads the history in its consumer's own task, a bounded batch at a time, and joins the live ones once
//! it has read everything that was dispatched: under the hub's lock, so that there is neither gap nor overlap.
//!
//! - `hub.rs`: the live watches, and handing changes to them.
//! - `index.rs`: which of them a key concerns; `intervals.rs`: the same of any ranges.
//! - `views.rs`: what each of those on one key or range sees.
//! - `watcher.rs`: one watch and its queue.
//! - `stream.rs`: the consumer's side, reading history included.

mod hub;
mod index;
mod intervals;
mod stream;
mod views;
mod watcher;

pub(crate) use hub::Hub;
pub(crate) use stream::open;
pub(crate) use watcher::End;
