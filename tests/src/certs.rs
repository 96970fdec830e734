//! Certificates for TLS tests: one authority, a server and a client signed by it, and a stranger
//! signed by another authority.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;

/// PEM files in a directory of their own.
#[derive(Debug)]
pub struct Certs {
    directory: TempDir,
}

impl Certs {
    /// Makes them anew, valid for `localhost` and `127.0.0.1`.
    #[must_use]
    pub fn new() -> Certs {
        let directory = tempfile::tempdir().expect("the temporary directory is writable");
        for (authority, names) in [
            ("ca", &["server", "client", "nameless"][..]),
            ("other-ca", &["stranger"]),
        ] {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params
                .distinguished_name
                .push(DnType::CommonName, format!("test {authority}"));
            let key = KeyPair::generate().unwrap();
            let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
            let write = |name: &str, text: String| {
                std::fs::write(directory.path().join(name), text).unwrap();
            };
            write(&format!("{authority}.pem"), issuer.pem());
            for name in names {
                let hosts = vec!["localhost".to_string(), "127.0.0.1".to_string()];
                let mut params = CertificateParams::new(hosts).unwrap();
                let common_name = if *name == "nameless" { "" } else { *name };
                params
                    .distinguished_name
                    .push(DnType::CommonName, common_name);
                let key = KeyPair::generate().unwrap();
                let cert = params.signed_by(&key, &issuer).unwrap();
                write(&format!("{name}.pem"), cert.pem());
                write(&format!("{name}.key"), key.serialize_pem());
            }
        }
        Certs { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The directory with all of them.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The authority's certificate.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// An authority that signed neither server nor client.
    #[must_use]
    pub fn other_ca(&self) -> PathBuf {
        self.path("other-ca.pem")
    }

    /// The server's certificate and key.
    #[must_use]
    pub fn server(&self) -> (PathBuf, PathBuf) {
        (self.path("server.pem"), self.path("server.key"))
    }

    /// The client's certificate and key.
    #[must_use]
    pub fn client(&self) -> (PathBuf, PathBuf) {
        (self.path("client.pem"), self.path("client.key"))
    }

    /// The certificate and key of a client without a name.
    #[must_use]
    pub fn nameless(&self) -> (PathBuf, PathBuf) {
        (self.path("nameless.pem"), self.path("nameless.key"))
    }

    /// The certificate and key of a client that the other authority signed.
    #[must_use]
    pub fn stranger(&self) -> (PathBuf, PathBuf) {
        (self.path("stranger.pem"), self.path("stranger.key"))
    }
}

impl Default for Certs {
    fn default() -> Self {
        Certs::new()
    }
}
