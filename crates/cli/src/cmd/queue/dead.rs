//! `dead`: the items that failed too often.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use serde_json::{Value, json};
use synod_store::Key;

use super::ops::{Ops, either};
use crate::args::DeadCommand;
use crate::explain::explain;
use crate::failure::{Exit, Failure, Result};
use crate::output::{Output, insert_bytes};

pub(super) async fn run(ops: &Ops, command: &DeadCommand, out: &mut Output) -> Result<()> {
    let dead = either!(ops.any(), queue => queue.dead());
    let cannot = |doing: &str, error: &synod::Error| {
        explain(
            &format!("cannot {doing} the dead letters of {}", ops.name()),
            error,
        )
    };
    match command {
        DeadCommand::List => {
            let letters = dead.list(usize::MAX).await;
            for letter in letters.map_err(|error| cannot("read", &error))? {
                let mut fields = serde_json::Map::new();
                insert_bytes(&mut fields, "key", &letter.key);
                insert_bytes(&mut fields, "item", &letter.item);
                fields.insert("attempts".into(), letter.attempts.into());
                out.value(&letter.value, Value::Object(fields))?;
            }
            Ok(())
        }
        DeadCommand::Requeue { letter: None } => {
            let back = dead.requeue_all().await;
            let back = back.map_err(|error| cannot("put back", &error))?;
            Ok(out.line(&back.to_string(), json!({ "requeued": back }))?)
        }
        DeadCommand::Requeue { letter: Some(key) } => {
            let key = Key::from(OsString::into_vec(key.clone()));
            let back = dead.requeue(&key).await;
            if back.map_err(|error| cannot("put back", &error))? {
                return Ok(out.line("1", json!({ "requeued": 1 }))?);
            }
            Err(Failure::new(
                Exit::Nothing,
                format!("{key} is no dead letter of {} any more", ops.name()),
            ))
        }
        DeadCommand::Clear => {
            let cleared = dead.clear().await;
            let cleared = cleared.map_err(|error| cannot("remove", &error))?;
            Ok(out.line(&cleared.to_string(), json!({ "cleared": cleared }))?)
        }
    }
}
