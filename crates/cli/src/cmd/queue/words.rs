//! The words of the queue's prompt.

use bytes::Bytes;

use super::ops::Ops;
use crate::failure::Result;
use crate::output::Output;
use crate::prompt::{Word, Words};

/// The queue's words.
pub(super) struct QueueWords(Ops);

impl QueueWords {
    pub(super) fn new(ops: Ops) -> QueueWords {
        QueueWords(ops)
    }
}

const WORDS: [Word; 4] = [
    Word {
        name: "push",
        values: "VALUE",
        about: "append a value; quote it if it has spaces",
        count: 1..=1,
        otherwise: "must set value to push",
    },
    Word {
        name: "pop",
        values: "",
        about: "take the oldest item and show it; wait for one while there is none",
        count: 0..=0,
        otherwise: "pop takes no value",
    },
    Word {
        name: "len",
        values: "",
        about: "show how many items there are",
        count: 0..=0,
        otherwise: "len takes no value",
    },
    Word {
        name: "peek",
        values: "",
        about: "show the oldest item and leave it there",
        count: 0..=0,
        otherwise: "peek takes no value",
    },
];

impl Words for QueueWords {
    fn words(&self) -> &'static [Word] {
        &WORDS
    }

    async fn run(&mut self, word: &str, values: &[Vec<u8>], out: &mut Output) -> Result<()> {
        let ops = &self.0;
        match (word, values) {
            ("push", [value]) => ops.push(vec![Bytes::copy_from_slice(value)]).await,
            ("pop", _) => {
                let item = ops.take().await?;
                ops.show(item, out).await
            }
            ("len", _) => ops.len(out).await,
            ("peek", _) => match ops.peek(out).await? {
                true => Ok(()),
                false => Ok(out.complaint("the queue is empty")?),
            },
            // Whoever calls knows the table.
            _ => Ok(out.complaint("unknown action")?),
        }
    }
}
