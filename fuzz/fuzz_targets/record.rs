//! Fuzzes the records of the store's journal.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| synod_engine::fuzzing::record(input));
