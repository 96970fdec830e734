//! The server's host: the engine on its disk, and the server in front of it.

use std::sync::Arc;
use std::time::Duration;

use synod_engine::simulation::Moment;
use synod_engine::{Engine, EngineOptions};
use synod_server::{Server, ServerOptions};
use synod_store::Store;
use turmoil::net::TcpListener;

use crate::clock::EngineClock;
use crate::net;
use crate::plan::Planted;
use crate::planted::Forgetful;
use crate::world::World;

/// What a process of the server does until it is killed.
pub(crate) async fn run(world: Arc<World>) -> turmoil::Result {
    let disk = world.disk();
    let options = EngineOptions::memory().with_clock(Arc::new(EngineClock));
    let (engine, driver) = Engine::open_simulated(&disk, options)?;
    let started = world.begin(0);
    world.note(
        "server",
        format_args!("starts for the {started}. time: {:?}", engine.stats()),
    );
    world.set_engine(Some(engine.clone()));
    let early = world.planted == Some(Planted::EarlyAnswer);
    let pause = async |moment: Moment| {
        if disk.is_stopped() {
            world.lose_power();
            std::future::pending::<()>().await;
        }
        let slow = world.slow_sync();
        let most = match moment {
            Moment::Applied => Duration::from_millis(6).max(slow),
            Moment::Durable => Duration::from_millis(3),
        };
        // Often the disk is quick.
        if world.below(2) == 0 || !slow.is_zero() {
            tokio::time::sleep(world.up_to(most)).await;
        }
    };
    let driving = world.pausable(0, driver.run(early, pause));
    let store: Arc<dyn Store> = match world.planted {
        Some(planted) => Arc::new(Forgetful::new(Arc::new(engine), planted)),
        None => Arc::new(engine),
    };
    let options =
        ServerOptions::new().with_keepalive(Duration::from_secs(2), Duration::from_secs(1));
    let server = Server::new(store, options);
    let listener = TcpListener::bind(net::address()).await?;
    let serving = server.serve_incoming(
        net::incoming(listener),
        net::address(),
        std::future::pending(),
    );
    tokio::select! {
        biased;
        () = driving => Err("the engine's writer has ended".into()),
        served = serving => Err(format!("the server has ended: {served:?}").into()),
    }
}
