//! A server that may open no more files: it refuses what would need one, says so, and goes on when it may again.
#![cfg(target_os = "linux")]

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use synod_tests::cli::{Home, Served};
use synod_tests::raw::{get, put};
use synod_tests::wait::soon;
use synod_wire::etcdserverpb as pb;
use synod_wire::etcdserverpb::kv_client::KvClient;
use synod_wire::etcdserverpb::maintenance_client::MaintenanceClient;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

/// How many files a process may have open from now on; gives back how many it might before.
fn limit(pid: u32, files: Option<u64>) -> Option<u64> {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    let now = prlimit(
        Some(pid),
        Resource::Nofile,
        Rlimit {
            current: files,
            // Whoever is no superuser cannot raise it again.
            maximum: rustix::process::getrlimit(Resource::Nofile).maximum,
        },
    );
    now.unwrap().current
}

async fn connect(served: &Served) -> Channel {
    let endpoint = Endpoint::from_shared(served.url.clone()).unwrap();
    soon("a connection", endpoint.connect()).await.unwrap()
}

#[tokio::test]
async fn a_server_without_descriptors_refuses_changes_and_goes_on_afterwards() {
    let home = Home::new();
    let dir = home.path("store");
    let args = ["--data", dir.to_str().unwrap(), "--listen", "127.0.0.1:0"];
    let mut served = Served::start(&home, &args).await;
    let channel = connect(&served).await;
    let mut kv = KvClient::new(channel.clone());
    kv.put(put("first", "1")).await.unwrap();

    let pid = served.process().pid();
    let before = limit(pid, Some(3));
    // The log goes on in another file every 4 MiB.
    let mut taken = 0;
    let refused = loop {
        match kv.put(put(format!("k{taken}"), vec![b'v'; 1 << 20])).await {
            Ok(_) => taken += 1,
            Err(refused) => break refused,
        }
        assert!(taken < 20, "it goes on without a file");
    };
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    let words = [
        "Too many open files",
        "`ulimit -n`",
        "the next file of the log",
    ];
    for word in words {
        assert!(refused.message().contains(word), "{refused}");
    }
    // Reads go on, and nothing is said of a full disk.
    let found = kv.range(get("first")).await.unwrap().into_inner();
    assert_eq!(found.count, 1);
    let missing = kv.range(get(format!("k{taken}"))).await.unwrap();
    assert_eq!(missing.into_inner().count, 0);
    let mut maintenance = MaintenanceClient::new(channel);
    let status = maintenance.status(pb::StatusRequest {}).await.unwrap();
    assert_eq!(status.into_inner().errors, Vec::<String>::new());

    limit(pid, before);
    for _ in 0..10 {
        kv.put(put("again", vec![b'v'; 1 << 20])).await.unwrap();
    }
    assert_eq!(served.stop().await, Some(0));
    let served = Served::start(&home, &args).await;
    let mut kv = KvClient::new(connect(&served).await);
    let all = pb::RangeRequest {
        key: b"\0".to_vec().into(),
        range_end: b"\0".to_vec().into(),
        count_only: true,
        ..pb::RangeRequest::default()
    };
    let found = kv.range(all).await.unwrap().into_inner();
    assert_eq!(found.count, taken + 2, "what was acknowledged and no more");
    assert_eq!(served.stop().await, Some(0));
}
