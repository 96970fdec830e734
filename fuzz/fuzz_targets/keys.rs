//! Fuzzes keys under the names of queues, lanes, tokens.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| synod::fuzzing::keys(input));
