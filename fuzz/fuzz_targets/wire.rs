//! Fuzzes the conversion of etcd's messages into the store's words and back.

#![no_main]

#[path = "../../crates/wire/tests/fuzzed/messages.rs"]
mod messages;

libfuzzer_sys::fuzz_target!(|input: &[u8]| messages::read(input));
