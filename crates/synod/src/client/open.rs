//! Opening the store that an address names, as far as this program was built with it.

use std::sync::Arc;

use synod_store::Store;

use super::ConnectOptions;
use super::url::Address;
use crate::{Error, Result};

pub(super) async fn open(options: &ConnectOptions) -> Result<Arc<dyn Store>> {
    match Address::parse(&options.url, options.tls.is_some())? {
        Address::Memory => {
            refuse_network_options(options)?;
            memory(options).await
        }
        Address::File(path) => {
            refuse_network_options(options)?;
            file(options, path).await
        }
        Address::Etcd(endpoints) => {
            refuse_plain_text(options, &endpoints)?;
            etcd(options, endpoints).await
        }
    }
}

/// An embedded store has no users, and nothing to encrypt.
fn refuse_network_options(options: &ConnectOptions) -> Result<()> {
    let refuse = |option| Error::InvalidOption {
        url: options.url.clone(),
        option,
        reason: "an embedded store runs in this process, without a network",
    };
    if options.user.is_some() {
        return Err(refuse("a user"));
    }
    if options.tls.is_some() {
        return Err(refuse("a TLS option"));
    }
    Ok(())
}

/// Who gives certificates does not want a password to travel where they are not used.
fn refuse_plain_text(options: &ConnectOptions, endpoints: &[String]) -> Result<()> {
    let plain = |endpoint: &String| endpoint.starts_with("http://");
    if options.tls.is_some() && endpoints.iter().any(plain) {
        return Err(Error::InvalidOption {
            url: super::url::without_secrets(&options.url),
            option: "a TLS option",
            reason: "http:// is without TLS; write https://, or leave the certificates away",
        });
    }
    Ok(())
}

#[cfg(not(all(feature = "embedded", feature = "etcd")))]
fn missing<T>(options: &ConnectOptions, feature: &'static str) -> Result<T> {
    Err(Error::FeatureMissing {
        url: options.url.clone(),
        feature,
    })
}

#[cfg(feature = "embedded")]
async fn memory(_: &ConnectOptions) -> Result<Arc<dyn Store>> {
    use synod_engine::{Engine, EngineOptions};
    crate::runtime()?;
    Ok(Arc::new(Engine::open(EngineOptions::memory())?))
}

#[cfg(not(feature = "embedded"))]
async fn memory(options: &ConnectOptions) -> Result<Arc<dyn Store>> {
    missing(options, "embedded")
}

#[cfg(feature = "embedded")]
async fn file(_: &ConnectOptions, path: std::path::PathBuf) -> Result<Arc<dyn Store>> {
    use synod_engine::{Engine, EngineOptions};
    // Opening reads all that was written.
    let opening = crate::runtime()?.spawn_blocking(|| Engine::open(EngineOptions::file(path)));
    let opened = opening.await.map_err(|_| Error::NoRuntime)?;
    Ok(Arc::new(opened?))
}

#[cfg(not(feature = "embedded"))]
async fn file(options: &ConnectOptions, _: std::path::PathBuf) -> Result<Arc<dyn Store>> {
    missing(options, "embedded")
}

#[cfg(feature = "etcd")]
async fn etcd(options: &ConnectOptions, endpoints: Vec<String>) -> Result<Arc<dyn Store>> {
    use std::time::Duration;

    use synod_etcd::{EtcdOptions, EtcdStore};
    let timeout = options.settings.timeout;
    // No attempt may take longer than the whole call.
    let mut etcd = EtcdOptions::new(endpoints)
        .with_connect_timeout(timeout.min(Duration::from_secs(3)))
        .with_request_timeout(timeout.min(Duration::from_secs(5)))
        .with_member_sync(options.member_sync);
    if let Some((name, password)) = &options.user {
        etcd = etcd.with_user(name, password);
    }
    if let Some(tls) = &options.tls {
        let mut theirs = synod_etcd::TlsOptions::new();
        if let Some(pem) = &tls.ca {
            theirs = theirs.with_ca_pem(pem.clone());
        }
        if let Some((certificate, key)) = &tls.identity {
            theirs = theirs.with_identity_pem(certificate.clone(), key.clone());
        }
        if let Some(name) = &tls.server_name {
            theirs = theirs.with_domain(name);
        }
        etcd = etcd.with_tls(theirs);
    }
    Ok(Arc::new(EtcdStore::connect(etcd).await?))
}

#[cfg(not(feature = "etcd"))]
async fn etcd(options: &ConnectOptions, _: Vec<String>) -> Result<Arc<dyn Store>> {
    missing(options, "etcd")
}
