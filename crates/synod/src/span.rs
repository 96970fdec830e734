//! Spans: [`traced!`](traced) puts one around each operation that a user calls, [`task`] around each task that
//! the library starts. `docs/tracing.md` lists them, and a test compares the list.
//!
//! A span has the primitive's name, and at its end what came of the operation: never a value, a password or
//! a login. So [`Told`] has an implementation for every kind of answer, and none that would write the answer
//! itself; of an error there is its kind, as a message may quote what somebody has written.
//!
//! # Cost
//!
//! Without a subscriber that asks for `debug`, one atomic load and a branch an operation; nothing is formatted, nothing
//! allocated. The future of an operation grows by the 64 bytes of [`Traced`], and is not boxed.

use std::fmt::{self, Write};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use pin_project_lite::pin_project;
use synod_store::{LeaseId, Revision, TxnResponse};
use tracing::instrument::Instrumented;
use tracing::{Instrument, Span};

use crate::{Error, Result};

/// The future of an operation, in its span: `traced!(NAME, FIELD = ABOUT, FUTURE)`, or without a field.
///
/// `FIELD` is `object` for a primitive (`name` is what formatters call the span) and `key` for one entry of it.
macro_rules! traced {
    ($span:expr, $field:ident = $about:expr, $work:expr $(,)?) => {
        $crate::span::traced!(@ $span, [$field = %$about,], $work)
    };
    ($span:expr, $work:expr $(,)?) => {
        $crate::span::traced!(@ $span, [], $work)
    };
    (@ $span:expr, [$($about:tt)*], $work:expr) => {
        $crate::span::Traced::new(
            tracing::debug_span!(
                $span,
                $($about)*
                outcome = tracing::field::Empty,
                count = tracing::field::Empty,
                revision = tracing::field::Empty,
                lease = tracing::field::Empty,
                token = tracing::field::Empty,
            ),
            $work,
        )
    };
}

pub(crate) use traced;

/// What an answer may tell of itself: never what was stored.
pub(crate) trait Told {
    /// Writes it into the span. `ok` unless there is more to say.
    fn tell(&self, span: &Span) {
        span.record("outcome", "ok");
    }
}

pin_project! {
    /// An operation and its span, which is entered whenever the operation runs and ends with it.
    #[must_use = "futures do nothing unless polled"]
    pub(crate) struct Traced<F: Future> {
        #[pin]
        work: F,
        // None of any effect once the operation has ended.
        span: Span,
        tell: fn(&F::Output, &Span),
        begun: bool,
    }

    impl<F: Future> PinnedDrop for Traced<F> {
        fn drop(this: Pin<&mut Self>) {
            // Whoever drops it before its end gives up: that is all that can be told.
            this.project().span.record("outcome", "cancelled");
        }
    }
}

impl<T: Told, F: Future<Output = Result<T>>> Traced<F> {
    pub(crate) fn new(span: Span, work: F) -> Traced<F> {
        Traced::telling(span, work, tell)
    }
}

impl<F: Future> Traced<F> {
    /// As [`Traced::new`], for answers of another form.
    pub(crate) fn telling(span: Span, work: F, tell: fn(&F::Output, &Span)) -> Traced<F> {
        Traced {
            work,
            span,
            tell,
            begun: false,
        }
    }

    /// With a lease that is known from the beginning.
    pub(crate) fn under(self, lease: LeaseId) -> Traced<F> {
        self.span.record("lease", tracing::field::display(lease));
        self
    }

    /// With a fencing token that is known from the beginning.
    pub(crate) fn fenced(self, token: u64) -> Traced<F> {
        self.span.record("token", token);
        self
    }
}

impl<T, E: From<Error>, F: Future<Output = Result<T, E>>> Future for Traced<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        // Asked here, once for all operations: the first timer or task would panic without a runtime.
        let runtime = if *this.begun {
            Ok(())
        } else {
            crate::runtime().map(drop)
        };
        *this.begun = true;
        let answer = match runtime {
            Ok(()) => {
                let entered = this.span.enter();
                let answer = ready!(this.work.poll(cx));
                drop(entered);
                answer
            }
            Err(error) => Err(error.into()),
        };
        if !this.span.is_disabled() {
            (this.tell)(&answer, this.span);
            *this.span = Span::none();
        }
        Poll::Ready(answer)
    }
}

fn tell<T: Told>(answer: &Result<T>, span: &Span) {
    match answer {
        Ok(answer) => answer.tell(span),
        Err(error) => failed(error, span),
    }
}

/// Writes the kind of an error, which is also how the runbook calls it.
fn failed(error: &Error, span: &Span) {
    match error.kind() {
        Some(kind) if matches!(error, Error::Store(_)) => {
            span.record("outcome", tracing::field::debug(kind));
        }
        _ => {
            let mut name = FirstWord(String::new());
            // It stops with an error behind the first word.
            let _ = write!(name, "{error:?}");
            span.record("outcome", name.0.as_str());
        }
    }
}

/// Keeps the name of a variant, and lets nothing of its fields be written.
struct FirstWord(String);

impl Write for FirstWord {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for char in text.chars() {
            if !char.is_alphanumeric() {
                return Err(fmt::Error);
            }
            self.0.push(char);
        }
        Ok(())
    }
}

/// A task of the library's own, in a span with its name that belongs to no operation: it outlives the one that
/// started it, and serves others, too.
pub(crate) fn task<F: Future>(name: &'static str, work: F) -> Instrumented<F> {
    work.instrument(tracing::debug_span!(parent: None, "synod.task", task = name))
}

impl Told for () {}
impl Told for Bytes {}
impl Told for crate::Client {}
impl Told for crate::Resolution {}

impl Told for bool {
    fn tell(&self, span: &Span) {
        span.record("outcome", if *self { "yes" } else { "no" });
    }
}

impl<T: Told> Told for Option<T> {
    fn tell(&self, span: &Span) {
        match self {
            Some(found) => found.tell(span),
            None => {
                span.record("outcome", "none");
            }
        }
    }
}

impl<T> Told for Vec<T> {
    fn tell(&self, span: &Span) {
        self.len().tell(span);
    }
}

impl Told for usize {
    fn tell(&self, span: &Span) {
        span.record("outcome", "ok").record("count", *self);
    }
}

impl Told for u32 {
    fn tell(&self, span: &Span) {
        span.record("outcome", "ok").record("count", *self);
    }
}

impl Told for Revision {
    fn tell(&self, span: &Span) {
        span.record("outcome", "ok").record("revision", self.0);
    }
}

impl Told for crate::queue::QueueItem {
    fn tell(&self, span: &Span) {
        self.revision.tell(span);
    }
}

impl Told for crate::priority_queue::PriorityItem {
    fn tell(&self, span: &Span) {
        self.revision.tell(span);
    }
}

impl Told for crate::Delivery {
    fn tell(&self, span: &Span) {
        span.record("outcome", "ok");
        if let Some(lease) = self.lease() {
            span.record("lease", tracing::field::display(lease));
        }
    }
}

impl Told for crate::queue::Enqueued {
    fn tell(&self, span: &Span) {
        let new = matches!(self, crate::queue::Enqueued::New);
        span.record("outcome", if new { "ok" } else { "already there" });
    }
}

impl Told for crate::mutex::Holder {}
impl Told for crate::rwlock::Holders {}
impl Told for crate::Semaphore {}

impl Told for crate::Leader {
    fn tell(&self, span: &Span) {
        span.record("outcome", "ok")
            .record("token", self.revision.0);
        if let Some(lease) = self.lease {
            span.record("lease", tracing::field::display(lease));
        }
    }
}

impl Told for crate::LeaderEvent {
    fn tell(&self, span: &Span) {
        match self {
            crate::LeaderEvent::Leader(leader) => leader.tell(span),
            crate::LeaderEvent::NoLeader => {
                span.record("outcome", "none");
            }
            crate::LeaderEvent::Lost(error) => failed(error, span),
        }
    }
}

impl Told for crate::Session {
    fn tell(&self, span: &Span) {
        span.record("outcome", "ok")
            .record("lease", tracing::field::display(self.lease()));
    }
}

impl Told for TxnResponse {
    fn tell(&self, span: &Span) {
        self.succeeded.tell(span);
        span.record("revision", self.header.revision.0);
    }
}

/// A commit of [`Stm`](crate::Stm): when, and its place among those that were committed together.
impl Told for (Revision, Option<u32>) {
    fn tell(&self, span: &Span) {
        self.0.tell(span);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn the_first_word_of_an_error_is_its_variant() {
        let mut name = FirstWord(String::new());
        let error = Error::Held {
            name: "gate".to_owned(),
            holder: Some("secret".to_owned()),
        };
        write!(name, "{error:?}").unwrap_err();
        assert_eq!(name.0, "Held");
        let mut name = FirstWord(String::new());
        write!(name, "{:?}", Error::SessionLost).unwrap();
        assert_eq!(name.0, "SessionLost");
    }

    #[test]
    fn without_a_runtime_every_operation_says_so() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (client, guard) = runtime.block_on(async {
            let client = crate::Client::connect("memory:").await.unwrap();
            let guard = client.mutex("held").lock().await.unwrap();
            (client, guard)
        });
        fn refused<T>(work: impl Future<Output = Result<T>>) -> bool {
            matches!(work.now_or_never(), Some(Err(Error::NoRuntime)))
        }
        let short = Duration::from_millis(1);
        let (queue, urgent) = (client.queue("q"), client.priority_queue("p"));
        let (mutex, rwlock) = (client.mutex("m"), client.rwlock("r"));
        let (election, semaphore) = (client.election("e"), client.semaphore("s", 1));
        let (barrier, double) = (client.barrier("b"), client.double_barrier("d", 1));
        assert!(refused(crate::Client::connect("memory:")));
        assert!(refused(crate::Client::connect("http://127.0.0.1:1")));
        assert!(refused(queue.enqueue("a")) && refused(urgent.enqueue("a", 1)));
        assert!(refused(queue.dequeue()) && refused(urgent.dequeue()));
        assert!(refused(queue.dequeue_timeout(short)) && refused(urgent.dequeue_timeout(short)));
        assert!(
            refused(queue.take()) && refused(queue.take_timeout(short)) && refused(queue.len())
        );
        assert!(refused(mutex.lock()) && refused(mutex.lock_timeout(short)));
        assert!(refused(rwlock.read()) && refused(rwlock.write_timeout(short)));
        assert!(refused(semaphore.acquire()) && refused(semaphore.acquire_timeout(short)));
        assert!(refused(election.campaign("v")) && refused(election.leader()));
        assert!(refused(barrier.hold()) && refused(barrier.wait()));
        assert!(refused(barrier.wait_timeout(short)) && refused(double.enter()));
        assert!(refused(double.enter_timeout(short)) && refused(client.session().build()));
        assert!(refused(guard.check()) && refused(guard.unlock()));
        assert!(refused(client.close()));
    }

    #[test]
    fn a_span_costs_a_future_what_is_documented() {
        let work = async { Ok::<(), Error>(()) };
        let bare = size_of_val(&work);
        assert!(size_of_val(&Traced::new(Span::none(), work)) - bare <= 64);
    }
}
