//! [`Turns`]: when each operation begins, and when there are no more.
//!
//! *Closed loop*: a worker begins its next operation when the last one has ended. *Open loop*
//! (`--rate`): operations begin on a schedule, whatever became of those before, and their latency counts
//! from the *scheduled* time. A store that stalls for a second makes every operation late that was
//! due in it, and they all show; in a closed loop the same stall costs each worker one slow operation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::clock::now;

/// One operation that may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turn {
    /// From when its latency counts.
    pub(crate) begin: u64,
    /// Whether it is measured; those of the warm-up are not.
    pub(crate) counted: bool,
}

/// When a measurement begins and ends, by the clock of [`now`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// When the warm-up begins.
    pub(crate) start: u64,
    /// From when on operations count.
    pub(crate) measured: u64,
    /// When no more begin.
    pub(crate) end: Option<u64>,
}

impl Window {
    pub(crate) fn new(start: u64, warm_up: Duration, duration: Option<Duration>) -> Window {
        let measured = start.saturating_add(nanos(warm_up));
        Window {
            start,
            measured,
            end: duration.map(|duration| measured.saturating_add(nanos(duration))),
        }
    }

    /// Whether nothing begins any more.
    pub(crate) fn is_over(&self, time: u64) -> bool {
        self.end.is_some_and(|end| time >= end)
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// An operation that begins later than this after its time was late.
const LATE: u64 = 1_000_000;

/// Gives the workers of a process their turns.
#[derive(Debug)]
pub(crate) struct Turns {
    window: Window,
    /// How many counted ones are left.
    left: AtomicU64,
    stop: CancellationToken,
    schedule: Option<Schedule>,
    late: AtomicU64,
}

impl Turns {
    /// Turns for at most `limit` counted operations, at `rate` a second if there is one.
    pub(crate) fn new(
        window: Window,
        limit: Option<u64>,
        rate: Option<f64>,
        stop: CancellationToken,
    ) -> std::io::Result<Turns> {
        let schedule = rate.map(|rate| Schedule::begin(window, rate, stop.clone()));
        Ok(Turns {
            window,
            left: AtomicU64::new(limit.unwrap_or(u64::MAX)),
            stop,
            schedule: schedule.transpose()?,
            late: AtomicU64::new(0),
        })
    }

    /// The next turn; `None` when there are no more.
    pub(crate) async fn next(&self) -> Option<Turn> {
        self.next_of(1).await
    }

    /// A turn for an operation that counts as `units`.
    pub(crate) async fn next_of(&self, units: u64) -> Option<Turn> {
        let due = match &self.schedule {
            None => now(),
            Some(schedule) => {
                let due = schedule.next(&self.stop).await?;
                if now().saturating_sub(due) > LATE && due >= self.window.measured {
                    self.late.fetch_add(1, Ordering::Relaxed);
                }
                due
            }
        };
        if self.stop.is_cancelled() || self.window.is_over(due) {
            return None;
        }
        let counted = due >= self.window.measured;
        if counted {
            let take = |left: u64| (left > 0).then(|| left.saturating_sub(units));
            let taken = self
                .left
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
            taken.ok()?;
        }
        Some(Turn {
            begin: due,
            counted,
        })
    }

    /// How many operations began late; `None` without a schedule.
    pub(crate) fn late(&self) -> Option<u64> {
        let late = self.late.load(Ordering::Relaxed);
        self.schedule.as_ref().map(|_| late)
    }
}

/// The times at which operations are due. A thread wakes the workers: the runtime's timers are a
/// millisecond coarse, which would count as latency.
#[derive(Debug)]
struct Schedule {
    start: u64,
    rate: f64,
    next: AtomicU64,
    /// A permit for each operation that is due.
    due: Arc<Semaphore>,
}

/// As long as this the thread sleeps at most, so that it ends soon after everybody else.
const NAP: Duration = Duration::from_millis(50);

impl Schedule {
    fn begin(window: Window, rate: f64, stop: CancellationToken) -> std::io::Result<Schedule> {
        let due = Arc::new(Semaphore::new(0));
        let schedule = Schedule {
            start: window.start,
            rate,
            next: AtomicU64::new(0),
            due: Arc::clone(&due),
        };
        let waking = Arc::downgrade(&due);
        drop(due);
        let start = window.start;
        std::thread::Builder::new()
            .name("schedule".to_owned())
            .spawn(move || {
                let mut given = 0u64;
                while !stop.is_cancelled() {
                    let Some(due) = waking.upgrade() else { return };
                    let time = now();
                    let by_now = if time < start {
                        0
                    } else {
                        number_at(start, rate, time)
                    };
                    let more = by_now.saturating_sub(given);
                    let room = Semaphore::MAX_PERMITS.saturating_sub(due.available_permits());
                    due.add_permits(usize::try_from(more).unwrap_or(room).min(room));
                    given = given.max(by_now);
                    drop(due);
                    let next = time_of(start, rate, given).max(start);
                    let left = Duration::from_nanos(next.saturating_sub(now()));
                    std::thread::sleep(left.min(NAP));
                }
            })?;
        Ok(schedule)
    }

    /// When the next operation is due, once it is.
    async fn next(&self, stop: &CancellationToken) -> Option<u64> {
        tokio::select! {
            biased;
            permit = self.due.acquire() => permit.ok()?.forget(),
            () = stop.cancelled() => return None,
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Some(time_of(self.start, self.rate, number))
    }
}

/// When the operation of this number is due; the first has number 0.
fn time_of(start: u64, rate: f64, number: u64) -> u64 {
    // Numbers and times of a measurement are far below what a float cannot hold.
    start.saturating_add((number as f64 / rate * 1e9) as u64)
}

/// How many operations are due until this time.
fn number_at(start: u64, rate: f64, time: u64) -> u64 {
    let seconds = time.saturating_sub(start) as f64 / 1e9;
    ((seconds * rate) as u64).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(limit: Option<u64>, rate: Option<f64>, window: Window) -> Turns {
        Turns::new(window, limit, rate, CancellationToken::new()).unwrap()
    }

    #[tokio::test]
    async fn counted_operations_are_limited_and_the_warm_up_is_not_counted() {
        let far = now() + 3_600_000_000_000;
        let warm = Window {
            start: now(),
            measured: far,
            end: None,
        };
        let warming = turns(Some(1), None, warm);
        for _ in 0..5 {
            assert!(!warming.next().await.unwrap().counted);
        }
        let counting = turns(Some(3), None, Window::new(now(), Duration::ZERO, None));
        for _ in 0..3 {
            assert!(counting.next().await.unwrap().counted);
        }
        assert_eq!(counting.next().await, None);
        let over = turns(
            None,
            None,
            Window::new(1, Duration::ZERO, Some(Duration::from_secs(1))),
        );
        assert_eq!(over.next().await, None);
    }

    /// A schedule that began in the past: what was due is given at once, with the times at which it
    /// was due.
    #[tokio::test]
    async fn what_was_due_counts_from_then() {
        let start = now() - 1_000_000_000;
        let window = Window::new(start, Duration::ZERO, Some(Duration::from_secs(1)));
        let turns = turns(None, Some(100.0), window);
        let mut begins = Vec::new();
        while let Some(turn) = turns.next().await {
            begins.push(turn.begin);
        }
        assert_eq!(begins.len(), 100);
        for (number, begin) in begins.iter().enumerate() {
            assert_eq!(*begin, start + number as u64 * 10_000_000);
        }
        assert!(turns.late() >= Some(99), "{:?}", turns.late());
    }

    #[tokio::test]
    async fn a_schedule_ends_when_it_is_told_to() {
        let stop = CancellationToken::new();
        let window = Window::new(now() + 3_600_000_000_000, Duration::ZERO, None);
        let turns = Turns::new(window, None, Some(1.0), stop.clone()).unwrap();
        stop.cancel();
        assert_eq!(turns.next().await, None);
    }
}
