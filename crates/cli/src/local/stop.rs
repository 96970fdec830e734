//! Ending the server in the background: that one, and no other process.

use std::time::Duration;

use super::paths::LocalFiles;
use super::probe::{Found, Server, look};
use super::process::Process;
use super::state::State;
use crate::env::Env;
use crate::failure::{Exit, Failure, Result};

/// How long a server may take to end: it answers first what it has begun.
const END: Duration = Duration::from_secs(30);

/// Ends the server in the background at `port`; returns who it was.
pub(crate) async fn stop(env: &Env, port: u16) -> Result<State> {
    let files = LocalFiles::new(env, port)?;
    let Some(state) = State::read(&files.state)? else {
        return Err(match look(port).await {
            Found::Nothing => none_runs(port),
            Found::Server(server) => not_ours(port, &server),
            Found::Stranger(why) => none_runs(port).cause(format!(
                "what listens at 127.0.0.1:{port} is no server of synod's: {why}"
            )),
        });
    };
    let cannot = |error: std::io::Error| Failure::failed("cannot end the server").because(&error);
    // Hold the process first, then ask who answers: so its number cannot pass to another one
    // between the question and the signal.
    let process = Process::find(state.pid).map_err(cannot)?;
    let answering = look(port).await;
    match (process, answering) {
        (Some(process), Found::Server(Server::Synod(info))) if info.pid == state.pid => {
            process.terminate().map_err(cannot)?;
            if process.ended(END).await.map_err(cannot)? {
                Ok(state)
            } else {
                Err(Failure::new(
                    Exit::Nothing,
                    format!("the server (pid {}) did not end within {END:?}", state.pid),
                )
                .hint(format!("its log is {}", files.log.display())))
            }
        }
        (_, Found::Server(server)) => Err(not_ours(port, &server)),
        (Some(_), Found::Stranger(why)) => Err(Failure::failed(format!(
            "the server cannot be asked whether it is pid {}, so that is left alone",
            state.pid
        ))
        .cause(why)
        .hint(format!("its log is {}", files.log.display()))),
        (_, Found::Nothing) | (None, Found::Stranger(_)) => {
            // It was killed, and left its state behind; the next one writes its own.
            let _ = std::fs::remove_file(&files.state);
            Err(none_runs(port).cause(format!(
                "the one that ran as pid {} ended without cleaning up",
                state.pid
            )))
        }
    }
}

fn none_runs(port: u16) -> Failure {
    Failure::new(
        Exit::Nothing,
        format!("no server runs in the background at 127.0.0.1:{port}"),
    )
}

fn not_ours(port: u16, server: &Server) -> Failure {
    none_runs(port)
        .cause(format!(
            "{} was not started in the background",
            server.name()
        ))
        .hint("end it where it was started")
}
