//! Virtual time as the engine and the clients see it.

use std::sync::Arc;
use std::time::Duration;

use synod_store::BoxFuture;

use crate::world::{World, now};

/// The clock of the server's host. It goes on while the process is paused, as the system's does.
#[derive(Debug)]
pub(crate) struct EngineClock;

impl synod_engine::Clock for EngineClock {
    fn now(&self) -> Duration {
        now()
    }
}

/// The clock of a client's process: while it is paused it reads no clock, so for it time stands still, and jumps after.
#[derive(Debug)]
pub(crate) struct ClientClock {
    pub(crate) world: Arc<World>,
    /// The client's host.
    pub(crate) host: usize,
    /// How much later its wall clock is than others'.
    pub(crate) skew: Duration,
}

fn read(world: &World, host: usize) -> Duration {
    world.paused(host).unwrap_or_else(now)
}

/// How often a sleeper looks whether the clock has jumped.
const SLICE: Duration = Duration::from_millis(20);

impl synod::clock::Clock for ClientClock {
    fn now(&self) -> Duration {
        read(&self.world, self.host)
    }

    fn unix_nanos(&self) -> u64 {
        let since = Duration::from_secs(1_790_000_000) + self.skew;
        (since + read(&self.world, self.host)).as_nanos() as u64
    }

    fn sleep_until(&self, at: Duration) -> BoxFuture<'static, ()> {
        let (world, host) = (Arc::clone(&self.world), self.host);
        Box::pin(async move {
            loop {
                let rest = at.saturating_sub(read(&world, host));
                if rest.is_zero() {
                    return;
                }
                let paused = world.paused(host).is_some();
                let rest = if paused { SLICE } else { rest };
                tokio::time::sleep(rest.min(Duration::from_secs(1))).await;
            }
        })
    }
}
