//! Counts and times requests on their way, when there is somebody to tell.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use http::{Request, Response};
use pin_project_lite::pin_project;
use tonic::body::Body;
use tower::{Layer, Service};

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
        Metered {
            inner: self.inner.call(request),
            running,
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
    }
}

impl<F, B, E> Future for Metered<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = Result<Response<B>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let answer = ready!(this.inner.poll(cx));
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
