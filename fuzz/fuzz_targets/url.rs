//! Fuzzes the URL of a store.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| synod::fuzzing::url(input));
