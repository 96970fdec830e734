//! What listens at a port of this machine, if anything does.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use synod_etcd::{EtcdOptions, EtcdStore, ServerInfo};
use synod_store::Store;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a server on this machine may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(5);

/// What was found.
#[derive(Debug)]
pub(crate) enum Found {
    /// The connection was refused.
    Nothing,
    /// It answers Status.
    Server(Server),
    /// Something else listens there; why it was not understood.
    Stranger(String),
}

/// A server that answers etcd's Status.
#[derive(Debug)]
pub(crate) enum Server {
    /// One of ours.
    Synod(ServerInfo),
    /// Another.
    Other {
        /// Its URL.
        url: String,
        /// The version of etcd that it says it is.
        version: String,
    },
}

impl Server {
    /// Who it is, for one line on stderr.
    pub(crate) fn name(&self) -> String {
        match self {
            Server::Synod(info) => format!(
                "the synod {} server at {} (pid {}), data in {}",
                info.version,
                info.listen.join(" and "),
                info.pid,
                info.data
            ),
            Server::Other { url, version } => format!("the etcd {version} server at {url}"),
        }
    }
}

/// Looks what listens at `port` of this machine.
pub(crate) async fn look(port: u16) -> Found {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    match timeout(PATIENCE, TcpStream::connect(address)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            return Found::Nothing;
        }
        Ok(Err(error)) => return Found::Stranger(error.to_string()),
        Err(_) => return Found::Stranger(format!("no connection within {PATIENCE:?}")),
    }
    match timeout(PATIENCE, ask(address)).await {
        Ok(Ok(server)) => Found::Server(server),
        // It ended between the two connections.
        Ok(Err(error)) if error.kind() == synod_store::ErrorKind::ConnectionRefused => {
            Found::Nothing
        }
        Ok(Err(error)) => Found::Stranger(error.to_string()),
        Err(_) => Found::Stranger(format!("no answer within {PATIENCE:?}")),
    }
}

async fn ask(address: SocketAddr) -> synod_store::Result<Server> {
    let url = format!("http://{address}");
    let options = EtcdOptions::new([&url])
        .with_connect_timeout(PATIENCE)
        .with_request_timeout(PATIENCE)
        .with_member_sync(None);
    let store = EtcdStore::connect(options).await?;
    let status = store.status().await?;
    Ok(match store.server_info().await? {
        Some(info) => Server::Synod(info),
        None => Server::Other {
            url,
            version: status.version,
        },
    })
}
