//! [`Aim`]: where in its window a consumer expects the first item that others have left. Pure.

/// The most candidates among which the store searches, and after a claim that was lost.
const MOST: (usize, usize) = (32, 48);

/// How fast an expectation follows what happens.
const FOLLOW: f64 = 0.25;

/// How many mean deviations a search reaches to both sides.
const REACH: f64 = 2.5;

/// Below this nobody else is taken to be there.
const ALONE: f64 = 0.05;

/// After searches have found nothing again and again, so many claims do without.
const WITHOUT: u32 = 64;

/// How far others get between two claims of this consumer.
///
/// Each of N consumers that take turns finds N - 1 items gone that it knew: it does well to look for
/// the first that is left there, and not at the head.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Aim {
    /// Between two claims.
    claims: Guess,
    /// Between a look and the claim after it.
    look: Option<Guess>,
    /// Whether the next claim is the first after a look.
    looked: bool,
    /// How many claims were lost in a row.
    lost: u32,
    /// How many of the next claims do without a search.
    without: u32,
}

/// A mean, and the mean deviation from it.
#[derive(Debug, Default, Clone, Copy)]
struct Guess {
    mean: f64,
    spread: f64,
}

/// Which candidates a claim tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Candidates {
    /// The first alone.
    First,
    /// The first of some that is left; so many before them are taken to be gone.
    Among {
        /// How many are taken to be gone.
        skipped: usize,
        /// How many it tries.
        count: usize,
    },
    /// They cannot be told; the first few, one after the other.
    InTurn,
    /// None: it is time to look again.
    Unknown,
}

impl Guess {
    fn is_alone(self) -> bool {
        self.mean < ALONE && self.spread < ALONE
    }

    fn reach(self) -> f64 {
        (self.spread * REACH).ceil() + 1.0
    }

    fn follow(&mut self, gone: f64) {
        let off = gone - self.mean;
        self.mean += FOLLOW * off;
        self.spread += FOLLOW * (off.abs() - self.spread);
    }
}

impl Aim {
    fn guess(&self) -> Guess {
        match self.look {
            Some(guess) if self.looked => guess,
            _ => self.claims,
        }
    }

    /// Whether others take from the same head.
    pub(super) fn meets_others(&self) -> bool {
        self.claims.mean >= 1.0
    }

    /// Which candidates to try; asked once a claim.
    pub(super) fn candidates(&mut self) -> Candidates {
        if self.without > 0 {
            self.without = self.without.saturating_sub(1);
            return Candidates::InTurn;
        }
        let guess = self.guess();
        let reach = guess.reach();
        let among = |from: f64, to: f64, most: usize| {
            let skipped = whole(from.floor());
            let count = whole(to.ceil()).saturating_add(1).saturating_sub(skipped);
            Candidates::Among {
                skipped,
                count: count.clamp(1, most),
            }
        };
        match self.lost {
            0 if guess.is_alone() => Candidates::First,
            0 => among(guess.mean - reach, guess.mean + reach, MOST.0),
            // Nothing was where it was expected, and the others have gone on.
            1 if guess.mean < 1.0 => among(0.0, f64::from(u16::MAX), MOST.0),
            1 => among(guess.mean - reach, 2.0 * (guess.mean + reach), MOST.1),
            _ if !self.looked => Candidates::Unknown,
            _ => among(0.0, f64::from(u16::MAX), MOST.1),
        }
    }

    /// Whether no claim was made since the last look.
    pub(super) fn has_just_looked(&self) -> bool {
        self.looked
    }

    /// The window is new.
    pub(super) fn looked(&mut self) {
        self.looked = true;
    }

    /// A claim found so many items gone.
    pub(super) fn hit(&mut self, gone: usize) {
        let gone = u32::try_from(gone).map_or(f64::from(u32::MAX), f64::from);
        let looked = std::mem::take(&mut self.looked);
        let claims = std::mem::take(&mut self.lost).saturating_add(1);
        if claims > 1 {
            // What was expected was wrong.
            let each = gone / f64::from(claims);
            self.claims.spread = self
                .claims
                .spread
                .max((each - self.claims.mean).abs() / 2.0);
            self.claims.follow(each);
        } else if looked {
            self.look.get_or_insert(self.claims).follow(gone);
        } else {
            self.claims.follow(gone);
        }
    }

    /// A claim was lost: nothing was where it was expected.
    pub(super) fn miss(&mut self) {
        self.lost = self.lost.saturating_add(1);
        if self.lost > 2 && self.looked {
            // Something that is no item may lie among them.
            self.lost = 0;
            self.without = WITHOUT;
        }
        self.looked = false;
    }
}

/// As a number of items.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to what a window can hold"
)]
fn whole(number: f64) -> usize {
    number.clamp(0.0, 1000.0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_alone_tries_the_first() {
        let mut aim = Aim::default();
        for turn in 0..99 {
            if turn % 9 == 0 {
                aim.looked();
            }
            assert_eq!(aim.candidates(), Candidates::First);
            aim.hit(0);
        }
        assert!(!aim.meets_others());
    }

    /// Claims once; `gone` items are gone since the last one. Returns whether it was lost.
    fn claim(aim: &mut Aim, since: &mut usize, gone: usize) -> bool {
        *since += gone;
        match aim.candidates() {
            Candidates::First if *since == 0 => aim.hit(0),
            Candidates::Among { skipped, count } if (skipped..skipped + count).contains(since) => {
                aim.hit(*since);
            }
            Candidates::Unknown => {
                aim.looked();
                *since = 0;
                return false;
            }
            _ => {
                aim.miss();
                return true;
            }
        }
        *since = 0;
        false
    }

    #[test]
    fn who_takes_turns_with_others_aims_behind_them() {
        let mut aim = Aim::default();
        let (mut since, mut lost) = (0, 0);
        for turn in 0..200 {
            lost += usize::from(claim(&mut aim, &mut since, 14 + turn % 4));
        }
        assert!(lost <= 3, "{lost}");
        let Candidates::Among { skipped, count } = aim.candidates() else {
            panic!("{aim:?}");
        };
        assert!(
            (8..=15).contains(&skipped) && count <= 14,
            "{skipped} {count}"
        );
        assert!(aim.meets_others());
        // The others go.
        for _ in 0..200 {
            claim(&mut aim, &mut since, 0);
        }
        assert_eq!(aim.candidates(), Candidates::First);
    }

    #[test]
    fn where_searches_find_nothing_candidates_are_tried_in_turn() {
        let mut aim = Aim::default();
        for _ in 0..9 {
            match aim.candidates() {
                Candidates::Unknown => aim.looked(),
                Candidates::InTurn => return,
                _ => aim.miss(),
            }
        }
        panic!("{aim:?}");
    }
}
