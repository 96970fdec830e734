//! A stream in both directions that many share and that is opened again whenever it ends: under
//! all watches, and under all renewals of leases.
//!
//! One task owns the stream. What is said on it is up to a [`Talk`], a state machine that is told
//! of commands, answers and losses; the task sees to endpoints, tokens and pauses. It ends when
//! nobody is left who could give it a command.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, TryFutureExt};
use synod_store::{BoxFuture, Error, ErrorKind, Result};
use synod_wire::convert::error::Call;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::auth::{Token, attach};
use crate::channels::Line;
use crate::error::{Cause, cause, copy, error};
use crate::retry::{Backoff, Caller, PATIENCE};

/// Asks a member to end the stream when it has no leader, instead of staying silent.
const REQUIRE_LEADER: &str = "hasleader";

/// What is said on a stream.
pub(crate) trait Talk: Send + 'static {
    /// What others want of it.
    type Command: Send;
    /// What is sent.
    type Request: Send + 'static;
    /// What is received.
    type Answer: Send + 'static;

    /// Opens the stream.
    fn open(channel: Channel, requests: Requests<Self::Request>) -> Opening<Self::Answer>;

    /// Somebody wants something.
    fn command(&mut self, command: Self::Command);

    /// Whether a stream is needed.
    fn is_wanted(&self) -> bool;

    /// There is a new stream, on which nothing has been said.
    fn opened(&mut self, line: &Arc<Line>, token: &Token);

    /// Takes what is to be sent now.
    fn requests(&mut self) -> Vec<Self::Request>;

    /// An answer came.
    ///
    /// # Errors
    ///
    /// When it makes no sense: the stream is opened anew.
    fn answer(&mut self, answer: Self::Answer) -> Result<()>;

    /// Whether an answer is due.
    fn is_waiting(&self) -> bool;

    /// Whether the stream must be opened anew although it works.
    fn is_stale(&self) -> bool {
        false
    }

    /// The stream is gone.
    fn lost(&mut self);

    /// The cluster will have no stream of ours, ever.
    fn refused(&mut self, error: &Error);
}

/// What is sent on a stream, with its metadata.
pub(crate) type Requests<T> = Request<UnboundedReceiverStream<T>>;

/// A stream that is being opened.
pub(crate) type Opening<T> =
    BoxFuture<'static, std::result::Result<Response<Streaming<T>>, Status>>;

/// Why there is no stream, for those who wait for one until their time is up.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trouble(Arc<Mutex<Option<Error>>>);

impl Trouble {
    fn set(&self, error: Option<Error>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = error;
    }

    /// The error for somebody whose time is up.
    pub(crate) fn out_of_time(&self, what: &str, limit: Duration) -> Error {
        let trouble = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*trouble {
            Some(error) => copy(error),
            None => Error::new(ErrorKind::Timeout, format!("{what} within {limit:?}")),
        }
    }
}

/// Why a conversation ended.
enum End {
    /// Nobody is left.
    Abandoned,
    /// The stream broke, or is to be opened anew.
    Lost {
        /// Whether it was of use for a while.
        lasted: bool,
    },
}

/// Talks until nobody is left who could give a command.
pub(crate) async fn run<T: Talk>(
    mut talk: T,
    caller: Caller,
    mut commands: UnboundedReceiver<T::Command>,
    trouble: Trouble,
) {
    let mut backoff = Backoff::default();
    loop {
        while !talk.is_wanted() {
            match commands.recv().await {
                Some(command) => talk.command(command),
                None => return,
            }
        }
        let ready = match meanwhile(ready(&caller), &mut talk, &mut commands).await {
            Some(ready) => ready,
            None => return,
        };
        let lasted = match ready {
            Ok((line, token)) => {
                match converse(&mut talk, &caller, &mut commands, &trouble, &line, &token).await {
                    End::Abandoned => return,
                    End::Lost { lasted } => lasted,
                }
            }
            Err(error) => {
                if !error.is_transient() {
                    talk.refused(&error);
                }
                trouble.set(Some(error));
                false
            }
        };
        talk.lost();
        if lasted {
            backoff.reset();
        } else if meanwhile(sleep(backoff.next()), &mut talk, &mut commands)
            .await
            .is_none()
        {
            return;
        }
    }
}

/// Waits for something, obeying commands meanwhile; `None` when nobody is left.
async fn meanwhile<T: Talk, O>(
    future: impl Future<Output = O>,
    talk: &mut T,
    commands: &mut UnboundedReceiver<T::Command>,
) -> Option<O> {
    let mut future = pin!(future);
    loop {
        tokio::select! {
            output = &mut future => return Some(output),
            command = commands.recv() => talk.command(command?),
        }
    }
}

/// What a stream needs: an endpoint and a token.
async fn ready(caller: &Caller) -> Result<(Arc<Line>, Token)> {
    let line = caller.channels.line().await?;
    match timeout(caller.timeout, caller.auth.token(line.channel())).await {
        Ok(Ok(token)) => Ok((line, token)),
        Ok(Err(status)) => {
            caller.noted(&line, cause(&status), None);
            Err(error(status, Call::Read, line.url()))
        }
        Err(_) => {
            caller.channels.suspect(&line);
            Err(ErrorKind::Timeout.into())
        }
    }
}

/// Holds one stream until it ends.
async fn converse<T: Talk>(
    talk: &mut T,
    caller: &Caller,
    commands: &mut UnboundedReceiver<T::Command>,
    trouble: &Trouble,
    line: &Arc<Line>,
    token: &Token,
) -> End {
    let (sender, requests) = unbounded_channel();
    let mut requests = Request::new(UnboundedReceiverStream::new(requests));
    attach(requests.metadata_mut(), token);
    requests
        .metadata_mut()
        .insert(REQUIRE_LEADER, MetadataValue::from_static("true"));
    talk.opened(line, token);
    // An etcd answers that the stream is open only with the first answer on it.
    let answers = T::open(line.channel().clone(), requests).map_ok(Response::into_inner);
    let mut answers = pin!(answers.try_flatten_stream());
    let begin = Instant::now();
    let mut answered = false;
    let lost = |answered: bool| End::Lost {
        lasted: answered && begin.elapsed() > PATIENCE,
    };
    let mut last_sign = Instant::now();
    let mut was_waiting = false;
    loop {
        for request in talk.requests() {
            // Fails only when the stream has ended, which is seen below.
            let _ = sender.send(request);
        }
        if talk.is_stale() {
            return lost(answered);
        }
        let waiting = talk.is_waiting();
        if waiting && !was_waiting {
            last_sign = Instant::now();
        }
        was_waiting = waiting;
        tokio::select! {
            answer = answers.next() => match answer {
                Some(Ok(answer)) => {
                    answered = true;
                    last_sign = Instant::now();
                    trouble.set(None);
                    if let Err(error) = talk.answer(answer) {
                        tracing::warn!(endpoint = line.url(), %error, "stream given up");
                        caller.channels.demoted(line);
                        trouble.set(Some(error));
                        return lost(false);
                    }
                }
                Some(Err(status)) => {
                    ended(talk, caller, trouble, line, token, status);
                    return lost(answered);
                }
                None => {
                    caller.channels.demoted(line);
                    return lost(answered);
                }
            },
            command = commands.recv() => match command {
                Some(command) => talk.command(command),
                None => return End::Abandoned,
            },
            () = line.left() => {
                let text = format!("{} does not serve any more", line.url());
                trouble.set(Some(Error::new(ErrorKind::Unavailable, text)));
                return lost(answered);
            }
            () = sleep_until(last_sign + PATIENCE), if waiting => {
                caller.channels.suspect(line);
                last_sign = Instant::now();
            }
        }
    }
}

/// Draws the conclusions from the status with which a stream ended.
fn ended<T: Talk>(
    talk: &mut T,
    caller: &Caller,
    trouble: &Trouble,
    line: &Arc<Line>,
    token: &Token,
    status: Status,
) {
    let cause = caller.noted(line, cause(&status), Some(token));
    let hopeless = match cause {
        Cause::Token => !caller.auth.has_user(),
        Cause::Definite => matches!(
            status.code(),
            Code::PermissionDenied | Code::Unimplemented | Code::InvalidArgument
        ),
        _ => false,
    };
    let error = error(status, Call::Read, line.url());
    tracing::debug!(endpoint = line.url(), %error, "stream ended");
    if hopeless {
        talk.refused(&error);
    } else if cause == Cause::Definite {
        // A failure of this member that says nothing of the others.
        caller.channels.demoted(line);
    }
    trouble.set(Some(error));
}
