//! The store's own calls, without any primitive: the floor of everything on the same store.

use std::sync::Arc;

use bytes::Bytes;
use rand::Rng;
use synod::Client;
use synod_store::{Compare, Key, PutRequest, RangeRequest, Result, Store, Txn, TxnOp};

use super::super::part::Part;
use super::super::spec::{Case, Spec};
use super::{Errors, Workers, all, unless_stopped};

/// How many keys each caller writes, one after the other and again.
const KEYS: u64 = 1_000;

/// How many keys there are to read.
const READ: u64 = 1_000;

fn size(spec: &Spec) -> usize {
    usize::try_from(spec.value_size.unwrap_or(0)).unwrap_or(0)
}

fn read_key(spec: &Spec, number: u64) -> Key {
    Key::from(format!("{}/read/{number:06}", spec.name))
}

/// Puts the keys that are read.
pub(crate) async fn prepare(spec: &Spec, client: &Client) -> Result<()> {
    let value = Bytes::from(vec![b'.'; size(spec)]);
    let keys: Vec<u64> = (0..READ).collect();
    for some in keys.chunks(100) {
        let put =
            |number: &u64| TxnOp::from(PutRequest::new(read_key(spec, *number), value.clone()));
        client
            .store()
            .txn(Txn::new().and_then(some.iter().map(put)))
            .await?;
    }
    Ok(())
}

pub(super) async fn run(part: &Arc<Part>, workers: Workers) {
    all(part, workers.first, |part, number, client| async move {
        let caller = Caller {
            prefix: Key::from(format!("{}/write/{number:04}/", part.spec.name)),
            value: Bytes::from(vec![b'.'; size(&part.spec)]),
            batch: match part.spec.case {
                Case::Batch => part.spec.batch.unwrap_or(1).max(1),
                _ => 1,
            },
        };
        let store = client.store();
        let mut errors = Errors::default();
        let mut next = 0u64;
        while let Some(turn) = part.turns.next_of(caller.batch).await {
            let call = caller.call(store.as_ref(), &part.spec, next);
            next = next.saturating_add(caller.batch);
            match unless_stopped(&part, call).await {
                None => return,
                Some(Ok(true)) => {
                    errors.none();
                    part.meter.done(turn, caller.batch);
                }
                Some(Ok(false)) => part
                    .meter
                    .violated("a condition that holds did not, or a key was gone"),
                Some(Err(error)) => {
                    if !errors.one(&part, &error).await {
                        return;
                    }
                }
            }
        }
    })
    .await;
}

/// One who calls the store.
struct Caller {
    prefix: Key,
    value: Bytes,
    batch: u64,
}

impl Caller {
    fn put(&self, number: u64) -> PutRequest {
        let key = self.prefix.join(format!("{:06}", number % KEYS));
        PutRequest::new(key, self.value.clone())
    }

    /// One call; whether it did what it should.
    async fn call(&self, store: &dyn Store, spec: &Spec, number: u64) -> Result<bool> {
        match spec.case {
            Case::Get => {
                let key = read_key(spec, rand::rng().random_range(0..READ));
                let found = store.range(RangeRequest::new(key)).await?;
                Ok(found.kvs.len() == 1)
            }
            Case::Txn => {
                let guard = Compare::absent(Key::from(format!("{}/nobody", spec.name)));
                let txn = Txn::new().when([guard]).and_then([self.put(number)]);
                Ok(store.txn(txn).await?.succeeded)
            }
            Case::Batch => {
                let numbers = number..number.saturating_add(self.batch);
                let puts = Txn::new().and_then(numbers.map(|number| self.put(number)));
                Ok(store.txn(puts).await?.succeeded)
            }
            _ => store.put(self.put(number)).await.map(|_| true),
        }
    }
}
