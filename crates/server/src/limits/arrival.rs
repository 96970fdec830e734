//! Requests as they arrive: how long they may take, and how much of them is held.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Sleep;
use tonic::Status;
use tonic::body::Body;

/// What a request that has not arrived whole takes besides its bytes: its task and its buffers.
const WAITING: usize = 8 * 1024;

/// Messages up to this size fit into the buffer that each stream of requests begins with.
const SMALL: usize = 8 * 1024;

/// How much of requests is held in memory, of all connections together.
///
/// What is arriving has no more than [`Bounds::arriving`], and [`Bounds::own`] for each connection: above the former a
/// request is let in only for the latter. Small requests that came whole are not counted. They are read in one go,
/// from what the connection has received already, which has a bound of its own.
///
/// The two that follow are apart: streams that keep much must not shut out the requests of others.
#[derive(Debug, Default)]
pub(crate) struct Arriving {
    /// Of those that are still arriving, without streams.
    bytes: AtomicUsize,
    /// The buffers of streams of requests. The transport makes a stream's buffer as large as its largest message, and
    /// keeps it until the stream ends. What has come of a message without an end is in that buffer, so it is not
    /// counted once more.
    kept: AtomicUsize,
}

/// What of the requests that are arriving came through one connection.
#[derive(Debug, Default)]
pub(crate) struct Part(AtomicUsize);

/// How much may be held.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Of requests that are arriving, in bytes.
    pub(crate) arriving: usize,
    /// Of those, through one connection, once all together have more than half. A single client with much to say is
    /// not held back while there is room, and cannot take all of it.
    pub(crate) part: usize,
    /// Of those, through one connection, whatever the others have taken.
    pub(crate) own: usize,
    /// Of the buffers of streams, in bytes.
    pub(crate) kept: usize,
    /// The largest message, in bytes.
    pub(crate) message: usize,
    /// How long a request may take to arrive.
    pub(crate) time: Duration,
}

impl Bounds {
    /// What a connection may have arriving in any case: a few small requests, or parts of one.
    pub(crate) const OWN: usize = 4 * WAITING;

    /// Whether so much may be arriving in all, and of that so much through the connection that brought the last.
    fn allow(&self, all: usize, part: usize) -> bool {
        part <= self.own || all <= self.arriving / 2 || (all <= self.arriving && part <= self.part)
    }
}

/// The paths of calls whose requests are streams: they may pause between two messages, not amid one.
///
/// How long they may pause amid one is looked at when the call is ready for more. It is not while its client does not
/// read what it is answered: then nobody can say whether the rest has come, and such a stream stays until its client
/// goes, like one that pauses between messages. It takes no more than that one either: its place among the open
/// streams, and its buffer. Neither is of those that other calls need to arrive.
const STREAMS: [&str; 2] = [
    "/etcdserverpb.Watch/Watch",
    "/etcdserverpb.Lease/LeaseKeepAlive",
];

/// Bounds how long `request` may take to arrive, and how much all those arriving may hold.
pub(crate) fn bound_arrival(
    request: Request<Body>,
    arriving: &Arc<Arriving>,
    part: &Arc<Part>,
    bounds: Bounds,
) -> Request<Body> {
    let framing = STREAMS
        .contains(&request.uri().path())
        .then(Framing::default);
    request.map(|body| {
        Body::new(Arrival {
            body,
            framing,
            received: 0,
            held: 0,
            kept: 0,
            bounds,
            arriving: Arc::clone(arriving),
            part: Arc::clone(part),
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
    /// The largest message that has been announced.
    largest: usize,
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
                if self.head == Self::HEAD {
                    self.largest = self.largest.max(self.left);
                }
                data = rest;
            } else {
                let more = self.left.min(data.len());
                self.left = self.left.saturating_sub(more);
                self.unfinished = self.unfinished.saturating_add(more);
                data = data.get(more..).unwrap_or_default();
            }
            if self.head == Self::HEAD && self.left == 0 {
                *self = Framing {
                    largest: self.largest,
                    ..Framing::default()
                };
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
    /// How much is here, if it is no stream.
    received: usize,
    /// What of it is counted among what is arriving.
    held: usize,
    /// What is counted for the stream's buffer.
    kept: usize,
    bounds: Bounds,
    arriving: Arc<Arriving>,
    part: Arc<Part>,
    /// Set once there is something to wait for: most requests arrive in one piece.
    deadline: Option<Pin<Box<Sleep>>>,
}

/// Counts so much more, and tells the sum.
fn add(total: &AtomicUsize, more: usize) -> usize {
    total
        .fetch_add(more, Ordering::Relaxed)
        .saturating_add(more)
}

impl Arrival {
    /// Counts what has come.
    fn count(&mut self, data: &[u8]) -> Result<(), Status> {
        match &mut self.framing {
            Some(framing) => {
                if framing.take(data) {
                    self.deadline = None;
                }
                // What is larger is refused, and kept by nobody.
                let largest = framing.largest.min(self.bounds.message);
                if largest > SMALL.max(self.kept) {
                    let more = largest.saturating_sub(self.kept);
                    self.kept = largest;
                    if add(&self.arriving.kept, more) > self.bounds.kept {
                        return Err(Status::resource_exhausted(
                            "synod: too many streams have had large requests; try again",
                        ));
                    }
                }
                Ok(())
            }
            None => {
                self.received = self.received.saturating_add(data.len());
                self.hold()
            }
        }
    }

    /// Counts what is held now.
    fn hold(&mut self) -> Result<(), Status> {
        if self.framing.is_some() {
            return Ok(());
        }
        let waiting = if self.deadline.is_some() { WAITING } else { 0 };
        // What is small lies in the buffer that belongs to waiting.
        let large = if self.received > SMALL {
            self.received
        } else {
            0
        };
        let more = waiting.saturating_add(large).saturating_sub(self.held);
        // As with most requests: what all share is left alone then.
        if more == 0 {
            return Ok(());
        }
        self.held = self.held.saturating_add(more);
        let all = add(&self.arriving.bytes, more);
        let part = add(&self.part.0, more);
        if self.bounds.allow(all, part) {
            return Ok(());
        }
        Err(Status::resource_exhausted(
            "synod: too many large requests are arriving at once; try again",
        ))
    }

    /// Whether nothing is expected: between two messages of a stream.
    fn may_pause(&self) -> bool {
        let framing = self.framing.as_ref();
        framing.is_some_and(|framing| framing.unfinished == 0)
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        // Most have nothing to give back.
        if self.held > 0 {
            self.arriving.bytes.fetch_sub(self.held, Ordering::Relaxed);
            self.part.0.fetch_sub(self.held, Ordering::Relaxed);
        }
        if self.kept > 0 {
            self.arriving.kept.fetch_sub(self.kept, Ordering::Relaxed);
        }
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
                let counted = this.count(frame.data_ref().map_or(&[], |data| data));
                Poll::Ready(Some(counted.map(|()| frame)))
            }
            Poll::Pending if this.may_pause() => Poll::Pending,
            Poll::Pending => {
                if this.deadline.is_none() {
                    this.deadline = Some(Box::pin(tokio::time::sleep(this.bounds.time)));
                    if let Err(refusal) = this.hold() {
                        return Poll::Ready(Some(Err(refusal)));
                    }
                }
                let Some(deadline) = &mut this.deadline else {
                    return Poll::Pending;
                };
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

#[cfg(test)]
mod tests {
    use tonic::Code;

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
        bounds: Bounds,
    ) -> (usize, Option<Result<(), Code>>) {
        use std::future::poll_fn;

        let arriving = Arc::new(Arriving::default());
        let pieces = pieces.iter().map(|piece| Bytes::copy_from_slice(piece));
        let request = Request::builder().uri(path);
        let request = request.body(Body::new(Stalled(pieces.collect()))).unwrap();
        let mut body = bound_arrival(request, &arriving, &Arc::default(), bounds).into_body();
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
        for counted in [&arriving.bytes, &arriving.kept] {
            assert_eq!(counted.load(Ordering::Relaxed), 0, "all is given back");
        }
        (count, end.ok())
    }

    /// Bounds that let this much arrive, all of it through one connection.
    fn most(arriving: usize) -> Bounds {
        Bounds {
            arriving,
            part: arriving,
            own: 0,
            kept: 100_000,
            message: 50_000,
            time: Duration::ZERO,
        }
    }

    const WATCH: &str = "/etcdserverpb.Watch/Watch";

    #[tokio::test]
    async fn a_stream_may_pause_between_messages_and_not_amid_one() {
        let late = Some(Err(Code::DeadlineExceeded));
        let message: &[u8] = &[0, 0, 0, 0, 3, 1, 2, 3];
        assert_eq!(stalled(WATCH, &[], most(WAITING + 100)).await, (0, None));
        assert_eq!(
            stalled(WATCH, &[message], most(WAITING + 100)).await,
            (0, None)
        );
        assert_eq!(
            stalled(WATCH, &[message, message], most(WAITING + 100)).await,
            (0, None)
        );
        for cut in 1..message.len() {
            let (begin, end) = message.split_at(cut);
            assert_eq!(
                stalled(WATCH, &[begin, end], most(WAITING + 100)).await,
                (0, None),
                "{cut}"
            );
            let stands = stalled(WATCH, &[message, begin], most(WAITING + 100)).await;
            assert_eq!(stands, (0, late), "{cut}");
            let both = [message, begin].concat();
            assert_eq!(
                stalled(WATCH, &[&both], most(WAITING + 100)).await,
                (0, late),
                "{cut}"
            );
        }
        // What is no stream is one message, and waited for to its end.
        assert_eq!(
            stalled("/etcdserverpb.KV/Put", &[message], most(WAITING + 100)).await,
            (0, late)
        );
    }

    #[tokio::test]
    async fn what_is_held_of_messages_without_an_end_is_bounded() {
        let full = Some(Err(Code::ResourceExhausted));
        let begin: &[u8] = &[0, 0, 0x1f, 0xff, 0xff];
        let zeros = [0; 5_000];
        let pieces = [begin, &zeros, &zeros];
        assert_eq!(stalled("/x", &pieces, most(10_004)).await, (0, full));
        assert_eq!(stalled("/x", &pieces, most(10_005)).await, (10_005, full));
        let late = Some(Err(Code::DeadlineExceeded));
        let (count, end) = stalled("/x", &pieces, most(10_005 + WAITING)).await;
        assert_eq!((count, end), (10_005, late));
        // Of a stream its buffer is counted, from when a large message is announced.
        let bounds = Bounds {
            kept: 49_999,
            ..most(100)
        };
        assert_eq!(stalled(WATCH, &[begin], bounds).await, (0, full));
        let message = [&[0, 0, 0, 0x13, 0x88], zeros.as_slice()].concat();
        let messages = [message.as_slice(); 10];
        assert_eq!(stalled(WATCH, &messages, most(100)).await, (0, None));
    }

    /// A stream that stops amid a message, and whose call may never look at it again, must not shut out others.
    #[tokio::test]
    async fn what_streams_hold_is_not_of_what_others_need_to_arrive() {
        let late = Some(Err(Code::DeadlineExceeded));
        let begin: &[u8] = &[0, 0, 0, 0x1f, 0xff];
        assert_eq!(
            stalled(WATCH, &[begin, &[0; 8000]], most(0)).await,
            (0, late)
        );
        let renewals = "/etcdserverpb.Lease/LeaseKeepAlive";
        assert_eq!(stalled(renewals, &[begin], most(0)).await, (0, late));
    }

    #[tokio::test]
    async fn who_waits_counts_even_with_nothing() {
        let late = Some(Err(Code::DeadlineExceeded));
        let full = Some(Err(Code::ResourceExhausted));
        assert_eq!(stalled("/x", &[], most(WAITING)).await, (0, late));
        assert_eq!(stalled("/x", &[], most(WAITING - 1)).await, (0, full));
    }

    /// Bodies of requests of which so much has come, through one connection or several.
    struct Bodies {
        arriving: Arc<Arriving>,
        bounds: Bounds,
        waiting: Vec<Request<Body>>,
    }

    impl Bodies {
        /// One more, read until nothing more comes. It waits from then on, unless it is refused.
        async fn read(&mut self, part: &Arc<Part>, come: usize) -> Result<(), Code> {
            let pieces = if come == 0 {
                vec![]
            } else {
                vec![Bytes::from(vec![0; come])]
            };
            let request = Request::new(Body::new(Stalled(pieces)));
            let mut request = bound_arrival(request, &self.arriving, part, self.bounds);
            let read = std::future::poll_fn(|cx| {
                loop {
                    match Pin::new(request.body_mut()).poll_frame(cx) {
                        Poll::Ready(Some(Ok(_))) => {}
                        Poll::Ready(end) => return Poll::Ready(Some(end.unwrap().map(|_| ()))),
                        Poll::Pending => return Poll::Ready(None),
                    }
                }
            });
            match read.await {
                Some(end) => return end.map_err(|status| status.code()),
                None => self.waiting.push(request),
            }
            Ok(())
        }
    }

    #[tokio::test]
    async fn one_connection_takes_no_more_than_its_part_once_the_half_is_taken() {
        let bounds = Bounds {
            part: 3 * WAITING,
            own: WAITING,
            time: Duration::from_secs(600),
            ..most(16 * WAITING)
        };
        let mut bodies = Bodies {
            arriving: Arc::default(),
            bounds,
            waiting: Vec::new(),
        };
        let full = Err(Code::ResourceExhausted);
        let first = Arc::default();
        for _ in 0..8 {
            assert_eq!(bodies.read(&first, 0).await, Ok(()), "the half");
        }
        assert_eq!(bodies.read(&first, 0).await, full);
        assert_eq!(bodies.read(&first, SMALL + 1).await, full);
        // The others have their parts, to the end of the whole.
        let others: [Arc<Part>; 3] = Default::default();
        for (other, fit) in others.iter().zip([3, 3, 2]) {
            for _ in 0..fit {
                assert_eq!(bodies.read(other, 100).await, Ok(()));
            }
            assert_eq!(bodies.read(other, 0).await, full);
        }
        // Then one small request of each that has none.
        let late = Arc::default();
        assert_eq!(bodies.read(&late, SMALL + 1).await, full);
        assert_eq!(bodies.read(&late, SMALL).await, Ok(()));
        assert_eq!(bodies.read(&late, 1).await, full);
        assert_eq!(bodies.read(&first, 0).await, full);
        // There is room again as they end.
        bodies.waiting.drain(..2);
        assert_eq!(bodies.read(&others[2], 0).await, Ok(()));
        assert_eq!(bodies.read(&others[2], 0).await, full);
        bodies.waiting.clear();
        for part in [&first, &late, &others[0], &others[1], &others[2]] {
            assert_eq!(part.0.load(Ordering::Relaxed), 0);
        }
        assert_eq!(bodies.arriving.bytes.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn a_small_request_that_came_whole_is_never_refused() {
        for (bytes, passes) in [(1, true), (SMALL, true), (SMALL + 1, false)] {
            let request = Request::new(Body::new(Stalled(vec![Bytes::from(vec![0; bytes])])));
            let mut body =
                bound_arrival(request, &Arc::default(), &Arc::default(), most(0)).into_body();
            let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
            assert_eq!(frame.unwrap().is_ok(), passes, "{bytes}");
        }
    }

    #[tokio::test]
    async fn the_largest_message_of_a_stream_counts_until_its_end() {
        let arriving = Arc::new(Arriving::default());
        let message = |bytes: usize| {
            let length = u32::try_from(bytes).unwrap().to_be_bytes();
            Bytes::from([&[0], &length[..], &vec![0; bytes]].concat())
        };
        // The body of a stream on which these have come, and how reading them ended.
        let stream = async |sizes: &[usize]| {
            let pieces = sizes.iter().map(|size| message(*size)).collect();
            let request = Request::builder().uri(WATCH);
            let request = request.body(Body::new(Stalled(pieces))).unwrap();
            let bounds = most(1 << 20);
            let mut body = bound_arrival(request, &arriving, &Arc::default(), bounds).into_body();
            for _ in sizes {
                let frame = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
                if let Err(refusal) = frame.unwrap() {
                    return Err(refusal.code());
                }
            }
            Ok(body)
        };
        let kept = || arriving.kept.load(Ordering::Relaxed);
        let small = stream(&[SMALL, 1, SMALL]).await.unwrap();
        assert_eq!(kept(), 0);
        let first = stream(&[20_000, 1, 50_000, 30_000]).await.unwrap();
        assert_eq!(kept(), 50_000);
        // More than any message may have is refused when it is read.
        let second = stream(&[60_000]).await.unwrap();
        assert_eq!(kept(), 100_000);
        assert_eq!(
            stream(&[1, 10_000]).await.err(),
            Some(Code::ResourceExhausted)
        );
        assert_eq!(arriving.bytes.load(Ordering::Relaxed), 0);
        drop((small, first));
        assert_eq!(kept(), 50_000);
        drop(second);
        assert_eq!(kept(), 0);
    }
}
