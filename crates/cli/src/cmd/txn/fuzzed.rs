//! The seeds of the fuzz target `txn_text`, and random changes of them: no text makes the reader panic, and a line that
//! is wrong changes nothing.

#[path = "../../../../../fuzz/smoke.rs"]
mod smoke;

use super::form::Draft;
use smoke::smoke;

fn read(input: &[u8]) -> usize {
    let mut draft = Draft::default();
    let mut wrong = 0;
    for line in input.split(|byte| *byte == b'\n') {
        let before = draft.section();
        if draft.line(line).is_err() {
            assert_eq!(draft.section(), before);
            wrong += 1;
        }
    }
    wrong
}

#[test]
fn transactions_of_arbitrary_text() {
    let mut wrong = 0;
    smoke("txn_text", 500, |bytes, is_seed| {
        let lines = read(bytes);
        assert!(!is_seed || lines == 0, "a seed is a whole transaction");
        wrong += lines;
    });
    assert!(wrong > 100, "{wrong} wrong lines");
}
