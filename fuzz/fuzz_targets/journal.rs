//! Fuzzes a data directory one of whose files holds arbitrary bytes.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| synod_engine::fuzzing::journal(input));
