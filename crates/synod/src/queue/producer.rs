//! Putting values into a queue: one at a time, or many in few Txns.

use bytes::Bytes;
use synod_store::{Compare, ErrorKind, Key, KeyRange, PutRequest};

use super::consumer::Core;
use super::keys::Fifo;
use crate::settle::{MAX_OPS, Outcome, Work};
use crate::{Error, Result};

/// How many clashes of keys are borne in a row: each one is another producer's success.
const CLASHES: usize = 64;

/// The most bytes of keys and values in one Txn, below etcd's limit of 1.5 MiB a request.
pub(crate) const TXN_BYTES: usize = 1 << 20;

/// What a pair takes in a request beside its key and value, rounded up: its compare and its put.
pub(crate) const PAIR_BYTES: usize = 128;

impl Core<Fifo> {
    /// Puts values in, in one Txn. Their keys rise in order.
    pub(super) async fn put(&self, values: &[Bytes]) -> Result<()> {
        for _ in 0..CLASHES {
            let keys: Vec<Key> = self
                .order
                .next(self.clock.unix_nanos(), values.len())
                .collect();
            // Stamps in a row: between two of them no producer's key can lie, so one comparison serves
            // for all. (A stranger's key there would but cost another stamp.)
            let guards = match keys.as_slice() {
                [] => Vec::new(),
                [key] => vec![Compare::absent(key.clone())],
                [first, .., last] => vec![Compare::absent(KeyRange::Between(
                    first.clone(),
                    last.successor(),
                ))],
            };
            let ops = keys
                .into_iter()
                .zip(values)
                .map(|(key, value)| PutRequest::new(key, value.clone()).into())
                .collect();
            match self.settle.run(Work::new(guards, ops)).await? {
                Outcome::Done { .. } => return Ok(()),
                // Another producer had the same nanosecond: the next stamp is a later one.
                Outcome::GuardsFalse => {}
            }
        }
        Err(Error::Timeout {
            after: self.patience,
        })
    }

    pub(super) async fn enqueue_many(&self, values: Vec<Bytes>) -> Result<()> {
        // A lane takes one operation and two compares beside the values' own.
        let mut most = MAX_OPS.saturating_sub(3);
        let mut bytes = TXN_BYTES;
        let mut done = 0usize;
        while let Some(rest) = values.get(done..).filter(|rest| !rest.is_empty()) {
            let chunk = chunk(rest, most, bytes);
            self.stats.puts(chunk.len());
            let error = match self.put(chunk).await {
                Ok(()) => {
                    done = done.saturating_add(chunk.len());
                    continue;
                }
                Err(error) => error,
            };
            match error.kind() {
                // The store's limits are lower than etcd's.
                Some(ErrorKind::TooManyOperations) if chunk.len() > 1 => most = chunk.len() / 2,
                Some(ErrorKind::TooLarge) if chunk.len() > 1 => bytes /= 2,
                _ => {
                    let size = chunk.first().map_or(0, Bytes::len);
                    let source = too_large(error, size);
                    return Err(if done == 0 && chunk.len() == values.len() {
                        source
                    } else {
                        Error::Partial {
                            done,
                            source: Box::new(source),
                        }
                    });
                }
            }
        }
        Ok(())
    }
}

/// How many of the first values fit into one Txn; at least one.
pub(super) fn fitting<'v>(
    values: impl Iterator<Item = &'v Bytes>,
    most: usize,
    bytes: usize,
) -> usize {
    let mut total = 0usize;
    let fits = |value: &&Bytes| {
        total = total.saturating_add(value.len()).saturating_add(PAIR_BYTES);
        total <= bytes
    };
    values.take(most).take_while(fits).count().max(1)
}

/// The first values that fit into one Txn; at least one.
fn chunk(values: &[Bytes], most: usize, bytes: usize) -> &[Bytes] {
    let count = fitting(values.iter(), most, bytes);
    values.get(..count).unwrap_or(values)
}

pub(crate) fn too_large(error: Error, size: usize) -> Error {
    match error {
        Error::Store(source) if source.kind() == ErrorKind::TooLarge => {
            Error::ValueTooLarge { size, source }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_keep_within_the_limits_and_are_never_empty() {
        let values: Vec<Bytes> = (0..10).map(|_| Bytes::from(vec![0; 1000])).collect();
        assert_eq!(chunk(&values, 4, usize::MAX).len(), 4);
        assert_eq!(chunk(&values, 100, 3 * (1000 + PAIR_BYTES)).len(), 3);
        assert_eq!(chunk(&values, 100, 1).len(), 1);
        assert_eq!(chunk(&values, 0, 1).len(), 1);
        assert_eq!(chunk(&values, 100, usize::MAX).len(), 10);
    }
}
