//! What a request may take: the time until it has arrived, the bytes of all that are arriving, and
//! its own size, refused with etcd's code and text.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
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

/// The paths of calls whose requests are streams: they may pause between two messages, not amid one.
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
    let framing = STREAMS
        .contains(&request.uri().path())
        .then(Framing::default);
    request.map(|body| {
        Body::new(Arrival {
            body,
            framing,
            received: 0,
            most,
            arriving: Arc::clone(arriving),
            timeout,
            deadline: None,
        })
    })
}

/// Where a stream of messages stands: before each, gRPC puts a flag and four bytes of length.
#[derive(Debug, Default)]
struct Framing {
    /// How many of those five bytes have come.
    head: usize,
    /// How much of the message is still to come, once they have.
    left: usize,
    /// How much of a message is here that has no end yet.
    unfinished: usize,
}

impl Framing {
    const HEAD: usize = 5;

    /// Takes in what has come. Whether a message has ended with it.
    fn take(&mut self, mut data: &[u8]) -> bool {
        let mut ended = false;
        while let Some((byte, rest)) = data.split_first() {
            if self.head < Self::HEAD {
                if self.head > 0 {
                    self.left = (self.left << 8) | usize::from(*byte);
                }
                self.head = self.head.saturating_add(1);
                self.unfinished = self.unfinished.saturating_add(1);
                data = rest;
            } else {
                let more = self.left.min(data.len());
                self.left = self.left.saturating_sub(more);
                self.unfinished = self.unfinished.saturating_add(more);
                data = data.get(more..).unwrap_or_default();
            }
            if self.head == Self::HEAD && self.left == 0 {
                *self = Framing::default();
                ended = true;
            }
        }
        ended
    }
}

/// A request's body as it arrives.
struct Arrival {
    body: Body,
    /// Of a stream of messages.
    framing: Option<Framing>,
    /// How much is held: of a stream, of the message that has no end yet.
    received: usize,
    most: usize,
    arriving: Arc<Arriving>,
    timeout: Duration,
    /// Set once there is something to wait for: most requests arrive in one piece.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Arrival {
    /// Counts what has come. False when all together hold too much.
    fn count(&mut self, data: &[u8]) -> bool {
        let before = self.received;
        match &mut self.framing {
            Some(framing) => {
                if framing.take(data) {
                    self.deadline = None;
                }
                self.received = framing.unfinished;
            }
            None => self.received = self.received.saturating_add(data.len()),
        }
        let bytes = &self.arriving.bytes;
        let Some(more) = self.received.checked_sub(before) else {
            let less = before.saturating_sub(self.received);
            bytes.fetch_sub(less, Ordering::Relaxed);
            return true;
        };
        let held = bytes.fetch_add(more, Ordering::Relaxed);
        held.saturating_add(more) <= self.most
    }

    /// Whether nothing is expected: between two messages of a stream.
    fn may_pause(&self) -> bool {
        let framing = self.framing.as_ref();
        framing.is_some_and(|framing| framing.unfinished == 0)
    }
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
                if !this.count(frame.data_ref().map_or(&[], |data| data)) {
                    return Poll::Ready(Some(Err(Status::resource_exhausted(
                        "synod: too many large requests are arriving at once; try again",
                    ))));
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Pending if this.may_pause() => Poll::Pending,
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

    /// Pieces that have come, after which nothing more does.
    struct Stalled(Vec<Bytes>);

    impl HttpBody for Stalled {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            if self.0.is_empty() {
                return Poll::Pending;
            }
            let piece = self.0.remove(0);
            Poll::Ready(Some(Ok(Frame::data(piece))))
        }
    }

    /// A stream on which so much has come, read until it stalls or ends: what is counted then, and how it
    /// ends, as nothing more comes, if it does.
    async fn stalled(
        path: &str,
        pieces: &[&[u8]],
        most: usize,
    ) -> (usize, Option<Result<(), Code>>) {
        use std::future::poll_fn;

        let arriving = Arc::new(Arriving::default());
        let pieces = pieces.iter().map(|piece| Bytes::copy_from_slice(piece));
        let request = Request::builder().uri(path);
        let request = request.body(Body::new(Stalled(pieces.collect()))).unwrap();
        let mut body = bound_arrival(request, &arriving, most, Duration::ZERO).into_body();
        let mut count = 0;
        let read = async {
            loop {
                match poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
                    Some(Ok(_)) => count = arriving.bytes.load(Ordering::Relaxed),
                    Some(Err(status)) => return Err(status.code()),
                    None => return Ok(()),
                }
            }
        };
        // An end comes within a tick.
        let end = tokio::time::timeout(Duration::from_millis(50), read).await;
        drop(body);
        assert_eq!(
            arriving.bytes.load(Ordering::Relaxed),
            0,
            "all is given back"
        );
        (count, end.ok())
    }

    const WATCH: &str = "/etcdserverpb.Watch/Watch";

    #[tokio::test]
    async fn a_stream_may_pause_between_messages_and_not_amid_one() {
        let late = Some(Err(Code::DeadlineExceeded));
        let message: &[u8] = &[0, 0, 0, 0, 3, 1, 2, 3];
        assert_eq!(stalled(WATCH, &[], 100).await, (0, None));
        assert_eq!(stalled(WATCH, &[message], 100).await, (0, None));
        assert_eq!(stalled(WATCH, &[message, message], 100).await, (0, None));
        for cut in 1..message.len() {
            let (begin, end) = message.split_at(cut);
            assert_eq!(stalled(WATCH, &[begin, end], 100).await, (0, None), "{cut}");
            let stands = stalled(WATCH, &[message, begin], 100).await;
            assert_eq!(stands, (cut, late), "{cut}");
            let both = [message, begin].concat();
            assert_eq!(stalled(WATCH, &[&both], 100).await, (cut, late), "{cut}");
        }
        // What is no stream is one message, and waited for to its end.
        assert_eq!(
            stalled("/etcdserverpb.KV/Put", &[message], 100).await,
            (8, late)
        );
    }

    #[tokio::test]
    async fn what_is_held_of_messages_without_an_end_is_bounded() {
        let full = Some(Err(Code::ResourceExhausted));
        let begin: &[u8] = &[0, 0, 0x1f, 0xff, 0xff];
        let zeros = [0; 50];
        let (_, end) = stalled(WATCH, &[begin, &zeros, &zeros], 100).await;
        assert_eq!(end, full);
        // Messages that end are not held.
        let message = [&[0, 0, 0, 0, 50], zeros.as_slice()].concat();
        let messages = [message.as_slice(); 10];
        assert_eq!(stalled(WATCH, &messages, 100).await, (0, None));
    }

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
