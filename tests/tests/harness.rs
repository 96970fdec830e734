//! The harness itself: a real etcd starts, loses its leader, comes back with its data, and speaks TLS.

use synod_store::{KeyRange, PutRequest, RangeRequest};
use synod_tests::certs::Certs;
use synod_tests::etcd::EtcdConfig;
use synod_tests::stores::TestStore;
use synod_tests::{etcd_or_skip, wait};

fn stdout(output: &std::process::Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_survives_the_loss_of_its_leader() {
    let etcd = etcd_or_skip!(3);
    assert_eq!(etcd.len(), 3);
    stdout(&etcd.etcdctl(&["put", "a", "1"]).await);
    let first = etcd.leader().await;
    etcd.kill(first);
    let second = etcd.leader().await;
    assert_ne!(first, second);
    let left = etcd.endpoints()[second].clone();
    wait::until("the two others serve", || async {
        let output = synod_tests::etcd::etcdctl(&left, &["put", "b", "2"]).await;
        output.status.success()
    })
    .await;
    etcd.restart(first).await;
    let back = &etcd.endpoints()[first];
    let output = synod_tests::etcd::etcdctl(back, &["get", "--prefix", ""]).await;
    assert_eq!(stdout(&output), "a\n1\nb\n2\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_node_goes_on_where_it_was() {
    let etcd = etcd_or_skip!();
    stdout(&etcd.etcdctl(&["put", "a", "1"]).await);
    etcd.pause(0);
    let output = etcd.etcdctl(&["--command-timeout=300ms", "get", "a"]).await;
    assert!(!output.status.success());
    etcd.resume(0);
    assert_eq!(stdout(&etcd.etcdctl(&["get", "a"]).await), "a\n1\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_speaks_tls() {
    let certs = Certs::new();
    let etcd = etcd_or_skip!(EtcdConfig::new().mutual_tls(&certs));
    assert!(etcd.url().starts_with("https://"));
    stdout(&etcd.etcdctl(&["put", "a", "1"]).await);
    let ca = format!("--cacert={}", certs.ca().display());
    let args = [ca.as_str(), "--command-timeout=2s", "get", "a"];
    let bare = synod_tests::etcd::etcdctl(&etcd.url(), &args).await;
    assert!(!bare.status.success());
}

synod_tests::each_store! {
    async fn a_test_sees_its_own_part_of_a_store(store: TestStore) -> synod_store::Result<()> {
        let (here, there) = (store.store(), store.another().await);
        let put = here.put(PutRequest::new("a", "1")).await?;
        let all = RangeRequest::new(KeyRange::all());
        let found = there.range(all.clone()).await?;
        assert_eq!(found.count, 1);
        assert_eq!(found.kvs[0].mod_revision, put.header.revision);
        // A second test on the same kind of store sees nothing of it.
        let other = TestStore::new(store.kind()).await.unwrap();
        assert_eq!(other.store().range(all).await?.count, 0);
        Ok(())
    }
}
