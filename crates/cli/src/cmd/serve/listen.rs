//! The address to listen on: found, held, and kept from serving strangers without TLS.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpSocket, lookup_host};

use crate::failure::{Exit, Failure, Result};

/// Finds the addresses that `listen` means.
pub(super) async fn resolve(listen: &str) -> Result<Vec<SocketAddr>> {
    let form = "--listen is HOST:PORT, such as 127.0.0.1:2379 or 0.0.0.0:2379 for every interface";
    let wrong = || Failure::usage(format!("{listen:?} is no address to listen on")).hint(form);
    if listen.contains("://") {
        return Err(wrong().hint("leave the scheme out: --cert-file and --key-file make it https"));
    }
    let (host, port) = listen.rsplit_once(':').ok_or_else(wrong)?;
    if host.is_empty() || port.parse::<u16>().is_err() {
        return Err(wrong());
    }
    let found = lookup_host(listen)
        .await
        .map_err(|error| wrong().because(&error))?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() {
        return Err(wrong());
    }
    Ok(addresses)
}

/// Whether who can reach `addresses` is on this machine.
pub(super) fn is_private(addresses: &[SocketAddr]) -> bool {
    addresses.iter().all(|address| address.ip().is_loopback())
}

/// Takes an address without answering there yet: whoever connects is refused until
/// [`TcpSocket::listen`]. So a port that is in use is found out before any data are opened.
pub(super) fn hold(address: SocketAddr) -> Result<TcpSocket> {
    let held = || -> io::Result<TcpSocket> {
        let socket = match address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(socket)
    };
    held().map_err(|error| cannot_listen(address, &error))
}

/// Why nobody can listen at `address`.
pub(super) fn cannot_listen(address: SocketAddr, error: &io::Error) -> Failure {
    let failure = Failure::new(Exit::Failed, format!("cannot listen on {address}")).because(error);
    match error.kind() {
        io::ErrorKind::AddrInUse => failure.hint(
            "something listens there already: `synod status` may tell what; --listen chooses \
             another port",
        ),
        io::ErrorKind::PermissionDenied => failure.hint("choose a port above 1023 with --listen"),
        io::ErrorKind::AddrNotAvailable => {
            failure.hint("--listen must name an address of this machine")
        }
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_has_a_host_and_a_port() {
        let found = resolve("127.0.0.1:0").await.unwrap();
        assert_eq!(found, ["127.0.0.1:0".parse().unwrap()]);
        for bad in [
            "",
            "2379",
            ":2379",
            "127.0.0.1",
            "127.0.0.1:x",
            "http://127.0.0.1:1",
        ] {
            let refused = resolve(bad).await.expect_err(bad);
            assert_eq!(refused.exit, Exit::Usage, "{bad}");
        }
    }

    #[test]
    fn beyond_loopback_is_not_private() {
        let private = |list: &[&str]| {
            let list: Vec<SocketAddr> = list.iter().map(|text| text.parse().unwrap()).collect();
            is_private(&list)
        };
        assert!(private(&["127.0.0.1:1", "[::1]:1"]));
        assert!(!private(&["127.0.0.1:1", "0.0.0.0:1"]));
        assert!(!private(&["[::]:1"]));
        assert!(!private(&["192.0.2.1:1"]));
    }

    #[tokio::test]
    async fn a_port_in_use_is_said_to_be() {
        let first = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let refused = hold(first.local_addr().unwrap()).unwrap_err();
        let text = refused.render(crate::args::Format::Text);
        assert!(text.contains("cannot listen on 127.0.0.1:"), "{text}");
        assert!(text.contains("hint: something listens there"), "{text}");
    }
}
