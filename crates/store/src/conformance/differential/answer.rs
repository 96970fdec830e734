//! What a store answered, made comparable with what another one did.

use std::time::Duration;

use crate::{
    Applied, DeleteResponse, ErrorKind, Event, EventKind, Header, Key, KeyValue, PutResponse,
    RangeResponse, Revision, TxnOpResponse, TxnResponse, WatchBatch, WatchRequest,
};

/// An answer without identities, and with revisions counted from the beginning of the history.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    Range(RangeResponse),
    Put(PutResponse),
    Delete(DeleteResponse),
    Txn(TxnResponse),
    /// Nothing but a header.
    Done(Header),
    Granted(Header, Duration),
    Left {
        header: Header,
        lives: bool,
        granted: Duration,
        keys: Vec<Key>,
    },
    /// The numbers of the history's leases.
    Leases(Header, Vec<i64>),
    Refused(ErrorKind, Applied),
}

impl Answer {
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, Answer::Refused(..))
    }

    pub(super) fn counted_from(mut self, base: u64) -> Answer {
        match &mut self {
            Answer::Range(answer) => range(answer, base),
            Answer::Put(answer) => put(answer, base),
            Answer::Delete(answer) => delete(answer, base),
            Answer::Txn(answer) => txn(answer, base),
            Answer::Done(answer)
            | Answer::Granted(answer, _)
            | Answer::Left { header: answer, .. }
            | Answer::Leases(answer, _) => header(answer, base),
            Answer::Refused(..) => {}
        }
        self
    }
}

fn revision(revision: &mut Revision, base: u64) {
    // Zero is no revision, and what lies before the beginning no history's.
    revision.0 = revision.0.saturating_sub(base);
}

fn header(header: &mut Header, base: u64) {
    let mut at = header.revision;
    revision(&mut at, base);
    *header = Header {
        revision: at,
        ..Header::default()
    };
}

fn pair(kv: &mut KeyValue, base: u64) {
    revision(&mut kv.create_revision, base);
    revision(&mut kv.mod_revision, base);
}

fn range(answer: &mut RangeResponse, base: u64) {
    header(&mut answer.header, base);
    answer.kvs.iter_mut().for_each(|kv| pair(kv, base));
}

fn put(answer: &mut PutResponse, base: u64) {
    header(&mut answer.header, base);
    answer.prev_kv.iter_mut().for_each(|kv| pair(kv, base));
}

fn delete(answer: &mut DeleteResponse, base: u64) {
    header(&mut answer.header, base);
    answer.prev_kvs.iter_mut().for_each(|kv| pair(kv, base));
}

fn txn(answer: &mut TxnResponse, base: u64) {
    header(&mut answer.header, base);
    for response in &mut answer.responses {
        match response {
            TxnOpResponse::Range(answer) => range(answer, base),
            TxnOpResponse::Put(answer) => put(answer, base),
            TxnOpResponse::Delete(answer) => delete(answer, base),
            TxnOpResponse::Txn(answer) => txn(answer, base),
        }
    }
}

/// How a history ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct End {
    /// When all keys were put.
    pub(super) put: Revision,
    /// When all keys were deleted.
    pub(super) last: Revision,
    pub(super) deleted: u64,
}

/// What a watch told.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) request: WatchRequest,
    pub(super) events: Vec<Event>,
    /// That it ended so.
    pub(super) compacted: Option<Revision>,
    /// Something that no watch may do.
    pub(super) wrong: Option<String>,
    /// Whether a compaction came while it stood.
    pub(super) raced: bool,
    /// All compactions of the history.
    pub(super) compactions: Vec<Revision>,
}

impl Told {
    pub(super) fn new(request: WatchRequest) -> Told {
        Told {
            request,
            events: Vec::new(),
            compacted: None,
            wrong: None,
            raced: false,
            compactions: Vec::new(),
        }
    }

    /// Takes a batch, and sees that it holds whole revisions after those before.
    pub(super) fn take(&mut self, batch: WatchBatch, base: u64) {
        let mut last = self.events.last().map(|event| event.kv.mod_revision);
        for (at, mut event) in batch.events.into_iter().enumerate() {
            pair(&mut event.kv, base);
            event.prev_kv.iter_mut().for_each(|kv| pair(kv, base));
            let now = Some(event.kv.mod_revision);
            // Within a batch a revision may go on; a new batch begins a new one.
            if (at == 0 && now <= last) || now < last {
                let what = format!("an event at {now:?} after {last:?}, in batches");
                self.wrong.get_or_insert(what);
            }
            last = now;
            self.events.push(event);
        }
        if Some(batch.revision.0.saturating_sub(base)) < last.map(|last| last.0) {
            let what = format!("a batch of {} with events of {last:?}", batch.revision);
            self.wrong.get_or_insert(what);
        }
    }

    /// The same without deletes at revisions that were compacted.
    pub(super) fn without_lost_deletes(mut self) -> Told {
        let compactions = std::mem::take(&mut self.compactions);
        self.events.retain(|event| {
            event.kind == EventKind::Put || !compactions.contains(&event.kv.mod_revision)
        });
        self
    }

    /// How many events both told, or why they did not tell the same.
    pub(super) fn compare(a: &Told, b: &Told) -> Result<usize, String> {
        for told in [a, b] {
            if let Some(wrong) = &told.wrong {
                return Err(format!("one of them shows {wrong}"));
            }
        }
        let ends_alike = a.compacted == b.compacted;
        // Ending as compacted is right at any event, once a compaction came while it stood.
        let may_end = |told: &Told| told.compacted.is_some() && told.raced;
        let prefix = if may_end(a) || may_end(b) {
            a.events.len().min(b.events.len())
        } else if ends_alike && a.events.len() == b.events.len() {
            a.events.len()
        } else {
            return Err("they end differently".to_string());
        };
        let short_one_ended = |told: &Told| told.events.len() > prefix || told.compacted.is_some();
        if a.events.len() != b.events.len() && !(short_one_ended(a) && short_one_ended(b)) {
            return Err("one of them tells less without an end".to_string());
        }
        for (of_a, of_b) in a.events.iter().zip(&b.events) {
            let lost = a.raced && (of_a.prev_kv.is_none() || of_b.prev_kv.is_none());
            let alike = of_a.kind == of_b.kind
                && of_a.kv == of_b.kv
                && (lost || of_a.prev_kv == of_b.prev_kv);
            if !alike {
                return Err(format!("{of_a:?} is not {of_b:?}"));
            }
        }
        Ok(prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(revision: u64) -> Event {
        Event {
            kind: EventKind::Put,
            kv: KeyValue {
                mod_revision: Revision(revision),
                ..KeyValue::default()
            },
            prev_kv: None,
        }
    }

    fn told(revisions: &[u64]) -> Told {
        let mut told = Told::new(WatchRequest::new("a"));
        told.events = revisions.iter().map(|at| event(*at)).collect();
        told
    }

    #[test]
    fn watches_that_told_the_same_are_alike() {
        assert_eq!(Told::compare(&told(&[1, 2]), &told(&[1, 2])), Ok(2));
        assert!(Told::compare(&told(&[1, 2]), &told(&[1, 3])).is_err());
        assert!(Told::compare(&told(&[1, 2]), &told(&[1])).is_err());
    }

    #[test]
    fn a_watch_that_raced_with_a_compaction_may_end() {
        let whole = told(&[1, 2]);
        let mut ended = told(&[1]);
        ended.compacted = Some(Revision(2));
        assert!(Told::compare(&whole, &ended).is_err());
        ended.raced = true;
        assert_eq!(Told::compare(&whole, &ended), Ok(1));
        ended.events = vec![event(2)];
        assert!(Told::compare(&whole, &ended).is_err());
    }

    #[test]
    fn a_revision_in_two_batches_is_wrong() {
        let batch = |revisions: &[u64]| WatchBatch {
            revision: Revision(9),
            events: revisions.iter().map(|at| event(*at)).collect(),
        };
        let mut whole = told(&[]);
        whole.take(batch(&[3, 3, 4]), 1);
        whole.take(batch(&[5]), 1);
        assert_eq!(whole.wrong, None);
        assert_eq!(
            whole.events.last().map(|event| event.kv.mod_revision),
            Some(Revision(4))
        );
        whole.take(batch(&[5, 6]), 1);
        assert!(whole.wrong.is_some());
    }
}
