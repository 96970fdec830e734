//! Renewals of leases: one stream for all of them.
//!
//! A server answers each request, in order, naming the lease. After a break those still unanswered
//! are asked again: a renewal more does no harm. Every call has a request of its own, sent after
//! the call was made, because whoever renews counts the lease's time from then.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use synod_store::{Error, ErrorKind, LeaseId, LeaseKeepAliveResponse, Result};
use synod_wire::convert::lease;
use synod_wire::etcdserverpb as pb;
use synod_wire::etcdserverpb::lease_client::LeaseClient;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;
use tokio::time::timeout;
use tonic::transport::Channel;

use crate::auth::Token;
use crate::channels::Line;
use crate::error::copy;
use crate::retry::Caller;
use crate::stream::{self, Opening, Requests, Talk, Trouble};

/// Renews leases.
#[derive(Debug)]
pub(crate) struct KeepAlives {
    caller: Caller,
    trouble: Trouble,
    /// To the task that owns the stream, started with the first renewal.
    task: OnceLock<UnboundedSender<Ask>>,
}

impl KeepAlives {
    pub(crate) fn new(caller: Caller) -> KeepAlives {
        KeepAlives {
            caller,
            trouble: Trouble::default(),
            task: OnceLock::new(),
        }
    }

    /// Renews a lease once.
    pub(crate) async fn keep_alive(&self, id: LeaseId) -> Result<LeaseKeepAliveResponse> {
        let (reply, answer) = oneshot::channel();
        let task = self.task.get_or_init(|| {
            let (sender, commands) = unbounded_channel();
            let (caller, trouble) = (self.caller.clone(), self.trouble.clone());
            tokio::spawn(stream::run(Ledger::default(), caller, commands, trouble));
            sender
        });
        let gone = || Error::new(ErrorKind::Closed, "the client's runtime has ended");
        task.send(Ask { id, reply }).map_err(|_| gone())?;
        match timeout(self.caller.timeout, answer).await {
            Ok(answer) => answer.map_err(|_| gone())?,
            Err(_) => Err(self
                .trouble
                .out_of_time("the lease was not renewed", self.caller.timeout)),
        }
    }
}

type Reply = oneshot::Sender<Result<LeaseKeepAliveResponse>>;

/// A lease to renew, and whom to tell.
#[derive(Debug)]
struct Ask {
    id: LeaseId,
    reply: Reply,
}

/// Who waits for what, oldest first.
#[derive(Debug, Default)]
struct Ledger {
    /// Sent on the stream that stands.
    sent: VecDeque<Ask>,
    /// Not sent, or lost with a stream.
    unsent: VecDeque<Ask>,
    is_open: bool,
}

impl Talk for Ledger {
    type Command = Ask;
    type Request = pb::LeaseKeepAliveRequest;
    type Answer = pb::LeaseKeepAliveResponse;

    fn open(channel: Channel, requests: Requests<Self::Request>) -> Opening<Self::Answer> {
        Box::pin(async { LeaseClient::new(channel).lease_keep_alive(requests).await })
    }

    fn command(&mut self, ask: Ask) {
        // Those who gave up while there is no stream are not to pile up.
        if !self.is_open {
            self.unsent.retain(|ask| !ask.reply.is_closed());
        }
        self.unsent.push_back(ask);
    }

    fn is_wanted(&self) -> bool {
        self.unsent.iter().any(|ask| !ask.reply.is_closed())
    }

    fn opened(&mut self, _: &Arc<Line>, _: &Token) {
        self.is_open = true;
    }

    fn requests(&mut self) -> Vec<pb::LeaseKeepAliveRequest> {
        let wanted = self.unsent.drain(..).filter(|ask| !ask.reply.is_closed());
        let before = self.sent.len();
        self.sent.extend(wanted);
        let new = self.sent.iter().skip(before);
        new.map(|ask| lease::keep_alive_request(ask.id)).collect()
    }

    fn answer(&mut self, answer: pb::LeaseKeepAliveResponse) -> Result<()> {
        let id = LeaseId::new(answer.id);
        let asked = self.sent.iter().position(|ask| Some(ask.id) == id);
        let Some(ask) = asked.and_then(|index| self.sent.remove(index)) else {
            return Err(Error::new(
                ErrorKind::Other,
                format!(
                    "malformed answer: lease {} was not to be renewed",
                    answer.id
                ),
            ));
        };
        // Nobody listens any more when this fails.
        let _ = ask.reply.send(answer.try_into());
        Ok(())
    }

    fn is_waiting(&self) -> bool {
        !self.sent.is_empty()
    }

    fn lost(&mut self) {
        self.is_open = false;
        while let Some(ask) = self.sent.pop_back() {
            if !ask.reply.is_closed() {
                self.unsent.push_front(ask);
            }
        }
    }

    fn refused(&mut self, error: &Error) {
        for ask in self.sent.drain(..).chain(self.unsent.drain(..)) {
            let _ = ask.reply.send(Err(copy(error)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    type Answer = oneshot::Receiver<Result<LeaseKeepAliveResponse>>;

    fn ask(ledger: &mut Ledger, id: i64) -> Answer {
        let (reply, answer) = oneshot::channel();
        let id = LeaseId::new(id).unwrap();
        ledger.command(Ask { id, reply });
        answer
    }

    fn sent(ledger: &mut Ledger) -> Vec<i64> {
        ledger.requests().iter().map(|request| request.id).collect()
    }

    fn renewed(id: i64, ttl: i64) -> pb::LeaseKeepAliveResponse {
        let header = pb::ResponseHeader::default();
        pb::LeaseKeepAliveResponse {
            header: Some(header),
            id,
            ttl,
        }
    }

    fn ttl(mut answer: Answer) -> Result<Duration> {
        answer.try_recv().unwrap().map(|response| response.ttl)
    }

    #[test]
    fn answers_find_those_who_asked() {
        let mut ledger = Ledger::default();
        let answers = [1, 2, 1].map(|id| ask(&mut ledger, id));
        assert!(ledger.is_wanted() && !ledger.is_waiting());
        assert_eq!(sent(&mut ledger), [1, 2, 1]);
        assert!(ledger.is_waiting());
        for (id, seconds) in [(2, 20), (1, 10), (1, 11)] {
            ledger.answer(renewed(id, seconds)).unwrap();
        }
        let ttls = answers.map(|answer| ttl(answer).unwrap().as_secs());
        assert_eq!(ttls, [10, 20, 11]);
        assert!(!ledger.is_waiting());
        assert!(ledger.answer(renewed(1, 10)).is_err());
    }

    #[test]
    fn a_lease_that_is_gone_is_an_error_of_its_own() {
        let mut ledger = Ledger::default();
        let answer = ask(&mut ledger, 1);
        sent(&mut ledger);
        ledger.answer(renewed(1, 0)).unwrap();
        assert!(ttl(answer).unwrap_err().is_lease_gone());
    }

    #[test]
    fn after_a_break_what_is_still_wanted_is_asked_again_in_order() {
        let mut ledger = Ledger::default();
        let first = ask(&mut ledger, 1);
        let given_up = ask(&mut ledger, 2);
        let third = ask(&mut ledger, 3);
        assert_eq!(sent(&mut ledger), [1, 2, 3]);
        ledger.answer(renewed(1, 10)).unwrap();
        assert_eq!(ttl(first).unwrap().as_secs(), 10);
        drop(given_up);
        ledger.lost();
        let fourth = ask(&mut ledger, 4);
        assert_eq!(sent(&mut ledger), [3, 4]);
        ledger.answer(renewed(3, 30)).unwrap();
        ledger.answer(renewed(4, 40)).unwrap();
        assert_eq!(ttl(third).unwrap().as_secs(), 30);
        assert_eq!(ttl(fourth).unwrap().as_secs(), 40);
    }

    #[test]
    fn nothing_is_wanted_when_all_have_given_up() {
        let mut ledger = Ledger::default();
        drop(ask(&mut ledger, 1));
        assert!(!ledger.is_wanted());
        let answer = ask(&mut ledger, 2);
        assert_eq!(ledger.unsent.len(), 1);
        ledger.refused(&ErrorKind::PermissionDenied.into());
        let error = ttl(answer).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(!ledger.is_wanted());
    }
}
