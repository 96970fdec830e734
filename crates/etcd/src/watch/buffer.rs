//! What was received for a watch and not yet taken by its reader: bounded, so that a reader who
//! does not read costs no more than this.
//!
//! The stream's task never waits for a reader, who would stall all other watches. When a buffer is
//! over its limit the task cancels the watch at the server; the reader, once it has taken
//! everything, asks for it again, from where it stopped.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use synod_store::{Event, Result, WatchItem};

/// What an event costs beside its bytes, about.
const EVENT_COST: usize = 200;

/// The items of one watch.
#[derive(Debug)]
pub(crate) struct Buffer {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    items: VecDeque<(usize, Result<WatchItem>)>,
    cost: usize,
    /// The last item is in, or was taken.
    ended: bool,
    /// The watch was cancelled because of the limit, and its reader has not asked for it again.
    paused: bool,
    reader: Option<Waker>,
}

/// What a reader finds.
#[derive(Debug)]
pub(crate) enum Taken {
    /// An item.
    Item(Result<WatchItem>),
    /// An item, the last before the watch was cancelled: it has to be asked for again.
    LastBeforePause(Result<WatchItem>),
    /// The last one was taken before.
    End,
}

impl Buffer {
    /// A buffer that holds items up to this cost in bytes, and one more.
    pub(crate) fn new(limit: usize) -> Arc<Buffer> {
        Arc::new(Buffer {
            limit,
            state: Mutex::default(),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts an item in. False when that was too much: the watch is to be cancelled then.
    #[must_use]
    pub(crate) fn push(&self, item: WatchItem) -> bool {
        let cost = cost(&item);
        let mut state = self.state();
        state.items.push_back((cost, Ok(item)));
        state.cost = state.cost.saturating_add(cost);
        state.paused = state.cost > self.limit;
        wake(&mut state);
        !state.paused
    }

    /// Puts the last item in.
    pub(crate) fn end(&self, item: Result<WatchItem>) {
        let mut state = self.state();
        if !state.ended {
            state.items.push_back((0, item));
            state.ended = true;
            wake(&mut state);
        }
    }

    /// Takes the next item out.
    pub(crate) fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Taken> {
        let mut state = self.state();
        let Some((cost, item)) = state.items.pop_front() else {
            if state.ended {
                return Poll::Ready(Taken::End);
            }
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        state.cost = state.cost.saturating_sub(cost);
        if state.paused && state.items.is_empty() {
            state.paused = false;
            return Poll::Ready(Taken::LastBeforePause(item));
        }
        Poll::Ready(Taken::Item(item))
    }
}

fn wake(state: &mut State) {
    if let Some(reader) = state.reader.take() {
        reader.wake();
    }
}

fn cost(item: &WatchItem) -> usize {
    match item {
        WatchItem::Events(batch) => batch.events.iter().map(event_cost).sum(),
        _ => EVENT_COST,
    }
}

fn event_cost(event: &Event) -> usize {
    let pair = |kv: &synod_store::KeyValue| kv.key.len() + kv.value.len();
    EVENT_COST + pair(&event.kv) + event.prev_kv.as_ref().map_or(0, pair)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use synod_store::{ErrorKind, Revision};

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn progress(revision: u64) -> WatchItem {
        WatchItem::Progress(Revision(revision))
    }

    fn take(buffer: &Buffer) -> Poll<Taken> {
        buffer.poll_take(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn items_come_out_in_order_and_then_the_end() {
        let buffer = Buffer::new(1 << 20);
        assert!(take(&buffer).is_pending());
        assert!(buffer.push(progress(1)));
        buffer.end(Err(ErrorKind::Cancelled.into()));
        buffer.end(Ok(progress(2)));
        let Poll::Ready(Taken::Item(Ok(item))) = take(&buffer) else {
            panic!("the first item");
        };
        assert_eq!(item, progress(1));
        assert!(matches!(take(&buffer), Poll::Ready(Taken::Item(Err(_)))));
        assert!(matches!(take(&buffer), Poll::Ready(Taken::End)));
        assert!(matches!(take(&buffer), Poll::Ready(Taken::End)));
    }

    #[test]
    fn a_full_buffer_says_so_and_the_reader_learns_it_with_the_last_item() {
        let buffer = Buffer::new(EVENT_COST);
        assert!(buffer.push(progress(1)));
        assert!(!buffer.push(progress(2)));
        assert!(matches!(take(&buffer), Poll::Ready(Taken::Item(_))));
        assert!(matches!(
            take(&buffer),
            Poll::Ready(Taken::LastBeforePause(_))
        ));
        assert!(take(&buffer).is_pending());
        assert!(buffer.push(progress(3)));
        assert!(matches!(take(&buffer), Poll::Ready(Taken::Item(_))));
    }

    #[test]
    fn a_waiting_reader_is_woken() {
        let (buffer, count) = (Buffer::new(0), Arc::new(Count::default()));
        let waker = Waker::from(Arc::clone(&count));
        assert!(
            buffer
                .poll_take(&mut Context::from_waker(&waker))
                .is_pending()
        );
        let _ = buffer.push(progress(1));
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }
}
