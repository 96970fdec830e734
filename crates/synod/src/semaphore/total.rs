//! The record of how many permits there are: who disagrees with it, and how it is changed.

use synod_store::{
    Compare, DeleteRequest, KeyValue, PutRequest, RangeRequest, Revision, Txn, TxnOp,
    TxnOpResponse, TxnResponse,
};

use super::Shared;
use super::keys::parse;
use crate::{Error, Result, retry};

impl Shared {
    /// The error for a stored total that is not the caller's.
    pub(super) fn disagrees(&self, stored: &[u8], asked: u32) -> Error {
        match parse(stored) {
            Some(total) => Error::Disagreement {
                name: self.name.to_string(),
                what: "number of permits",
                stored: total.into(),
                asked: asked.into(),
            },
            None => Error::InvalidArgument(format!(
                "the key {:?} should say how many permits the semaphore {:?} has, but holds \"{}\"; \
                 delete it while nobody uses the semaphore",
                self.keys.total(),
                self.name,
                stored.escape_ascii(),
            )),
        }
    }

    /// The record of the total, if there is one.
    async fn record(&self) -> Result<Option<KeyValue>> {
        let request = RangeRequest::new(self.keys.total().clone());
        let read = || self.client.store().range(request.clone());
        let response = retry::read(self.client.timeout(), read).await;
        let response = response.map_err(|error| self.client.about_own_keys(error))?;
        Ok(response.kvs.into_iter().next())
    }

    /// Changes the total from one number to another.
    pub(super) async fn resize(&self, from: u32, to: u32) -> Result<()> {
        loop {
            let record = self.record().await?;
            match &record {
                Some(record) if parse(&record.value) == Some(to) => return Ok(()),
                Some(record) if parse(&record.value) != Some(from) => {
                    return Err(self.disagrees(&record.value, from));
                }
                Some(_) | None => {}
            }
            let seen = record.map_or(Revision::ZERO, |record| record.mod_revision);
            let txn = Txn::new()
                .when([Compare::modified_at(self.keys.total().clone(), seen)])
                .and_then([PutRequest::new(self.keys.total().clone(), to.to_string())]);
            if self.change(&txn).await?.succeeded {
                return Ok(());
            }
            // Somebody else has changed it, or an earlier copy of this has: the record tells.
        }
    }

    /// Deletes the record if it says this, and nobody holds permits or waits for some.
    pub(super) async fn remove(&self, total: u32) -> Result<()> {
        loop {
            let Some(record) = self.record().await? else {
                return Ok(());
            };
            if parse(&record.value) != Some(total) {
                return Err(self.disagrees(&record.value, total));
            }
            let txn = Txn::new()
                .when([
                    Compare::modified_at(self.keys.total().clone(), record.mod_revision),
                    Compare::absent(self.keys.line()),
                ])
                .and_then([DeleteRequest::new(self.keys.total().clone())])
                .or_else([TxnOp::from(
                    RangeRequest::new(self.keys.line()).with_limit(1),
                )]);
            let response = self.change(&txn).await?;
            if response.succeeded {
                return Ok(());
            }
            let line = response.responses.into_iter().next();
            let user = line
                .and_then(TxnOpResponse::into_range)
                .and_then(|line| line.kvs.into_iter().next());
            if let Some(user) = user {
                let identity = String::from_utf8_lossy(&user.value).into_owned();
                return Err(Error::Held {
                    name: self.name.to_string(),
                    holder: Some(identity).filter(|identity| !identity.is_empty()),
                });
            }
        }
    }

    /// Sends a Txn that compares what it changes.
    async fn change(&self, txn: &Txn) -> Result<TxnResponse> {
        let (store, patience) = (self.client.store(), self.client.timeout());
        let answer = retry::txn(&**store, txn, patience).await.answer;
        answer.map_err(|error| self.client.about_own_keys(error.into()))
    }
}
