//! Open files: as many as the system lets a process have, some of them kept for the store, the rest for connections.
//!
//! Each connection is one. Without a bound below the system's, clients that only connect use all of them up, and the store
//! cannot begin its next file: then no write succeeds any more. So:
//!
//! 1. The limit of this process is raised as far as it may raise it itself (the soft limit to the hard one). The usual
//!    soft one of 1024 is for programs that cannot wait for more.
//! 2. [`RESERVE`] of it are kept for the store, copies of it, listeners and the log; of a small limit a half.
//! 3. Connections get what is left, or `--max-connections` if that is less.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::failure::{Failure, Result};

/// What is kept for all that is no connection.
const RESERVE: u64 = 150;

/// Fewer than these are not enough to serve at all.
const LEAST: u64 = 64;

/// How many connections may be open at once, of the `asked`.
pub(super) fn connections(asked: usize) -> Result<usize> {
    let Some(limit) = raised() else {
        return Ok(asked);
    };
    let Some(room) = room(limit) else {
        return Err(Failure::failed(format!(
            "this process may have {limit} files open at once, and needs at least {LEAST}"
        ))
        .hint("raise it: `ulimit -n 4096` in the shell, LimitNOFILE= in a unit of systemd"));
    };
    if room >= asked {
        return Ok(asked);
    }
    tracing::warn!(
        connections = room,
        open_files = limit,
        asked,
        "fewer connections than --max-connections: too few files may be open (ulimit -n)"
    );
    Ok(room)
}

/// The most files that may be open at once, after raising it; `None` when nothing bounds them.
fn raised() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let soft = current?;
    if maximum == Some(soft) {
        return current;
    }
    let wanted = Rlimit {
        current: maximum,
        maximum,
    };
    match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::debug!(%error, "the number of open files could not be raised");
            current
        }
    }
}

/// How many of `limit` files connections may be; `None` when there are too few for anything.
fn room(limit: u64) -> Option<usize> {
    if limit < LEAST {
        return None;
    }
    let reserve = RESERVE.min(limit / 2);
    Some(usize::try_from(limit.saturating_sub(reserve)).unwrap_or(usize::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_get_what_the_store_does_not_need() {
        assert_eq!(room(0), None);
        assert_eq!(room(LEAST - 1), None);
        assert_eq!(room(LEAST), Some(32));
        assert_eq!(room(200), Some(100));
        assert_eq!(room(300), Some(150));
        assert_eq!(room(1024), Some(874));
        assert_eq!(room(u64::MAX), usize::try_from(u64::MAX - RESERVE).ok());
    }
}
