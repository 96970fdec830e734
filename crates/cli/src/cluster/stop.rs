//! Ending a cluster: its processes, and no others.

use std::time::Duration;

use rustix::process::Signal;

use super::folder::{Folder, Plan};
use super::member::Member;
use crate::failure::{Exit, Failure, Result};
use crate::local::process::Process;

/// How long a node may take to end when it is asked to.
const END: Duration = Duration::from_secs(10);

/// What was done.
#[derive(Debug)]
pub(crate) struct Stopped {
    pub(crate) plan: Plan,
    /// The nodes that ran.
    pub(crate) ended: Vec<Member>,
    /// Those of them that did not end when asked, and were killed.
    pub(crate) killed: Vec<String>,
    pub(crate) removed: bool,
}

/// Ends the cluster in `folder`; with `remove`, removes its data as well.
pub(crate) async fn stop(folder: &Folder, remove: bool) -> Result<Stopped> {
    if folder.plan()?.is_none() {
        return Err(none(folder));
    }
    let lock = folder.lock()?;
    // Read again: whoever had the lock may have changed it.
    let Some(mut plan) = folder.plan()? else {
        return Err(none(folder));
    };
    let mut running: Vec<(Member, Process)> = Vec::new();
    for member in &plan.members {
        if let Some(process) = member.process(folder)? {
            running.push((member.clone(), process));
        }
    }
    if running.is_empty() && !remove {
        return Err(Failure::new(
            Exit::Nothing,
            format!("the cluster in {} does not run", folder.path().display()),
        )
        .hint("`synod cluster start` starts it again; --remove-data removes what it stored"));
    }
    let cannot = |error: std::io::Error| Failure::failed("cannot end a node").because(&error);
    // Who leads looks for a successor first, which takes seconds, and is for nothing when all that
    // was stored goes too.
    let signal = if remove { Signal::KILL } else { Signal::TERM };
    for (_, process) in &running {
        send(process, signal).map_err(cannot)?;
    }
    let mut killed = Vec::new();
    for (member, process) in &running {
        if !process.ended(END).await.map_err(cannot)? {
            send(process, Signal::KILL).map_err(cannot)?;
            killed.push(member.name.clone());
            if !process.ended(END).await.map_err(cannot)? {
                return Err(Failure::failed(format!(
                    "{} (pid {:?}) does not end",
                    member.name, member.pid
                )));
            }
        }
    }
    for member in &mut plan.members {
        member.pid = None;
    }
    folder.record(&plan)?;
    if remove {
        folder.remove(&plan)?;
    }
    drop(lock);
    Ok(Stopped {
        plan,
        ended: running.into_iter().map(|(member, _)| member).collect(),
        killed,
        removed: remove,
    })
}

/// Sends a signal; a process that ends just now needs none.
fn send(process: &Process, signal: Signal) -> std::io::Result<()> {
    match process.signal(signal) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error()) => {
            Ok(())
        }
        outcome => outcome,
    }
}

fn none(folder: &Folder) -> Failure {
    Failure::new(
        Exit::Nothing,
        format!("there is no cluster in {}", folder.path().display()),
    )
    .hint("`synod cluster start` makes one; --dir names another folder")
}
