//! A file that is not there until it is whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A file under another name, for its owner alone; removed when it is dropped before the end.
pub(super) struct Unfinished {
    target: PathBuf,
    path: PathBuf,
    file: File,
    done: bool,
}

impl Unfinished {
    pub(super) fn create(target: &Path) -> io::Result<Unfinished> {
        let Some(name) = target.file_name() else {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it has no file name",
            ));
        };
        let name = format!(".{}.{}.part", name.to_string_lossy(), std::process::id());
        let path = target.with_file_name(name);
        // A process that was killed has left it there: it had our number, so it is no more.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        let file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)?;
        Ok(Unfinished {
            target: target.to_owned(),
            path,
            file,
            done: false,
        })
    }

    /// Where it stands meanwhile.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)
    }

    /// Makes what was written durable.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Gives it its name, durably.
    pub(super) fn finish(mut self) -> io::Result<()> {
        fs::rename(&self.path, &self.target)?;
        self.done = true;
        let parent = match self.target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        File::open(parent)?.sync_all()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.done {
            // There is nothing more that could be done about it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn it_is_there_when_it_is_whole_and_its_owners_alone() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("copy");
        fs::write(&target, "old").unwrap();
        let mut cut = Unfinished::create(&target).unwrap();
        cut.write(b"half").unwrap();
        drop(cut);
        assert_eq!(fs::read(&target).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let mut whole = Unfinished::create(&target).unwrap();
        whole.write(b"new").unwrap();
        whole.sync().unwrap();
        whole.finish().unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        let mode = fs::metadata(&target).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(Unfinished::create(Path::new("/")).is_err());
    }
}
