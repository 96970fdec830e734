//! What a request may take: the time until it has arrived, the bytes of all that are arriving, and
//! its own size, refused with etcd's code and text.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use synod_store::{Error, ErrorKind};
use tokio::time::Sleep;
use tonic::body::Body;
use tonic::{Code, Status};

/// What a request grows by on its way into etcd's log, where etcd measures it: a header with an id, and
/// the tag and length of the request inside.
const LOG_OVERHEAD: usize = 17;

/// Refuses a request of `bytes` that is larger than `most`, as etcd does.
pub(crate) fn check_size(bytes: usize, most: usize) -> Result<(), Error> {
    if bytes.saturating_add(LOG_OVERHEAD) > most {
        return Err(ErrorKind::TooLarge.into());
    }
    Ok(())
}

/// How much of the requests that are still arriving is held in memory, of all connections together.
#[derive(Debug, Default)]
pub(crate) struct Arriving {
    bytes: AtomicUsize,
}

/// The paths of calls whose requests are streams: they may pause, and hold one message at a time.
const STREAMS: [&str; 2] = [
    "/etcdserverpb.Watch/Watch",
    "/etcdserverpb.Lease/LeaseKeepAlive",
];

/// Bounds how long `request` may take to arrive, and how much all those arriving may hold.
pub(crate) fn bound_arrival(
    request: Request<Body>,
    arriving: &Arc<Arriving>,
    most: usize,
    timeout: Duration,
) -> Request<Body> {
    if STREAMS.contains(&request.uri().path()) {
        return request;
    }
    request.map(|body| {
        Body::new(Arrival {
            body,
            received: 0,
            most,
            arriving: Arc::clone(arriving),
            timeout,
            deadline: None,
        })
    })
}

/// A request's body as it arrives.
struct Arrival {
    body: Body,
    received: usize,
    most: usize,
    arriving: Arc<Arriving>,
    timeout: Duration,
    /// Set once there is something to wait for: most requests arrive in one piece.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.arriving
            .bytes
            .fetch_sub(self.received, Ordering::Relaxed);
    }
}

impl HttpBody for Arrival {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Buf::remaining);
                this.received = this.received.saturating_add(bytes);
                let before = this.arriving.bytes.fetch_add(bytes, Ordering::Relaxed);
                if before.saturating_add(bytes) > this.most {
                    return Poll::Ready(Some(Err(Status::resource_exhausted(
                        "synod: too many large requests are arriving at once; try again",
                    ))));
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Pending => {
                let deadline = this
                    .deadline
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep(this.timeout)));
                if deadline.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Some(Err(Status::deadline_exceeded(
                        "synod: the request did not arrive in time",
                    ))));
                }
                Poll::Pending
            }
            other => other,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Gives the refusal of a message that is too large to be received etcd's code and text: clients
/// match on both.
pub(crate) fn name_oversize<B>(mut response: Response<B>) -> Response<B> {
    if let Some(text) = oversize(response.headers()) {
        let headers = response.headers_mut();
        headers.insert(
            Status::GRPC_STATUS,
            HeaderValue::from(Code::ResourceExhausted as i32),
        );
        headers.insert(Status::GRPC_MESSAGE, text);
    }
    response
}

/// etcd's text, when these headers refuse an oversized message in the transport's words.
fn oversize(headers: &HeaderMap) -> Option<HeaderValue> {
    if headers.get(Status::GRPC_STATUS)? != "11" {
        return None;
    }
    let status = Status::from_header_map(headers)?;
    oversize_status(&status).and_then(|ours| {
        ours.into_http::<()>()
            .headers_mut()
            .remove(Status::GRPC_MESSAGE)
    })
}

/// The refusal by gRPC's Go library, when this is the transport's, which names both sizes.
fn oversize_status(status: &Status) -> Option<Status> {
    let sizes = status
        .message()
        .strip_prefix("Error, decoded message length too large: found ")?;
    let (found, rest) = sizes.split_once(" bytes, the limit is: ")?;
    let limit = rest.strip_suffix(" bytes")?;
    Some(Status::resource_exhausted(format!(
        "grpc: received message larger than max ({found} vs. {limit})"
    )))
}

/// The same for the failure of a stream of requests.
pub(crate) fn name_oversize_status(status: Status) -> Status {
    oversize_status(&status).unwrap_or(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_oversized_message_is_refused_in_etcds_words() {
        let theirs = Status::out_of_range(
            "Error, decoded message length too large: found 3000000 bytes, the limit is: 2097152 bytes",
        );
        let ours = name_oversize_status(theirs.clone());
        assert_eq!(ours.code(), Code::ResourceExhausted);
        assert_eq!(
            ours.message(),
            "grpc: received message larger than max (3000000 vs. 2097152)"
        );
        let response: Response<()> = name_oversize(theirs.into_http());
        let read = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(read.code(), ours.code());
        assert_eq!(read.message(), ours.message());
    }

    #[test]
    fn other_refusals_stay_as_they_are() {
        let compacted =
            Status::out_of_range("etcdserver: mvcc: required revision has been compacted");
        let response: Response<()> = name_oversize(compacted.clone().into_http());
        let read = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(read.code(), Code::OutOfRange);
        assert_eq!(read.message(), compacted.message());
    }

    #[test]
    fn a_request_is_measured_as_etcd_measures_it() {
        assert!(check_size(1000 - LOG_OVERHEAD, 1000).is_ok());
        assert_eq!(
            check_size(1001 - LOG_OVERHEAD, 1000).map_err(|error| error.kind()),
            Err(ErrorKind::TooLarge)
        );
    }
}
