//! [`Spec`]: one thing to measure, with every parameter settled. Worker processes are sent it as JSON.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Workload {
    /// First in, first out.
    Queue,
    /// The lowest number first.
    PriorityQueue,
    /// One opens it, many wait.
    Barrier,
    /// All enter and leave together.
    DoubleBarrier,
    /// A lock and its contenders.
    Lock,
    /// Leaders and their candidates.
    Election,
    /// Transfers between accounts.
    Stm,
    /// The store's own calls: the floor of everything above.
    Raw,
}

/// What of it is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Case {
    /// Queues: items go in.
    Fill,
    /// Queues: items that are there come out.
    Drain,
    /// Queues: items go in and come out at once.
    Transfer,
    /// Queues: one item at a time, to a consumer that waits for it.
    Idle,
    /// Queues: many items a call. Raw: many puts a transaction.
    Batch,
    /// Barrier: from the release until the last waiter has returned.
    Release,
    /// Double barrier: all enter and leave.
    Rounds,
    /// Lock, election: taken and given back.
    Cycle,
    /// STM: money moves between accounts.
    Bank,
    /// Raw: one put a call.
    Put,
    /// Raw: one read of a key a call.
    Get,
    /// Raw: one put under a condition a call.
    Txn,
}

/// Who has a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Connections {
    /// Every worker its own.
    Own,
    /// All workers of a process together one.
    Shared,
}

macro_rules! shown_as_typed {
    ($($name:ty),*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let value = self.to_possible_value();
                f.pad(value.as_ref().map_or("", |value| value.get_name()))
            }
        }
    )*};
}
shown_as_typed!(Workload, Case, Connections);

impl Workload {
    /// Its cases.
    pub(crate) fn cases(self) -> &'static [Case] {
        match self {
            Workload::Queue | Workload::PriorityQueue => &[
                Case::Transfer,
                Case::Fill,
                Case::Drain,
                Case::Idle,
                Case::Batch,
            ],
            Workload::Barrier => &[Case::Release],
            Workload::DoubleBarrier => &[Case::Rounds],
            Workload::Lock | Workload::Election => &[Case::Cycle],
            Workload::Stm => &[Case::Bank],
            Workload::Raw => &[Case::Put, Case::Get, Case::Txn, Case::Batch],
        }
    }

    /// The case that is meant when none is named: the first.
    pub(crate) fn default_case(self) -> Case {
        self.cases().first().copied().unwrap_or(Case::Put)
    }
}

/// The number of something that a case has; a case without it has `None`.
pub(crate) type Number = Option<u64>;

/// One thing to measure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spec {
    pub(crate) workload: Workload,
    pub(crate) case: Case,
    /// What stands before all keys of this measurement.
    pub(crate) name: String,
    pub(crate) producers: Number,
    pub(crate) consumers: Number,
    pub(crate) participants: Number,
    pub(crate) waiters: Number,
    pub(crate) tasks: Number,
    /// How many operations are counted, over all workers; else as many as the duration allows.
    pub(crate) items: Number,
    pub(crate) value_size: Number,
    pub(crate) fill_first: Number,
    pub(crate) batch: Number,
    pub(crate) priorities: Number,
    pub(crate) accounts: Number,
    /// Transfers of each task.
    pub(crate) transfers: Number,
    /// Whether a lock is handed over between the tasks of a client.
    pub(crate) local_handover: bool,
    pub(crate) connections: Connections,
    pub(crate) processes: u64,
    pub(crate) duration: Option<Duration>,
    pub(crate) warm_up: Duration,
    /// Operations a second that begin on a schedule, over all workers.
    pub(crate) rate: Option<f64>,
}

impl Spec {
    /// How many operations are counted at most.
    pub(crate) fn limit(&self) -> Option<u64> {
        match (self.transfers, self.tasks) {
            (Some(transfers), Some(tasks)) => Some(transfers.saturating_mul(tasks)),
            _ => self.items,
        }
    }

    /// What is counted.
    pub(crate) fn unit(&self) -> &'static str {
        match self.case {
            Case::Fill | Case::Drain | Case::Transfer | Case::Idle => "items",
            Case::Batch if self.workload == Workload::Raw => "puts",
            Case::Batch => "items",
            Case::Release | Case::Rounds => "rounds",
            Case::Cycle => "cycles",
            Case::Bank => "transfers",
            Case::Put => "puts",
            Case::Get => "gets",
            Case::Txn => "txns",
        }
    }

    /// What the latencies are of.
    pub(crate) fn latency_of(&self) -> &'static str {
        match self.case {
            Case::Fill => "an enqueue",
            Case::Drain => "a dequeue",
            Case::Transfer => "from the enqueue's call until the item is out",
            Case::Idle => "from the enqueue's call to the waiting consumer's return",
            Case::Batch if self.workload == Workload::Raw => "a transaction",
            Case::Batch => "both calls of a batch",
            Case::Release => "from the release's call to the last waiter's return",
            Case::Rounds => "from entering until all have left",
            Case::Cycle if self.workload == Workload::Lock => "from the call to the lock",
            Case::Cycle => "from the call to leadership",
            Case::Bank => "a transfer with all its attempts",
            Case::Put => "a put",
            Case::Get => "a get",
            Case::Txn => "a transaction",
        }
    }

    /// The parameters that apply, as every program with this format names them.
    pub(crate) fn parameters(&self) -> Map<String, Value> {
        let mut map = Map::new();
        for (name, number) in self.numbers() {
            if let Some(number) = number {
                map.insert(name.to_owned(), json!(number));
            }
        }
        if self.local_handover {
            map.insert("local_handover".to_owned(), json!(true));
        }
        map.insert("connections".to_owned(), json!(self.connections));
        map.insert("processes".to_owned(), json!(self.processes));
        if let Some(duration) = self.duration {
            map.insert("duration_seconds".to_owned(), json!(duration.as_secs_f64()));
        }
        if !self.warm_up.is_zero() {
            map.insert(
                "warm_up_seconds".to_owned(),
                json!(self.warm_up.as_secs_f64()),
            );
        }
        if let Some(rate) = self.rate {
            map.insert("rate".to_owned(), json!(rate));
        }
        map
    }

    /// The numbers by the names of their options, with `_` for `-`.
    pub(crate) fn numbers(&self) -> [(&'static str, Number); 12] {
        [
            ("producers", self.producers),
            ("consumers", self.consumers),
            ("participants", self.participants),
            ("waiters", self.waiters),
            ("tasks", self.tasks),
            ("items", self.items),
            ("value_size", self.value_size),
            ("fill_first", self.fill_first),
            ("batch", self.batch),
            ("priorities", self.priorities),
            ("accounts", self.accounts),
            ("transfers", self.transfers),
        ]
    }

    /// The parameters that matter most, in a few words.
    pub(crate) fn brief(&self) -> String {
        let mut words = Vec::new();
        let mut word = |number: Number, one: &str, many: &str| match number {
            None => {}
            Some(1) => words.push(format!("1 {one}")),
            Some(number) => words.push(format!("{number} {many}")),
        };
        word(self.producers, "producer", "producers");
        word(self.consumers, "consumer", "consumers");
        word(self.participants, "participant", "participants");
        word(self.waiters, "waiter", "waiters");
        word(self.tasks, "task", "tasks");
        word(self.batch, "a call", "a call");
        word(self.fill_first.filter(|depth| *depth > 0), "deep", "deep");
        word(self.accounts, "account", "accounts");
        word(
            Some(self.processes).filter(|processes| *processes > 1),
            "",
            "processes",
        );
        if self.local_handover {
            words.push("local hand-over".to_owned());
        }
        if self.connections == Connections::Shared {
            words.push("one connection".to_owned());
        }
        words.join(", ")
    }
}
