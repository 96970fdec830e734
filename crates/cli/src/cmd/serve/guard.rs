//! Nobody beyond this machine is served in the open, or without saying who it is.
//!
//! 1. Before anything is opened: other machines need TLS.
//! 2. When the users are known: and clients show certificates, or log in. The server begins to listen after this, and
//!    authentication cannot be switched off as long as it runs.
//!
//! `--insecure` is the way around both, with a warning.

use std::path::Path;

use crate::args::ServeArgs;
use crate::failure::{Failure, Result};
use crate::output::notice;

/// What must hold before the server listens.
pub(super) struct Guard {
    listen: String,
    needs_logins: bool,
}

impl Guard {
    /// The first half; `private` when only this machine can reach the server.
    pub(super) fn check(args: &ServeArgs, private: bool, tls: bool) -> Result<Guard> {
        let listen = args.listen.clone();
        if !private && args.insecure {
            notice(&format!(
                "warning: everybody who can reach {listen} can read and change everything, unless clients must log \
                 in (--insecure)"
            ));
        }
        if !private && !tls && !args.insecure {
            return Err(Failure::usage(format!(
                "{listen} can be reached from other machines, and there is no TLS"
            ))
            .hint(
                "give --cert-file and --key-file, or --insecure if everybody who can reach it may \
                 read and change everything",
            ));
        }
        Ok(Guard {
            listen,
            needs_logins: !private && !args.insecure && !args.client_cert_auth,
        })
    }

    /// Whether clients must log in.
    pub(super) fn needs_logins(&self) -> bool {
        self.needs_logins
    }

    /// The second half.
    pub(super) fn let_in(&self, auth_enabled: bool) -> Result<()> {
        if self.needs_logins && !auth_enabled {
            return Err(Failure::usage(format!(
                "{} can be reached from other machines, and nobody has to say who it is",
                self.listen
            ))
            .hint(
                "give --root-password-file FILE to make the user root and to let in only who logs in; or \
                 --trusted-ca-file and --client-cert-auth to let in only who shows a certificate; or --insecure if \
                 everybody who can reach it may read and change everything",
            ));
        }
        Ok(())
    }
}

/// The password in a file: its first line.
pub(super) fn read_password(path: &Path) -> Result<String> {
    let cannot = || Failure::usage(format!("cannot use the password in {}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| cannot().because(&error))?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err(cannot().cause("its first line is empty"));
    }
    Ok(line.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_the_first_line() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("password");
        std::fs::write(&file, "a b \r\nmore").unwrap();
        assert_eq!(read_password(&file).unwrap(), "a b ");
        for bad in ["", "\nx"] {
            std::fs::write(&file, bad).unwrap();
            assert!(read_password(&file).is_err());
        }
    }

    #[test]
    fn logins_are_needed_beyond_this_machine() {
        let guard = |needs_logins| Guard {
            listen: "0.0.0.0:1".into(),
            needs_logins,
        };
        assert!(guard(true).let_in(true).is_ok());
        assert!(guard(false).let_in(false).is_ok());
        let refused = guard(true).let_in(false).unwrap_err();
        let text = refused.render(crate::args::Format::Text);
        assert!(text.contains("--root-password-file"), "{text}");
    }
}
