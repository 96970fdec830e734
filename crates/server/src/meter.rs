//! Counts and times requests on their way, and puts each into a span, when there is somebody to tell.
//!
//! The span `request` (level `debug`) has the path, which names the method, and how it was answered: no key, no value and
//! no header. It ends with the first headers of the answer.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use http::{Request, Response};
use pin_project_lite::pin_project;
use tonic::body::Body;
use tower::{Layer, Service};
use tracing::Span;
use tracing::field::Empty;

use crate::metrics::{Method, Metrics};

/// Puts a [`Meter`] around a service.
#[derive(Debug, Clone)]
pub(crate) struct MeterLayer {
    metrics: Option<Arc<Metrics>>,
}

impl MeterLayer {
    pub(crate) fn new(metrics: Option<Arc<Metrics>>) -> MeterLayer {
        MeterLayer { metrics }
    }
}

impl<S> Layer<S> for MeterLayer {
    type Service = Meter<S>;

    fn layer(&self, inner: S) -> Meter<S> {
        Meter {
            inner,
            metrics: self.metrics.clone(),
        }
    }
}

/// A service whose requests are counted and timed.
#[derive(Debug, Clone)]
pub(crate) struct Meter<S> {
    inner: S,
    metrics: Option<Arc<Metrics>>,
}

impl<S, B> Service<Request<Body>> for Meter<S>
where
    S: Service<Request<Body>, Response = Response<B>>,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = Metered<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let request_of = |metrics: &Arc<Metrics>| Running {
            method: metrics.method(request.uri().path()),
            metrics: Arc::clone(metrics),
            begin: Instant::now(),
        };
        let running = self.metrics.as_ref().map(request_of);
        // Shown as a literal: anybody may ask for any path.
        let span = tracing::debug_span!(
            "request",
            path = ?request.uri().path(),
            status = Empty,
            code = Empty,
        );
        let inner = span.in_scope(|| self.inner.call(request));
        Metered {
            inner,
            running,
            span,
        }
    }
}

struct Running {
    metrics: Arc<Metrics>,
    method: Method,
    begin: Instant,
}

pin_project! {
    /// An answer that is counted when it comes: with the first one of a stream's headers, since a stream may last for
    /// ever. Who goes away before is not counted.
    pub(crate) struct Metered<F> {
        #[pin]
        inner: F,
        running: Option<Running>,
        span: Span,
    }
}

impl<F, B, E> Future for Metered<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let entered = this.span.enter();
        let answer = ready!(this.inner.poll(cx));
        drop(entered);
        if !this.span.is_disabled()
            && let Ok(answer) = &answer
        {
            this.span.record("status", answer.status().as_u16());
            // Missing where the answer goes on: then it comes in the trailers.
            let code = answer.headers().get("grpc-status");
            if let Some(code) = code.and_then(|code| code.to_str().ok()) {
                this.span.record("code", code);
            }
        }
        if let (Some(running), Ok(answer)) = (this.running.take(), &answer) {
            let Running {
                metrics,
                method,
                begin,
            } = running;
            metrics.answered(method, answer.status(), answer.headers(), begin.elapsed());
        }
        Poll::Ready(answer)
    }
}
