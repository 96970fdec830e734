//! The line editor of a terminal, on a thread of its own: it blocks. It edits one line when asked
//! for one, so nothing is edited, and the terminal is in its usual mode, while a word runs; then
//! Ctrl-C is a signal.

use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::mpsc as blocking;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use rustyline::completion::Completer;
use rustyline::config::Config;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::{DefaultHistory, History};
use rustyline::validate::Validator;
use rustyline::{Context, Editor, Helper};
use tokio::sync::mpsc;

use super::{COMMON, Word};

/// What came of asking for a line.
#[derive(Debug)]
pub(super) enum Edited {
    /// A line.
    Line(String),
    /// Ctrl-C: the line is given up.
    Interrupted,
    /// Ctrl-D, or the terminal is gone.
    End,
}

/// A terminal's line editor.
#[derive(Debug)]
pub(super) struct Terminal {
    ask: blocking::Sender<()>,
    lines: mpsc::Receiver<io::Result<Edited>>,
    /// How the terminal was set before anything was edited.
    usual: Option<Termios>,
    editing: bool,
}

impl Terminal {
    /// An editor that shows `prompt`, completes `words` and keeps its history in the file
    /// `history`.
    pub(super) fn open(
        prompt: String,
        words: &'static [Word],
        history: Option<PathBuf>,
    ) -> io::Result<Terminal> {
        let (ask, asked) = blocking::channel();
        let (tx, lines) = mpsc::channel(1);
        let usual = tcgetattr(rustix::stdio::stdin()).ok();
        std::thread::Builder::new()
            .name("editor".to_owned())
            .spawn(move || {
                let mut editor = match new_editor(words, history.as_deref()) {
                    Ok(editor) => editor,
                    Err(error) => {
                        let _ = tx.blocking_send(Err(error));
                        return;
                    }
                };
                while asked.recv().is_ok() {
                    let edited = edit(&mut editor, &prompt, history.as_deref());
                    if tx.blocking_send(edited).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Terminal {
            ask,
            lines,
            usual,
            editing: false,
        })
    }

    /// Has a line edited.
    ///
    /// # Cancel safety
    ///
    /// Safe: the next call goes on with the same line.
    pub(super) async fn line(&mut self) -> io::Result<Edited> {
        if !self.editing {
            if self.ask.send(()).is_err() {
                return Ok(Edited::End);
            }
            self.editing = true;
        }
        let edited = self.lines.recv().await;
        self.editing = false;
        edited.unwrap_or(Ok(Edited::End))
    }
}

impl Drop for Terminal {
    /// Whoever ends while a line is edited (SIGTERM) leaves the terminal as it was found.
    fn drop(&mut self) {
        let (true, Some(usual)) = (self.editing, &self.usual) else {
            return;
        };
        let raw = tcgetattr(rustix::stdio::stdin())
            .is_ok_and(|now| !now.local_modes.contains(LocalModes::ICANON));
        if raw {
            let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, usual);
            // The editor had pasted text marked, which is not for what comes after it.
            let _ = io::stdout().write_all(b"\x1b[?2004l\r\n");
            let _ = io::stdout().flush();
        }
    }
}

type LineEditor = Editor<WordCompleter, DefaultHistory>;

fn new_editor(words: &'static [Word], history: Option<&std::path::Path>) -> io::Result<LineEditor> {
    let config = Config::builder()
        .history_ignore_space(true)
        .max_history_size(1_000)
        .map_err(into_io)?
        .build();
    let mut editor = LineEditor::with_config(config).map_err(into_io)?;
    editor.set_helper(Some(WordCompleter { words }));
    if let Some(history) = history {
        // The first time there is none.
        let _ = editor.load_history(history);
    }
    Ok(editor)
}

fn edit(
    editor: &mut LineEditor,
    prompt: &str,
    history: Option<&std::path::Path>,
) -> io::Result<Edited> {
    match editor.readline(prompt) {
        Ok(line) => {
            // A history that cannot be kept is no reason to refuse the line.
            let before = editor.history().len();
            let _ = editor.add_history_entry(line.as_str());
            if let (true, Some(history)) = (editor.history().len() > before, history) {
                let _ = editor.append_history(history);
            }
            Ok(Edited::Line(line))
        }
        Err(ReadlineError::Interrupted) => Ok(Edited::Interrupted),
        Err(ReadlineError::Eof) => Ok(Edited::End),
        Err(error) => Err(into_io(error)),
    }
}

fn into_io(error: ReadlineError) -> io::Error {
    match error {
        ReadlineError::Io(error) => error,
        other => io::Error::other(other),
    }
}

/// Completes the first word of a line.
#[derive(Debug)]
struct WordCompleter {
    words: &'static [Word],
}

impl WordCompleter {
    fn beginning_with(&self, start: &str) -> Vec<String> {
        self.words
            .iter()
            .chain(&COMMON)
            .filter(|word| word.name.starts_with(start))
            .map(|word| {
                // A word that takes values is followed by one.
                let space = if word.values.is_empty() { "" } else { " " };
                format!("{}{space}", word.name)
            })
            .collect()
    }
}

impl Completer for WordCompleter {
    type Candidate = String;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &Context<'_>,
    ) -> rustyline::Result<(usize, Vec<String>)> {
        let before = line.get(..at).unwrap_or(line);
        let start = before.len().saturating_sub(before.trim_start().len());
        let word = before.trim_start();
        let candidates = if word.contains(char::is_whitespace) {
            Vec::new()
        } else {
            self.beginning_with(word)
        };
        Ok((start, candidates))
    }
}

impl Hinter for WordCompleter {
    type Hint = String;
}

impl Highlighter for WordCompleter {}
impl Validator for WordCompleter {}
impl Helper for WordCompleter {}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: &[Word] = &[Word {
        name: "push",
        values: "VALUE",
        about: "",
        count: 1..=1,
        otherwise: "",
    }];

    #[test]
    fn the_first_word_is_completed_and_no_other() {
        let completer = WordCompleter { words: WORDS };
        let history = DefaultHistory::new();
        let context = Context::new(&history);
        let complete = |line: &str| completer.complete(line, line.len(), &context).unwrap();
        assert_eq!(complete("pu"), (0, vec!["push ".to_owned()]));
        assert_eq!(complete("  q"), (2, vec!["quit".to_owned()]));
        assert_eq!(complete("").1.len(), 4);
        assert_eq!(complete("push q").1.len(), 0);
    }
}
