//! What a measurement ran on.

use std::fs;

use serde_json::{Value, json};

/// Processor, memory, system and file system.
pub(super) fn machine() -> Value {
    let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
    let field = |text: &str, name: &str| {
        text.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then(|| value.trim().to_string())
        })
    };
    let memory = field(&read("/proc/meminfo"), "MemTotal");
    let gib = memory
        .and_then(|text| text.strip_suffix("kB")?.trim().parse::<f64>().ok())
        .map(|kib| (kib / f64::from(1 << 20)).round());
    let word = |file: &str| read(file).trim().to_string();
    json!({
        "processor": field(&read("/proc/cpuinfo"), "model name"),
        "cpus": std::thread::available_parallelism().map_or(0, usize::from),
        "memory_gib": gib,
        "system": format!(
            "{} {}",
            word("/proc/sys/kernel/ostype"),
            word("/proc/sys/kernel/osrelease")
        ),
        "file_system": file_system(&read("/proc/mounts")),
    })
}

/// The type of the file system that holds this package.
fn file_system(mounts: &str) -> Option<String> {
    let here = env!("CARGO_MANIFEST_DIR");
    mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let (point, kind) = (words.next()?, words.next()?);
            here.starts_with(point)
                .then_some((point.len(), kind.to_string()))
        })
        .max()
        .map(|(_, kind)| kind)
}
