//! What clients did, and what the store says has happened.

use std::time::Duration;

use synod::{Error, Resolution};
use synod_store::{RangeRequest, RangeResponse, Revision};

use crate::oracle::Oracle;

/// How an operation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// It was done; with what it gave.
    Done(String),
    /// It was not done, and will not be.
    Not(String),
    /// Nobody knows, or its client is gone.
    Doubt,
}

/// One operation of a client.
#[derive(Debug, Clone)]
pub(crate) struct Op {
    pub(crate) client: usize,
    pub(crate) incarnation: u64,
    pub(crate) what: &'static str,
    pub(crate) argument: String,
    pub(crate) begin: Duration,
    pub(crate) end: Option<Duration>,
    pub(crate) outcome: End,
}

/// Something that a client held.
#[derive(Debug, Clone)]
pub(crate) struct Hold {
    pub(crate) client: usize,
    /// `write`, `read`, or a number of permits.
    pub(crate) kind: &'static str,
    pub(crate) token: u64,
    pub(crate) from: Duration,
    /// When it was given back, or known to be lost.
    pub(crate) to: Option<Duration>,
}

/// What was read, to be compared with what was there.
#[derive(Debug)]
pub(crate) struct Read {
    pub(crate) client: usize,
    pub(crate) incarnation: u64,
    pub(crate) begin: Duration,
    pub(crate) end: Duration,
    pub(crate) header: Revision,
    pub(crate) range: Option<(RangeRequest, RangeResponse)>,
}

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) ops: Vec<Op>,
    pub(crate) holds: Vec<Hold>,
    pub(crate) reads: Vec<Read>,
    pub(crate) oracle: Oracle,
    /// When each client was paused, in seconds of virtual time.
    pub(crate) pauses: Vec<(usize, Duration, Duration)>,
    /// When clients crashed.
    pub(crate) crashes: Vec<(usize, Duration)>,
    /// When the last fault was healed.
    pub(crate) healed: Duration,
    /// What went wrong in the store itself.
    pub(crate) violations: Vec<String>,
}

impl History {
    /// An operation begins; its number.
    pub(crate) fn begin(
        &mut self,
        client: usize,
        incarnation: u64,
        what: &'static str,
        argument: String,
    ) -> usize {
        self.ops.push(Op {
            client,
            incarnation,
            what,
            argument,
            begin: crate::world::now(),
            end: None,
            outcome: End::Doubt,
        });
        self.ops.len() - 1
    }

    pub(crate) fn end(&mut self, op: usize, outcome: End) {
        self.ops[op].end = Some(crate::world::now());
        self.ops[op].outcome = outcome;
    }

    /// What became of an operation that was in doubt.
    pub(crate) fn resolved(&mut self, op: usize, resolution: &Resolution) {
        self.ops[op].outcome = match resolution {
            Resolution::Happened => End::Done("resolved".to_owned()),
            // What its clients do otherwise only reads.
            Resolution::NeverWill | Resolution::Otherwise => End::Not("resolved".to_owned()),
            _ => End::Doubt,
        };
    }

    pub(crate) fn hold(&mut self, client: usize, kind: &'static str, token: u64) -> usize {
        self.holds.push(Hold {
            client,
            kind,
            token,
            from: crate::world::now(),
            to: None,
        });
        self.holds.len() - 1
    }

    /// Whether a client holds something now.
    pub(crate) fn is_holding(&self, client: usize) -> bool {
        let mut holds = self.holds.iter();
        holds.any(|hold| hold.client == client && hold.to.is_none())
    }

    /// It is not relied upon any more.
    pub(crate) fn unhold(&mut self, hold: usize) {
        self.holds[hold].to.get_or_insert(crate::world::now());
    }

    /// A client is gone, and relies on nothing.
    pub(crate) fn crashed(&mut self, client: usize) {
        let now = crate::world::now();
        self.crashes.push((client, now));
        for hold in self.holds.iter_mut().filter(|hold| hold.client == client) {
            hold.to.get_or_insert(now);
        }
    }

    /// Whether a client was paused at some moment of this time.
    pub(crate) fn was_paused(&self, client: usize, from: Duration, to: Duration) -> bool {
        let mut pauses = self.pauses.iter();
        pauses.any(|(who, begin, end)| *who == client && *begin <= to && *end >= from)
    }

    /// The operations of one kind.
    pub(crate) fn all<'h>(&'h self, what: &'h str) -> impl Iterator<Item = &'h Op> {
        self.ops.iter().filter(move |op| op.what == what)
    }
}

/// What a result says about the operation.
pub(crate) fn outcome<T>(result: &Result<T, Error>, show: impl FnOnce(&T) -> String) -> End {
    match result {
        Ok(value) => End::Done(show(value)),
        Err(error) if error.is_maybe_committed() => End::Doubt,
        Err(error) => End::Not(error.to_string()),
    }
}
