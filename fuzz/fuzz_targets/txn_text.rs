//! Fuzzes the text of a transaction, as it is typed at `synod txn`.

#![no_main]

#[path = "../../crates/cli/src/cmd/txn"]
mod txn {
    #![allow(dead_code, unreachable_pub)]

    mod compare;
    pub(crate) mod form;
    mod op;
    mod quoted;

    /// Line by line, as from a file.
    pub(crate) fn read(input: &[u8]) {
        let mut draft = form::Draft::default();
        for line in input.split(|byte| *byte == b'\n') {
            let before = draft.section();
            if draft.line(line).is_err() {
                assert_eq!(draft.section(), before, "a wrong line changes nothing");
            }
        }
    }
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| txn::read(input));
