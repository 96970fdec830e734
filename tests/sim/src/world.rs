//! What all hosts of one simulation share: the seed's generator, the trace, the history, and who is paused.

use std::fmt::Write as _;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use synod_engine::Engine;
use synod_engine::simulation::Disk;

use crate::history::History;
use crate::plan::Planted;

/// How many clients there are.
pub(crate) const CLIENTS: usize = 3;

/// The simulation.
#[derive(Debug)]
pub(crate) struct World {
    /// Whether anybody wants to read the trace.
    traced: bool,
    pub(crate) planted: Option<Planted>,
    pub(crate) history: Mutex<History>,
    state: Mutex<State>,
    rng: Mutex<StdRng>,
}

#[derive(Debug, Default)]
struct State {
    trace: String,
    disk: Disk,
    engine: Option<Engine>,
    /// The disk has stopped in the middle of a write.
    power_lost: bool,
    slow_sync: Duration,
    /// Host 0 is the server, the clients follow.
    paused: [Option<Duration>; CLIENTS + 1],
    thawed: Vec<Waker>,
    /// How often a client's connections were cut.
    cuts: [u64; CLIENTS],
    /// The next answer to this client is lost, with its connection.
    lose_reply: [bool; CLIENTS],
    lost_replies: u64,
    cut_connections: u64,
    incarnations: [u64; CLIENTS + 1],
    /// Clients begin nothing any more.
    ending: bool,
}

/// Virtual time, also between two steps.
pub(crate) fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_else(crate::chance::now)
}

impl World {
    pub(crate) fn new(seed: u64, planted: Option<Planted>, traced: bool) -> Arc<World> {
        Arc::new(World {
            traced,
            planted,
            history: Mutex::default(),
            state: Mutex::default(),
            rng: Mutex::new(StdRng::seed_from_u64(seed ^ 0x5eed)),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap()
    }

    /// A number below `bound`, from the seed.
    pub(crate) fn below(&self, bound: u64) -> u64 {
        self.rng.lock().unwrap().random_range(0..bound.max(1))
    }

    /// A time up to `most`, from the seed.
    pub(crate) fn up_to(&self, most: Duration) -> Duration {
        Duration::from_micros(self.below(most.as_micros() as u64 + 1))
    }

    /// A line of the trace.
    pub(crate) fn note(&self, who: &str, what: std::fmt::Arguments<'_>) {
        if !self.traced {
            return;
        }
        let at = now();
        let mut state = self.state();
        let _ = writeln!(state.trace, "{:>10.6} {who} {what}", at.as_secs_f64());
    }

    pub(crate) fn take_trace(&self) -> String {
        std::mem::take(&mut self.state().trace)
    }

    pub(crate) fn disk(&self) -> Disk {
        self.state().disk.clone()
    }

    pub(crate) fn engine(&self) -> Option<Engine> {
        self.state().engine.clone()
    }

    pub(crate) fn set_engine(&self, engine: Option<Engine>) {
        self.state().engine = engine;
    }

    /// The disk becomes what a crash leaves of it.
    pub(crate) fn crash_disk(&self) {
        let crashed = self.disk().crash(|bound| self.below(bound));
        let mut state = self.state();
        state.disk = crashed;
        state.power_lost = false;
        state.engine = None;
        state.paused[0] = None;
    }

    pub(crate) fn lose_power(&self) {
        self.state().power_lost = true;
    }

    pub(crate) fn has_lost_power(&self) -> bool {
        self.state().power_lost
    }

    pub(crate) fn slow_sync(&self) -> Duration {
        self.state().slow_sync
    }

    pub(crate) fn set_slow_sync(&self, most: Duration) {
        self.state().slow_sync = most;
    }

    pub(crate) fn set_ending(&self) {
        self.state().ending = true;
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.state().ending
    }

    /// A host begins anew; how often it has before.
    pub(crate) fn begin(&self, host: usize) -> u64 {
        let mut state = self.state();
        state.incarnations[host] += 1;
        state.incarnations[host]
    }

    pub(crate) fn pause(&self, host: usize) {
        self.state().paused[host] = Some(now());
    }

    pub(crate) fn thaw(&self, host: usize) {
        let wakers = {
            let mut state = self.state();
            state.paused[host] = None;
            std::mem::take(&mut state.thawed)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Since when a host is paused.
    pub(crate) fn paused(&self, host: usize) -> Option<Duration> {
        self.state().paused[host]
    }

    /// Everything that a client has connected breaks.
    pub(crate) fn cut(&self, client: usize) {
        self.state().cuts[client] += 1;
    }

    pub(crate) fn cuts(&self, client: usize) -> u64 {
        self.state().cuts[client]
    }

    pub(crate) fn lose_reply(&self, client: usize, lose: bool) {
        self.state().lose_reply[client] = lose;
    }

    /// Whether the answer that has come now is to be lost.
    pub(crate) fn loses_reply(&self, client: usize) -> bool {
        let mut state = self.state();
        let loses = std::mem::take(&mut state.lose_reply[client]);
        state.lost_replies += u64::from(loses);
        loses
    }

    pub(crate) fn note_cut_connection(&self) {
        self.state().cut_connections += 1;
    }

    /// Replies lost and connections cut so far.
    pub(crate) fn broken(&self) -> (u64, u64) {
        let state = self.state();
        (state.lost_replies, state.cut_connections)
    }

    /// A future that stands still while its host is paused.
    pub(crate) fn pausable<F: Future>(self: &Arc<Self>, host: usize, inner: F) -> Pausable<F> {
        Pausable {
            world: Arc::clone(self),
            host,
            inner: Box::pin(inner),
        }
    }
}

/// See [`World::pausable`].
pub(crate) struct Pausable<F> {
    world: Arc<World>,
    host: usize,
    inner: Pin<Box<F>>,
}

impl<F: Future> Future for Pausable<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        {
            let mut state = self.world.state();
            if state.paused[self.host].is_some() {
                state.thawed.push(cx.waker().clone());
                return Poll::Pending;
            }
        }
        self.inner.as_mut().poll(cx)
    }
}
