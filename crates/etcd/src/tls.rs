//! What TLS options come to for a channel.

use synod_store::{Error, ErrorKind, Result};
use tonic::transport::Endpoint;

use crate::options::TlsOptions;

/// The endpoint with TLS.
///
/// # Errors
///
/// [`ErrorKind::Tls`] when certificates or keys cannot be read, or the system has no certificate
/// authorities.
#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc"))]
pub(crate) fn secure(
    endpoint: Endpoint,
    options: Option<&TlsOptions>,
    limit: std::time::Duration,
) -> Result<Endpoint> {
    use tonic::transport::{Certificate, ClientTlsConfig, Identity};

    let default = TlsOptions::default();
    let options = options.unwrap_or(&default);
    let mut config = ClientTlsConfig::new().timeout(limit);
    config = match &options.ca_pem {
        Some(pem) => {
            expect_pem(pem, "-----BEGIN CERTIFICATE-----", "CA certificate")?;
            config.ca_certificate(Certificate::from_pem(pem))
        }
        None => config.with_enabled_roots(),
    };
    if let Some((cert, key)) = &options.identity_pem {
        expect_pem(cert, "-----BEGIN CERTIFICATE-----", "client certificate")?;
        expect_pem(key, "PRIVATE KEY-----", "client key")?;
        config = config.identity(Identity::from_pem(cert, key));
    }
    if let Some(domain) = &options.domain {
        config = config.domain_name(domain);
    }
    endpoint.tls_config(config).map_err(|error| {
        let reason = crate::error::sources(&error)
            .last()
            .map_or_else(|| error.to_string(), ToString::to_string);
        Error::new(
            ErrorKind::Tls,
            format!("the TLS options cannot be used: {reason}"),
        )
        .with_source(error)
    })
}

/// PEM readers skip what they do not know: a wrong file would pass for an empty one.
#[cfg(any(feature = "tls-ring", feature = "tls-aws-lc"))]
fn expect_pem(pem: &[u8], mark: &str, what: &str) -> Result<()> {
    let found = pem.windows(mark.len()).any(|part| part == mark.as_bytes());
    let wrong = || Error::new(ErrorKind::Tls, format!("the {what} holds no PEM of one"));
    found.then_some(()).ok_or_else(wrong)
}

/// Built without TLS.
#[cfg(not(any(feature = "tls-ring", feature = "tls-aws-lc")))]
pub(crate) fn secure(
    _endpoint: Endpoint,
    _options: Option<&TlsOptions>,
    _limit: std::time::Duration,
) -> Result<Endpoint> {
    Err(Error::new(
        ErrorKind::Unsupported,
        "https needs synod-etcd built with the feature tls-ring or tls-aws-lc",
    ))
}

#[cfg(all(test, any(feature = "tls-ring", feature = "tls-aws-lc")))]
mod tests {
    use super::*;
    use std::time::Duration;

    fn secured(options: &TlsOptions) -> Result<Endpoint> {
        let endpoint = Endpoint::from_static("https://h:1");
        secure(endpoint, Some(options), Duration::from_secs(1))
    }

    #[test]
    fn files_that_hold_something_else_are_refused() {
        for (options, cause) in [
            (TlsOptions::new().with_ca_pem("key=value"), "CA certificate"),
            (
                TlsOptions::new()
                    .with_ca_pem("-----BEGIN CERTIFICATE-----")
                    .with_identity_pem("", ""),
                "client certificate",
            ),
            (
                TlsOptions::new()
                    .with_ca_pem("-----BEGIN CERTIFICATE-----")
                    .with_identity_pem("-----BEGIN CERTIFICATE-----", "x"),
                "client key",
            ),
        ] {
            let error = secured(&options).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Tls);
            assert!(error.message().contains(cause), "{error}");
        }
    }

    #[test]
    fn a_damaged_certificate_is_refused() {
        let pem = "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n";
        let error = secured(&TlsOptions::new().with_ca_pem(pem)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Tls);
    }
}
