//! One run of a prompt, from its first line to its end.

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use serde_json::json;

use super::editor::{Edited, Terminal};
use super::lines::Lines;
use super::{Line, Words, help, parse};
use crate::failure::{Exit, Failure, Result};
use crate::output::{Output, notice};
use crate::signals::{Signals, Stop};

/// What a prompt shows and where it keeps its history.
#[derive(Debug, Clone)]
pub(crate) struct Prompt {
    /// Stands before the line.
    pub(crate) text: String,
    /// One line on stderr at the start; on a terminal only.
    pub(crate) greeting: String,
    /// The file for the history; `None` to forget it.
    pub(crate) history: Option<PathBuf>,
}

/// Where lines come from.
enum Input {
    Terminal(Terminal),
    Pipe(Lines),
}

/// Runs lines until they end, `quit` or `exit`.
pub(crate) async fn run(
    prompt: Prompt,
    words: &mut impl Words,
    out: &mut Output,
    signals: &mut Signals,
) -> Result<()> {
    let terminal = io::stdin().is_terminal() && io::stdout().is_terminal();
    let input = if terminal {
        notice(&prompt.greeting);
        Terminal::open(prompt.text, words.words(), prompt.history).map(Input::Terminal)
    } else {
        Lines::of_stdin().map(Input::Pipe)
    };
    let mut input =
        input.map_err(|error| Failure::failed("cannot read standard input").because(&error))?;
    let mut first_failure = None;
    loop {
        let line = match next_line(&mut input, signals).await? {
            Some(line) => line,
            None => break,
        };
        let ran = match parse(words.words(), &line) {
            Line::Empty => Ok(()),
            Line::Quit => break,
            Line::Help => {
                let (text, rows) = help(words.words());
                out.line(&text, json!({ "help": rows }))
                    .map_err(Failure::from)
            }
            Line::Wrong(answer) => Err(Failure::answer(Exit::Usage, answer)),
            Line::Unfinished => Err(Failure::usage("the line ends inside a quote")
                .hint("words are split as by a shell: end the quote, or put \\ before it")),
            Line::Run(word, values) => tokio::select! {
                biased;
                stop = signals.stop() => match (stop, terminal) {
                    // What ran is dropped; the prompt comes back on a line of its own.
                    (Stop::Interrupt, true) => {
                        notice("");
                        Ok(())
                    }
                    _ => return Err(stop.failure()),
                },
                ran = words.run(word, &values, out) => ran,
            },
        };
        let Err(failure) = ran else { continue };
        if failure.ends() {
            return Err(failure);
        }
        report(&failure, out)?;
        first_failure.get_or_insert(failure.exit);
    }
    match first_failure {
        Some(exit) if !terminal => Err(Failure::silent(exit)),
        _ => Ok(()),
    }
}

/// The next line; `None` at the end of the input.
async fn next_line(input: &mut Input, signals: &mut Signals) -> Result<Option<Vec<u8>>> {
    loop {
        let read = async {
            match input {
                Input::Pipe(lines) => lines.next().await,
                Input::Terminal(terminal) => Ok(match terminal.line().await? {
                    Edited::Line(line) => Some(line.into_bytes()),
                    Edited::Interrupted => Some(Vec::new()),
                    Edited::End => None,
                }),
            }
        };
        let read = tokio::select! {
            biased;
            stop = signals.stop() => match (stop, &*input) {
                // Ctrl-C just after what it was meant to end had ended.
                (Stop::Interrupt, Input::Terminal(_)) => continue,
                _ => return Err(stop.failure()),
            },
            read = read => read,
        };
        return read.map_err(|error| Failure::failed("cannot read standard input").because(&error));
    }
}

/// Says what went wrong, and goes on.
fn report(failure: &Failure, out: &mut Output) -> Result<()> {
    match failure.as_answer() {
        Some(answer) => out.line(answer, json!({ "error": answer }))?,
        None => notice(failure.render(out.format()).trim_end()),
    }
    Ok(())
}
