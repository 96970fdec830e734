//! One side of a comparison: a store, where its revisions begin, and the watches that stand on it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;

use crate::{
    Compare, CompareOperand, DeleteRequest, ErrorKind, EventKind, KeyRange, LeaseGrantRequest,
    PutRequest, RangeRequest, Result, Revision, Store, Txn, TxnOp, Watch, WatchItem, WatchRequest,
};

use super::Side;
use super::answer::{Answer, End, Told};
use super::generate::{KEYS, LEASES, Step, lease_id};

/// A store on which a history is played.
#[derive(Debug)]
pub(super) struct Live {
    store: Arc<dyn Store>,
    /// The store's revision when the history began.
    base: u64,
    watches: Vec<Standing>,
    /// Where the store was compacted, counted from the beginning.
    compactions: Vec<Revision>,
}

#[derive(Debug)]
struct Standing {
    request: WatchRequest,
    watch: Watch,
    /// How many compactions there had been.
    compactions: usize,
}

impl Live {
    /// Empties the store.
    pub(super) async fn begin(side: &Side<'_>, seed: u64) -> Result<Live> {
        let mut live = Live {
            store: Arc::clone(&side.instance.store),
            base: 0,
            watches: Vec::new(),
            compactions: Vec::new(),
        };
        live.clean().await?;
        // A history never begins at a revision that an earlier one compacted, on either side.
        let mark = PutRequest::new("begin", seed.to_string());
        live.store.put(mark).await?;
        let deleted = live.store.delete(DeleteRequest::new("begin")).await?;
        live.base = deleted.header.revision.0;
        Ok(live)
    }

    /// Deletes all keys and the leases of histories.
    pub(super) async fn clean(&mut self) -> Result<()> {
        self.watches.clear();
        self.store
            .delete(DeleteRequest::new(KeyRange::all()))
            .await?;
        for id in (0..LEASES).filter_map(lease_id) {
            match self.store.lease_revoke(id).await {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::LeaseNotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Asks one thing of the store.
    pub(super) async fn apply(&mut self, step: &Step) -> Answer {
        match self.ask(step).await {
            Ok(answer) => answer.counted_from(self.base),
            Err(error) => Answer::Refused(error.kind(), error.applied()),
        }
    }

    async fn ask(&mut self, step: &Step) -> Result<Answer> {
        let store = &self.store;
        let lease = |number: &i64| lease_id(*number).ok_or(ErrorKind::LeaseNotFound);
        Ok(match step {
            Step::Range(request) => Answer::Range(store.range(self.range(request.clone())).await?),
            Step::Put(request) => Answer::Put(store.put(request.clone()).await?),
            Step::Delete(request) => Answer::Delete(store.delete(request.clone()).await?),
            Step::Txn(txn) => Answer::Txn(store.txn(self.txn(txn.clone())).await?),
            Step::Compact(at, physical) => {
                let answer = store.compact(self.revision(*at), *physical).await?;
                self.compactions.push(*at);
                Answer::Done(answer.header)
            }
            Step::Grant(number, ttl) => {
                let request = LeaseGrantRequest::new(*ttl).with_id(lease(number)?);
                let answer = store.lease_grant(request).await?;
                Answer::Granted(answer.header, answer.ttl)
            }
            Step::Revoke(number) => Answer::Done(store.lease_revoke(lease(number)?).await?.header),
            Step::KeepAlive(number) => {
                let answer = store.lease_keep_alive(lease(number)?).await?;
                Answer::Granted(answer.header, answer.ttl)
            }
            Step::TimeToLive(number) => {
                let answer = store.lease_time_to_live(lease(number)?, true).await?;
                Answer::Left {
                    header: answer.header,
                    lives: answer.remaining.is_some(),
                    granted: answer.granted,
                    keys: answer.keys,
                }
            }
            Step::Leases => {
                let answer = store.leases().await?;
                let known = (0..LEASES).filter(|number| {
                    lease_id(*number).is_some_and(|id| answer.leases.contains(&id))
                });
                Answer::Leases(answer.header, known.collect())
            }
            Step::Watch(request) => {
                let mut absolute = request.clone();
                absolute.start_revision = self.revision(absolute.start_revision);
                let watch = store.watch(absolute).await?;
                let header = watch.header();
                self.watches.push(Standing {
                    request: request.clone(),
                    watch,
                    compactions: self.compactions.len(),
                });
                Answer::Done(header)
            }
        })
    }

    /// Puts and deletes every key, so that every watch has something to tell at the end.
    pub(super) async fn end(&self) -> Result<End> {
        let puts = KEYS.map(|key| PutRequest::new(key, "end"));
        let put = self.store.txn(Txn::new().and_then(puts)).await?;
        let all = DeleteRequest::new(KeyRange::all());
        let deleted = self.store.delete(all).await?;
        Ok(End {
            put: Revision(put.header.revision.0.saturating_sub(self.base)),
            last: Revision(deleted.header.revision.0.saturating_sub(self.base)),
            deleted: deleted.deleted,
        })
    }

    /// Reads every watch to its end.
    pub(super) async fn read(&mut self, end: End, patience: Duration) -> Vec<Told> {
        let (base, compactions) = (self.base, &self.compactions);
        let reading = self.watches.drain(..).map(|standing| async move {
            let mut told = Told::new(standing.request);
            told.compactions = compactions.clone();
            told.raced = compactions.len() > standing.compactions;
            let Some(last) = last_event(&told.request, end) else {
                return told;
            };
            if tokio::time::timeout(patience, collect(standing.watch, base, last, &mut told))
                .await
                .is_err()
            {
                told.wrong = Some(format!("nothing more comes, of all up to {last}"));
            }
            told
        });
        join_all(reading).await
    }

    fn revision(&self, relative: Revision) -> Revision {
        if relative.is_zero() {
            relative
        } else {
            Revision(relative.0.saturating_add(self.base))
        }
    }

    fn range(&self, mut request: RangeRequest) -> RangeRequest {
        request.revision = self.revision(request.revision);
        for bound in [
            &mut request.min_mod_revision,
            &mut request.max_mod_revision,
            &mut request.min_create_revision,
            &mut request.max_create_revision,
        ] {
            *bound = bound.map(|bound| self.revision(bound));
        }
        request
    }

    fn txn(&self, txn: Txn) -> Txn {
        let ops = |ops: Vec<TxnOp>| ops.into_iter().map(|op| self.op(op)).collect();
        Txn {
            compares: txn
                .compares
                .into_iter()
                .map(|it| self.compare(it))
                .collect(),
            success: ops(txn.success),
            failure: ops(txn.failure),
        }
    }

    fn op(&self, op: TxnOp) -> TxnOp {
        match op {
            TxnOp::Range(request) => TxnOp::Range(self.range(request)),
            TxnOp::Txn(txn) => TxnOp::Txn(self.txn(txn)),
            other => other,
        }
    }

    fn compare(&self, mut compare: Compare) -> Compare {
        let absolute = |relative| self.revision(Revision::from_i64(relative)).as_i64();
        match &mut compare.operand {
            CompareOperand::CreateRevision(operand) | CompareOperand::ModRevision(operand) => {
                *operand = absolute(*operand);
            }
            _ => {}
        }
        compare
    }
}

/// The revision of the last event that a watch has to tell, if it has to tell any.
fn last_event(request: &WatchRequest, end: End) -> Option<Revision> {
    // A watch takes an empty key for the first one.
    let contains = |key: &&[u8]| match &request.range {
        KeyRange::One(one) if one.is_empty() => *key == b"\0",
        range => range.contains(key),
    };
    if !KEYS.iter().any(contains) {
        return None;
    }
    let last = if request.wants(EventKind::Delete) {
        end.last
    } else if request.wants(EventKind::Put) {
        end.put
    } else {
        return None;
    };
    (request.start_revision <= last).then_some(last)
}

/// Reads a watch up to the event at `last`.
async fn collect(mut watch: Watch, base: u64, last: Revision, told: &mut Told) {
    while let Some(item) = watch.next().await {
        match item {
            Ok(WatchItem::Events(batch)) => {
                told.take(batch, base);
                let at = told.events.last().map(|event| event.kv.mod_revision);
                if at >= Some(last) {
                    return;
                }
            }
            Ok(WatchItem::Progress(_)) => {}
            Ok(WatchItem::Compacted { compact_revision }) => {
                told.compacted = Some(Revision(compact_revision.0.saturating_sub(base)));
                return;
            }
            Err(error) => {
                told.wrong = Some(format!("an error: {:?}", error.kind()));
                return;
            }
        }
    }
    told.wrong = Some("the end of the stream".to_string());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Key;

    #[test]
    fn a_watch_has_an_end_if_it_can_see_it() {
        let end = End {
            put: Revision(10),
            last: Revision(11),
            deleted: 9,
        };
        let last = |request| last_event(&request, end);
        let all = || WatchRequest::new(KeyRange::all());
        assert_eq!(last(all()), Some(Revision(11)));
        assert_eq!(
            last(all().without(crate::EventFilter::NoDelete)),
            Some(Revision(10))
        );
        assert_eq!(last(all().starting_at(Revision(12))), None);
        assert_eq!(last(WatchRequest::new("nobody")), None);
        assert_eq!(last(WatchRequest::new(Key::default())), Some(Revision(11)));
    }
}
