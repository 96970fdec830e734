//! Tests that cannot run on this machine say so on stderr, past the test runner's capture, and in
//! the file that `SYNOD_SKIPPED` names, from which `cargo xtask test` counts them. No test is ever
//! skipped in silence.

use std::fs::OpenOptions;
use std::io::Write;

/// The environment variable that names the file which collects what was skipped.
pub const SKIPPED: &str = "SYNOD_SKIPPED";

/// What a skipped test returns.
pub trait Skipped {
    /// A result that is no failure.
    fn skipped() -> Self;
}

impl Skipped for () {
    fn skipped() -> Self {}
}

impl<E> Skipped for Result<(), E> {
    fn skipped() -> Self {
        Ok(())
    }
}

/// Reports that the running test is skipped. The caller returns at once.
pub fn report(reason: &str) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or("a test");
    let line = format!("skipped: {name}: {reason}\n");
    // Written directly: what `eprint!` writes, the runner keeps to itself when the test passes.
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(path) = std::env::var_os(SKIPPED) {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(&path)
            .expect("the file named by SYNOD_SKIPPED can be written");
        file.write_all(line.as_bytes())
            .expect("the file named by SYNOD_SKIPPED can be written");
    }
}

/// Ends the running test, saying why it cannot run here: `skip!("no /dev/fuse")`.
#[macro_export]
macro_rules! skip {
    ($($reason:tt)+) => {{
        $crate::skip::report(&format!($($reason)+));
        return $crate::skip::Skipped::skipped();
    }};
}
