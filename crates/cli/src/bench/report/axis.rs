//! Where values lie along an axis, and where its marks are.

/// From values to a length.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    logarithmic: bool,
}

impl Axis {
    /// From 0 to a little more than `most`.
    pub(super) fn linear(most: f64) -> Axis {
        let most = if most > 0.0 { most } else { 1.0 };
        let step = step(most);
        Axis {
            low: 0.0,
            high: (most / step).ceil() * step,
            logarithmic: false,
        }
    }

    /// From 0 to `most` and no further.
    pub(super) fn exactly(most: f64) -> Axis {
        Axis {
            low: 0.0,
            high: if most > 0.0 { most } else { 1.0 },
            logarithmic: false,
        }
    }

    /// Whole powers of ten around the two, which are above 0; at least one.
    pub(super) fn powers(least: f64, most: f64) -> Axis {
        let low = least.max(1e-3).log10().floor();
        let high = most.max(1e-3).log10().ceil().max(low + 1.0);
        Axis {
            low: 10f64.powf(low),
            high: 10f64.powf(high),
            logarithmic: true,
        }
    }

    /// Where it lies, from 0 to 1.
    pub(super) fn place(self, value: f64) -> f64 {
        let place = if self.logarithmic {
            (value.max(self.low) / self.low).log10() / (self.high / self.low).log10()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        place.clamp(0.0, 1.0)
    }

    /// Values to mark.
    pub(super) fn marks(self) -> Vec<f64> {
        let mut marks = Vec::new();
        if self.logarithmic {
            let (from, to) = (self.low.log10().round(), self.high.log10().round());
            let mut power = from;
            while power <= to {
                marks.push(10f64.powf(power));
                power += 1.0;
            }
            return marks;
        }
        let step = step(self.high);
        let mut value = 0.0;
        while value <= self.high * 1.000_1 {
            marks.push(value);
            value += step;
        }
        marks
    }
}

/// A round number that lies about four times in `most`.
fn step(most: f64) -> f64 {
    let rough = most / 4.0;
    let power = 10f64.powf(rough.log10().floor());
    let steps = [1.0, 2.0, 2.5, 5.0, 10.0];
    let fits = steps.iter().find(|step| **step * power >= rough * 0.999);
    fits.copied().unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round_and_cover_everything() {
        assert_eq!(
            Axis::linear(9_300.0).marks(),
            [0.0, 2_500.0, 5_000.0, 7_500.0, 10_000.0]
        );
        assert_eq!(Axis::linear(4.0).marks(), [0.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(Axis::powers(12.0, 800.0).marks().len(), 3);
        assert_eq!(Axis::powers(100.0, 100.0).marks().len(), 2);
        assert!(!Axis::linear(0.0).marks().is_empty());
        for most in [0.013, 1.0, 17.0, 99_999.0, 1e9] {
            let axis = Axis::linear(most);
            assert!((2..=6).contains(&axis.marks().len()), "{most}");
            assert!(axis.place(most) <= 1.0 && axis.place(most) > 0.5);
        }
    }

    #[test]
    fn a_power_of_ten_lies_halfway() {
        let axis = Axis::powers(11.0, 900.0);
        assert!((axis.place(100.0) - 0.5).abs() < 1e-9);
        assert_eq!(axis.place(0.0), 0.0);
        assert_eq!(axis.place(1e12), 1.0);
    }
}
