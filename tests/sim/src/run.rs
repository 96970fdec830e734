//! One run: a safety phase with faults, a liveness phase without, and the end.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use synod_store::Store;
use turmoil::Sim;

use crate::Asked;
use crate::plan::{self, Fault, HEALED, Planned};
use crate::world::{CLIENTS, World};
use crate::{chance, client, invariants, node};

const TICK: Duration = Duration::from_millis(10);
/// For so long clients work after the last fault.
const CALM: Duration = Duration::from_secs(9);
/// For so long they may take to come to an end.
const END: Duration = Duration::from_secs(12);

/// What came of a run.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) trace: String,
    pub(crate) summary: String,
    pub(crate) result: Result<(), String>,
}

const SERVER: &str = "server";

fn name(client: usize) -> String {
    format!("client{client}")
}

/// Runs a seed.
pub(crate) fn run(asked: Asked) -> Report {
    let Asked {
        seed,
        workload,
        fault,
        planted,
        trace,
    } = asked;
    let world = World::new(seed, planted, trace);
    let mut sim = turmoil::Builder::new()
        .rng_seed(seed)
        .tick_duration(TICK)
        .simulation_duration(Duration::from_secs(600))
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(15))
        .tcp_capacity(4096)
        .build();
    let shared = Arc::clone(&world);
    sim.host(SERVER, move || node::run(Arc::clone(&shared)));
    for number in 0..CLIENTS {
        let shared = Arc::clone(&world);
        sim.host(name(number), move || {
            client::run(Arc::clone(&shared), number, workload)
        });
    }
    let plan = plan::draw(&world, fault);
    for planned in &plan {
        world.note("plan", format_args!("{planned:?}"));
    }
    let mut stage = Stage {
        world: Arc::clone(&world),
        fired: 0,
        down: false,
        bounce_server: None,
        begun: vec![None; plan.len()],
        over: vec![false; plan.len()],
        lost_before: 0,
    };
    let mut result = Ok(());
    while sim.elapsed() < HEALED + CALM + END {
        chance::set_now(sim.elapsed());
        stage.act(&mut sim, &plan);
        if sim.elapsed() >= HEALED + CALM {
            world.set_ending();
            if (0..CLIENTS).all(|client| !sim.is_host_running(name(client))) {
                break;
            }
        }
        if let Err(error) = sim.step() {
            result = Err(format!("the simulation failed: {error}"));
            break;
        }
        chance::set_now(sim.elapsed());
        let engine = world.engine();
        let looked = world.history().oracle.look(engine.as_ref());
        if let Err(violation) = looked {
            world.history().violations.push(violation);
            break;
        }
    }
    world.set_engine(None);
    let mut history = world.history();
    history.healed = HEALED;
    let ended = match (0..CLIENTS).find(|client| sim.is_host_running(name(*client))) {
        Some(client) if history.violations.is_empty() => Err(format!(
            "client {client} has not ended within {END:?} after its work"
        )),
        _ => Ok(()),
    };
    let result = result
        .and_then(|()| invariants::check(&history, workload))
        .and(ended)
        .and_then(|()| {
            // Only a planted bug may keep a fault from happening.
            if stage.fired == 0 {
                Err("no fault has fired".to_owned())
            } else {
                Ok(())
            }
        });
    let done = history
        .ops
        .iter()
        .filter(|op| client::is_done(&op.outcome))
        .count();
    let doubt = history
        .ops
        .iter()
        .filter(|op| op.outcome == crate::history::End::Doubt)
        .count();
    let faults: Vec<_> = plan.iter().map(|planned| planned.fault).collect();
    let summary = format!(
        "seed {seed} {workload:?}: {} operations, {done} done, {doubt} in doubt, {} revisions, {} of {} faults fired: {faults:?}",
        history.ops.len(),
        history.oracle.seen,
        stage.fired,
        plan.len(),
    );
    drop(history);
    Report {
        trace: world.take_trace(),
        summary,
        result,
    }
}

/// Brings the faults about.
struct Stage {
    world: Arc<World>,
    fired: usize,
    down: bool,
    /// When a server without power is started again.
    bounce_server: Option<Duration>,
    begun: Vec<Option<Duration>>,
    over: Vec<bool>,
    lost_before: u64,
}

impl Stage {
    fn act(&mut self, sim: &mut Sim<'_>, plan: &[Planned]) {
        let now = sim.elapsed();
        for (place, planned) in plan.iter().enumerate() {
            if self.begun[place].is_none() && now >= planned.from && self.is_ready(planned, now) {
                self.begun[place] = Some(now);
                self.world
                    .note("fault", format_args!("{:?} begins", planned.fault));
                self.begin(sim, planned);
            }
            let lasts = planned.to - planned.from;
            let begun = self.begun[place];
            if !self.over[place] && begun.is_some_and(|begun| now >= begun + lasts) {
                self.over[place] = true;
                self.world
                    .note("fault", format_args!("{:?} ends", planned.fault));
                self.end(sim, planned);
            }
        }
        if self.world.has_lost_power() && !self.down {
            self.fired += 1;
            self.crash_server(sim);
        }
        if self.bounce_server.is_some_and(|at| now >= at) {
            self.bounce_server = None;
            if !self.down {
                // Nothing was written since its power was to be lost: it is lost now.
                self.fired += 1;
                self.crash_server(sim);
            }
            self.down = false;
            sim.bounce(SERVER);
        }
    }

    /// A process that stands still is the most dangerous when it holds something: worth a moment's wait.
    fn is_ready(&self, planned: &Planned, now: Duration) -> bool {
        match planned.fault {
            Fault::ClientPause(client) => {
                now >= planned.from + plan::PATIENCE || self.world.history().is_holding(client)
            }
            _ => true,
        }
    }

    fn crash_server(&mut self, sim: &mut Sim<'_>) {
        self.down = true;
        let engine = self.world.engine();
        // What was visible until now must be there again.
        let looked = self.world.history().oracle.look(engine.as_ref());
        if let Err(violation) = looked {
            self.world.history().violations.push(violation);
        }
        let _ = self.world.history().oracle.look(None);
        drop(engine);
        sim.crash(SERVER);
        self.world.crash_disk();
        self.world.note(SERVER, format_args!("has crashed"));
    }

    fn begin(&mut self, sim: &mut Sim<'_>, planned: &Planned) {
        self.fired += 1;
        match planned.fault {
            Fault::Partition(c) => sim.partition(name(c), SERVER),
            Fault::PartitionRequests(c) => sim.partition_oneway(name(c), SERVER),
            Fault::PartitionReplies(c) => sim.partition_oneway(SERVER, name(c)),
            Fault::Hold(c) => sim.hold(name(c), SERVER),
            Fault::Drop(c) => self.world.cut(c),
            Fault::LoseReply(c) => {
                // It counts when the reply is lost.
                self.fired -= 1;
                self.lost_before = self.world.broken().0;
                self.world.lose_reply(c, true);
            }
            Fault::ServerCrash => {
                self.bounce_server = Some(planned.to);
                self.crash_server(sim);
            }
            Fault::ServerCrashInWrite => {
                // It counts when the power is lost.
                self.fired -= 1;
                self.bounce_server = Some(planned.to);
                let calls = self.world.below(4) as usize;
                self.world.disk().stop_after(calls);
            }
            Fault::ServerPause => {
                for c in 0..CLIENTS {
                    sim.hold(name(c), SERVER);
                }
                self.world.pause(0);
            }
            Fault::ClientCrash(c) => {
                sim.crash(name(c));
                self.world.history().crashed(c);
            }
            Fault::ClientPause(c) => {
                sim.hold(name(c), SERVER);
                self.world.pause(c + 1);
            }
            Fault::SlowNetwork => sim.set_max_message_latency(Duration::from_millis(250)),
            Fault::SlowSync => self.world.set_slow_sync(Duration::from_millis(900)),
            Fault::Compact => {
                let seen = self.world.history().oracle.seen;
                let engine = self.world.engine();
                match engine.map(|engine| engine.compact(seen, false).now_or_never().is_none()) {
                    Some(true) => {}
                    _ => self.fired -= 1,
                }
            }
        }
    }

    fn end(&mut self, sim: &mut Sim<'_>, planned: &Planned) {
        match planned.fault {
            Fault::Partition(c) | Fault::PartitionRequests(c) | Fault::PartitionReplies(c) => {
                sim.repair(name(c), SERVER);
            }
            Fault::Hold(c) => sim.release(name(c), SERVER),
            Fault::LoseReply(c) => {
                self.world.lose_reply(c, false);
                self.fired += usize::from(self.world.broken().0 > self.lost_before);
            }
            Fault::ServerPause => {
                self.world.thaw(0);
                for c in 0..CLIENTS {
                    if self.world.paused(c + 1).is_none() {
                        sim.release(name(c), SERVER);
                    }
                }
            }
            Fault::ClientCrash(c) => sim.bounce(name(c)),
            Fault::ClientPause(c) => {
                let since = self.world.paused(c + 1).unwrap_or_default();
                let now = sim.elapsed();
                self.world.history().pauses.push((c, since, now));
                self.world.thaw(c + 1);
                sim.release(name(c), SERVER);
            }
            Fault::SlowNetwork => sim.set_max_message_latency(Duration::from_millis(15)),
            Fault::SlowSync => self.world.set_slow_sync(Duration::ZERO),
            Fault::Drop(_) | Fault::ServerCrash | Fault::ServerCrashInWrite | Fault::Compact => {}
        }
    }
}
