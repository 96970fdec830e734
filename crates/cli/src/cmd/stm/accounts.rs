//! The accounts of the bank: `NAME/0`, `NAME/1` and so on, each with its balance in decimal.

use std::sync::Arc;

use synod::stm::{Committed, Isolation, Tx};
use synod::{Client, Error};
use synod_store::{Compare, Key, KeyRange, PutRequest, RangeRequest, TxnOp};

use crate::args::BankArgs;
use crate::explain::explain;
use crate::failure::{Failure, Result};

/// The accounts.
#[derive(Debug, Clone)]
pub(super) struct Accounts {
    client: Client,
    prefix: Key,
    keys: Arc<[Key]>,
}

impl Accounts {
    pub(super) fn new(client: &Client, name: &str, count: u32) -> Accounts {
        let prefix = Key::from(name).join("/");
        let keys = (0..count).map(|n| prefix.join(n.to_string())).collect();
        Accounts {
            client: client.clone(),
            prefix,
            keys,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Makes them, all at once, if there are none. Others that do the same at this moment change
    /// nothing.
    pub(super) async fn open(&self, args: &BankArgs) -> Result<()> {
        let balance = args.balance.to_string();
        let range = KeyRange::prefix(self.prefix.clone());
        let puts = self
            .keys
            .iter()
            .map(|key| TxnOp::from(PutRequest::new(key.clone(), balance.clone())));
        let count = RangeRequest::new(range.clone()).count_only();
        let opened = self
            .client
            .txn()
            .when([Compare::absent(range)])
            .and_then(puts)
            .or_else([count])
            .await
            .map_err(|error| explain("cannot make the accounts", &error))?;
        let found = opened
            .responses
            .into_iter()
            .next()
            .filter(|_| !opened.succeeded)
            .and_then(synod_store::TxnOpResponse::into_range)
            .map_or(u64::from(args.accounts), |range| range.count);
        if found == u64::from(args.accounts) {
            return Ok(());
        }
        Err(self
            .unfit(format!("there are {found} keys under {}", self.prefix))
            .cause(format!("--accounts is {}", args.accounts)))
    }

    /// Moves half of what is in one account to another.
    pub(super) async fn transfer(
        &self,
        isolation: Isolation,
        from: usize,
        to: usize,
    ) -> synod::Result<Committed<()>> {
        let key = |index: usize| {
            self.keys
                .get(index)
                .cloned()
                .ok_or_else(|| Error::InvalidArgument(format!("there is no account {index}")))
        };
        let (from, to) = (&key(from)?, &key(to)?);
        self.client
            .stm()
            .with_isolation(isolation)
            .with_prefetch([from, to])
            .transact(async |tx| {
                let (has, gets) = (balance(&tx, from).await?, balance(&tx, to).await?);
                let amount = has / 2;
                tx.put(from, has.saturating_sub(amount).to_string());
                tx.put(to, gets.saturating_add(amount).to_string());
                Ok::<(), Error>(())
            })
            .await
    }

    /// All balances, at one moment.
    pub(super) async fn balances(&self) -> Result<Vec<(Key, u64)>> {
        let keys = &self.keys;
        self.client
            .stm()
            .with_prefetch(keys.iter())
            .run(async |tx| {
                let mut balances = Vec::new();
                for key in keys.iter() {
                    balances.push((key.clone(), balance(&tx, key).await?));
                }
                Ok(balances)
            })
            .await
            .map_err(|error| explain("cannot count the money", &error))
    }

    /// The accounts are not those that this run works on.
    pub(super) fn unfit(&self, text: String) -> Failure {
        let prefix = &self.prefix;
        Failure::failed(text).hint(format!(
            "choose another --name, or remove these: synod txn --then 'del {prefix} --prefix'"
        ))
    }
}

async fn balance(tx: &Tx, key: &Key) -> synod::Result<u64> {
    let value = tx.get(key).await?;
    let number = value
        .as_deref()
        .and_then(|value| std::str::from_utf8(value).ok())
        .and_then(|text| text.parse().ok());
    number.ok_or_else(|| {
        Error::InvalidArgument(match value {
            None => format!("the account {key} has vanished"),
            Some(value) => {
                let value = value.escape_ascii();
                format!("the account {key} holds no balance: {value}")
            }
        })
    })
}
