//! The harness of the tests that cross floors: real etcd clusters, servers of our own, broken
//! networks and a macro that runs one test on every store.
//!
//! # Layout
//!
//! - [`etcd`]: finds a real etcd and runs clusters of it; [`etcd_or_skip!`].
//! - [`certs`]: certificates for TLS tests.
//! - [`bridge`]: a TCP bridge that drops, holds, delays, resets and swallows.
//! - [`cli`]: the command `synod`, in a home of its own.
//! - [`prompt`]: its prompts, on pipes and on terminals.
//! - [`go`]: programs on etcd's own Go recipes beside ours; [`beside_go!`].
//! - [`process`]: child processes that end with the test, whatever happens to it.
//! - [`counted`]: a store that counts what it is asked.
//! - [`figures`]: committed tables of what things cost, made anew and compared.
//! - [`frames`]: HTTP/2 by hand, for clients that do what no library lets them do.
//! - [`history`]: whether transactions were strictly serializable.
//! - [`metered`]: metrics of a server in this process.
//! - [`ports`]: free loopback ports that stay free.
//! - [`stores`]: one test on every store, [`each_store!`].
//! - [`subjects`]: makes stores of every kind for the conformance suite.
//! - [`wait`]: waiting for conditions, with a bound.
//! - [`mod@skip`]: tests that cannot run here say so, and are counted.

pub mod certs;
pub mod cli;
pub mod counted;
pub mod etcd;
pub mod figures;
pub mod frames;
pub mod go;
pub mod history;
pub mod metered;
pub mod ports;
pub mod process;
pub mod prompt;
pub mod raw;
pub mod skip;
pub mod stores;
pub mod subjects;
pub mod target;
pub mod wait;

pub use synod::testing::bridge;
