//! STM: money moves between accounts. None may appear or vanish.

use std::sync::Arc;

use rand::Rng;
use synod::stm::Tx;
use synod::{Client, Error, Result};
use synod_store::{Key, PutRequest, TxnOp};

use super::super::part::Part;
use super::super::spec::Spec;
use super::{Errors, Workers, all, unless_stopped};

/// What is in each account at the beginning.
const BALANCE: u64 = 1_000_000;

fn keys(spec: &Spec) -> Vec<Key> {
    let prefix = Key::from(spec.name.as_str()).join("/account/");
    (0..spec.accounts.unwrap_or(2))
        .map(|n| prefix.join(format!("{n:06}")))
        .collect()
}

/// Makes the accounts.
pub(crate) async fn open(spec: &Spec, client: &Client) -> Result<()> {
    for some in keys(spec).chunks(100) {
        let put = |key: &Key| TxnOp::from(PutRequest::new(key.clone(), BALANCE.to_string()));
        client.txn().and_then(some.iter().map(put)).await?;
    }
    Ok(())
}

/// Counts the money, once all is still; what is wrong with it.
pub(crate) async fn check(spec: &Spec, client: &Client) -> Result<Vec<String>> {
    let keys = keys(spec);
    let mut sum = 0u64;
    for some in keys.chunks(100) {
        let stm = client.stm();
        let balances = stm.run(async |tx| {
            let mut sum = 0u64;
            for value in tx.get_many(some.iter().cloned()).await? {
                sum = sum.saturating_add(number(value.as_deref())?);
            }
            Ok(sum)
        });
        sum = sum.saturating_add(balances.await?);
    }
    let expected = BALANCE.saturating_mul(keys.len() as u64);
    Ok(if sum == expected {
        Vec::new()
    } else {
        vec![format!(
            "the sum of all accounts is {sum} instead of {expected}"
        )]
    })
}

fn number(value: Option<&[u8]>) -> Result<u64> {
    let text = value.and_then(|value| std::str::from_utf8(value).ok());
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| Error::InvalidArgument("an account holds no number".to_owned()))
}

async fn balance(tx: &Tx, key: &Key) -> Result<u64> {
    number(tx.get(key.clone()).await?.as_deref())
}

pub(super) async fn run(part: &Arc<Part>, workers: Workers) {
    let keys: Arc<[Key]> = keys(&part.spec).into();
    all(part, workers.first, |part, _, client| {
        let keys = keys.clone();
        async move {
            let mut errors = Errors::default();
            while let Some(turn) = part.turns.next().await {
                let Some((from, to)) = two_of(&keys) else {
                    return;
                };
                let stm = client.stm().with_prefetch([from, to]);
                let transfer = stm.transact(async |tx| {
                    let (has, gets) = (balance(&tx, from).await?, balance(&tx, to).await?);
                    let amount = has / 2;
                    tx.put(from, has.saturating_sub(amount).to_string());
                    tx.put(to, gets.saturating_add(amount).to_string());
                    Ok::<(), Error>(())
                });
                match unless_stopped(&part, transfer).await {
                    None => return,
                    Some(Ok(committed)) => {
                        errors.none();
                        if turn.counted {
                            part.meter.count("attempts", u64::from(committed.attempts));
                        }
                        part.meter.done(turn, 1);
                    }
                    Some(Err(error)) => {
                        if !errors.one(&part, &error).await {
                            return;
                        }
                    }
                }
            }
        }
    })
    .await;
}

/// Two different accounts.
fn two_of(keys: &[Key]) -> Option<(&Key, &Key)> {
    let mut random = rand::rng();
    let from = random.random_range(0..keys.len());
    let step = random.random_range(1..keys.len());
    let to = from.saturating_add(step) % keys.len();
    Some((keys.get(from)?, keys.get(to)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_pays_themselves() {
        let keys: Vec<Key> = ["a", "b", "c"].map(Key::from).to_vec();
        let mut seen = std::collections::HashSet::new();
        for _ in 0..2_000 {
            let (from, to) = two_of(&keys).unwrap();
            assert_ne!(from, to);
            seen.insert((from, to));
        }
        assert_eq!(seen.len(), 6);
    }
}
