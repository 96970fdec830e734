//! Go programs on etcd's own recipes, concurrency package and RPC clients, and Rust programs on
//! Synod, on the same keys: of a real etcd and of `synod serve`. Go with Go on `synod serve` shows
//! that the server is compatible, Go with Rust that the primitives are.

mod alone;
mod barrier;
mod commands;
mod common;
mod delivery;
mod double_barrier;
mod election;
mod mutex;
mod priority_queue;
mod queue;
mod rpc;
mod rwlock;
mod stm;
