//! The choice of an endpoint: those that are due are tried side by side.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use synod_store::{Error, ErrorKind, Result};
use tokio::time::sleep;

use super::{Channels, Finding, Line, probe};
use crate::error::copy;

/// How long an endpoint that is tried has for itself before the next one is tried too.
const STAGGER: Duration = Duration::from_millis(150);

impl Channels {
    /// Tries the endpoints side by side.
    pub(super) async fn race(&self, candidates: Vec<usize>) -> Result<Arc<Line>> {
        let mut waiting = candidates.into_iter();
        let mut running = FuturesUnordered::new();
        let mut errors = Vec::new();
        let mut spare = None;
        let limit = self.options.connect_timeout;
        let begin = |slot| async move {
            let line = self.state().line(slot);
            match line {
                Some(line) => {
                    let finding = probe(&line, self.auth.known(), limit).await;
                    Some((self.checked(&line, finding), line))
                }
                None => None,
            }
        };
        running.extend(waiting.next().map(begin));
        loop {
            tokio::select! {
                found = running.next(), if !running.is_empty() => match found.flatten() {
                    Some((Finding::Fit(_), line)) => return Ok(self.won(line)),
                    Some((Finding::NoLeader(_), line)) => spare = Some(line),
                    Some((Finding::Failed(error), line)) => {
                        tracing::debug!(endpoint = line.url(), %error, "endpoint failed");
                        self.broken(&line);
                        line.give_up();
                        errors.push(error);
                    }
                    None => {}
                },
                () = sleep(STAGGER), if !running.is_empty() && waiting.len() > 0 => {}
                else => break,
            }
            running.extend(waiting.next().map(begin));
        }
        // Without a leader anywhere, a member that will hear of the next one is the best there is.
        if let Some(line) = spare {
            return Ok(self.won(line));
        }
        let error = none_answers(errors);
        let mut state = self.state();
        state.lost = (state.lost.0 + 1, Some(copy(&error)));
        Err(error)
    }

    fn won(&self, line: Arc<Line>) -> Arc<Line> {
        tracing::debug!(endpoint = line.url(), "endpoint chosen");
        self.state().health.succeeded(line.slot);
        line
    }

    /// Notes what is learned about an endpoint, and refuses one of another cluster: its revisions
    /// have nothing to do with those that were seen.
    pub(super) fn checked(&self, line: &Line, finding: Finding) -> Finding {
        let (Finding::Fit(identity) | Finding::NoLeader(identity)) = &finding else {
            return finding;
        };
        line.ordered_progress
            .store(identity.ordered_progress, Ordering::Relaxed);
        let Some(cluster) = identity.cluster else {
            return finding;
        };
        let known = *self.state().cluster.get_or_insert(cluster);
        if cluster == known {
            return finding;
        }
        Finding::Failed(Error::new(
            ErrorKind::Other,
            format!(
                "{} serves another cluster ({cluster:x}) than this client began with ({known:x})",
                line.url()
            ),
        ))
    }
}

/// One error for those of all endpoints that were tried.
fn none_answers(mut errors: Vec<Error>) -> Error {
    let Some(last) = errors.pop() else {
        return Error::new(ErrorKind::Unavailable, "no endpoint is in use");
    };
    let mut error = if errors.is_empty() {
        last
    } else {
        errors.push(last);
        // One that may recover keeps the others' refusals from being final.
        let first = errors.first().map_or(ErrorKind::Unavailable, Error::kind);
        let same = errors.iter().all(|error| error.kind() == first);
        let hopeless = errors.iter().all(|error| !error.is_transient());
        let kind = if same || hopeless {
            first
        } else {
            ErrorKind::Unavailable
        };
        let reasons: Vec<&str> = errors.iter().map(Error::message).collect();
        Error::new(kind, reasons.join("; "))
    };
    if error.kind() == ErrorKind::ConnectionRefused {
        let message = format!(
            "{}; start one with `synod serve` or name another address",
            error.message()
        );
        error = Error::new(ErrorKind::ConnectionRefused, message).with_source(error);
    }
    error
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_of_many_endpoints_names_each() {
        let error = |kind, text: &str| Error::new(kind, text);
        let refused = || error(ErrorKind::ConnectionRefused, "nothing listens at a");
        let one = none_answers(vec![refused()]);
        assert_eq!(one.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(
            one.message(),
            "nothing listens at a; start one with `synod serve` or name another address"
        );
        let mixed = none_answers(vec![
            refused(),
            error(ErrorKind::Timeout, "no answer from b"),
        ]);
        assert_eq!(mixed.kind(), ErrorKind::Unavailable);
        assert_eq!(mixed.message(), "nothing listens at a; no answer from b");
        let tls = || error(ErrorKind::Tls, "c");
        let mixed = none_answers(vec![tls(), refused()]);
        assert!(mixed.is_transient());
        assert!(mixed.message().contains("nothing listens at a"));
        let other = error(ErrorKind::Other, "d");
        let hopeless = none_answers(vec![tls(), other]);
        assert_eq!(hopeless.kind(), ErrorKind::Tls);
        assert_eq!(hopeless.message(), "c; d");
    }
}
