//! [`Series`]: how many operations were completed when. Its steps grow with the time it covers, so
//! that its size stays bounded.

use serde::{Deserialize, Serialize};

/// The first step: 0.1 ms. Always this times a power of two, so that series can be added.
const STEP: u64 = 100_000;

/// No more steps than this.
const STEPS: usize = 4_096;

/// Operations over time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Series {
    /// When the first step begins, in nanoseconds.
    begin: u64,
    /// How long each is, in nanoseconds.
    step: u64,
    counts: Vec<u64>,
}

impl Default for Series {
    fn default() -> Series {
        Series::new(0)
    }
}

impl Series {
    pub(crate) fn new(begin: u64) -> Series {
        Series {
            begin,
            step: STEP,
            counts: Vec::new(),
        }
    }

    /// Adds operations that were completed at this time.
    pub(crate) fn add(&mut self, time: u64, operations: u64) {
        let since = time.saturating_sub(self.begin);
        while since / self.step >= STEPS as u64 {
            self.widen();
        }
        let index = usize::try_from(since / self.step).unwrap_or(0);
        if self.counts.len() <= index {
            self.counts.resize(index.saturating_add(1), 0);
        }
        if let Some(count) = self.counts.get_mut(index) {
            *count = count.saturating_add(operations);
        }
    }

    /// Two steps become one.
    fn widen(&mut self) {
        self.step = self.step.saturating_mul(2);
        let sum = |pair: &[u64]| pair.iter().copied().fold(0, u64::saturating_add);
        self.counts = self.counts.chunks(2).map(sum).collect();
    }

    /// Adds the operations of another series, which begins when this does.
    pub(crate) fn merge(&mut self, other: &Series) {
        if self.counts.is_empty() {
            *self = other.clone();
            return;
        }
        while self.step < other.step {
            self.widen();
        }
        for (index, count) in other.counts.iter().enumerate().filter(|(_, n)| **n > 0) {
            let middle = (index as u64)
                .saturating_mul(other.step)
                .saturating_add(other.step / 2);
            self.add(self.begin.saturating_add(middle), *count);
        }
    }

    /// The operations in each of `parts` equal parts of the time until `end`.
    pub(crate) fn parts(&self, end: u64, parts: usize) -> Vec<u64> {
        let mut sums = vec![0u64; parts];
        let length = end.saturating_sub(self.begin).max(1);
        for (index, count) in self.counts.iter().enumerate() {
            let middle = (index as u64)
                .saturating_mul(self.step)
                .saturating_add(self.step / 2);
            let part = u128::from(middle) * parts as u128 / u128::from(length);
            let part = usize::try_from(part)
                .unwrap_or(usize::MAX)
                .min(parts.saturating_sub(1));
            if let Some(sum) = sums.get_mut(part) {
                *sum = sum.saturating_add(*count);
            }
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_lost_when_the_steps_grow() {
        let mut series = Series::new(1_000);
        for n in 0..100_000u64 {
            series.add(1_000 + n * 1_000_000, 1);
        }
        assert!(series.counts.len() <= STEPS);
        assert_eq!(series.counts.iter().sum::<u64>(), 100_000);
        let parts = series.parts(1_000 + 100_000 * 1_000_000, 10);
        assert_eq!(parts.iter().sum::<u64>(), 100_000);
        assert!(
            parts.iter().all(|part| (9_900..=10_100).contains(part)),
            "{parts:?}"
        );
    }

    #[test]
    fn series_of_different_steps_add_up() {
        let mut long = Series::new(5);
        long.add(5 + 3_000_000_000, 1);
        let mut short = Series::new(5);
        short.add(5, 7);
        let mut one = short.clone();
        one.merge(&long);
        let mut other = long.clone();
        other.merge(&short);
        assert_eq!(one, other);
        assert_eq!(one.parts(5 + 3_000_000_000, 2), [7, 1]);
        let mut none = Series::new(5);
        none.merge(&long);
        assert_eq!(none, long);
    }
}
