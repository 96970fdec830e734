//! What the fuzz targets call: the texts and keys that come from users and from other programs. No part of the public
//! interface.

use synod_store::{Key, Revision};

use crate::client::Address;
use crate::priority_queue::ByPriority;
use crate::queue::{Fifo, Order};
use crate::settle::{Record, Token};

/// A store's URL.
///
/// # Panics
///
/// When an address is read that is none.
pub fn url(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    match Address::parse(&text, false) {
        Ok(Address::Etcd(endpoints)) => {
            assert!(!endpoints.is_empty());
            for endpoint in endpoints {
                let again = Address::parse(&endpoint, true);
                assert_eq!(again.ok(), Some(Address::Etcd(vec![endpoint])));
            }
        }
        Ok(Address::Memory | Address::File(_)) => {}
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Keys under the names of queues, lanes, and tokens.
///
/// # Panics
///
/// When what was read is not what would be written.
pub fn keys(input: &[u8]) {
    if let Ok(text) = std::str::from_utf8(input)
        && let Ok(token) = text.parse::<Token>()
    {
        assert_eq!(token.to_string().parse::<Token>().as_ref(), Ok(&token));
    }
    if let Some(record) = Record::decode(input) {
        assert_eq!(Record::decode(record.encode().as_bytes()), Some(record));
    }
    let own = Key::from("own");
    for name in [&b"q"[..], &b"q/"[..], &b"\xff"[..]] {
        let name = Key::from(name);
        let below = name.join("/").join(input);
        for key in [Key::from(input), below] {
            order(&Fifo::new(&name), &key);
            order(&ByPriority::new(&name, &own), &key);
        }
    }
}

/// A walk over a queue's range never stands still, whatever key it meets.
fn order(order: &impl Order, key: &Key) {
    order.saw(key);
    if (order.start()..order.end()).contains(&key) {
        assert!(order.after(key) > *key, "the walk stands still at {key:?}");
    }
    if order.is_item(key) {
        assert!(
            (order.start()..order.end()).contains(&key),
            "{key:?} is outside its queue"
        );
        let _ = order.behind(key);
        let _ = order.beyond(key, key, 3);
        let _ = order.guards(key, Revision(7));
        let _ = order.proof(key, Revision(7));
    }
}

#[cfg(test)]
#[path = "../../../fuzz/smoke.rs"]
mod smoke;

#[cfg(test)]
mod tests {
    use super::smoke::smoke;

    #[test]
    fn arbitrary_urls() {
        smoke("url", 5_000, |bytes, _| super::url(bytes));
    }

    #[test]
    fn arbitrary_keys() {
        smoke("keys", 5_000, |bytes, _| super::keys(bytes));
    }
}
