//! Where a file that the command line names is written: to a regular file, which may be missing yet,
//! and to the one that a link leads to. A device or a pipe is not replaced by a file.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Result};

/// How many links in a row are followed; the systems themselves give up at 40.
const LINKS: usize = 40;

/// The file that `path` leads to, through links: a regular one, or none yet. So a file that is
/// renamed into this place replaces no link and nothing that is no file.
pub(crate) fn destination(path: &Path) -> Result<PathBuf> {
    let cannot = || Failure::usage(format!("cannot write {}", path.display()));
    if path == Path::new("-") {
        return Err(
            Failure::usage("`-` is no file: nothing is written to standard output")
                .hint("name a file; one that is called `-` is ./-"),
        );
    }
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => {
            return Err(cannot()
                .cause(format!("it is {}", kind(found.file_type())))
                .hint("name a regular file, or one that does not exist yet"));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(cannot().because(&error)),
    }
    let mut path = path.to_owned();
    for _ in 0..LINKS {
        // What is missing, or no link, is where to write; other errors were met above.
        let Ok(link) = fs::read_link(&path) else {
            return Ok(path);
        };
        path = match path.parent() {
            Some(folder) => folder.join(link),
            None => link,
        };
    }
    Err(cannot().cause("its links lead nowhere"))
}

/// What something that is no regular file is.
fn kind(kind: fs::FileType) -> &'static str {
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_char_device() || kind.is_block_device() {
        "a device"
    } else {
        "no regular file"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Format;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    #[test]
    fn what_is_no_regular_file_is_refused_by_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let _socket = UnixListener::bind(dir.path().join("socket")).unwrap();
        symlink("/dev/full", dir.path().join("link")).unwrap();
        symlink("circle", dir.path().join("circle")).unwrap();
        for (path, words) in [
            (dir.path().to_owned(), "it is a directory"),
            (dir.path().join("socket"), "it is a socket"),
            ("/dev/full".into(), "it is a device"),
            (dir.path().join("link"), "it is a device"),
            (dir.path().join("circle"), "cannot write"),
            ("-".into(), "standard output"),
        ] {
            let text = destination(&path).unwrap_err().render(Format::Text);
            assert!(text.contains(words), "{text}");
        }
    }

    #[test]
    fn links_are_followed_to_a_file_or_to_where_one_may_be() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("sub")).unwrap();
        fs::write(at("file"), "").unwrap();
        symlink("file", at("near")).unwrap();
        symlink(at("near"), at("far")).unwrap();
        symlink("sub/missing", at("dangling")).unwrap();
        symlink("../file", at("sub/up")).unwrap();
        for (path, leads_to) in [
            ("file", "file"),
            ("missing", "missing"),
            ("near", "file"),
            ("far", "file"),
            ("dangling", "sub/missing"),
            ("sub/up", "sub/../file"),
        ] {
            assert_eq!(destination(&at(path)).unwrap(), at(leads_to), "{path}");
        }
    }
}
