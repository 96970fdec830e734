//! Stores by URL: what the text names, before anything is opened.

use std::path::PathBuf;

use crate::{Error, Result};

/// What a URL names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// `memory:`
    Memory,
    /// `file:PATH`
    File(PathBuf),
    /// `http://...,https://...`, each with its scheme.
    Etcd(Vec<String>),
}

impl Address {
    /// Reads what a user wrote. An endpoint without a scheme means https when `secure`.
    pub(crate) fn parse(url: &str, secure: bool) -> Result<Address> {
        let fail = |reason: &str| Error::InvalidUrl {
            url: without_secrets(url),
            reason: reason.to_owned(),
        };
        let text = url.trim();
        if text.is_empty() {
            return Err(fail("it is empty"));
        }
        if let Some(rest) = strip_scheme(text, "memory:") {
            return if rest.is_empty() {
                Ok(Address::Memory)
            } else {
                Err(fail("nothing can follow memory:"))
            };
        }
        if let Some(rest) = strip_scheme(text, "file:") {
            // file:///a and file:/a and file:a are all understood; file://host/a is not.
            let path = match rest.strip_prefix("//") {
                Some(path) if path.starts_with('/') => path,
                Some(_) => return Err(fail("a file has no host: write file:PATH or file:///PATH")),
                None => rest,
            };
            return if path.is_empty() {
                Err(fail("the path is missing"))
            } else {
                Ok(Address::File(PathBuf::from(path)))
            };
        }
        text.split(',')
            .map(|endpoint| parse_endpoint(endpoint.trim(), secure).map_err(|reason| fail(&reason)))
            .collect::<Result<Vec<_>>>()
            .map(Address::Etcd)
    }
}

/// The text as it may be shown: what stands before an `@` may be a password that does not belong there.
pub(super) fn without_secrets(url: &str) -> String {
    let shown = url.split(',').map(|endpoint| {
        let (scheme, rest) = match endpoint.split_once("://") {
            Some((scheme, rest)) => (format!("{scheme}://"), rest),
            None => (String::new(), endpoint),
        };
        match rest.rsplit_once('@') {
            Some((_, host)) => format!("{scheme}***@{host}"),
            None => format!("{scheme}{rest}"),
        }
    });
    shown.collect::<Vec<_>>().join(",")
}

fn strip_scheme<'t>(text: &'t str, scheme: &str) -> Option<&'t str> {
    let (head, rest) = text.split_at_checked(scheme.len())?;
    head.eq_ignore_ascii_case(scheme).then_some(rest)
}

/// One endpoint, with its scheme; or what is wrong with it.
fn parse_endpoint(endpoint: &str, secure: bool) -> Result<String, String> {
    if endpoint.is_empty() {
        return Err("an address in the list is empty".to_owned());
    }
    let (scheme, rest) = match endpoint.split_once("://") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
        None if secure => ("https".to_owned(), endpoint),
        None => ("http".to_owned(), endpoint),
    };
    if scheme != "http" && scheme != "https" {
        return Err(format!("no store has the scheme {scheme:?}"));
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.is_empty() {
        return Err("the host is missing".to_owned());
    }
    if endpoint == "memory" || endpoint == "file" {
        return Err(format!(
            "an embedded store has a colon, {endpoint}:, and a host of that name a port"
        ));
    }
    if let Some(bad) = authority
        .chars()
        .find(|c| "/?#@".contains(*c) || c.is_whitespace())
    {
        return Err(format!("an address is HOST:PORT, without {bad:?}"));
    }
    if authority.contains(['[', ']']) {
        let inside = authority
            .strip_prefix('[')
            .and_then(|rest| rest.split_once(']'));
        let is_address = |text: &str| {
            let (address, _zone) = text.split_once('%').unwrap_or((text, ""));
            address.parse::<std::net::Ipv6Addr>().is_ok()
        };
        if !inside.is_some_and(|(address, rest)| {
            is_address(address) && (rest.is_empty() || rest.starts_with(':'))
        }) {
            return Err("brackets are for an IPv6 address: [::1]:2379".to_owned());
        }
    }
    let port = match authority.rsplit_once(':') {
        // An IPv6 address without a port ends in its bracket.
        Some((_, tail)) if tail.ends_with(']') => None,
        Some((host, port)) => {
            if host.is_empty() {
                return Err("the host is missing".to_owned());
            }
            if host.contains(':') && !host.starts_with('[') {
                return Err("an IPv6 address stands in brackets: [::1]:2379".to_owned());
            }
            Some(port)
        }
        None => None,
    };
    match port {
        None => Ok(format!("{scheme}://{authority}:2379")),
        Some(port) if port.parse::<u16>().is_ok_and(|port| port != 0) => {
            Ok(format!("{scheme}://{authority}"))
        }
        // `redis:...` and the like end up here: a scheme without slashes looks like a host.
        Some(port) => Err(format!("{port:?} is not a port, or the scheme is unknown")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn etcd(endpoints: &[&str]) -> Address {
        Address::Etcd(endpoints.iter().map(|&e| e.to_owned()).collect())
    }

    /// Found by fuzzing: what only ends in a bracket was taken for an address without a port.
    #[test]
    fn brackets_hold_an_ipv6_address() {
        for url in ["\\::0t]", "a]", "[a]", "[::1", "[::1]x", "[::1]]", "[]:1"] {
            assert!(Address::parse(url, false).is_err(), "{url}");
        }
        assert_eq!(
            Address::parse("[::1]", false).unwrap(),
            etcd(&["http://[::1]:2379"])
        );
        assert_eq!(
            Address::parse("[fe80::1%eth0]:1", false).unwrap(),
            etcd(&["http://[fe80::1%eth0]:1"])
        );
    }

    #[test]
    fn a_password_in_a_url_is_refused_and_not_repeated() {
        for url in [
            "http://root:hunter2@h:2379",
            "root:hunter2@h",
            "http://a,https://root:hunter@2@b/",
        ] {
            let error = Address::parse(url, false).unwrap_err();
            let (shown, debugged) = (error.to_string(), format!("{error:?}"));
            assert!(!shown.contains("hunter"), "{shown}");
            assert!(!debugged.contains("hunter"), "{debugged}");
            assert!(shown.contains("***@"), "{shown}");
            let options = crate::ConnectOptions::new(url).with_user("root", "hunter2");
            assert!(!format!("{options:?}").contains("hunter"));
        }
        assert_eq!(
            without_secrets("file:/a@b"),
            "***@b",
            "rather too much than too little"
        );
        assert_eq!(without_secrets("http://a:1,b"), "http://a:1,b");
    }

    #[test]
    fn every_form_is_understood() {
        let cases = [
            ("memory:", Address::Memory),
            ("MEMORY:", Address::Memory),
            ("file:data", Address::File("data".into())),
            ("file:/var/lib/x", Address::File("/var/lib/x".into())),
            ("file:///var/lib/x", Address::File("/var/lib/x".into())),
            ("file:../a b", Address::File("../a b".into())),
            ("http://a:1", etcd(&["http://a:1"])),
            ("a:1,https://b:2/", etcd(&["http://a:1", "https://b:2"])),
            ("localhost", etcd(&["http://localhost:2379"])),
            ("http://[::1]:2379", etcd(&["http://[::1]:2379"])),
            ("[::1]", etcd(&["http://[::1]:2379"])),
            (
                "HTTP://a:1, http://b:2",
                etcd(&["http://a:1", "http://b:2"]),
            ),
        ];
        for (url, address) in cases {
            assert_eq!(Address::parse(url, false).unwrap(), address, "{url}");
        }
    }

    #[test]
    fn an_endpoint_without_a_scheme_is_as_safe_as_it_can_be() {
        let parsed = Address::parse("a:1,http://b:2,c", true).unwrap();
        assert_eq!(
            parsed,
            etcd(&["https://a:1", "http://b:2", "https://c:2379"])
        );
    }

    #[test]
    fn anything_else_is_refused_with_the_forms_that_there_are() {
        let bad = [
            "",
            " ",
            "memory:x",
            "file:",
            "file://host/x",
            "redis://h:1",
            "redis:h",
            "http://",
            "http://a:b",
            "http://a:0",
            "a:1,,b:2",
            "http://a:1/path",
            "http://u@a:1",
            "::1",
            "http://:1",
            "a b:1",
            "memory",
            "zk://a:1",
        ];
        for url in bad {
            let error = Address::parse(url, false).expect_err(url);
            let text = error.to_string();
            for form in ["http://HOST:PORT", "file:PATH", "memory:"] {
                assert!(text.contains(form), "{url:?}: {text}");
            }
        }
    }
}
