//! [`fetch`]: keys and ranges read from the store, in as few requests as it allows, all of one state.

use synod_store::{KeyRange, RangeRequest, Revision, Txn, TxnOpResponse};

use super::sets::{Fetched, bounded};
use crate::settle::MAX_OPS;
use crate::{Client, Result, retry};

/// Where reads come from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    /// The state of this revision; else the current one.
    pub(super) at: Option<Revision>,
    /// One member may answer alone.
    pub(super) stale: bool,
    /// No more of a range than a commit can compare.
    pub(super) bounded: bool,
}

/// Reads keys and ranges in as few requests as the store allows, all of one state.
pub(super) async fn fetch(
    client: &Client,
    ranges: Vec<KeyRange>,
    source: Source,
) -> Result<Fetched> {
    let store = client.shared_store();
    let mut at = source.at;
    let mut fetched = Fetched::default();
    let request = |range: &KeyRange, at: Option<Revision>| {
        let mut request = if source.bounded {
            bounded(range)
        } else {
            RangeRequest::new(range.clone())
        };
        request.serializable = source.stale;
        request.at(at.unwrap_or_default())
    };
    for chunk in ranges.chunks(MAX_OPS) {
        if let [range] = chunk {
            let request = request(range, at);
            let read = retry::read(client.timeout(), || store.range(request.clone()));
            let response = read.await?;
            if !source.stale {
                at.get_or_insert(response.header.revision);
            }
            fetched.add(range.clone(), response);
            continue;
        }
        let txn = Txn::new().and_then(chunk.iter().map(|range| request(range, at)));
        let response = retry::read(client.timeout(), || store.txn(txn.clone())).await?;
        if !source.stale {
            at.get_or_insert(response.header.revision);
        }
        for (range, response) in chunk.iter().zip(response.responses) {
            if let TxnOpResponse::Range(response) = response {
                fetched.add(range.clone(), response);
            }
        }
    }
    fetched.revision = at.unwrap_or_default();
    Ok(fetched)
}
