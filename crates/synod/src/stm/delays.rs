//! [`Spacing`]: how long a transaction waits before an attempt, so that those of many clients which want
//! the same keys neither trample on each other nor starve one another.
//!
//! A conflict means that another has committed, so that all together make headway whatever each of
//! them does. But who waits longer each time it loses is overtaken by those who have just begun, again and
//! again. So the time to wait is not a transaction's own: each client learns from its conflicts how wide a *window*
//! is, in commits, in which one attempt is likely to go through. A conflict widens it by one commit, a commit
//! narrows it by a fifth; that settles at two to three attempts a commit with any number of clients. Each
//! attempt waits for a random part of the window, first attempts included: who has just won makes room. Who has lost
//! often waits for a smaller part: the longer it is under way, the sooner it tries. The first
//! conflict of a transaction is followed by another attempt at once, as it has just been told the newest state;
//! and a window of less than two commits is none, so that who meets nobody never waits. Time that
//! goes by without an attempt narrows the window as well, a fifth for each time that it is long: the others
//! of then may be gone.

use std::sync::Arc;
use std::time::Duration;

use synod_store::Key;
use tokio::time::Instant;

use crate::Client;
use crate::slot::Slot;

/// By how many commits a conflict widens the window.
const WIDER: f64 = 1.0;

/// What is left of the window after a commit.
const NARROWER: f64 = 0.8;

/// The widest window, in commits.
const WIDEST: f64 = 16.0;

/// A narrower one, in commits, is none.
const NARROWEST: f64 = 2.0;

/// The longest delay.
const LONGEST: Duration = Duration::from_secs(1);

/// A timer cannot tell shorter times.
const TICK: Duration = Duration::from_millis(1);

/// The window of a client.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    commits: f64,
    /// How long the last commit took.
    commit: Duration,
    /// Since when nothing has been heard of the others.
    since: Option<Instant>,
}

impl Window {
    /// Narrows by what is no longer known.
    fn forget(&mut self, now: Instant) {
        let long = self.commit.min(LONGEST).mul_f64(self.commits).as_secs_f64();
        let silence = self.since.map(|since| now.saturating_duration_since(since));
        let Some(silence) = silence.filter(|silence| long > 0.0 && silence.as_secs_f64() >= long)
        else {
            return;
        };
        self.commits *= NARROWER.powf(silence.as_secs_f64() / long);
        self.since = Some(now);
    }

    /// An attempt has ended, whose commit took this long.
    fn heard(&mut self, commit: Duration) {
        self.commit = commit;
        self.since = Some(Instant::now());
    }

    /// The longest delay of an attempt that so many conflicts in a row came before.
    fn bound(&self, conflicts: u32) -> Duration {
        if conflicts == 1 || self.commits < NARROWEST {
            return Duration::ZERO;
        }
        let commits = self.commits / (1.0 + f64::from(conflicts));
        self.commit.min(LONGEST).mul_f64(commits).min(LONGEST)
    }
}

/// What the transactions of a client have learned about the others.
#[derive(Debug, Default)]
pub(super) struct Spacing(Slot<Window>);

impl Spacing {
    /// That of a client, for all its transactions.
    pub(super) fn of(client: &Client) -> Arc<Spacing> {
        client
            .registry()
            .get("stm-spacing", &Key::default(), Spacing::default)
    }

    /// An attempt was committed, which took this long.
    pub(super) fn committed(&self, commit: Duration) {
        let mut window = self.0.lock();
        window.commits *= NARROWER;
        window.heard(commit);
    }

    /// The commit of an attempt was refused, which took this long: others were faster.
    pub(super) fn refused(&self, commit: Duration) {
        let mut window = self.0.lock();
        window.commits = (window.commits + WIDER).min(WIDEST);
        window.heard(commit);
    }

    /// Waits before an attempt that so many conflicts in a row came before. True when that took so long
    /// that others may have committed.
    pub(super) async fn wait(&self, conflicts: u32) -> bool {
        let bound = {
            let mut window = self.0.lock();
            window.forget(Instant::now());
            window.bound(conflicts)
        };
        let delay = bound.mul_f64(rand::random());
        if delay >= TICK {
            tokio::time::sleep(delay).await;
            return true;
        }
        if conflicts > 0 {
            tokio::task::yield_now().await;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: Duration = Duration::from_millis(10);

    /// The longest delays of a first, second, third ... attempt, in milliseconds.
    fn bounds(spacing: &Spacing) -> Vec<u128> {
        let window = *spacing.0.lock();
        (0..6).map(|n| window.bound(n).as_millis()).collect()
    }

    #[test]
    fn who_meets_nobody_never_waits() {
        let spacing = Spacing::default();
        spacing.committed(COMMIT);
        assert_eq!(bounds(&spacing), [0; 6]);
        spacing.refused(COMMIT);
        assert_eq!(bounds(&spacing), [0; 6]);
    }

    #[test]
    fn who_has_lost_more_often_waits_less() {
        let spacing = Spacing::default();
        for _ in 0..12 {
            spacing.refused(COMMIT);
        }
        assert_eq!(bounds(&spacing), [120, 0, 40, 30, 24, 20]);
    }

    #[test]
    fn the_window_is_bounded_and_closes_again() {
        let spacing = Spacing::default();
        for _ in 0..1000 {
            spacing.refused(Duration::from_secs(100));
        }
        assert_eq!(spacing.0.lock().bound(0), LONGEST);
        for _ in 0..10 {
            spacing.committed(COMMIT);
        }
        assert_eq!(bounds(&spacing), [0; 6]);
    }

    #[test]
    fn who_comes_back_after_a_while_has_forgotten_the_others() {
        let spacing = Spacing::default();
        for _ in 0..16 {
            spacing.refused(COMMIT);
        }
        let before = bounds(&spacing);
        let mut window = *spacing.0.lock();
        let heard = window.since.expect("just now");
        window.forget(heard + COMMIT);
        assert_eq!(window.bound(0).as_millis(), before[0], "that is no while");
        window.forget(heard + Duration::from_secs(1));
        assert!(window.bound(0) < COMMIT * 5, "{window:?}");
        window.forget(heard + Duration::from_secs(10));
        assert_eq!(window.bound(0), Duration::ZERO);
    }

    /// A client of the simulation: what it does next, and when.
    struct Simulated {
        spacing: Spacing,
        at: f64,
        /// The versions that it has read; it is about to read without.
        seen: Option<[u32; 2]>,
        keys: [usize; 2],
        begun: f64,
        conflicts: u32,
    }

    /// Ten clients that each change two of five keys, over and over. Time is counted in commits.
    #[test]
    fn nobody_starves_among_many() {
        use rand::{Rng, SeedableRng, rngs::StdRng};

        const COMMITS: usize = 20_000;
        let mut random = StdRng::seed_from_u64(1);
        let commit = Duration::from_millis(1);
        let client = |_| Simulated {
            spacing: Spacing::default(),
            at: 0.0,
            seen: None,
            keys: [0, 1],
            begun: 0.0,
            conflicts: 0,
        };
        let mut clients: Vec<Simulated> = (0..10).map(client).collect();
        let mut versions = [0_u32; 5];
        let (mut latencies, mut attempts) = (Vec::new(), 0);
        while latencies.len() < COMMITS {
            let next = clients.iter_mut().min_by(|a, b| a.at.total_cmp(&b.at));
            let client = next.expect("there are some");
            let now = client.at;
            let current = client.keys.map(|key| versions[key]);
            let Some(seen) = client.seen.take() else {
                client.seen = Some(current);
                client.at += random.random_range(0.9..1.1);
                continue;
            };
            attempts += 1;
            if seen == current {
                client.spacing.committed(commit);
                client.keys.iter().for_each(|key| versions[*key] += 1);
                latencies.push(now - client.begun);
                let first = random.random_range(0..5);
                client.keys = [first, (first + random.random_range(1..5)) % 5];
                (client.begun, client.conflicts) = (now, 0);
            } else {
                client.spacing.refused(commit);
                client.conflicts += 1;
            }
            let bound = client.spacing.0.lock().bound(client.conflicts);
            let delay = bound.as_secs_f64() / commit.as_secs_f64() * random.random::<f64>();
            client.at += delay + random.random_range(0.9..1.1);
            if delay < 1.0 && client.conflicts > 0 {
                // The refusal told it the newest state.
                client.seen = Some(current);
            }
        }
        latencies.sort_by(f64::total_cmp);
        let (p50, p99) = (latencies[COMMITS / 2], latencies[COMMITS * 99 / 100]);
        assert!(attempts <= 3 * COMMITS, "{attempts} attempts");
        assert!(p99 <= 10.0 * p50, "p50 {p50}, p99 {p99}");
    }
}
