//! Getting in: addresses, certificates, users.

use std::fs;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use synod_etcd::{EtcdOptions, EtcdStore, TlsOptions};
use synod_server::ServerOptions;
use synod_store::{
    Error, ErrorKind, KeyRange, LeaseGrantRequest, PutRequest, RangeRequest, Store, Txn, Watch,
    WatchItem, WatchRequest,
};
use synod_tests::certs::Certs;
use synod_tests::etcd::EtcdConfig;
use synod_tests::ports::Port;
use synod_tests::target::{Target, both, both_with};
use synod_tests::{etcd_or_skip, wait};

async fn refused(options: EtcdOptions) -> Error {
    let connected = wait::soon("an error", EtcdStore::connect(options)).await;
    let error = connected.unwrap_err();
    assert!(!error.is_maybe_applied());
    error
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_listens() {
    let port = Port::reserve();
    let url = format!("http://{}", port.address());
    let error = refused(EtcdOptions::new([url.clone()])).await;
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    let expected =
        format!("nothing listens at {url}; start one with `synod serve` or name another address");
    assert_eq!(error.message(), expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_make_no_sense() {
    for address in ["ftp://127.0.0.1:2379", "http://127.0.0.1:99999", "http://"] {
        let error = refused(EtcdOptions::new([address])).await;
        assert_eq!(error.kind(), ErrorKind::InvalidAddress, "{error}");
        assert!(error.message().contains(address), "{error}");
    }
    let none = refused(EtcdOptions::new(Vec::<String>::new())).await;
    assert_eq!(none.kind(), ErrorKind::InvalidAddress);
    let unknown = refused(EtcdOptions::new(["http://no-such-host.invalid:1"])).await;
    // A resolver may take longer to say so than a connection may take.
    let kind = unknown.kind();
    assert!(
        matches!(kind, ErrorKind::Unavailable | ErrorKind::Timeout),
        "{unknown:?}"
    );
    assert!(
        unknown.message().contains("no-such-host.invalid"),
        "{unknown}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_never_answers() {
    // The system takes connections for it; nobody looks at them.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let begin = Instant::now();
    let limit = Duration::from_millis(300);
    let options = EtcdOptions::new([url.clone()]).with_connect_timeout(limit);
    let error = refused(options).await;
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    assert!(error.message().contains(&url), "{error}");
    assert!(begin.elapsed() >= limit);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_listens_is_no_etcd() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1000]).await;
            let _ = stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
                .await;
        }
    });
    let error = refused(EtcdOptions::new([format!("http://{address}")])).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.message().contains(&address.to_string()), "{error}");
    server.abort();
}

fn tls(certs: &Certs) -> TlsOptions {
    TlsOptions::new().with_ca_pem(fs::read(certs.ca()).unwrap())
}

async fn works(options: EtcdOptions) {
    let store = EtcdStore::connect(options).await.unwrap();
    store.put(PutRequest::new("a", "1")).await.unwrap();
    drop(store.watch(WatchRequest::new("a")).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_verified() {
    let certs = Certs::new();
    let etcd = etcd_or_skip!(EtcdConfig::new().tls(&certs));
    let options = || EtcdOptions::new(etcd.endpoints());
    works(options().with_tls(tls(&certs))).await;
    // Without a scheme, TLS options make it https.
    let bare = etcd.endpoints()[0].trim_start_matches("https://");
    works(EtcdOptions::new([bare]).with_tls(tls(&certs))).await;

    let other = TlsOptions::new().with_ca_pem(fs::read(certs.other_ca()).unwrap());
    let error = refused(options().with_tls(other)).await;
    assert_eq!(error.kind(), ErrorKind::Tls, "{error:?}");
    assert!(error.message().contains("UnknownIssuer"), "{error}");

    let error = refused(options().with_tls(tls(&certs).with_domain("example.com"))).await;
    assert_eq!(error.kind(), ErrorKind::Tls, "{error:?}");
    assert!(error.message().contains("example.com"), "{error}");

    // The one speaks TLS, the other does not.
    let plain = etcd.endpoints()[0].replace("https", "http");
    let error = refused(EtcdOptions::new([plain.clone()])).await;
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(error.message().contains(&plain), "{error}");
    assert!(error.message().contains("https://"), "{error}");
    let etcd = etcd_or_skip!();
    let secure = etcd.endpoints()[0].replace("http", "https");
    let error = refused(EtcdOptions::new([secure.clone()]).with_tls(tls(&certs))).await;
    assert_eq!(error.kind(), ErrorKind::Tls, "{error:?}");
    assert!(error.message().contains(&secure), "{error}");
    assert!(error.message().contains("speak no TLS"), "{error}");
}

/// Tries to connect until it is told that its certificate is not accepted. With TLS 1.3 that is told after the handshake:
/// who writes once more before the alert is read may find the connection reset, and knows no more than that.
async fn refused_by_certificate(options: impl Fn() -> EtcdOptions) {
    wait::until("a certificate is refused", || async {
        let error = refused(options()).await;
        let kind = error.kind();
        assert!(
            matches!(kind, ErrorKind::Tls | ErrorKind::Unavailable),
            "{error:?}"
        );
        kind == ErrorKind::Tls
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_show_certificates() {
    let certs = Certs::new();
    let etcd = etcd_or_skip!(EtcdConfig::new().mutual_tls(&certs));
    let options = || EtcdOptions::new(etcd.endpoints());
    let identity = |(cert, key): (std::path::PathBuf, std::path::PathBuf)| {
        tls(&certs).with_identity_pem(fs::read(cert).unwrap(), fs::read(key).unwrap())
    };
    works(options().with_tls(identity(certs.client()))).await;
    refused_by_certificate(|| options().with_tls(tls(&certs))).await;
    refused_by_certificate(|| options().with_tls(identity(certs.stranger()))).await;
}

/// Skips a test where nobody could turn users on.
macro_rules! needs_etcdctl {
    () => {
        if synod_tests::etcd::etcdctl_binary().is_none() {
            synod_tests::skip!("there is no etcdctl");
        }
    };
}

/// Turns users on: `root`, and `reader` who may read below `open/`.
async fn with_users(target: &Target) {
    for command in [
        "user add root:hunter2",
        "user grant-role root root",
        "user add reader:reader",
        "role add reader",
        "role grant-permission --prefix=true reader read open/",
        "user grant-role reader reader",
        "auth enable",
    ] {
        let args: Vec<&str> = command.split(' ').collect();
        let output = target.etcdctl(&args).await;
        assert!(output.status.success(), "{command}: {output:?}");
    }
}

async fn next(watch: &mut Watch) -> WatchItem {
    wait::soon("an item", watch.next()).await.unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn users_get_in_with_their_passwords_and_no_further_than_they_may() {
    needs_etcdctl!();
    both(users_get_in).await;
}

async fn users_get_in(target: &Target) {
    let options = || EtcdOptions::new([target.url()]);
    // Before there are users, a name does no harm.
    works(options().with_user("root", "hunter2")).await;
    with_users(target).await;

    let error = refused(options().with_user("root", "swordfish")).await;
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
    assert!(!format!("{error} {error:?}").contains("swordfish"));

    let nobody = EtcdStore::connect(options()).await.unwrap();
    let error = nobody.put(PutRequest::new("a", "1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
    assert!(!error.is_maybe_applied());
    let error = nobody.watch(WatchRequest::new("a")).await.unwrap_err();
    let expected = [ErrorKind::Unauthenticated, ErrorKind::PermissionDenied];
    assert!(expected.contains(&error.kind()), "{error:?}");

    let root = options().with_user("root", "hunter2");
    works(root.clone()).await;
    let root = EtcdStore::connect(root).await.unwrap();
    let reader = options().with_user("reader", "reader");
    let reader = EtcdStore::connect(reader).await.unwrap();
    let mut watch = reader
        .watch(WatchRequest::new(KeyRange::prefix("open/")))
        .await
        .unwrap();
    let error = reader
        .put(PutRequest::new("open/a", "1"))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(!error.is_maybe_applied());
    for _ in 0..3 {
        let error = reader.watch(WatchRequest::new("a")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
    }
    root.put(PutRequest::new("open/a", "1")).await.unwrap();
    assert!(matches!(next(&mut watch).await, WatchItem::Events(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_that_expire_are_renewed() {
    needs_etcdctl!();
    let etcd = EtcdConfig::new().flag("--auth-token-ttl=1");
    let options = ServerOptions::new().with_auth_token_ttl(Duration::from_secs(1));
    both_with(tokens_expire, etcd, options).await;
}

async fn tokens_expire(target: &Target) {
    with_users(target).await;
    let options = EtcdOptions::new([target.url()]).with_user("root", "hunter2");
    let store = EtcdStore::connect(options).await.unwrap();
    let lease = LeaseGrantRequest::new(Duration::from_secs(60));
    let lease = store.lease_grant(lease).await.unwrap().id;
    let mut first = store.watch(WatchRequest::new("a")).await.unwrap();
    // Many at once ask for one new token together.
    expired(target).await;
    let requests = (0..20).map(|_| store.range(RangeRequest::new("a")));
    for answer in futures_util::future::join_all(requests).await {
        answer.unwrap();
    }
    // A mutation is refused before anything is done, so it is safe to send again.
    expired(target).await;
    store.put(PutRequest::new("a", "1")).await.unwrap();
    let txn = Txn::new().and_then([PutRequest::new("a", "2")]);
    assert!(store.txn(txn).await.unwrap().succeeded);
    assert!(matches!(next(&mut first).await, WatchItem::Events(_)));
    // A stream's own token is as old as the stream.
    expired(target).await;
    let mut second = store.watch(WatchRequest::new("b")).await.unwrap();
    expired(target).await;
    store.lease_keep_alive(lease).await.unwrap();
    store.put(PutRequest::new("b", "1")).await.unwrap();
    store.put(PutRequest::new("a", "3")).await.unwrap();
    assert!(matches!(next(&mut second).await, WatchItem::Events(_)));
    assert!(matches!(next(&mut first).await, WatchItem::Events(_)));
}

/// Waits until every token that was given out before has expired, by watching one that is.
async fn expired(target: &Target) {
    use synod_wire::etcdserverpb as pb;
    let channel = target.channel().await;
    let user = pb::AuthenticateRequest {
        name: "root".into(),
        password: "hunter2".into(),
    };
    let mut auth = pb::auth_client::AuthClient::new(channel.clone());
    let token = auth.authenticate(user).await.unwrap().into_inner().token;
    let kv = pb::kv_client::KvClient::new(channel);
    // Asking renews a token: each question gets twice as much time after the one before.
    let mut pause = Duration::from_millis(1200);
    loop {
        tokio::time::sleep(pause).await;
        let mut request = tonic::Request::new(pb::RangeRequest {
            key: "a".into(),
            ..Default::default()
        });
        request
            .metadata_mut()
            .insert("token", token.parse().unwrap());
        match kv.clone().range(request).await {
            Err(status) if status.code() == tonic::Code::Unauthenticated => return,
            Err(status) => panic!("{status}"),
            Ok(_) => pause *= 2,
        }
        assert!(pause < wait::PATIENCE);
    }
}
