//! The user that a client's certificate names.
//!
//! As with etcd's `--client-cert-auth`: a gRPC request without a token, over a connection whose client has shown a
//! certificate that was verified, is made by the user that the certificate's common name (CN) tells. A request with
//! a token is made by the token's user, and a bad token is refused, whatever the certificate says. No name, or an empty one,
//! is nobody; the name of no user may do nothing.
//!
//! The name is read where the connection is known, and goes on to the services as a header of the request. What a client
//! itself sends under that header is taken away from every request before.

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Request};
use tonic::transport::server::TlsConnectInfo;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::access::TOKEN;
use crate::connection::Peer;

/// The header that brings the name from the connection to the services.
pub(super) const NAME: &str = "synod-certificate-name";

/// Takes away what a client says about its certificate, and says what is true, if it matters.
pub(crate) fn name_user<B>(request: &mut Request<B>, matters: bool) {
    let name = HeaderName::from_static(NAME);
    request.headers_mut().remove(&name);
    if !matters || has_token(request.headers()) {
        return;
    }
    let shown = request.extensions().get::<TlsConnectInfo<Peer>>();
    // The first is the client's own, those behind it are its authorities'.
    let certificates = shown.and_then(TlsConnectInfo::peer_certs);
    let common_name = certificates
        .as_ref()
        .and_then(|certificates| certificates.first())
        .and_then(|certificate| common_name(certificate));
    if let Some(value) = common_name {
        request.headers_mut().insert(name, value);
    }
}

fn has_token(headers: &HeaderMap) -> bool {
    TOKEN.iter().any(|name| headers.contains_key(*name))
}

/// The common name of a certificate; the last one if there are several, as Go reads it. `None` also for one that is
/// empty, or has a line break or another control character: no user's.
fn common_name(der: &[u8]) -> Option<HeaderValue> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let name = certificate.subject().iter_common_name().last()?;
    let name = name.as_str().ok().filter(|name| !name.is_empty())?;
    HeaderValue::from_bytes(name.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_cannot_name_itself() {
        for matters in [true, false] {
            for token in [true, false] {
                let mut request = Request::new(());
                let headers = request.headers_mut();
                headers.append(NAME, HeaderValue::from_static("root"));
                headers.append(NAME, HeaderValue::from_static("root"));
                if token {
                    headers.insert(TOKEN[0], HeaderValue::from_static("x"));
                }
                name_user(&mut request, matters);
                assert!(!request.headers().contains_key(NAME));
            }
        }
    }

    #[test]
    fn what_is_no_certificate_names_nobody() {
        assert_eq!(common_name(b""), None);
        assert_eq!(common_name(b"no certificate"), None);
    }
}
