//! [`Failure`]: why a command did not do what it was told, what it prints then, and the exit code.
//!
//! On stderr, one line each: `error:`, then `cause:` for every cause below it, then `hint:` with
//! the way out where there is one. With `--output json` the same as one object.

use std::fmt::Write as _;
use std::io;

use serde_json::json;

use crate::args::Format;

/// The result of a command's part.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// What the exit code says. The numbers are a promise; `synod --help` lists them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done.
    Done,
    /// It failed; nothing else below fits.
    Failed,
    /// The command line or an address is wrong.
    Usage,
    /// The store could not be reached: nothing listens, TLS or the log-in was refused.
    Unreachable,
    /// Nothing was there, or not in time.
    Nothing,
    /// The answer was lost: it may have happened or not.
    Unknown,
    /// A lock or the like was lost while the command under it ran.
    Lost,
    /// Ended by Ctrl-C.
    Interrupted,
    /// Ended by SIGTERM.
    Terminated,
    /// The code of a command that was run.
    Command(u8),
}

impl Exit {
    /// The number.
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Unreachable => 3,
            Exit::Nothing => 4,
            Exit::Unknown => 5,
            Exit::Lost => 6,
            Exit::Interrupted => 130,
            Exit::Terminated => 143,
            Exit::Command(code) => code,
        }
    }
}

/// The last lines of `synod --help`.
pub(crate) const EXIT_CODES: &str = "\
Exit codes:
    0  done
    1  the operation failed
    2  the command line, or an address in it, is wrong
    3  the store could not be reached: nothing listens there, or TLS or the log-in was refused
    4  nothing was there, or nothing came in time
    5  the answer was lost: the operation may have happened or not
    6  the lock, permit or leadership was lost, and the command under it was ended
  130  ended by Ctrl-C
  143  ended by SIGTERM
A command that `synod` runs gives its own exit code: 128 and the signal when one ended it, 126 when
it cannot be run, 127 when it is not found.";

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) exit: Exit,
    /// Empty when there is nothing to say: the reader of our output went away, or Ctrl-C.
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
    /// Whether a prompt ends with it: nothing that it does can be seen any more.
    ends: bool,
    /// Whether it is what a prompt answers to its line, on stdout among the other answers.
    answer: bool,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure {
            exit,
            message: message.into(),
            causes: Vec::new(),
            hint: None,
            ends: false,
            answer: false,
        }
    }

    /// It failed.
    pub(crate) fn failed(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Failed, message)
    }

    /// The command line is wrong.
    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure::new(Exit::Usage, message)
    }

    /// What the parser of the command line found: its first line is the error, what follows (the tip,
    /// the usage) the way out.
    pub(crate) fn of_command_line(answer: &clap::Error) -> Failure {
        let text = answer.render().to_string();
        let (error, rest) = text.split_once("\n\n").unwrap_or((&text, ""));
        let error = error.trim().trim_start_matches("error: ");
        let rest: Vec<&str> = rest
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
            .collect();
        Failure::usage(error).hint(rest.join("; "))
    }

    /// What a prompt answers to a line, where the line did not do what it was for.
    pub(crate) fn answer(exit: Exit, words: &str) -> Failure {
        let mut failure = Failure::new(exit, words);
        failure.answer = true;
        failure
    }

    /// The words, of such an answer.
    pub(crate) fn as_answer(&self) -> Option<&str> {
        self.answer.then_some(self.message.as_str())
    }

    /// Ends with this code and not a word.
    pub(crate) fn silent(exit: Exit) -> Failure {
        Failure::new(exit, "")
    }

    #[must_use]
    pub(crate) fn cause(mut self, cause: impl Into<String>) -> Failure {
        self.causes.push(cause.into());
        self
    }

    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Failure {
        self.hint = Some(hint.into());
        self
    }

    /// Adds `error` and what lies at the root of it as causes, without saying anything twice. What
    /// lies in between is for programmers.
    #[must_use]
    pub(crate) fn because(mut self, error: &(dyn std::error::Error + 'static)) -> Failure {
        let mut root = error;
        while let Some(source) = root.source() {
            root = source;
        }
        for text in [error.to_string(), root.to_string()] {
            let known = self.message.contains(&text)
                || self.causes.iter().any(|cause| cause.contains(&text));
            if !known {
                self.causes.push(text);
            }
        }
        self
    }

    /// Ends a prompt too, instead of only its line.
    #[must_use]
    pub(crate) fn at_once(mut self) -> Failure {
        self.ends = true;
        self
    }

    /// Whether a prompt ends with it.
    pub(crate) fn ends(&self) -> bool {
        self.ends || self.is_silent()
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.message.is_empty()
    }

    /// What goes to stderr.
    pub(crate) fn render(&self, format: Format) -> String {
        match format {
            Format::Text => {
                let mut text = format!("error: {}\n", one_line(&self.message));
                for cause in &self.causes {
                    let _ = writeln!(text, "cause: {}", one_line(cause));
                }
                if let Some(hint) = &self.hint {
                    let _ = writeln!(text, "hint: {}", one_line(hint));
                }
                text
            }
            Format::Json => {
                let mut line = json!({
                    "error": self.message,
                    "exit": self.exit.code(),
                    "causes": self.causes,
                    "hint": self.hint,
                })
                .to_string();
                line.push('\n');
                line
            }
        }
    }
}

fn one_line(text: &str) -> String {
    text.trim().replace(['\n', '\r'], " ")
}

/// Writing output failed. A reader that went away is no failure: `synod queue list | head -1`.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Failure::silent(Exit::Done)
        } else {
            Failure::failed("cannot write the output").because(&error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_a_line_each_for_error_cause_and_hint() {
        let failure = Failure::failed("cannot\nopen it")
            .because(&io::Error::other("disk on fire"))
            .hint("bring water");
        assert_eq!(
            failure.render(Format::Text),
            "error: cannot open it\ncause: disk on fire\nhint: bring water\n"
        );
        let json: serde_json::Value = serde_json::from_str(&failure.render(Format::Json)).unwrap();
        assert_eq!(json["exit"], 1);
        assert_eq!(json["hint"], "bring water");
    }

    #[test]
    fn a_cause_that_was_said_is_not_repeated() {
        let failure = Failure::failed("cannot open: gone").because(&io::Error::other("gone"));
        assert_eq!(failure.render(Format::Text), "error: cannot open: gone\n");
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let failure = Failure::from(io::Error::from(io::ErrorKind::BrokenPipe));
        assert!(failure.is_silent());
        assert_eq!(failure.exit, Exit::Done);
    }

    #[test]
    fn the_help_lists_every_exit_code() {
        for exit in [
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::Unreachable,
            Exit::Nothing,
            Exit::Unknown,
            Exit::Lost,
            Exit::Interrupted,
            Exit::Terminated,
        ] {
            let line = format!("{:>5}  ", exit.code());
            assert!(EXIT_CODES.contains(&line), "{line:?} is missing");
        }
    }
}
