//! The etcd store with members that a test invents, for what a real etcd cannot be made to do at a
//! given moment: lose its leader alone, belong to another cluster, hang.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use synod_etcd::{Connection, Connector, EtcdOptions, EtcdStore};
use synod_store::{ErrorKind, PutRequest, RangeRequest, Store};
use synod_tests::bridge::{Bridge, Mode};
use synod_tests::wait;
use synod_wire::etcdserverpb as pb;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::{Request, Response, Status};

/// A member that answers as it is told.
struct Member {
    address: SocketAddr,
    state: Arc<State>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    cluster: AtomicU64,
    leader: AtomicU64,
    /// Whether requests for keys are answered, or hang.
    serves: watch::Sender<bool>,
    requests: AtomicUsize,
}

/// The state, as services want it.
#[derive(Debug, Clone)]
struct Services(Arc<State>);

impl Member {
    async fn start() -> Member {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            cluster: AtomicU64::new(1),
            leader: AtomicU64::new(1),
            serves: watch::Sender::new(true),
            requests: AtomicUsize::new(0),
        });
        let services = Services(Arc::clone(&state));
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        let task = tokio::spawn(async move {
            tonic::transport::Server::builder()
                .add_service(pb::kv_server::KvServer::new(services.clone()))
                .add_service(pb::maintenance_server::MaintenanceServer::new(services))
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
        Member {
            address,
            state,
            task,
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    fn hang(&self) {
        self.state.serves.send_replace(false);
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    fn header(&self) -> Option<pb::ResponseHeader> {
        Some(pb::ResponseHeader {
            cluster_id: self.cluster.load(Ordering::SeqCst),
            member_id: 1,
            revision: 1,
            raft_term: 1,
        })
    }

    async fn serve(&self) {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let mut serves = self.serves.subscribe();
        let _ = serves.wait_for(|serves| *serves).await;
    }
}

fn no<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not here"))
}

#[tonic::async_trait]
impl pb::kv_server::Kv for Services {
    async fn range(
        &self,
        _: Request<pb::RangeRequest>,
    ) -> Result<Response<pb::RangeResponse>, Status> {
        self.0.serve().await;
        Ok(Response::new(pb::RangeResponse {
            header: self.0.header(),
            ..Default::default()
        }))
    }

    async fn put(&self, _: Request<pb::PutRequest>) -> Result<Response<pb::PutResponse>, Status> {
        self.0.serve().await;
        Ok(Response::new(pb::PutResponse {
            header: self.0.header(),
            prev_kv: None,
        }))
    }

    async fn delete_range(
        &self,
        _: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        no()
    }

    async fn txn(&self, _: Request<pb::TxnRequest>) -> Result<Response<pb::TxnResponse>, Status> {
        no()
    }

    async fn compact(
        &self,
        _: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        no()
    }
}

#[tonic::async_trait]
impl pb::maintenance_server::Maintenance for Services {
    async fn status(
        &self,
        _: Request<pb::StatusRequest>,
    ) -> Result<Response<pb::StatusResponse>, Status> {
        Ok(Response::new(pb::StatusResponse {
            header: self.0.header(),
            version: "3.5.21".to_string(),
            leader: self.0.leader.load(Ordering::SeqCst),
            ..Default::default()
        }))
    }

    async fn alarm(
        &self,
        _: Request<pb::AlarmRequest>,
    ) -> Result<Response<pb::AlarmResponse>, Status> {
        no()
    }

    async fn defragment(
        &self,
        _: Request<pb::DefragmentRequest>,
    ) -> Result<Response<pb::DefragmentResponse>, Status> {
        no()
    }

    async fn hash(
        &self,
        _: Request<pb::HashRequest>,
    ) -> Result<Response<pb::HashResponse>, Status> {
        no()
    }

    async fn hash_kv(
        &self,
        _: Request<pb::HashKvRequest>,
    ) -> Result<Response<pb::HashKvResponse>, Status> {
        no()
    }

    type SnapshotStream = tokio_stream::Empty<Result<pb::SnapshotResponse, Status>>;

    async fn snapshot(
        &self,
        _: Request<pb::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        no()
    }

    async fn move_leader(
        &self,
        _: Request<pb::MoveLeaderRequest>,
    ) -> Result<Response<pb::MoveLeaderResponse>, Status> {
        no()
    }

    async fn downgrade(
        &self,
        _: Request<pb::DowngradeRequest>,
    ) -> Result<Response<pb::DowngradeResponse>, Status> {
        no()
    }
}

/// Two members, a client, and which of them the client uses: that one first.
async fn two() -> (Member, Member, EtcdStore) {
    let (a, b) = (Member::start().await, Member::start().await);
    let options = EtcdOptions::new([a.url(), b.url()]).with_member_sync(None);
    let store = EtcdStore::connect(options).await.unwrap();
    store.range(RangeRequest::new("a")).await.unwrap();
    if a.requests() > 0 {
        (a, b, store)
    } else {
        (b, a, store)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_endpoint_does_all_the_work() {
    let (used, other, store) = two().await;
    for _ in 0..50 {
        store.put(PutRequest::new("a", "1")).await.unwrap();
    }
    assert_eq!((used.requests(), other.requests()), (51, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_can_be_made_by_other_means() {
    let member = Member::start().await;
    let address = member.address;
    // A name that no resolver knows leads to the member.
    let connector = Connector::new(move |authority| {
        Box::pin(async move {
            assert_eq!(authority, "somewhere:7");
            let stream = tokio::net::TcpStream::connect(address).await?;
            Ok(Box::new(stream) as Box<dyn Connection>)
        })
    });
    let options = EtcdOptions::new(["somewhere:7"]).with_connector(connector);
    let store = EtcdStore::connect(options).await.unwrap();
    store.range(RangeRequest::new("a")).await.unwrap();
    assert_eq!(member.requests(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_leaves_a_member_that_has_lost_its_leader() {
    let (used, other, store) = two().await;
    used.state.leader.store(0, Ordering::SeqCst);
    used.hang();
    let begin = Instant::now();
    let (read, put) = tokio::join!(
        store.range(RangeRequest::new("a")),
        store.put(PutRequest::new("a", "1"))
    );
    read.unwrap();
    assert_eq!(other.requests(), 1);
    // What must not be sent twice waits for its own answer.
    let error = put.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.is_maybe_applied());
    assert!(begin.elapsed() >= Duration::from_secs(4));
    store.put(PutRequest::new("a", "1")).await.unwrap();
    assert_eq!(other.requests(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_member_that_answers_is_waited_for() {
    let (used, other, store) = two().await;
    used.hang();
    let (read, ()) = tokio::join!(store.range(RangeRequest::new("a")), async {
        // Past the moment at which the member is suspected, and found to be sound.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        used.state.serves.send_replace(true);
    });
    read.unwrap();
    assert_eq!((used.requests(), other.requests()), (2, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_another_cluster_is_not_used() {
    let stranger = Member::start().await;
    stranger.state.cluster.store(2, Ordering::SeqCst);
    let member = Member::start().await;
    let bridges = [
        Bridge::to(&member.url()).await,
        Bridge::to(&stranger.url()).await,
    ];
    let urls = bridges.iter().map(Bridge::url);
    let options = EtcdOptions::new(urls).with_member_sync(None);
    let store = EtcdStore::connect(options).await.unwrap();
    store.range(RangeRequest::new("a")).await.unwrap();
    let (used, other) = if member.requests() > 0 {
        (&bridges[0], &stranger)
    } else {
        (&bridges[1], &member)
    };
    used.set(Mode::Refuse);
    let error = wait::soon("an error", store.range(RangeRequest::new("a"))).await;
    let error = error.unwrap_err();
    assert!(
        error.message().contains("serves another cluster"),
        "{error}"
    );
    assert_eq!(other.requests(), 0);
}
