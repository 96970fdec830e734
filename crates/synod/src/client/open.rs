//! Opening the store that an address names, as far as this program was built with it.

use std::sync::Arc;

use synod_store::Store;

use super::ConnectOptions;
use super::url::Address;
use crate::{Error, Result};

pub(super) async fn open(options: &ConnectOptions) -> Result<Arc<dyn Store>> {
    match Address::parse(&options.url)? {
        Address::Memory => {
            refuse_network_options(options)?;
            memory(options).await
        }
        Address::File(path) => {
            refuse_network_options(options)?;
            file(options, path).await
        }
        Address::Etcd(endpoints) => etcd(options, endpoints).await,
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

fn missing<T>(options: &ConnectOptions, feature: &'static str) -> Result<T> {
    Err(Error::FeatureMissing {
        url: options.url.clone(),
        feature,
    })
}

async fn memory(options: &ConnectOptions) -> Result<Arc<dyn Store>> {
    missing(options, "embedded")
}

async fn file(options: &ConnectOptions, _: std::path::PathBuf) -> Result<Arc<dyn Store>> {
    missing(options, "embedded")
}

async fn etcd(options: &ConnectOptions, _: Vec<String>) -> Result<Arc<dyn Store>> {
    missing(options, "etcd")
}
