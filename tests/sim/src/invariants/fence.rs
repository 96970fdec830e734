//! What only the holder may write is never written by an earlier one: tokens never fall, whoever was frozen.

use synod_store::{EventKind, Revision};

use crate::history::History;
use crate::workloads::REGISTER;

pub(super) fn check(history: &History) -> Result<(), String> {
    let mut last: Option<(Revision, u64)> = None;
    for (_, revision, event) in &history.oracle.log {
        if event.kind != EventKind::Put || event.kv.key.as_bytes() != REGISTER.as_bytes() {
            continue;
        }
        let text = String::from_utf8_lossy(&event.kv.value);
        let token = text.parse().map_err(|_| format!("{text:?} is no token"))?;
        if let Some((before, highest)) = last
            && token < highest
        {
            return Err(format!(
                "token {token} wrote at revision {revision}, after {highest} at {before}"
            ));
        }
        last = Some((*revision, token));
    }
    Ok(())
}
