//! The seeds of the fuzz target `wire`, and random changes of them.

mod messages;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

#[test]
fn messages_of_arbitrary_bytes() {
    let folder = format!("{}/../../fuzz/corpus/wire", env!("CARGO_MANIFEST_DIR"));
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut seeds = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        messages::read(&bytes);
        seeds += 1;
        for _ in 0..5_000 {
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
            messages::read(&bytes);
        }
    }
    assert!(seeds >= 3, "{seeds} seeds");
}
