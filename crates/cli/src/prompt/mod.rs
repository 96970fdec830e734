//! The prompt: reads lines, splits them as a shell does, and has a primitive run them.
//!
//! A primitive brings a table of [`Word`]s and runs them one at a time ([`Words`]); everything else
//! is here once: `help`, `quit`, `exit`, an unknown word, a wrong number of values, the terminal
//! with its editing and Ctrl-C, and the pipe.
//!
//! | | terminal | pipe |
//! | --- | --- | --- |
//! | prompt, history, completion | yes | no |
//! | answers, and what is wrong with a line | stdout | stdout |
//! | notices and errors | stderr | stderr |
//! | Ctrl-C | ends what runs, keeps the prompt | ends the program |
//! | end of input, `quit`, `exit` | ends | ends |
//! | exit code | 0 | 0, or that of the first failure: 2 of a line that cannot be run |

mod editor;
mod lines;
mod session;

use std::future::Future;
use std::ops::RangeInclusive;

use crate::failure::Result;
use crate::output::Output;

pub(crate) use lines::Lines;
pub(crate) use session::{Prompt, run};

/// A word that a prompt knows.
#[derive(Debug, Clone)]
pub(crate) struct Word {
    /// The word.
    pub(crate) name: &'static str,
    /// What follows it, for the help: `VALUE`.
    pub(crate) values: &'static str,
    /// What it does, for the help.
    pub(crate) about: &'static str,
    /// How many values may follow it.
    pub(crate) count: RangeInclusive<usize>,
    /// The answer when another number does.
    pub(crate) otherwise: &'static str,
}

impl Word {
    /// One that no value follows.
    pub(crate) const fn alone(
        name: &'static str,
        about: &'static str,
        otherwise: &'static str,
    ) -> Word {
        Word {
            name,
            values: "",
            about,
            count: 0..=0,
            otherwise,
        }
    }
}

/// The words of a primitive, and what they do.
pub(crate) trait Words {
    /// Those it knows, in the order of the help.
    fn words(&self) -> &'static [Word];

    /// Runs one of them. Is dropped on Ctrl-C.
    fn run(
        &mut self,
        word: &str,
        values: &[Vec<u8>],
        out: &mut Output,
    ) -> impl Future<Output = Result<()>>;
}

/// The words of every prompt.
const COMMON: [Word; 3] = [
    Word {
        name: "help",
        values: "",
        about: "show this",
        count: 0..=usize::MAX,
        otherwise: "",
    },
    Word {
        name: "quit",
        values: "",
        about: "end (Ctrl-D does too)",
        count: 0..=usize::MAX,
        otherwise: "",
    },
    Word {
        name: "exit",
        values: "",
        about: "end",
        count: 0..=usize::MAX,
        otherwise: "",
    },
];

/// What a line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    /// Nothing: it is empty, or a comment.
    Empty,
    /// The words.
    Help,
    /// The end.
    Quit,
    /// A word of the primitive, and a number of values that it accepts.
    Run(&'static str, Vec<Vec<u8>>),
    /// Something that cannot be run; the answer to it.
    Wrong(&'static str),
    /// A quote that does not end, or a backslash before nothing.
    Unfinished,
}

fn parse(words: &'static [Word], line: &[u8]) -> Line {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let Some(mut parts) = shlex::bytes::split(line) else {
        return Line::Unfinished;
    };
    if parts.is_empty() {
        return Line::Empty;
    }
    let name = parts.remove(0);
    match name.as_slice() {
        b"help" => return Line::Help,
        b"quit" | b"exit" => return Line::Quit,
        _ => {}
    }
    match words.iter().find(|word| word.name.as_bytes() == name) {
        None => Line::Wrong("unknown action"),
        Some(word) if word.count.contains(&parts.len()) => Line::Run(word.name, parts),
        Some(word) => Line::Wrong(word.otherwise),
    }
}

/// The help, and its lines as JSON has them.
fn help(words: &[Word]) -> (String, Vec<[String; 2]>) {
    let rows: Vec<[String; 2]> = words
        .iter()
        .chain(&COMMON)
        .map(|word| {
            let usage = [word.name, word.values].join(" ");
            [usage.trim_end().to_owned(), word.about.to_owned()]
        })
        .collect();
    let width = rows.iter().map(|[usage, _]| usage.len()).max().unwrap_or(0);
    let text = rows
        .iter()
        .map(|[usage, about]| format!("{usage:width$}  {about}"))
        .collect::<Vec<_>>()
        .join("\n");
    (text, rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: &[Word] = &[Word {
        name: "push",
        values: "VALUE",
        about: "append a value",
        count: 1..=1,
        otherwise: "must set value to push",
    }];

    fn parsed(line: &str) -> Line {
        parse(WORDS, line.as_bytes())
    }

    #[test]
    fn words_are_split_as_by_a_shell() {
        let push = |value: &[u8]| Line::Run("push", vec![value.to_vec()]);
        assert_eq!(parsed("push a"), push(b"a"));
        assert_eq!(parsed("  push   \"b c\"\r"), push(b"b c"));
        assert_eq!(parsed("push b\\ c"), push(b"b c"));
        assert_eq!(parsed("push ''"), push(b""));
        assert_eq!(parse(WORDS, b"push \xff"), push(b"\xff"));
    }

    #[test]
    fn a_line_that_cannot_be_run_has_its_answer() {
        assert_eq!(parsed("push"), Line::Wrong("must set value to push"));
        assert_eq!(parsed("push b c"), Line::Wrong("must set value to push"));
        assert_eq!(parsed("foo"), Line::Wrong("unknown action"));
        assert_eq!(parsed("PUSH a"), Line::Wrong("unknown action"));
        assert_eq!(parsed("push 'a"), Line::Unfinished);
        assert_eq!(parsed(" \t"), Line::Empty);
        assert_eq!(parsed("# push a"), Line::Empty);
    }

    #[test]
    fn every_prompt_ends_and_helps() {
        assert_eq!(parsed("quit"), Line::Quit);
        assert_eq!(parsed("exit"), Line::Quit);
        assert_eq!(parsed("help"), Line::Help);
        let (text, rows) = help(WORDS);
        assert_eq!(
            text.lines().next(),
            Some("push VALUE  append a value"),
            "{text}"
        );
        assert_eq!(rows.len(), 4);
    }
}
