//! The words of the queues' prompts.

use std::time::Duration;

use super::ops::{MUST_SET_BOTH, MUST_SET_VALUE, Ops};
use super::pop::{from_now, nothing_came, take};
use crate::failure::{Exit, Failure, Result};
use crate::output::Output;
use crate::prompt::{Word, Words};

/// A queue's words.
pub(super) struct QueueWords {
    ops: Ops,
    /// How long to wait for an item.
    limit: Option<Duration>,
}

impl QueueWords {
    pub(super) fn new(ops: Ops, limit: Option<Duration>) -> QueueWords {
        QueueWords { ops, limit }
    }

    async fn pop(&self, out: &mut Output) -> Result<()> {
        match take(&self.ops, self.limit.map(from_now)).await? {
            Some(item) => self.ops.show(item, out).await,
            None => Err(nothing_came(&self.ops, self.limit).await?),
        }
    }
}

const PUSH: Word = Word {
    name: "push",
    values: "VALUE",
    about: "append a value; quote it if it has spaces",
    count: 1..=1,
    otherwise: MUST_SET_VALUE,
};

const PUSH_PRIORITY: Word = Word {
    name: "push",
    values: "VALUE PRIORITY",
    about: "put a value in; the lower number, of 0 to 65535, comes out first",
    count: 2..=2,
    otherwise: MUST_SET_BOTH,
};

const POP: Word = Word::alone(
    "pop",
    "take the first item and show it; wait for one while there is none",
    "pop takes no value",
);

const LEN: Word = Word::alone("len", "show how many items there are", "len takes no value");

const PEEK: Word = Word::alone(
    "peek",
    "show the first item and leave it there",
    "peek takes no value",
);

const WORDS: [Word; 4] = [PUSH, POP, LEN, PEEK];
const PRIORITY_WORDS: [Word; 4] = [PUSH_PRIORITY, POP, LEN, PEEK];

impl Words for QueueWords {
    fn words(&self) -> &'static [Word] {
        if self.ops.is_priority() {
            &PRIORITY_WORDS
        } else {
            &WORDS
        }
    }

    async fn run(&mut self, word: &str, values: &[Vec<u8>], out: &mut Output) -> Result<()> {
        let ops = &self.ops;
        match word {
            "push" => match ops.entry(values) {
                Ok(entry) => ops.push(&[entry], &mut 0).await,
                Err(words) => Err(Failure::answer(Exit::Usage, words)),
            },
            "pop" => self.pop(out).await,
            "len" => ops.len(out).await,
            "peek" => match ops.peek(out).await? {
                true => Ok(()),
                false => Err(Failure::answer(Exit::Nothing, "the queue is empty")),
            },
            // Whoever calls knows the table.
            _ => Err(Failure::answer(Exit::Usage, "unknown action")),
        }
    }
}
