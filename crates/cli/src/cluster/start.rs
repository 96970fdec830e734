//! Starting a cluster, whole or not at all.

use std::fs::File;
use std::process::Child;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::binary::Binary;
use super::folder::{Folder, Plan};
use super::member::{Health, Member};
use super::ports;
use crate::failure::{Exit, Failure, Result};

/// How long a cluster may take until all its nodes serve.
const START: Duration = Duration::from_secs(60);

/// How often a wait looks whether it is over.
const LOOK: Duration = Duration::from_millis(50);

/// How often other ports are tried when one was taken between its choice and its use.
const ATTEMPTS: usize = 5;

/// The number of nodes when nothing is said.
const NODES: usize = 3;

/// Starts the cluster in `folder` and returns when all nodes serve. `nodes` may be left open where
/// there are data.
///
/// # Cancel safety
///
/// Dropped, it ends what it has started.
pub(crate) async fn start(folder: &Folder, nodes: Option<usize>, etcd: &Binary) -> Result<Plan> {
    folder.make()?;
    let lock = folder.lock()?;
    let Some(plan) = folder.plan()? else {
        return start_new(folder, nodes.unwrap_or(NODES), etcd, &lock).await;
    };
    refuse_running(folder, &plan)?;
    if let Some(nodes) = nodes.filter(|&nodes| nodes != plan.members.len()) {
        return Err(Failure::usage(format!(
            "the cluster in {} has {} nodes, not {nodes}",
            folder.path().display(),
            plan.members.len()
        ))
        .hint("`synod cluster stop --remove-data` removes it; or choose another --dir"));
    }
    let mut starting = Starting::spawn(folder, plan, etcd, false)?;
    match starting.ready().await? {
        Ready::Serves => Ok(starting.finish()),
        Ready::PortTaken(member) => Err(Failure::failed(format!(
            "another program listens on a port of {}: {} or {}",
            member.name, member.client, member.peer
        ))
        .hint("end that program; or begin anew with `synod cluster stop --remove-data`")),
    }
}

async fn start_new(folder: &Folder, nodes: usize, etcd: &Binary, _: &File) -> Result<Plan> {
    for _ in 0..ATTEMPTS {
        let plan = new_plan(nodes, etcd)?;
        for member in &plan.members {
            let data = folder.data(member);
            if data.exists() {
                return Err(Failure::failed(format!(
                    "{} exists and belongs to no cluster that synod started",
                    data.display()
                ))
                .hint("choose another --dir"));
            }
        }
        let mut starting = Starting::spawn(folder, plan, etcd, true)?;
        if let Ready::Serves = starting.ready().await? {
            return Ok(starting.finish());
        }
        // Dropped here: it ends its processes and empties the folder.
        drop(starting);
        folder.make()?;
    }
    Err(Failure::failed(format!(
        "no free ports for etcd after {ATTEMPTS} attempts"
    )))
}

fn new_plan(nodes: usize, etcd: &Binary) -> Result<Plan> {
    let ports = ports::free(nodes.saturating_mul(2))?;
    let (clients, peers) = ports.split_at(nodes);
    let members = clients.iter().zip(peers).enumerate();
    Ok(Plan {
        version: etcd.version.clone(),
        members: members
            .map(|(index, (&client, &peer))| Member {
                name: format!("n{}", index + 1),
                client,
                peer,
                pid: None,
            })
            .collect(),
    })
}

fn refuse_running(folder: &Folder, plan: &Plan) -> Result<()> {
    let mut running: usize = 0;
    for member in &plan.members {
        running += usize::from(member.process(folder)?.is_some());
    }
    if running == 0 {
        return Ok(());
    }
    let all = plan.members.len();
    let dir = folder.path().display();
    Err(Failure::failed(format!(
        "a cluster runs in {dir} already: {running} of {all} nodes"
    ))
    .hint("`synod cluster status` shows it, `synod cluster stop` ends it; --dir makes another one"))
}

/// Processes that end with this, unless all came up.
struct Starting<'a> {
    folder: &'a Folder,
    plan: Plan,
    children: Vec<Child>,
    /// The folder is emptied when it fails.
    new: bool,
}

/// How waiting for the nodes ended.
enum Ready {
    Serves,
    /// A node could not listen.
    PortTaken(Member),
}

impl<'a> Starting<'a> {
    fn spawn(folder: &'a Folder, mut plan: Plan, etcd: &Binary, new: bool) -> Result<Starting<'a>> {
        plan.version.clone_from(&etcd.version);
        let mut starting = Starting {
            folder,
            plan: plan.clone(),
            children: Vec::new(),
            new,
        };
        for member in &mut starting.plan.members {
            let child = member.spawn(&etcd.path, folder, &plan)?;
            member.pid = Some(child.id());
            starting.children.push(child);
        }
        folder.record(&starting.plan)?;
        Ok(starting)
    }

    /// Waits until every node serves.
    async fn ready(&mut self) -> Result<Ready> {
        let deadline = Instant::now() + START;
        let members = self.plan.members.clone();
        for (index, member) in members.iter().enumerate() {
            loop {
                // In this order: who has ended cannot answer any more.
                if let Some(taken) = self.port_taken(&members)? {
                    return Ok(Ready::PortTaken(taken));
                }
                if let Health::Serves(_) = member.health(self.folder).await? {
                    break;
                }
                if Instant::now() >= deadline {
                    return Err(Failure::new(
                        Exit::Nothing,
                        format!(
                            "node {} of {} did not serve within {START:?}",
                            index + 1,
                            members.len()
                        ),
                    )
                    .cause(member.last_words(self.folder)));
                }
                sleep(LOOK).await;
            }
        }
        Ok(Ready::Serves)
    }

    /// The first node that has ended because a port of its was taken; an error when one has ended
    /// for another reason.
    fn port_taken(&mut self, members: &[Member]) -> Result<Option<Member>> {
        for (child, member) in self.children.iter_mut().zip(members) {
            // What cannot be asked now will be asked again.
            let Ok(Some(status)) = child.try_wait() else {
                continue;
            };
            if member.found_its_port_taken(self.folder) {
                return Ok(Some(member.clone()));
            }
            let what = format!("{} ended instead of serving ({status})", member.name);
            return Err(Failure::failed(what).cause(member.last_words(self.folder)));
        }
        Ok(None)
    }

    fn finish(mut self) -> Plan {
        self.children.clear();
        self.new = false;
        self.plan.clone()
    }
}

impl Drop for Starting<'_> {
    fn drop(&mut self) {
        for child in &mut self.children {
            // Nothing that was written is of use to anybody.
            let _ = child.kill();
            let _ = child.wait();
        }
        if self.new {
            let _ = self.folder.remove(&self.plan);
        } else if !self.children.is_empty() {
            let mut plan = self.plan.clone();
            for member in &mut plan.members {
                member.pid = None;
            }
            let _ = self.folder.record(&plan);
        }
    }
}
