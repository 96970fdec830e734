//! The seeds of the fuzz target `txn_text`, and random changes of them: no text makes the reader panic, and a line that
//! is wrong changes nothing.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::form::Draft;

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
    let folder = format!("{}/../../fuzz/corpus/txn_text", env!("CARGO_MANIFEST_DIR"));
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (mut seeds, mut wrong) = (0, 0);
    for entry in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert_eq!(read(&bytes), 0, "a seed is a whole transaction");
        seeds += 1;
        for _ in 0..500 {
            let mut bytes = bytes.clone();
            for _ in 0..random.random_range(1..6) {
                let at = random.random_range(0..=bytes.len());
                match random.random_range(0..3) {
                    0 => bytes.insert(at, random.random()),
                    1 => bytes.truncate(at),
                    _ => {
                        if let Some(byte) = bytes.get_mut(at) {
                            *byte = random.random();
                        }
                    }
                }
            }
            wrong += read(&bytes);
        }
    }
    assert!(
        seeds >= 3 && wrong > 100,
        "{seeds} seeds, {wrong} wrong lines"
    );
}
