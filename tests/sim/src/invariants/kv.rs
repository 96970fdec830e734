//! The store: what was read is what was there at the answer's revision, and no client sees time run backwards.

use std::collections::BTreeMap;

use synod_store::{RangeRequest, RangeResponse, Revision, SortOrder, SortTarget};

use crate::history::History;
use crate::oracle::State;

pub(super) fn check(history: &History) -> Result<(), String> {
    monotone(history)?;
    let mut reads: BTreeMap<Revision, Vec<(&RangeRequest, &RangeResponse)>> = BTreeMap::new();
    for read in &history.reads {
        if let Some((request, answer)) = &read.range {
            let at = if request.revision == Revision::ZERO {
                read.header
            } else {
                request.revision
            };
            reads.entry(at).or_default().push((request, answer));
        }
    }
    let mut result = Ok(());
    history.oracle.replay(|revision, state| {
        for (request, answer) in reads.remove(&revision).unwrap_or_default() {
            if result.is_ok() {
                result = compare(revision, state, request, answer);
            }
        }
    });
    result?;
    match reads.first_key_value() {
        Some((revision, _)) => Err(format!(
            "an answer speaks of revision {revision}, which never was"
        )),
        None => Ok(()),
    }
}

/// Done before means an earlier revision.
fn monotone(history: &History) -> Result<(), String> {
    let mut reads: Vec<_> = history.reads.iter().collect();
    reads.sort_by_key(|read| read.end);
    let mut highest = Revision::ZERO;
    let mut done = reads.iter().peekable();
    let mut begun: Vec<_> = history.reads.iter().collect();
    begun.sort_by_key(|read| read.begin);
    for read in begun {
        while let Some(earlier) = done.next_if(|earlier| earlier.end < read.begin) {
            highest = highest.max(earlier.header);
        }
        if read.header < highest {
            return Err(format!(
                "client {}.{} was answered at revision {} after revision {highest} was answered",
                read.client, read.incarnation, read.header
            ));
        }
    }
    Ok(())
}

fn compare(
    revision: Revision,
    state: &State,
    request: &RangeRequest,
    answer: &RangeResponse,
) -> Result<(), String> {
    // Filters and orders are the conformance suite's business.
    let plain = request.sort_target == SortTarget::Key && request.sort_order == SortOrder::None;
    if !plain
        || request.keys_only
        || request.count_only
        || *request
            != (RangeRequest {
                limit: request.limit,
                revision: request.revision,
                ..RangeRequest::new(request.range.clone())
            })
    {
        return Ok(());
    }
    let there = state.iter().filter(|(key, _)| request.range.contains(key));
    let there: Vec<_> = there.map(|(_, kv)| kv).collect();
    let limit = match usize::try_from(request.limit) {
        Ok(limit) if limit > 0 => limit,
        _ => usize::MAX,
    };
    let expected: Vec<_> = there.iter().copied().take(limit).collect();
    let found: Vec<_> = answer.kvs.iter().collect();
    let counted = (answer.count, answer.more);
    if counted
        != (
            u64::try_from(there.len()).unwrap_or(u64::MAX),
            there.len() > limit,
        )
    {
        return Err(format!(
            "{request:?} at revision {revision} counted {counted:?} of {there:?}"
        ));
    }
    if expected != found {
        return Err(format!(
            "{request:?} at revision {revision} found {found:?} instead of {expected:?}"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use synod_store::{KeyRange, KeyValue};

    #[test]
    fn an_answer_that_is_cut_short_is_objected_to() {
        let pair = |name: &str| KeyValue {
            key: name.to_owned().into(),
            ..KeyValue::default()
        };
        let pairs = [pair("a1"), pair("a2"), pair("b")];
        let state: State = pairs
            .iter()
            .map(|kv| (kv.key.as_bytes().to_vec(), kv.clone()))
            .collect();
        let check = |limit: u64, found: usize, count: u64, more: bool| {
            let request = RangeRequest::new(KeyRange::prefix("a")).with_limit(limit);
            let answer = RangeResponse {
                kvs: pairs[..found].to_vec(),
                count,
                more,
                ..RangeResponse::default()
            };
            compare(Revision(3), &state, &request, &answer)
        };
        assert_eq!(check(0, 2, 2, false), Ok(()));
        assert_eq!(check(1, 1, 2, true), Ok(()));
        assert_eq!(check(2, 2, 2, false), Ok(()));
        for (limit, found, count, more) in [
            (0, 1, 2, false),
            (0, 1, 1, false),
            (0, 0, 0, false),
            (1, 1, 1, false),
            (1, 1, 2, false),
            (2, 1, 2, true),
            (0, 3, 3, false),
        ] {
            let wrong = check(limit, found, count, more);
            assert!(wrong.is_err(), "{limit} {found} {count} {more}");
        }
    }
}
