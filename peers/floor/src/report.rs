//! The JSON object that is printed.

use serde_json::{Map, Value, json};

use crate::args::{Connections, Options, Variant};
use crate::measure::Row;
use crate::store::Cluster;

/// What ran where, and the rows.
pub(crate) fn report(options: &Options, cluster: &Cluster, rows: &[Row]) -> Value {
    let rows: Vec<Value> = rows.iter().map(|row| row.json(options)).collect();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    json!({
        "format": 1,
        "program": { "name": "floor", "version": env!("CARGO_PKG_VERSION") },
        "store": {
            "address": options.addr,
            "server": cluster.server(),
            "nodes": cluster.nodes(),
        },
        "machine": machine(),
        "started_at": now.map_or(0, |now| now.as_secs()),
        "rows": rows,
    })
}

fn machine() -> Value {
    let word = |file: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        text.trim().to_owned()
    };
    let memory = word("/proc/meminfo");
    let memory = memory.lines().find_map(|line| {
        let kib = line.strip_prefix("MemTotal:")?.strip_suffix("kB")?;
        kib.trim().parse::<u64>().ok()
    });
    json!({
        "cpus": std::thread::available_parallelism().map_or(0, usize::from),
        "memory_bytes": memory.map(|kib| kib << 10),
        "os": format!("{} {}", word("/proc/sys/kernel/ostype"), word("/proc/sys/kernel/osrelease")),
        "file_system": null,
    })
}

impl Options {
    /// The parameters that apply to the workload.
    pub(crate) fn parameters(&self) -> Map<String, Value> {
        let mut map = Map::new();
        let mut put = |name: &str, value: Value| map.insert(name.to_owned(), value);
        put(
            "connections",
            match self.connections {
                Connections::Own => "own".into(),
                Connections::Shared => "shared".into(),
            },
        );
        put("duration_seconds", self.duration.as_secs_f64().into());
        put("warm_up_seconds", self.warm_up.as_secs_f64().into());
        match self.workload.as_str() {
            "queue" | "priority-queue" => {
                put("producers", self.producers.into());
                put("consumers", self.consumers.into());
                put("fill_first", self.fill_first.into());
                put("dead_first", self.dead_first.into());
                put("value_size", self.value_size.into());
                put("batch", self.batch.into());
                if self.workload == "priority-queue" {
                    put("priorities", self.priorities.into());
                }
            }
            "barrier" => {
                put("waiters", self.waiters.into());
            }
            "double-barrier" => {
                put("participants", self.participants.into());
            }
            _ => {
                put("tasks", self.tasks.into());
            }
        }
        match self.workload.as_str() {
            "stm" => {
                put("accounts", self.accounts.into());
            }
            "raw" => {
                put("value_size", self.value_size.into());
                put("batch", self.batch.into());
            }
            _ => {}
        }
        if self.variant != Variant::Plain {
            let name = match self.variant {
                Variant::Plain => "plain",
                Variant::Leader => "leader",
                Variant::TwoTrips => "two-trips",
            };
            put("variant", name.into());
        }
        map
    }
}
