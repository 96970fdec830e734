//! How deliveries put items into a priority queue.

use bytes::Bytes;
use synod_store::{BoxFuture, Compare, Key, KeyRange, PutRequest};

use super::keys::{ByPriority, LAST};
use super::numbers::look_up;
use crate::queue::delivery::Gate;
use crate::queue::{Core, Item, Order};
use crate::settle::Work;
use crate::{Error, Result};

impl Gate for Core<ByPriority> {
    fn is_item(&self, key: &Key) -> bool {
        self.order.is_item(key)
    }

    fn range(&self) -> KeyRange {
        self.order.range()
    }

    fn after(&self, key: &Key) -> Key {
        self.order.after(key)
    }

    fn under(&self, key: &Key, value: Bytes) -> Work {
        let key = key.clone();
        self.order.back(&Item { key, value })
    }

    fn at_the_end<'g>(
        &'g self,
        place: &'g [u8],
        value: Bytes,
    ) -> BoxFuture<'g, Result<(Key, Work)>> {
        Box::pin(async move {
            let priority = priority_of(place).ok_or_else(|| {
                Error::InvalidArgument(format!(
                    "{:?} is no place of a priority queue",
                    place.escape_ascii().to_string()
                ))
            })?;
            let found = look_up(&*self.store, &self.order, &[(priority, 0)], self.patience).await?;
            let tail = found.into_iter().next().unwrap_or_default();
            if tail.next > LAST {
                return Err(Error::InvalidArgument(format!(
                    "the numbers of priority {priority} are used up: take out what lies at their end"
                )));
            }
            let base = self.order.base(priority);
            let key = self.order.item(priority, tail.next);
            let guards = vec![
                Compare::modified_at(base.clone(), tail.base.unwrap_or_default()),
                Compare::absent(key.clone()),
            ];
            let ops = vec![
                PutRequest::new(base, "").into(),
                PutRequest::new(key.clone(), value).into(),
            ];
            Ok((key, Work::new(guards, ops)))
        })
    }
}

/// Where an item of this priority lies, as far as that is known before it is put in.
pub(super) fn place_of(priority: u16) -> Bytes {
    format!("{priority:05}/").into()
}

fn priority_of(place: &[u8]) -> Option<u16> {
    let digits = place.split(|&byte| byte == b'/').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
