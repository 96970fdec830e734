//! Synod's server with TLS: who gets in, and what is said of a certificate that is none.

use std::fs;

use synod_server::{Server, ServerError, ServerOptions, Tls};
use synod_tests::certs::Certs;
use synod_tests::raw::{get, put};
use synod_tests::target::{Served, answer, memory};
use synod_tests::wait;
use synod_wire::etcdserverpb::kv_client::KvClient;
use synod_wire::etcdserverpb::{MemberListRequest, cluster_client::ClusterClient};
use tokio::net::TcpListener;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

fn server_tls(certs: &Certs) -> Tls {
    let (certificate, key) = certs.server();
    Tls::new(fs::read(certificate).unwrap(), fs::read(key).unwrap())
}

fn trusting(certs: &Certs) -> ClientTlsConfig {
    ClientTlsConfig::new().ca_certificate(Certificate::from_pem(fs::read(certs.ca()).unwrap()))
}

fn identity((certificate, key): (std::path::PathBuf, std::path::PathBuf)) -> Identity {
    Identity::from_pem(fs::read(certificate).unwrap(), fs::read(key).unwrap())
}

/// A request over such a connection, or why there was none.
async fn ask(served: &Served, tls: Option<ClientTlsConfig>) -> Result<Channel, String> {
    let mut endpoint = Endpoint::from_shared(served.url()).unwrap();
    endpoint = match tls {
        Some(tls) => endpoint.tls_config(tls).unwrap(),
        None => Endpoint::from_shared(served.url().replace("https", "http")).unwrap(),
    };
    let channel = wait::soon("a connection or its refusal", endpoint.connect())
        .await
        .map_err(|error| format!("{error:?}"))?;
    // With TLS 1.3 a client hears only now that its certificate was refused.
    let mut client = KvClient::new(channel.clone());
    wait::soon("an answer or a refusal", client.range(get("a")))
        .await
        .map_err(|status| format!("{status:?}"))?;
    Ok(channel)
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_certificate() {
    let certs = Certs::new();
    let options = ServerOptions::new().with_tls(server_tls(&certs));
    let served = Served::over_tls(memory(), options).await;
    let channel = ask(&served, Some(trusting(&certs))).await.unwrap();
    answer(KvClient::new(channel.clone()).put(put("a", "1")).await);
    let list = ClusterClient::new(channel)
        .member_list(MemberListRequest { linearizable: true })
        .await;
    assert_eq!(answer(list).members[0].client_ur_ls, [served.url()]);
    // Who does not trust it, or does not speak TLS, stays outside.
    let other = Certificate::from_pem(fs::read(certs.other_ca()).unwrap());
    let distrusting = ClientTlsConfig::new().ca_certificate(other);
    assert!(ask(&served, Some(distrusting)).await.is_err());
    assert!(ask(&served, None).await.is_err());
    // A certificate that nobody asked for does no harm.
    let known = trusting(&certs).identity(identity(certs.client()));
    assert!(ask(&served, Some(known)).await.is_ok());
    if synod_tests::etcd::etcdctl_binary().is_some() {
        let ca = format!("--cacert={}", certs.ca().display());
        let output = synod_tests::etcd::etcdctl(&served.url(), &[&ca, "get", "a"]).await;
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "a\n1\n",
            "{output:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_certificates_of_clients() {
    let certs = Certs::new();
    let ca = fs::read(certs.ca()).unwrap();
    let required = server_tls(&certs).requiring_client_certificates(ca.clone());
    let required = Served::over_tls(memory(), ServerOptions::new().with_tls(required)).await;
    let optional = server_tls(&certs).verifying_client_certificates(ca);
    let optional = Served::over_tls(memory(), ServerOptions::new().with_tls(optional)).await;
    let known = trusting(&certs).identity(identity(certs.client()));
    let strange = trusting(&certs).identity(identity(certs.stranger()));
    let bare = trusting(&certs);
    for (served, tls, enters) in [
        (&required, &known, true),
        (&required, &strange, false),
        (&required, &bare, false),
        (&optional, &known, true),
        (&optional, &strange, false),
        (&optional, &bare, true),
    ] {
        let outcome = ask(served, Some(tls.clone())).await;
        assert_eq!(outcome.is_ok(), enters, "{outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_certificates_that_are_none() {
    let certs = Certs::new();
    let (certificate, key) = certs.server();
    let (certificate, key) = (fs::read(certificate).unwrap(), fs::read(key).unwrap());
    let (_, others_key) = certs.client();
    let others_key = fs::read(others_key).unwrap();
    for tls in [
        Tls::new("no certificate", key.clone()),
        Tls::new(certificate.clone(), "no key"),
        Tls::new(certificate.clone(), others_key),
        Tls::new(certificate, key).requiring_client_certificates("no certificate"),
    ] {
        let server = Server::new(memory(), ServerOptions::new().with_tls(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let serving = server.serve(listener, std::future::pending());
        let error = wait::soon("a refusal", serving).await.unwrap_err();
        assert!(matches!(error, ServerError::Tls(_)), "{error:?}");
    }
}
