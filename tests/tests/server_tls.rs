//! Synod's server with TLS: who gets in, and what is said of a certificate that is none.

use std::fs;

use synod_engine::{Engine, EngineOptions};
use synod_server::{Server, ServerError, ServerOptions, Tls};
use synod_tests::certs::Certs;
use synod_tests::raw::{get, put};
use synod_tests::target::{Served, answer, memory, refused};
use synod_tests::wait;
use synod_wire::authpb::{Permission, UserAddOptions, permission::Type};
use synod_wire::etcdserverpb as pb;
use synod_wire::etcdserverpb::auth_client::AuthClient;
use synod_wire::etcdserverpb::kv_client::KvClient;
use synod_wire::etcdserverpb::{MemberListRequest, cluster_client::ClusterClient};
use tokio::net::TcpListener;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request};

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

/// A request with these headers beside its message.
fn with<T>(message: T, headers: &[(&'static str, &str)]) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in headers {
        let value = value.parse().unwrap();
        request.metadata_mut().insert(*name, value);
    }
    request
}

/// A server with the user root, and the user `client`, without a password, who may write under `jobs/`.
async fn with_users(tls: Tls) -> (Served, String) {
    let engine = Engine::open(EngineOptions::memory()).unwrap();
    let server = Server::embedded(engine, ServerOptions::new().with_tls(tls)).unwrap();
    server.set_up_root("s3cret").await.unwrap();
    let served = Served::serve(server, "https").await;
    (served, "s3cret".to_owned())
}

async fn add_client(channel: &Channel, password: &str) -> String {
    let mut auth = AuthClient::new(channel.clone());
    let login = pb::AuthenticateRequest {
        name: "root".into(),
        password: password.into(),
    };
    let token = answer(auth.authenticate(login).await).token;
    let headers = [("token", token.as_str())];
    let user = pb::AuthUserAddRequest {
        name: "client".into(),
        options: Some(UserAddOptions { no_password: true }),
        ..Default::default()
    };
    answer(auth.user_add(with(user, &headers)).await);
    let role = pb::AuthRoleAddRequest { name: "r".into() };
    answer(auth.role_add(with(role, &headers)).await);
    let permission = pb::AuthRoleGrantPermissionRequest {
        name: "r".into(),
        perm: Some(Permission {
            perm_type: Type::Readwrite.into(),
            key: "jobs/".into(),
            range_end: "jobs0".into(),
        }),
    };
    answer(auth.role_grant_permission(with(permission, &headers)).await);
    let grant = pb::AuthUserGrantRoleRequest {
        user: "client".into(),
        role: "r".into(),
    };
    answer(auth.user_grant_role(with(grant, &headers)).await);
    token
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_names_a_user() {
    let certs = Certs::new();
    let ca = fs::read(certs.ca()).unwrap();
    let tls = server_tls(&certs).verifying_client_certificates(ca);
    let (served, password) = with_users(tls).await;
    let connect = async |tls: ClientTlsConfig| {
        let endpoint = Endpoint::from_shared(served.url()).unwrap();
        endpoint.tls_config(tls).unwrap().connect().await.unwrap()
    };
    let channel = connect(trusting(&certs).identity(identity(certs.client()))).await;
    let mut kv = KvClient::new(channel.clone());
    let denied = (Code::PermissionDenied, "etcdserver: permission denied");
    let nobody = (Code::InvalidArgument, "etcdserver: user name is empty");

    // A name that is no user's may do nothing.
    refused(kv.put(put("jobs/a", "1")).await, denied.0, denied.1);
    let token = add_client(&channel, &password).await;
    answer(kv.put(put("jobs/a", "1")).await);
    assert_eq!(answer(kv.range(get("jobs/a")).await).kvs.len(), 1);
    refused(kv.put(put("other", "1")).await, denied.0, denied.1);

    // A token goes before it, also a bad one.
    let root = [("token", token.as_str())];
    answer(kv.put(with(put("other", "1"), &root)).await);
    let bad = [("token", "bad")];
    let refusal = kv.put(with(put("jobs/a", "1"), &bad)).await;
    let text = "etcdserver: invalid auth token";
    refused(refusal, Code::Unauthenticated, text);

    // Nobody can call himself something.
    let forged = [("synod-certificate-name", "root")];
    let refusal = kv.put(with(put("other", "1"), &forged)).await;
    refused(refusal, denied.0, denied.1);

    // Neither no certificate nor one without a name is a user, whatever he says.
    let nameless = connect(trusting(&certs).identity(identity(certs.nameless()))).await;
    for channel in [connect(trusting(&certs)).await, nameless] {
        let mut kv = KvClient::new(channel);
        refused(kv.put(put("jobs/a", "1")).await, nobody.0, nobody.1);
        let refusal = kv.put(with(put("jobs/a", "1"), &forged)).await;
        refused(refusal, nobody.0, nobody.1);
    }

    // Who is no user any more is let in no more, over the same connection.
    let delete = pb::AuthUserDeleteRequest {
        name: "client".into(),
    };
    let mut auth = AuthClient::new(channel);
    answer(auth.user_delete(with(delete, &root)).await);
    refused(kv.put(put("jobs/a", "1")).await, denied.0, denied.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_names_nobody_where_nobody_verifies_it() {
    let certs = Certs::new();
    let (served, password) = with_users(server_tls(&certs)).await;
    let tls = trusting(&certs).identity(identity(certs.client()));
    let endpoint = Endpoint::from_shared(served.url()).unwrap();
    let channel = endpoint.tls_config(tls).unwrap().connect().await.unwrap();
    add_client(&channel, &password).await;
    let put = KvClient::new(channel).put(put("jobs/a", "1")).await;
    let text = "etcdserver: user name is empty";
    refused(put, Code::InvalidArgument, text);
}
