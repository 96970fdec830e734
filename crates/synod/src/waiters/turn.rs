//! [`Turn`]: one guard's time with a lock that is handed over in memory, as its transactions see it.
//!
//! A lock that is handed over keeps its key, so that the key's create revision does not tell one guard's
//! transactions from the next one's. So they are counted: none begins after its guard's end, and the lock
//! is not handed over before those that have begun are settled. One whose outcome is not known may still
//! arrive late: then the lock is given back to the store, whose next holder has another key.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::Result;

/// A guard's turn. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    state: Arc<watch::Sender<State>>,
    over: CancellationToken,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// The guard has ended: nothing begins any more.
    over: bool,
    /// So many transactions are on their way.
    under_way: usize,
    /// The outcome of one is not known.
    doubt: bool,
}

/// A transaction on its way. Dropping it without [an end](UnderWay::ended) leaves its outcome in doubt.
#[derive(Debug)]
pub(crate) struct UnderWay {
    turn: Turn,
    doubt: bool,
}

impl Turn {
    pub(crate) fn new() -> Turn {
        Turn {
            state: Arc::new(watch::Sender::new(State::default())),
            over: CancellationToken::new(),
        }
    }

    /// A transaction begins; `None` when the turn is over.
    pub(crate) fn begin(&self) -> Option<UnderWay> {
        let begun = self.state.send_if_modified(|state| {
            if !state.over {
                state.under_way = state.under_way.saturating_add(1);
            }
            !state.over
        });
        begun.then(|| UnderWay {
            turn: self.clone(),
            doubt: true,
        })
    }

    /// The guard ends. Whether its transactions are all settled.
    pub(crate) fn end(&self) -> Option<Settled> {
        self.over.cancel();
        self.state.send_modify(|state| state.over = true);
        let state = *self.state.borrow();
        (state.under_way == 0).then_some(Settled { doubt: state.doubt })
    }

    /// Waits until the transactions that have begun are settled.
    pub(crate) async fn settled(&self) -> Settled {
        let mut state = self.state.subscribe();
        let quiet = state.wait_for(|state| state.under_way == 0).await;
        Settled {
            // The sender is here, so that there is an answer.
            doubt: quiet.is_ok_and(|state| state.doubt),
        }
    }

    /// Waits for the guard's end.
    pub(crate) fn over(&self) -> impl Future<Output = ()> + Send + 'static {
        self.over.clone().cancelled_owned()
    }
}

/// No transaction of a guard is on its way any more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settled {
    /// One may still arrive.
    pub(crate) doubt: bool,
}

impl UnderWay {
    /// The transaction has ended like this.
    pub(crate) fn ended<T>(mut self, end: Result<T>) -> Result<T> {
        self.doubt = end.as_ref().is_err_and(crate::Error::is_maybe_committed);
        end
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.turn.state.send_modify(|state| {
            state.under_way = state.under_way.saturating_sub(1);
            state.doubt |= self.doubt;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    #[tokio::test]
    async fn nothing_begins_after_the_end_and_what_has_begun_is_waited_for() {
        let turn = Turn::new();
        let one = turn.begin().unwrap();
        assert!(turn.end().is_none());
        assert!(turn.begin().is_none());
        turn.over().await;
        let waiting = tokio::spawn({
            let turn = turn.clone();
            async move { turn.settled().await.doubt }
        });
        one.ended(Ok(())).unwrap();
        assert!(!waiting.await.unwrap());
    }

    #[tokio::test]
    async fn what_was_dropped_on_its_way_stays_in_doubt() {
        let turn = Turn::new();
        drop(turn.begin().unwrap());
        turn.begin().unwrap().ended(Ok(())).unwrap();
        assert!(turn.end().unwrap().doubt);
        assert!(turn.settled().await.doubt);
    }

    #[test]
    fn an_error_that_says_no_leaves_no_doubt() {
        let turn = Turn::new();
        let refused: Result<()> = Err(Error::SessionLost);
        assert!(turn.begin().unwrap().ended(refused).is_err());
        assert!(!turn.end().unwrap().doubt);
    }
}
