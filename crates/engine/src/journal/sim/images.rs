//! The images of the disk that a crash may leave: what was not synced is there, lost, torn or out of order.

use std::collections::{BTreeMap, HashSet};

use super::{Inode, Op, Sim, apply, apply_name};

/// What is written whole or not at all.
const SECTOR: usize = 512;
/// So many of a write's first and of its last bytes are each a place where it may be torn; between them only sector
/// boundaries are. A record on its own is shorter than both together.
const TORN_AT_EACH_BYTE: usize = 80;

impl Sim {
    /// Only what is durable now.
    pub(crate) fn power_loss(&self) -> Self {
        let ops = self.ops();
        self.images(ops).swap_remove(0).1
    }

    /// The disks that a crash after the first `upto` calls may leave, each with a word on how it came about.
    pub(crate) fn images(&self, upto: usize) -> Vec<(String, Self)> {
        let state = self.state();
        let blank = vec![Vec::new(); state.inodes.len()];
        let (mut durable, mut live) = (blank.clone(), blank);
        let mut pending: Vec<(Inode, u64, &[u8])> = Vec::new();
        let mut names = BTreeMap::new();
        let mut pending_names = Vec::new();
        for op in state.ops.iter().take(upto) {
            match op {
                Op::Write(inode, offset, data) => {
                    apply(&mut live[*inode], *offset, data);
                    pending.push((*inode, *offset, data));
                }
                Op::Sync(inode) => {
                    for (_, offset, data) in pending.iter().filter(|(i, ..)| i == inode) {
                        apply(&mut durable[*inode], *offset, data);
                    }
                    pending.retain(|(i, ..)| i != inode);
                }
                Op::SyncLost(inode) => pending.retain(|(i, ..)| i != inode),
                Op::SyncDir(dir) => {
                    let inside = |op: &&Op| op.path().parent() == Some(dir);
                    let (synced, rest) = pending_names.into_iter().partition(inside);
                    pending_names = rest;
                    let synced: Vec<&Op> = synced;
                    synced.into_iter().for_each(|op| apply_name(&mut names, op));
                }
                op => pending_names.push(op),
            }
        }

        let mut contents = vec![("nothing unsynced".to_owned(), durable.clone())];
        if let Some(((inode, offset, data), earlier)) = pending.split_last() {
            let mut all = durable.clone();
            for (inode, offset, data) in earlier {
                apply(&mut all[*inode], *offset, data);
            }
            let mut kept = |how: String, base: &[Vec<u8>], pieces: &[(usize, usize)]| {
                let mut image = base.to_vec();
                for (from, to) in pieces {
                    apply(&mut image[*inode], offset + *from as u64, &data[*from..*to]);
                }
                contents.push((how, image));
            };
            // Where the sectors of the last write begin, within it.
            let len = data.len();
            let first = SECTOR - *offset as usize % SECTOR;
            let mut cuts: Vec<usize> = vec![0];
            cuts.extend((first..len).step_by(SECTOR));
            let blank = data.iter().all(|byte| *byte == 0);
            for at in 0..=len {
                // Of a file that is filled with zeros beforehand only the length can differ.
                let edge = if blank { 1 } else { TORN_AT_EACH_BYTE };
                let near = at <= edge || at + edge >= len;
                if near || cuts.contains(&at) {
                    kept(format!("last write cut at {at}"), &all, &[(0, at)]);
                }
            }
            kept("only the last write".into(), &durable, &[(0, len)]);
            // Nothing orders what is not synced: any one of the others may be the one that is missing.
            let mut missing = Vec::new();
            for lost in 0..earlier.len() {
                let mut base = durable.clone();
                let others = earlier.iter().enumerate().filter(|(i, _)| *i != lost);
                for (_, (inode, offset, data)) in others {
                    apply(&mut base[*inode], *offset, data);
                }
                missing.push((lost, base));
            }
            for (lost, base) in &missing {
                kept(format!("all but write {lost}"), base, &[(0, len)]);
            }
            for (i, from) in cuts.iter().enumerate() {
                let to = cuts.get(i + 1).copied().unwrap_or(len);
                kept(
                    format!("all but sector {i}"),
                    &all,
                    &[(0, *from), (to, len)],
                );
                kept(format!("only sector {i}"), &all, &[(*from, to)]);
            }
        }
        contents.push(("all".into(), live));
        // Much that differs in how it came about is the same disk.
        let mut known = HashSet::new();
        contents.retain(|(_, files)| known.insert(files.clone()));

        // Any first few of the changes to names; and all but one, since nothing orders them before a sync.
        let changes = pending_names.len();
        let mut views = Vec::new();
        for kept in 0..=changes {
            views.push((
                format!("{kept} of {changes} names"),
                pending_names[..kept].to_vec(),
            ));
        }
        for lost in 0..changes.saturating_sub(1) {
            let mut others = pending_names.clone();
            others.remove(lost);
            views.push((format!("all but name {lost} of {changes}"), others));
        }
        let mut images = Vec::new();
        for (which, ops) in views {
            let mut names = names.clone();
            ops.iter().for_each(|op| apply_name(&mut names, op));
            for (how, contents) in &contents {
                let files = names
                    .iter()
                    .map(|(p, i)| (p.clone(), contents[*i].clone()))
                    .collect();
                let image = Self::with(state.dirs.clone(), files);
                images.push((format!("{how}, {which}"), image));
            }
        }
        images
    }
}
