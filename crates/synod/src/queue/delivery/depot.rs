//! [`Depot`]: what deliveries, their tender and the dead letters of one queue share in one client.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use synod_store::{Compare, Key, PutRequest, Store, TxnOp};
use tokio::sync::Mutex;

use super::acks::Acks;
use super::alarm::Alarms;
use super::gate::Gate;
use super::keys::{Beside, Id};
use super::leases::{Lease, Leases};
use super::record::{Record, encode_tries};
use super::tender::Tender;
use super::tidy::Tidy;
use crate::clock::Clock;
use crate::queue::{Core, Order};
use crate::settle::Settle;
use crate::slot::Slot;
use crate::{Client, Result};

/// How often an item whose place was taken meanwhile is offered another one.
pub(super) const PLACES: usize = 8;

/// What lies beside one queue, and how to deal with it.
#[derive(Debug)]
pub(crate) struct Depot {
    pub(super) store: Arc<dyn Store>,
    pub(super) settle: Settle,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) patience: Duration,
    pub(super) name: Key,
    /// The queue's name and a slash.
    pub(super) prefix: Key,
    pub(super) beside: Beside,
    pub(super) identity: Bytes,
    pub(super) leases: Arc<Leases>,
    pub(super) gate: Arc<dyn Gate>,
    pub(super) tender: Tender,
    pub(super) alarms: Alarms,
    pub(super) acks: Acks,
    /// Held by the one caller that puts something in under a capacity.
    pub(super) room_turn: Mutex<()>,
    /// The leases under the marks of de-duplication ids.
    pub(super) marks: Slot<Vec<Lease>>,
    pub(super) tidy: Slot<Tidy>,
}

/// Where an item goes when it is not on its way any more: part of a Txn.
#[derive(Debug)]
pub(super) struct Landing {
    pub(super) guards: Vec<Compare>,
    pub(super) ops: Vec<TxnOp>,
}

impl Depot {
    pub(super) fn new<O: Order>(
        client: &Client,
        core: &Arc<Core<O>>,
        name: &Key,
        own: &Key,
    ) -> Depot
    where
        Core<O>: Gate,
    {
        let leases = Leases::new(
            Arc::clone(&core.store),
            Arc::clone(&core.clock),
            core.settle.clone(),
            core.patience,
        );
        Depot {
            store: Arc::clone(&core.store),
            settle: core.settle.clone(),
            clock: Arc::clone(&core.clock),
            patience: core.patience,
            name: name.clone(),
            prefix: name.join("/"),
            beside: Beside::new(own),
            identity: client.identity(),
            leases: Arc::new(leases),
            gate: Arc::clone(core) as Arc<dyn Gate>,
            tender: Tender::default(),
            alarms: Alarms::default(),
            acks: Acks::default(),
            room_turn: Mutex::default(),
            marks: Slot::default(),
            tidy: Slot::default(),
        }
    }

    /// The part of an item's key that is its own.
    pub(super) fn place(&self, key: &Key) -> Bytes {
        key.clone()
            .into_bytes()
            .slice(self.prefix.len().min(key.len())..)
    }

    /// What puts an item into the queue: under its own key, or at the end under a new one.
    pub(super) async fn entry(&self, record: &Record, anew: bool) -> Result<Landing> {
        let own = self.prefix.join(&record.place);
        let payload = record.payload.clone();
        let (key, work) = if anew || !self.gate.is_item(&own) {
            self.gate.at_the_end(&record.place, payload).await?
        } else {
            let work = self.gate.under(&own, payload);
            (own, work)
        };
        let mut ops = work.first.ops;
        if record.attempts > 0 {
            let tries = self.beside.tries(&self.place(&key));
            ops.push(PutRequest::new(tries, encode_tries(record.attempts)).into());
        }
        Ok(Landing {
            guards: work.first.guards,
            ops,
        })
    }

    /// What makes a dead letter of an item.
    pub(super) fn burial(&self, record: &Record) -> Landing {
        let key = self.beside.dead(self.clock.unix_nanos(), Id::draw());
        Landing {
            guards: Vec::new(),
            ops: vec![PutRequest::new(key, record.encode()).into()],
        }
    }

    /// What delays an item.
    pub(super) fn delay(&self, record: &Record, delay: Duration) -> Landing {
        let nanos = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
        let due = self.clock.unix_nanos().saturating_add(nanos);
        let key = self.beside.later(due, Id::draw());
        Landing {
            guards: Vec::new(),
            ops: vec![PutRequest::new(key, record.encode()).into()],
        }
    }
}
