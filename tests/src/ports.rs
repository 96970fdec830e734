//! Loopback ports that stay free: chosen outside the range that the system hands to outgoing
//! connections, and reserved by a file lock, so that a server can be restarted on its port and no
//! other test process picks the same one in between.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use rand::Rng;

use crate::wait::PATIENCE;

/// Linux hands out ports from 32768 on to outgoing connections.
const PORTS: std::ops::Range<u16> = 12_000..32_000;

/// A loopback port that nothing else in the tests uses while this lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Reserves a port on which nothing listens.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[must_use]
    pub fn reserve() -> Port {
        let directory = std::env::temp_dir().join("synod-test-ports");
        fs::create_dir_all(&directory).expect("the temporary directory is writable");
        for _ in 0..1000 {
            let number = rand::rng().random_range(PORTS);
            let Ok(lock) = File::create(directory.join(number.to_string())) else {
                continue;
            };
            if lock.try_lock().is_ok() && is_free((Ipv4Addr::LOCALHOST, number).into()) {
                return Port {
                    number,
                    _lock: lock,
                };
            }
        }
        panic!("no free loopback port in {PORTS:?}");
    }

    /// The port's number.
    #[must_use]
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The port on 127.0.0.1.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}

/// Whether nothing listens there, and anything can.
fn is_free(address: SocketAddr) -> bool {
    if TcpListener::bind(address).is_err() {
        return false;
    }
    // A process that another thread has just forked holds that listener as well, until its exec.
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        let connected = TcpStream::connect(address);
        if connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_ports_differ_and_are_free() {
        let ports: Vec<Port> = (0..50).map(|_| Port::reserve()).collect();
        let mut numbers: Vec<u16> = ports.iter().map(Port::number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), 50);
        for port in &ports {
            TcpListener::bind(port.address()).unwrap();
        }
    }
}
