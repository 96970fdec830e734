//! Requests with one answer: which may be repeated, for how long, and what is said of those that
//! may have been applied.
//!
//! | class | repeated |
//! | --- | --- |
//! | [`Class::Read`] | after every failure that may go away |
//! | [`Class::Idempotent`] | likewise; what came of an earlier copy is told with the answer |
//! | [`Class::Mutation`] | only when provably nothing was sent, or the token was refused before anything was done |
//!
//! All within one time limit. A request is never given up because it takes long, only because its
//! endpoint is [dead](crate::channels) or the limit has passed.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use synod_store::{Applied, Error, ErrorKind, Result};
use synod_wire::convert::error::Call;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::auth::{Auth, Token, attach};
use crate::channels::{Channels, Line};
use crate::error::{Cause, cause, error};

/// How long an answer may take before the endpoint is asked whether it is there.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// How often a refused token is renewed for one request.
const RENEWALS: u32 = 2;

/// What a request does to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// It changes nothing.
    Read,
    /// Applied twice it does what it does once.
    Idempotent,
    /// Anything else.
    Mutation,
}

impl Class {
    fn call(self) -> Call {
        match self {
            Class::Read => Call::Read,
            Class::Idempotent | Class::Mutation => Call::Mutation,
        }
    }

    /// Whether a request that failed like this may be sent again.
    fn may_repeat(self, cause: Cause) -> bool {
        match cause {
            Cause::NotSent => true,
            Cause::Broken | Cause::Unfit | Cause::Busy => self != Class::Mutation,
            // Counted apart.
            Cause::Token | Cause::Definite => false,
        }
    }
}

/// Pauses between attempts: 50 ms, growing to a second, the last half of each by chance.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(50);
    const LONGEST: Duration = Duration::from_secs(1);

    /// The pause after so many attempts before; `jitter` is from 0 to 1.
    pub(crate) fn pause(attempts: u32, jitter: f64) -> Duration {
        let full = Self::FIRST
            .saturating_mul(1 << attempts.min(10))
            .min(Self::LONGEST);
        full.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
    }

    /// The next pause.
    pub(crate) fn next(&mut self) -> Duration {
        let pause = Self::pause(self.attempts, rand::random());
        self.attempts = self.attempts.saturating_add(1);
        pause
    }

    /// Begins anew.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }
}

/// What came of a request.
#[derive(Debug)]
pub(crate) struct Outcome<T> {
    /// The last answer.
    pub(crate) result: Result<T>,
    /// Whether an earlier copy may have been applied.
    pub(crate) repeated: bool,
}

/// Why an attempt has no answer.
enum Failure {
    Status(Status),
    /// The endpoint was found to be dead, or without a leader.
    Down,
    /// The time is up.
    Late,
}

/// Sends requests.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    pub(crate) channels: Arc<Channels>,
    pub(crate) auth: Arc<Auth>,
    /// How long a request may take in all.
    pub(crate) timeout: Duration,
}

impl Caller {
    /// Sends a request and waits for its answer.
    pub(crate) async fn call<Q, R, F>(
        &self,
        class: Class,
        request: Q,
        send: impl Fn(Channel, Request<Q>) -> F,
    ) -> Result<R>
    where
        Q: Clone,
        F: Future<Output = std::result::Result<Response<R>, Status>>,
    {
        self.call_within(self.timeout, class, request, send)
            .await
            .result
    }

    /// Sends a request and waits for its answer for as long as `limit`.
    pub(crate) async fn call_within<Q, R, F>(
        &self,
        limit: Duration,
        class: Class,
        request: Q,
        send: impl Fn(Channel, Request<Q>) -> F,
    ) -> Outcome<R>
    where
        Q: Clone,
        F: Future<Output = std::result::Result<Response<R>, Status>>,
    {
        let deadline = Instant::now() + limit;
        let mut backoff = Backoff::default();
        let mut renewals = 0;
        let mut repeated = false;
        let mut last: Option<Error> = None;
        let outcome = |result: Result<R>, repeated: bool| Outcome {
            result: result.map_err(|error| match class {
                Class::Idempotent if repeated => error.with_applied(Applied::Maybe),
                _ => error,
            }),
            repeated,
        };
        loop {
            let line = match timeout_at(deadline, self.channels.line()).await {
                Ok(Ok(line)) => line,
                Ok(Err(error)) if error.is_transient() => {
                    last = Some(error);
                    continue;
                }
                Ok(Err(error)) => return outcome(Err(error), repeated),
                Err(_) => return outcome(Err(out_of_time(limit, last)), repeated),
            };
            let token = match timeout_at(deadline, self.auth.token(line.channel())).await {
                Ok(Ok(token)) => token,
                Ok(Err(status)) => {
                    // The request itself was not sent.
                    let cause = self.noted(&line, cause(&status), None);
                    let error = error(status, Call::Read, line.url());
                    if matches!(cause, Cause::Token | Cause::Definite) {
                        return outcome(Err(error), repeated);
                    }
                    last = Some(error);
                    pause(&mut backoff, cause, deadline).await;
                    continue;
                }
                Err(_) => return outcome(Err(out_of_time(limit, last)), repeated),
            };
            let mut message = Request::new(request.clone());
            attach(message.metadata_mut(), &token);
            let answer = send(line.channel().clone(), message);
            let (cause, error) = match self.attempt(class, &line, deadline, answer).await {
                Ok(response) => return outcome(Ok(response.into_inner()), repeated),
                Err(Failure::Status(status)) => {
                    let cause = self.noted(&line, cause(&status), Some(&token));
                    (cause, error(status, class.call(), line.url()))
                }
                Err(Failure::Down) => {
                    let text = format!("{} does not serve any more", line.url());
                    let error = Error::new(ErrorKind::Unavailable, text);
                    (Cause::Broken, doubtful(error, class))
                }
                Err(Failure::Late) => {
                    let text = format!("no answer from {} within {limit:?}", line.url());
                    let error = doubtful(Error::new(ErrorKind::Timeout, text), class);
                    return outcome(Err(error), repeated);
                }
            };
            if cause == Cause::Token && self.auth.has_user() && renewals < RENEWALS {
                renewals += 1;
                continue;
            }
            if !class.may_repeat(cause) {
                return outcome(Err(error), repeated);
            }
            repeated |= cause != Cause::NotSent && class == Class::Idempotent;
            last = Some(error);
            pause(&mut backoff, cause, deadline).await;
        }
    }

    /// Shows the user's password, at once and once.
    pub(crate) async fn authenticate(&self, line: &Arc<Line>) -> Result<()> {
        match timeout(self.timeout, self.auth.token(line.channel())).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(status)) => Err(error(status, Call::Read, line.url())),
            Err(_) => {
                let text = format!("{} did not let us in within {:?}", line.url(), self.timeout);
                Err(Error::new(ErrorKind::Timeout, text))
            }
        }
    }

    /// Waits for an answer until there can be none.
    async fn attempt<T>(
        &self,
        class: Class,
        line: &Arc<Line>,
        deadline: Instant,
        answer: impl Future<Output = std::result::Result<T, Status>>,
    ) -> std::result::Result<T, Failure> {
        let mut answer = pin!(answer);
        let mut wake = Instant::now() + PATIENCE;
        loop {
            tokio::select! {
                biased;
                answer = &mut answer => return answer.map_err(Failure::Status),
                () = line.down() => return Err(Failure::Down),
                // For what must not be asked twice, a late answer is better than none.
                () = line.left(), if class != Class::Mutation => return Err(Failure::Down),
                () = sleep_until(wake.min(deadline)) => {
                    if wake >= deadline {
                        return Err(Failure::Late);
                    }
                    self.channels.suspect(line);
                    wake += PATIENCE;
                }
            }
        }
    }

    /// Passes on what a failure says about the endpoint and the token.
    pub(crate) fn noted(&self, line: &Arc<Line>, cause: Cause, token: Option<&Token>) -> Cause {
        match cause {
            Cause::NotSent | Cause::Broken => self.channels.broken(line),
            Cause::Unfit => self.channels.demoted(line),
            Cause::Token => {
                if let Some(token) = token {
                    self.auth.refused(token);
                }
            }
            Cause::Busy | Cause::Definite => {}
        }
        cause
    }
}

/// Waits before the next attempt. When another endpoint is to be tried, its choice sees to pauses.
async fn pause(backoff: &mut Backoff, cause: Cause, deadline: Instant) {
    if matches!(cause, Cause::Unfit | Cause::Busy) {
        let _ = timeout_at(deadline, sleep(backoff.next())).await;
    }
}

/// The error when the time is up before a request was sent (again).
fn out_of_time(limit: Duration, last: Option<Error>) -> Error {
    last.unwrap_or_else(|| {
        let text = format!("no endpoint answered within {limit:?}");
        Error::new(ErrorKind::Timeout, text)
    })
}

fn doubtful(error: Error, class: Class) -> Error {
    match class {
        Class::Read => error,
        Class::Idempotent | Class::Mutation => error.with_applied(Applied::Maybe),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mutation_is_repeated_only_when_nothing_was_sent() {
        for cause in [Cause::Broken, Cause::Unfit, Cause::Busy, Cause::Definite] {
            assert!(!Class::Mutation.may_repeat(cause), "{cause:?}");
        }
        assert!(Class::Mutation.may_repeat(Cause::NotSent));
    }

    #[test]
    fn reads_are_repeated_until_an_answer_stands() {
        for cause in [Cause::NotSent, Cause::Broken, Cause::Unfit, Cause::Busy] {
            assert!(Class::Read.may_repeat(cause), "{cause:?}");
            assert!(Class::Idempotent.may_repeat(cause), "{cause:?}");
        }
        assert!(!Class::Read.may_repeat(Cause::Definite));
    }

    #[test]
    fn pauses_grow_to_a_second() {
        assert_eq!(Backoff::pause(0, 0.0), Duration::from_millis(25));
        assert_eq!(Backoff::pause(0, 1.0), Duration::from_millis(50));
        assert_eq!(Backoff::pause(1, 1.0), Duration::from_millis(100));
        assert_eq!(Backoff::pause(99, 1.0), Duration::from_secs(1));
        let mut backoff = Backoff::default();
        for _ in 0..10 {
            assert!(backoff.next() <= Duration::from_secs(1));
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(50));
    }

    #[test]
    fn the_last_cause_is_told_when_the_time_is_up() {
        let cause = Error::new(ErrorKind::ConnectionRefused, "nothing listens");
        let error = out_of_time(Duration::from_secs(1), Some(cause));
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let error = out_of_time(Duration::from_secs(1), None);
        assert_eq!(error.kind(), ErrorKind::Timeout);
    }
}
