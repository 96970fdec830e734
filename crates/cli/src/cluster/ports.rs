//! Free ports of this machine that are likely to stay free.

use std::net::{Ipv4Addr, TcpListener};

use rand::Rng;

use crate::failure::{Failure, Result};

/// Below the ports that systems hand to outgoing connections: a node that is started again must
/// find its own free.
const RANGE: std::ops::Range<u16> = 12_000..32_000;

/// So many different ports on which nothing listens. They are only free now: who uses them must be
/// prepared to find one taken.
pub(super) fn free(count: usize) -> Result<Vec<u16>> {
    // All are held until the last is found, so that none comes twice.
    let mut held: Vec<(u16, TcpListener)> = Vec::new();
    for _ in 0..1000 {
        if held.len() >= count {
            break;
        }
        let port = rand::rng().random_range(RANGE);
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            held.push((port, listener));
        }
    }
    if held.len() < count {
        return Err(Failure::failed(format!(
            "there are no {count} free ports between {} and {} on this machine",
            RANGE.start, RANGE.end
        )));
    }
    Ok(held.into_iter().map(|(port, _)| port).collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn ports_differ() {
        let mut ports = super::free(50).unwrap();
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 50);
    }
}
