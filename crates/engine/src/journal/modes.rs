//! Who else may touch a store on disk. What Synod makes is its owner's alone; a directory that was there before, or files
//! that were copied back with another umask, may be open to others, which nobody would notice.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// The bits of the group and of all others.
const OTHERS: u32 = 0o077;
/// Those of them with which names in a directory can be replaced or removed.
const OTHERS_WRITE: u32 = 0o022;

/// What others may touch.
#[derive(Debug, Default, PartialEq)]
struct Exposed {
    /// The directory's mode, when they may replace or remove what is in it.
    dir: Option<u32>,
    /// A file that they may open, and its mode. One stands for all: they have usually come together.
    file: Option<(PathBuf, u32)>,
}

/// Says in the log what others may touch of the store in this directory.
pub(crate) fn warn_of_others(dir: &Path) {
    let found = exposed(dir);
    if let Some(mode) = found.dir {
        let (dir, mode) = (dir.display(), format_args!("{mode:o}"));
        tracing::warn!(%dir, %mode, "other users may replace or remove files of the store");
    }
    if let Some((file, mode)) = found.file {
        let (file, mode) = (file.display(), format_args!("{mode:o}"));
        tracing::warn!(%file, %mode, "other users may open files of the store");
    }
}

/// Nothing when the files are their owner's alone. That others may list their names, as in a directory of mode 755, is no
/// harm.
fn exposed(dir: &Path) -> Exposed {
    let files = fs::read_dir(dir).into_iter().flatten();
    let open = files.filter_map(|entry| {
        let path = entry.ok()?.path();
        let mode = mode(&path).filter(|mode| mode & OTHERS != 0)?;
        Some((path, mode))
    });
    Exposed {
        dir: mode(dir).filter(|mode| mode & OTHERS_WRITE != 0),
        file: open.min(),
    }
}

/// The permission bits; `None` when there is nothing to be looked at.
fn mode(path: &Path) -> Option<u32> {
    Some(fs::metadata(path).ok()?.permissions().mode() & 0o777)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_others_may_touch_is_told() {
        let home = tempfile::tempdir().unwrap();
        let (dir, file) = (home.path(), home.path().join("FORMAT"));
        let set = |path: &Path, mode| {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        };
        fs::write(&file, "").unwrap();
        for (of_dir, of_file, dir_is_told, file_is_told) in [
            (0o700, 0o600, false, false),
            (0o755, 0o600, false, false),
            (0o775, 0o600, true, false),
            (0o702, 0o400, true, false),
            (0o700, 0o640, false, true),
            (0o777, 0o644, true, true),
        ] {
            set(dir, of_dir);
            set(&file, of_file);
            let expected = Exposed {
                dir: dir_is_told.then_some(of_dir),
                file: file_is_told.then(|| (file.clone(), of_file)),
            };
            assert_eq!(exposed(dir), expected, "{of_dir:o} {of_file:o}");
        }
        assert_eq!(exposed(&dir.join("missing")), Exposed::default());
    }
}
