//! Addresses of endpoints: those that a user wrote, and those that members advertise.

use std::fmt;
use std::net::IpAddr;

use synod_store::{Error, ErrorKind, Result};
use tonic::transport::Uri;

/// The port of etcd's clients.
const DEFAULT_PORT: u16 = 2379;

/// An endpoint's address, well-formed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    secure: bool,
    /// As in a URL: an IPv6 address has its brackets.
    host: String,
    port: u16,
}

impl Address {
    /// Reads what a user wrote. An address without a scheme means https when `secure`.
    pub(crate) fn parse(text: &str, secure: bool) -> Result<Address> {
        // Checked first, so that no later message repeats a password.
        if text.contains('@') {
            return Err(invalid(
                "an address holds no user or password (an `@`): name the user apart from it",
            ));
        }
        let wrong = |why: &str| invalid(format!("invalid address `{text}`: {why}"));
        let text = text.trim();
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme.to_ascii_lowercase()), rest),
            None => (None, text),
        };
        let secure = match scheme.as_deref() {
            Some("http") => false,
            Some("https") => true,
            None => secure,
            Some(other) => {
                let why = format!("unknown scheme `{other}`, an etcd has http:// or https://");
                return Err(wrong(&why));
            }
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#']) {
            return Err(wrong("nothing may follow the port"));
        }
        let (host, port) = split_port(authority);
        let port = match port {
            None => DEFAULT_PORT,
            Some(digits) => match digits.parse::<u16>() {
                Ok(port) if port > 0 => port,
                _ => {
                    let why = format!("`{digits}` is no port, which is a number from 1 to 65535");
                    return Err(wrong(&why));
                }
            },
        };
        if host.is_empty() {
            return Err(wrong("the host is missing"));
        }
        let address = Address {
            secure,
            host: host.to_string(),
            port,
        };
        let usable = Uri::try_from(address.to_string()).is_ok_and(|uri| uri.host() == Some(host));
        if usable {
            Ok(address)
        } else {
            Err(wrong("the host is malformed"))
        }
    }

    /// Reads what a member advertises; `None` when it cannot be meant for this client, which
    /// reaches the cluster by `configured`.
    pub(crate) fn advertised(url: &str, configured: &[Address]) -> Option<Address> {
        let address = Address::parse(url, false).ok()?;
        let known_scheme = configured.iter().any(|own| own.secure == address.secure);
        let local_here = configured.iter().all(Address::is_loopback);
        let meant = !address.is_unspecified() && (local_here || !address.is_loopback());
        (known_scheme && meant).then_some(address)
    }

    /// Whether TLS is spoken there.
    pub(crate) fn is_secure(&self) -> bool {
        self.secure
    }

    fn ip(&self) -> Option<IpAddr> {
        self.host.trim_matches(['[', ']']).parse().ok()
    }

    fn is_loopback(&self) -> bool {
        self.host.eq_ignore_ascii_case("localhost")
            || self.ip().is_some_and(|address| address.is_loopback())
    }

    fn is_unspecified(&self) -> bool {
        self.ip().is_some_and(|address| address.is_unspecified())
    }
}

/// As a URL.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.secure { "https" } else { "http" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

/// Splits at the colon of the port, which is not one of an IPv6 address.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidAddress, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> String {
        Address::parse(text, false).map_or_else(|error| error.to_string(), |a| a.to_string())
    }

    #[test]
    fn what_users_write_is_understood() {
        for (text, expected) in [
            ("http://127.0.0.1:2379", "http://127.0.0.1:2379"),
            ("HTTPS://node-1.example:1/", "https://node-1.example:1"),
            ("localhost:23790", "http://localhost:23790"),
            (" localhost ", "http://localhost:2379"),
            ("[::1]:5", "http://[::1]:5"),
            ("http://[::1]", "http://[::1]:2379"),
        ] {
            assert_eq!(parsed(text), expected, "{text}");
        }
        let secure = Address::parse("h:1", true).unwrap();
        assert_eq!(secure.to_string(), "https://h:1");
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (text, cause) in [
            ("ftp://h:1", "unknown scheme `ftp`"),
            ("unix:///tmp/x", "unknown scheme `unix`"),
            ("http://h:0", "`0` is no port"),
            ("http://h:65536", "`65536` is no port"),
            ("http://h:", "`` is no port"),
            ("h:etcd", "`etcd` is no port"),
            ("http://h:1/v3", "nothing may follow the port"),
            ("http://", "the host is missing"),
            ("", "the host is missing"),
            ("a b:1", "the host is malformed"),
        ] {
            let error = Address::parse(text, false).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidAddress);
            assert!(error.to_string().contains(cause), "{text}: {error}");
        }
    }

    #[test]
    fn a_password_in_an_address_is_not_repeated() {
        let error = Address::parse("http://root:hunter2@h:1", false).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }

    #[test]
    fn advertised_addresses_are_used_only_when_they_are_meant_for_us() {
        let local = [Address::parse("http://127.0.0.1:1", false).unwrap()];
        let remote = [Address::parse("http://10.0.0.1:1", false).unwrap()];
        for (url, here, there) in [
            ("http://10.0.0.2:2379", true, true),
            ("http://localhost:2379", true, false),
            ("http://[::1]:2379", true, false),
            ("http://0.0.0.0:2379", false, false),
            ("http://[::]:2379", false, false),
            ("https://10.0.0.2:2379", false, false),
            ("unix://localhost:2379", false, false),
            ("", false, false),
        ] {
            assert_eq!(Address::advertised(url, &local).is_some(), here, "{url}");
            assert_eq!(Address::advertised(url, &remote).is_some(), there, "{url}");
        }
    }
}
