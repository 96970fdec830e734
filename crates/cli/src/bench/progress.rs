//! How far a measurement is: a bar on standard error, on a terminal alone.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How a bar looks when it is known how long it gets, and when not.
const KNOWN: &str = "{msg:28!} [{bar:20}] {human_pos}/{human_len} {per_sec}";
const OPEN: &str = "{msg:28!} {spinner} {human_pos} {per_sec}";

/// A bar, or nothing where there is no terminal.
#[derive(Debug)]
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// Something that takes `all` steps; it is not known how many when that is `None`.
    pub(crate) fn new(what: &str, all: Option<u64>) -> Bar {
        let bar = ProgressBar::with_draw_target(all, ProgressDrawTarget::hidden());
        if std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::stderr());
        }
        let form = if all.is_some() { KNOWN } else { OPEN };
        // A form that is wrong is found by the test below.
        if let Ok(style) = ProgressStyle::with_template(form) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        Bar(bar)
    }

    pub(crate) fn at(&self, position: u64) {
        self.0.set_position(position);
    }
}

/// The bar goes when it is done.
impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_are_right() {
        for form in [KNOWN, OPEN] {
            assert!(ProgressStyle::with_template(form).is_ok(), "{form}");
        }
    }
}
