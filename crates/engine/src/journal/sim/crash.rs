//! One of the disks that a crash may leave, as chance has it: `images.rs` gives all of them.

use std::collections::BTreeMap;

use super::{Inode, Op, Sim, apply, apply_name};

impl Sim {
    /// After so many more changing calls nothing is done any more.
    pub(crate) fn stop_after(&self, calls: usize) {
        let mut state = self.state();
        state.stop = Some(state.calls + calls);
    }

    pub(crate) fn has_stopped(&self) -> bool {
        self.state().is_stopped()
    }

    /// What was synced; of each later write everything, nothing or its beginning; of the changes to names the first
    /// few. `chance` gives a number below the one that it is given.
    pub(crate) fn crash(&self, mut chance: impl FnMut(u64) -> u64) -> Sim {
        let state = self.state();
        let mut contents = vec![Vec::new(); state.inodes.len()];
        let mut pending: Vec<(Inode, u64, &[u8])> = Vec::new();
        let mut names = BTreeMap::new();
        let mut pending_names: Vec<&Op> = Vec::new();
        for op in &state.ops {
            match op {
                Op::Write(inode, offset, data) => pending.push((*inode, *offset, data)),
                Op::Sync(inode) => {
                    for (_, offset, data) in pending.iter().filter(|(i, ..)| i == inode) {
                        apply(&mut contents[*inode], *offset, data);
                    }
                    pending.retain(|(i, ..)| i != inode);
                }
                Op::SyncLost(inode) => pending.retain(|(i, ..)| i != inode),
                Op::SyncDir(dir) => pending_names.retain(|op| {
                    let synced = op.path().parent() == Some(dir);
                    if synced {
                        apply_name(&mut names, op);
                    }
                    !synced
                }),
                op => pending_names.push(op),
            }
        }
        for (inode, offset, data) in pending {
            let kept = match chance(3) {
                0 => 0,
                1 => data.len(),
                _ => chance(data.len() as u64 + 1) as usize,
            };
            if kept > 0 {
                apply(&mut contents[inode], offset, &data[..kept]);
            }
        }
        let kept = chance(pending_names.len() as u64 + 1) as usize;
        for op in &pending_names[..kept] {
            apply_name(&mut names, op);
        }
        let dirs = state.dirs.clone();
        let files = names.into_iter();
        let files = files.map(|(path, inode)| (path, std::mem::take(&mut contents[inode])));
        Sim::with(dirs, files.collect())
    }
}
