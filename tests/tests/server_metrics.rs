//! `/metrics`, `/livez`, `/readyz`, and whether docs/metrics.md tells the same as the server.

use std::collections::{BTreeMap, BTreeSet};

use synod_engine::{Engine, EngineOptions};
use synod_server::{Kind, METRICS, ServerOptions};
use synod_store::{PutRequest, Store};
use synod_tests::metered;
use synod_tests::raw::{get, kv, put};
use synod_tests::target::{Served, Target, answer, engine};
use synod_tests::wait;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The status and the body of a page.
async fn page(served: &Served, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(served.address()).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    wait::soon("a page", stream.read_to_string(&mut text))
        .await
        .unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

/// The numbers of the page, by their name and labels.
fn numbers(page: &str) -> BTreeMap<String, f64> {
    page.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

/// The names of the page, by their kinds.
fn names(page: &str) -> BTreeMap<String, String> {
    page.lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '))
        .map(|(name, kind)| (name.to_owned(), kind.to_owned()))
        .collect()
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_the_table_and_the_docs_name_the_same() {
    let served = Served::embedded(engine(), ServerOptions::new()).await;
    // A first look is counted at the second.
    page(&served, "/metrics").await;
    let (status, text) = page(&served, "/metrics").await;
    assert_eq!(status, 200);
    let table: BTreeMap<String, String> = METRICS
        .iter()
        .map(|metric| (metric.name.to_owned(), kind(metric.kind).to_owned()))
        .collect();
    let mut shown = names(&text);
    if !cfg!(target_os = "linux") {
        for name in ["process_resident_memory_bytes", "process_open_fds"] {
            shown.insert(name.to_owned(), "gauge".to_owned());
        }
    }
    assert_eq!(shown, table, "{text}");
    for metric in METRICS {
        let help = format!("# HELP {} {}", metric.name, metric.help);
        assert!(text.lines().any(|line| line == help), "{help}\n{text}");
    }

    let docs = include_str!("../../docs/metrics.md");
    let rows: BTreeSet<String> = docs
        .lines()
        .filter(|line| line.starts_with("| `") && line.matches('|').count() == 5)
        .map(|line| line.split('|').map(str::trim).collect::<Vec<_>>().join("|"))
        .collect();
    let expected: BTreeSet<String> = METRICS
        .iter()
        .map(|metric| {
            let labels: Vec<String> = metric.labels.iter().map(|l| format!("`{l}`")).collect();
            let (name, help) = (metric.name, metric.help);
            format!(
                "|`{name}`|{}|{}|{help}|",
                kind(metric.kind),
                labels.join(", ")
            )
        })
        .collect();
    assert_eq!(rows, expected, "docs/metrics.md");
    // What stands in expressions exists, too.
    for word in docs.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
        if word.starts_with("synod_") || word.starts_with("etcd_") {
            let name = word.trim_end_matches("_bucket");
            assert!(name == "etcd_" || table.contains_key(name), "{word}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let metrics = metered::metrics();
    let options = EngineOptions::file(dir.path()).with_sync_observer(metrics.clone());
    let store = Engine::open(options).unwrap();
    let options = ServerOptions::new()
        .with_metrics(metrics)
        .with_quota_bytes(1000);
    let server = synod_server::Server::embedded(store, options).unwrap();
    let served = Served::serve(server, "http").await;
    let target = Target::Served(served);
    let mut client = kv(&target).await;
    for index in 0..3 {
        answer(client.put(put(format!("secret{index}"), "v")).await);
    }
    answer(client.range(get("a")).await);
    client.put(put("", "v")).await.unwrap_err();
    let mut auth = synod_wire::etcdserverpb::auth_client::AuthClient::new(target.channel().await);
    let login = synod_wire::etcdserverpb::AuthenticateRequest::default();
    assert!(auth.authenticate(login).await.is_err());
    // Whatever path a client makes up is one and the same method.
    let mut grpc = tonic::client::Grpc::new(target.channel().await);
    for path in ["/made.Up/Secret", "/etcdserverpb.KV/Secret"] {
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<(), ()>::default();
        let path = path.parse().unwrap();
        grpc.unary(tonic::Request::new(()), path, codec)
            .await
            .unwrap_err();
    }
    let Target::Served(served) = &target else {
        unreachable!()
    };
    let (_, text) = page(served, "/metrics").await;
    assert!(!text.to_lowercase().contains("secret"), "{text}");
    let numbers = numbers(&text);
    let number = |name: &str| {
        let found = numbers.get(name);
        *found.unwrap_or_else(|| panic!("{name} is not in\n{text}"))
    };
    for (name, value) in [
        (r#"synod_requests_total{method="KV/Put",code="OK"}"#, 3.0),
        (
            r#"synod_requests_total{method="KV/Put",code="InvalidArgument"}"#,
            1.0,
        ),
        (r#"synod_requests_total{method="KV/Range",code="OK"}"#, 1.0),
        (
            r#"synod_requests_total{method="other",code="Unimplemented"}"#,
            2.0,
        ),
        (
            r#"synod_request_duration_seconds_count{method="KV/Put"}"#,
            4.0,
        ),
        (r#"synod_logins_total{result="refused"}"#, 1.0),
        (r#"synod_alarm{kind="nospace"}"#, 0.0),
        ("synod_sync_duration_seconds_count", 3.0),
        ("synod_sync_changes_total", 3.0),
        ("synod_revision", 4.0),
        ("synod_keys", 3.0),
        ("synod_ready", 1.0),
        ("synod_quota_bytes", 1000.0),
        ("synod_users", 0.0),
    ] {
        assert!(
            (number(name) - value).abs() < 0.5,
            "{name}: {} is not {value}",
            number(name)
        );
    }
    assert!(number("synod_connections") >= 3.0);
    assert!(number("synod_disk_bytes") > 0.0);
    #[cfg(target_os = "linux")]
    assert!(number("process_resident_memory_bytes") > 1e6 && number("process_open_fds") > 3.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_lives_and_is_not_ready() {
    let store = Engine::open(EngineOptions::memory().with_quota_bytes(1 << 20)).unwrap();
    let served = Served::embedded(store.clone(), ServerOptions::new()).await;
    for path in ["/livez", "/readyz"] {
        assert_eq!(
            page(&served, path).await,
            (200, "ok\n".to_owned()),
            "{path}"
        );
    }
    let big = || PutRequest::new("k", vec![7; 600_000]);
    store.put(big()).await.unwrap();
    store.put(big()).await.unwrap_err();
    assert_eq!(page(&served, "/livez").await.0, 200);
    let (status, reason) = page(&served, "/readyz").await;
    assert_eq!(status, 503);
    assert!(reason.contains("space"), "{reason}");
    let (_, text) = page(&served, "/metrics").await;
    let numbers = numbers(&text);
    assert!(numbers["synod_ready"] < 0.5 && numbers[r#"synod_alarm{kind="nospace"}"#] > 0.5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_metrics_has_no_page() {
    let served = Served::over(synod_tests::target::memory(), ServerOptions::new()).await;
    assert_eq!(page(&served, "/metrics").await.0, 404);
    assert_eq!(page(&served, "/livez").await.0, 200);
}
