//! Where to connect: from `--addr`, the environment, or the server on this machine.

use crate::args::Global;
use crate::env::Env;
use crate::failure::Result;

/// The environment variables that stand in for `--addr`.
const ADDR_VARIABLES: [&str; 2] = ["SYNOD_ADDR", "ETCDCTL_ENDPOINTS"];

/// The environment variables that stand in for the TLS options, and for `--user`; each of them says
/// that somebody's server is meant, not one of ours.
const TLS_VARIABLES: [&str; 6] = [
    "SYNOD_CACERT",
    "ETCDCTL_CACERT",
    "SYNOD_CERT",
    "ETCDCTL_CERT",
    "SYNOD_KEY",
    "ETCDCTL_KEY",
];
const USER_VARIABLES: [&str; 2] = ["SYNOD_USER", "ETCDCTL_USER"];

/// Where to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// The address, each entry with its scheme.
    pub(crate) url: String,
    /// Who named it: `--addr`, a variable, or nobody.
    pub(crate) source: Source,
}

/// Who named an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// `--addr`.
    Option,
    /// This environment variable.
    Variable(&'static str),
    /// Nobody, but a user or a TLS option tells that a certain server is meant.
    Assumed,
    /// Nobody: the server on this machine, which may be started.
    Local,
}

/// Finds out where to connect; `local_port` is the port of the server on this machine.
pub(crate) fn resolve(global: &Global, env: &Env, local_port: u16) -> Result<Target> {
    // Whoever gives any of these wants nothing said in the clear.
    let tls = global.cacert.is_some()
        || global.cert.is_some()
        || global.key.is_some()
        || env.first(&TLS_VARIABLES)?.is_some();
    if let Some(addr) = &global.addr {
        return Ok(Target {
            url: with_schemes(addr, tls),
            source: Source::Option,
        });
    }
    if let Some((name, addr)) = env.first(&ADDR_VARIABLES)? {
        return Ok(Target {
            url: with_schemes(&addr, tls),
            source: Source::Variable(name),
        });
    }
    let secured = tls || global.user.is_some() || env.first(&USER_VARIABLES)?.is_some();
    Ok(Target {
        url: with_schemes(&format!("127.0.0.1:{local_port}"), tls),
        source: if secured {
            Source::Assumed
        } else {
            Source::Local
        },
    })
}

/// Gives every entry of a comma-separated address its scheme.
fn with_schemes(addr: &str, tls: bool) -> String {
    let addr = addr.trim();
    // One path or nothing follows these, and a path may have a comma.
    if addr.starts_with("file:") || addr.starts_with("memory:") {
        return addr.to_owned();
    }
    let scheme = if tls { "https" } else { "http" };
    addr.split(',')
        .map(str::trim)
        .map(|entry| {
            if entry.is_empty() || entry.contains("://") {
                entry.to_owned()
            } else {
                format!("{scheme}://{entry}")
            }
        })
        .collect::<Vec<_>>()
        .join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolved(global: &Global, env: &[(&str, &str)]) -> (String, Source) {
        let target = resolve(global, &Env::of(env), 2379).unwrap();
        (target.url, target.source)
    }

    #[test]
    fn the_option_goes_before_the_environment() {
        let global = Global {
            addr: Some("h:1".into()),
            ..Global::default()
        };
        let env = [("SYNOD_ADDR", "s:1"), ("ETCDCTL_ENDPOINTS", "e:1")];
        assert_eq!(
            resolved(&global, &env),
            ("http://h:1".into(), Source::Option)
        );
        let none = Global::default();
        assert_eq!(
            resolved(&none, &env),
            ("http://s:1".into(), Source::Variable("SYNOD_ADDR"))
        );
        assert_eq!(
            resolved(&none, &[("SYNOD_ADDR", ""), ("ETCDCTL_ENDPOINTS", "e:1")]),
            ("http://e:1".into(), Source::Variable("ETCDCTL_ENDPOINTS"))
        );
        assert_eq!(
            resolved(&none, &[]),
            ("http://127.0.0.1:2379".into(), Source::Local)
        );
    }

    #[test]
    fn who_names_a_user_or_a_certificate_means_a_server_of_their_own() {
        let global = Global {
            cacert: Some("ca.pem".into()),
            ..Global::default()
        };
        assert_eq!(
            resolved(&global, &[]),
            ("https://127.0.0.1:2379".into(), Source::Assumed)
        );
        assert_eq!(
            resolved(&Global::default(), &[("ETCDCTL_USER", "u")]),
            ("http://127.0.0.1:2379".into(), Source::Assumed)
        );
        for name in TLS_VARIABLES {
            let env = [("SYNOD_ADDR", "h:1"), (name, "x.pem")];
            assert_eq!(
                resolved(&Global::default(), &env).0,
                "https://h:1",
                "{name}"
            );
        }
    }

    #[test]
    fn entries_without_a_scheme_get_one() {
        assert_eq!(
            with_schemes("a:1, https://b:2 ,c", false),
            "http://a:1,https://b:2,http://c"
        );
        assert_eq!(with_schemes("a:1", true), "https://a:1");
        assert_eq!(with_schemes("file:/a,b", true), "file:/a,b");
        assert_eq!(with_schemes("memory:", true), "memory:");
        assert_eq!(with_schemes("redis://x", false), "redis://x");
    }
}
