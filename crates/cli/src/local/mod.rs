//! The server on this machine that nobody had to set up.
//!
//! With no address given, whoever finds that the connection to `127.0.0.1:PORT` is refused starts a
//! server there. What is started once must not be started twice, and nobody's server must be
//! mistaken for ours:
//!
//! 1. Connect. Something answers: use it if it answers etcd's Status; name it on stderr.
//! 2. Refused: lock `server-PORT.lock`, and connect again. Whoever waited for the lock finds the
//!    server of the one who had it.
//! 3. Still refused: start `synod serve --listen 127.0.0.1:PORT` as a process group of its own, with
//!    no input and with the log as its output, and wait until it answers, or has ended; then the
//!    log says why.
//! 4. Unlock. The server itself writes `server-PORT.json`, and removes it at its end.
//!
//! To end it: the state file names a process and an address; the process is held, the address is
//! asked who it is, and only if it is that process, it gets a SIGTERM.

pub(crate) mod paths;
pub(crate) mod probe;
pub(crate) mod process;
pub(crate) mod start;
pub(crate) mod state;
pub(crate) mod stop;
