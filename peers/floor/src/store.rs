//! etcd's generated stubs, with the least that makes them usable: every call has a limit, and a watch
//! is told apart from one that does not stand yet.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use synod_wire::etcdserverpb as pb;
use synod_wire::etcdserverpb::kv_client::KvClient;
use synod_wire::etcdserverpb::maintenance_client::MaintenanceClient;
use synod_wire::etcdserverpb::watch_client::WatchClient;
use synod_wire::mvccpb::{Event, KeyValue};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use crate::args::Connections;

/// How long a call may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A cluster, and one connection to the node that leads it: nothing has to be forwarded from there.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    leader: String,
    nodes: usize,
    version: String,
    shared: Conn,
}

/// A connection.
#[derive(Debug, Clone)]
pub(crate) struct Conn {
    kv: KvClient<Channel>,
    watch: WatchClient<Channel>,
}

impl Cluster {
    pub(crate) async fn connect(addr: &str) -> Result<Cluster> {
        let urls: Vec<&str> = addr.split(',').collect();
        for url in &urls {
            let channel = channel(url).await?;
            let mut asked = MaintenanceClient::new(channel.clone());
            let status = timeout(PATIENCE, asked.status(pb::StatusRequest {}))
                .await??
                .into_inner();
            let own = status.header.as_ref().map(|header| header.member_id);
            if own == Some(status.leader) {
                return Ok(Cluster {
                    leader: (*url).to_owned(),
                    nodes: urls.len(),
                    version: status.version,
                    shared: Conn::over(channel),
                });
            }
        }
        bail!("none of {addr} leads")
    }

    /// The connection that all share, or a new one.
    pub(crate) async fn conn(&self, connections: Connections) -> Result<Conn> {
        match connections {
            Connections::Shared => Ok(self.shared.clone()),
            Connections::Own => Ok(Conn::over(channel(&self.leader).await?)),
        }
    }

    /// So many of them.
    pub(crate) async fn conns(&self, connections: Connections, count: usize) -> Result<Vec<Conn>> {
        let mut conns = Vec::new();
        for _ in 0..count {
            conns.push(self.conn(connections).await?);
        }
        Ok(conns)
    }

    /// The one that all share.
    pub(crate) fn shared(&self) -> Conn {
        self.shared.clone()
    }

    pub(crate) fn server(&self) -> String {
        format!("etcd {}", self.version)
    }

    pub(crate) fn nodes(&self) -> usize {
        self.nodes
    }
}

async fn channel(url: &str) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(url.to_owned())?
        .tcp_nodelay(true)
        .connect_timeout(PATIENCE);
    endpoint
        .connect()
        .await
        .with_context(|| format!("cannot connect to {url}"))
}

impl Conn {
    fn over(channel: Channel) -> Conn {
        Conn {
            kv: KvClient::new(channel.clone()),
            watch: WatchClient::new(channel),
        }
    }

    pub(crate) async fn txn(&self, request: pb::TxnRequest) -> Result<pb::TxnResponse> {
        let mut kv = self.kv.clone();
        Ok(timeout(PATIENCE, kv.txn(request)).await??.into_inner())
    }

    /// Returns the revision.
    pub(crate) async fn put(&self, request: pb::PutRequest) -> Result<i64> {
        let mut kv = self.kv.clone();
        let answer = timeout(PATIENCE, kv.put(request)).await??.into_inner();
        Ok(revision(answer.header.as_ref()))
    }

    pub(crate) async fn delete(&self, request: pb::DeleteRangeRequest) -> Result<i64> {
        let mut kv = self.kv.clone();
        let answer = timeout(PATIENCE, kv.delete_range(request)).await??;
        Ok(answer.into_inner().deleted)
    }

    pub(crate) async fn range(&self, request: pb::RangeRequest) -> Result<Vec<KeyValue>> {
        let mut kv = self.kv.clone();
        let answer = timeout(PATIENCE, kv.range(request)).await??;
        Ok(answer.into_inner().kvs)
    }

    /// Forgets what was before `revision`, and waits until the space is free.
    pub(crate) async fn compact(&self, revision: i64) -> Result<()> {
        let mut kv = self.kv.clone();
        let request = pb::CompactionRequest {
            revision,
            physical: true,
        };
        // It goes through all that was ever written.
        timeout(6 * PATIENCE, kv.compact(request)).await??;
        Ok(())
    }

    /// A watch from now on, which stands when this returns.
    pub(crate) async fn watch(
        &self,
        key: impl Into<Bytes>,
        end: impl Into<Bytes>,
    ) -> Result<Watch> {
        let (requests, input) = mpsc::channel(1);
        let create = pb::WatchCreateRequest {
            key: key.into(),
            range_end: end.into(),
            ..Default::default()
        };
        let union = pb::watch_request::RequestUnion::CreateRequest(create);
        requests
            .send(pb::WatchRequest {
                request_union: Some(union),
            })
            .await?;
        let mut client = self.watch.clone();
        let opened = timeout(PATIENCE, client.watch(ReceiverStream::new(input))).await??;
        let mut events = opened.into_inner();
        let first = timeout(PATIENCE, events.message()).await??;
        match first {
            Some(answer) if answer.created && !answer.canceled => Ok(Watch {
                events,
                _requests: requests,
            }),
            answer => bail!("the watch does not stand: {answer:?}"),
        }
    }
}

/// A watch that stands.
#[derive(Debug)]
pub(crate) struct Watch {
    events: Streaming<pb::WatchResponse>,
    /// The stream ends with it.
    _requests: mpsc::Sender<pb::WatchRequest>,
}

impl Watch {
    /// The next events.
    ///
    /// # Cancel safety
    ///
    /// Safe: what was not returned comes next.
    pub(crate) async fn next(&mut self) -> Result<Vec<Event>> {
        loop {
            let answer = self.events.message().await?.context("the watch ended")?;
            if answer.canceled {
                bail!("the watch was cancelled: {}", answer.cancel_reason);
            }
            if !answer.events.is_empty() {
                return Ok(answer.events);
            }
        }
    }

    /// The next events, which must come.
    pub(crate) async fn expect(&mut self) -> Result<Vec<Event>> {
        timeout(PATIENCE, self.next())
            .await
            .context("the watch brings nothing")?
    }
}

/// Whether an event is a deletion.
pub(crate) fn is_delete(event: &Event) -> bool {
    event.r#type() == synod_wire::mvccpb::event::EventType::Delete
}

/// The revision in a header.
pub(crate) fn revision(header: Option<&pb::ResponseHeader>) -> i64 {
    header.map_or(0, |header| header.revision)
}

/// The end of the keys that begin with `prefix`, which ends in a slash.
pub(crate) fn prefix_end(prefix: &str) -> String {
    format!("{}0", prefix.strip_suffix('/').unwrap_or(prefix))
}

/// A put.
pub(crate) fn put(key: impl Into<Bytes>, value: impl Into<Bytes>) -> pb::PutRequest {
    pb::PutRequest {
        key: key.into(),
        value: value.into(),
        ..Default::default()
    }
}

/// A delete of a key.
pub(crate) fn delete(key: impl Into<Bytes>) -> pb::DeleteRangeRequest {
    pb::DeleteRangeRequest {
        key: key.into(),
        ..Default::default()
    }
}

/// A read of a key.
pub(crate) fn get(key: impl Into<Bytes>) -> pb::RangeRequest {
    pb::RangeRequest {
        key: key.into(),
        ..Default::default()
    }
}

/// As an operation of a transaction.
pub(crate) fn op_put(request: pb::PutRequest) -> pb::RequestOp {
    op(pb::request_op::Request::RequestPut(request))
}

/// As an operation of a transaction.
pub(crate) fn op_delete(request: pb::DeleteRangeRequest) -> pb::RequestOp {
    op(pb::request_op::Request::RequestDeleteRange(request))
}

/// As an operation of a transaction.
pub(crate) fn op_range(request: pb::RangeRequest) -> pb::RequestOp {
    op(pb::request_op::Request::RequestRange(request))
}

fn op(request: pb::request_op::Request) -> pb::RequestOp {
    pb::RequestOp {
        request: Some(request),
    }
}

/// The key's version is this; 0 when it is not there.
pub(crate) fn version_is(key: impl Into<Bytes>, version: i64) -> pb::Compare {
    compare(
        key.into(),
        pb::compare::CompareTarget::Version,
        pb::compare::TargetUnion::Version(version),
    )
}

/// The key was written last at this revision.
pub(crate) fn mod_is(key: impl Into<Bytes>, revision: i64) -> pb::Compare {
    compare(
        key.into(),
        pb::compare::CompareTarget::Mod,
        pb::compare::TargetUnion::ModRevision(revision),
    )
}

fn compare(
    key: Bytes,
    target: pb::compare::CompareTarget,
    union: pb::compare::TargetUnion,
) -> pb::Compare {
    pb::Compare {
        result: pb::compare::CompareResult::Equal.into(),
        target: target.into(),
        key,
        target_union: Some(union),
        ..Default::default()
    }
}
