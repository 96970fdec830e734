//! A smoke of a fuzz target among the ordinary tests: its seeds, and random changes of each. The crates whose code the
//! targets feed include this file in their tests.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// Runs each seed of a target (told by `true`), and so many changes of each.
pub(crate) fn smoke(target: &str, changes: usize, mut run: impl FnMut(&[u8], bool)) {
    let folder = format!("{}/../../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let seed = rand::random();
    println!("{target}: seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut seeds = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        run(&bytes, true);
        seeds += 1;
        for _ in 0..changes {
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
            run(&bytes, false);
        }
    }
    assert!(seeds >= 3, "{seeds} seeds");
}
