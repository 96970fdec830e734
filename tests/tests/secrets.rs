//! Passwords, tokens and values stay where they belong: at the most verbose level of both sides, through logins that fail,
//! tokens that are refused and connections that break, none of them stands in what the server or a command writes, in an
//! error, on a page, or in the list of processes.

use std::fmt::{Debug, Display};
use std::io::Write;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use synod::{Client, TlsOptions};
use synod_tests::certs::Certs;
use synod_tests::cli::{Home, Served, finish};
use synod_tests::process::Process;
use synod_tests::raw::{Op, put, txn};
use synod_tests::wait;
use synod_wire::etcdserverpb as pb;
use synod_wire::etcdserverpb::auth_client::AuthClient;
use synod_wire::etcdserverpb::kv_client::KvClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Request;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tracing_subscriber::fmt::MakeWriter;

const ROOT: &str = "pa55word-of-root";
const WORKER: &str = "pa55word-of-worker";
const WRONG: &str = "pa55word-mistyped";
const VALUE: &str = "valu3-that-is-stored";
const BAD_TOKEN: &str = "t0ken-of-nobody";

/// What was written, with where.
#[derive(Default)]
struct Written(Vec<(String, String)>);

impl Written {
    fn add(&mut self, place: impl Into<String>, text: impl Into<String>) {
        self.0.push((place.into(), text.into()));
    }

    fn error<E: Debug + Display>(&mut self, place: &str, error: &E) {
        self.add(place, format!("{error} {error:?} {error:#?}"));
    }

    /// None of the secrets stands anywhere, neither as it is nor as JSON carries bytes.
    fn assert_silent(&self, token: &str) {
        for secret in [ROOT, WORKER, WRONG, VALUE, BAD_TOKEN, token, "$argon2"] {
            // Base64 of three bytes more or less is the same in the middle.
            let encoded: Vec<String> = (0..3)
                .map(|shift| base64(&secret.as_bytes()[shift..]))
                .collect();
            for (place, text) in &self.0 {
                assert!(!text.contains(secret), "{secret} stands in {place}");
                for encoded in &encoded {
                    assert!(!text.contains(encoded), "{secret} stands in {place}");
                }
            }
        }
    }
}

/// The whole groups of three bytes, so that what follows makes no difference.
fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let groups = bytes
        .chunks_exact(3)
        .map(|group| u32::from(group[0]) << 16 | u32::from(group[1]) << 8 | u32::from(group[2]));
    groups
        .flat_map(|bits| [18, 12, 6, 0].map(|shift| LETTERS[(bits >> shift & 63) as usize] as char))
        .collect()
}

/// All that this process logs.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Log;

    fn make_writer(&'a self) -> Log {
        self.clone()
    }
}

impl Log {
    fn text(&self) -> String {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&all).into_owned()
    }
}

/// A server that logs all it can, over TLS or not, as text or as JSON.
struct Side {
    home: Home,
    certs: Certs,
    tls: bool,
    served: Served,
}

impl Side {
    async fn start(tls: bool, format: &str) -> Side {
        let (home, certs) = (Home::new(), Certs::new());
        let password = home.path("root.txt");
        std::fs::write(&password, format!("{ROOT}\n")).unwrap();
        let log = std::fs::File::create(home.path("log")).unwrap();
        let (certificate, key) = certs.server();
        let mut args = vec!["--memory", "--listen", "127.0.0.1:0"];
        args.extend(["--log-level", "trace", "--log-format", format]);
        args.extend(["--root-password-file", password.to_str().unwrap()]);
        if tls {
            args.extend(["--cert-file", certificate.to_str().unwrap()]);
            args.extend(["--key-file", key.to_str().unwrap()]);
        }
        let served = Served::start_logging(&home, &args, Stdio::from(log)).await;
        Side {
            home,
            certs,
            tls,
            served,
        }
    }

    fn ca(&self) -> Vec<u8> {
        std::fs::read(self.certs.ca()).unwrap()
    }

    async fn channel(&self) -> Channel {
        let mut endpoint = Endpoint::from_shared(self.served.url.clone()).unwrap();
        if self.tls {
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(self.ca()));
            endpoint = endpoint.tls_config(tls).unwrap();
        }
        endpoint.connect().await.unwrap()
    }

    async fn client(&self, password: &str) -> synod::Result<Client> {
        let mut options = Client::builder(&self.served.url).with_user("root", password);
        if self.tls {
            options = options.with_tls(TlsOptions::new().with_ca(self.ca()));
        }
        options.connect().await
    }

    /// A command to this server as root.
    fn command(&self, args: &[&str], password: &str) -> std::process::Command {
        let mut command = self.home.command(args);
        command
            .args(["--addr", &self.served.url, "--user", "root"])
            .env("SYNOD_PASSWORD", password)
            .env("SYNOD_LOG", "trace");
        if self.tls {
            command.arg("--cacert").arg(self.certs.ca());
        }
        command
    }
}

fn with_token<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    let token = token.parse().unwrap();
    request.metadata_mut().insert("token", token);
    request
}

/// In etcd's own messages: logins, users, good and bad tokens. Returns a token that was good.
async fn raw(side: &Side, written: &mut Written) -> String {
    let channel = side.channel().await;
    let mut auth = AuthClient::new(channel.clone());
    let login = |name: &str, password: &str| pb::AuthenticateRequest {
        name: name.into(),
        password: password.into(),
    };
    let good = auth.authenticate(login("root", ROOT)).await.unwrap();
    let token = good.into_inner().token;
    // The last one was typed into the wrong field.
    for (name, password) in [("root", WRONG), ("nobody", WRONG), (WRONG, "")] {
        let refused = auth.authenticate(login(name, password)).await.map(drop);
        let refused = refused.unwrap_err();
        written.error("a refused login", &refused);
    }
    let add = pb::AuthUserAddRequest {
        name: "worker".into(),
        password: WORKER.into(),
        ..Default::default()
    };
    auth.user_add(with_token(add.clone(), &token))
        .await
        .unwrap();
    let again = auth.user_add(with_token(add, &token)).await.unwrap_err();
    written.error("a user that exists", &again);
    let change = pb::AuthUserChangePasswordRequest {
        name: "worker".into(),
        password: format!("{WORKER} changed"),
        ..Default::default()
    };
    let changed = auth.user_change_password(with_token(change, &token)).await;
    changed.unwrap();

    let mut kv = KvClient::new(channel);
    kv.put(with_token(put("k", VALUE), &token)).await.unwrap();
    let refused = kv.put(with_token(put("k", VALUE), BAD_TOKEN)).await;
    written.error("a refused token", &refused.unwrap_err());
    let refused = kv.put(put("k", VALUE)).await.unwrap_err();
    written.error("no token", &refused);
    let twice = txn(vec![put("k", VALUE).op(), put("k", VALUE).op()]);
    let refused = kv.txn(with_token(twice, &token)).await.unwrap_err();
    written.error("a refused transaction", &refused);
    token
}

/// With the library: what is stored and read back, and what fails.
async fn library(side: &Side, written: &mut Written) {
    let client = side.client(ROOT).await.unwrap();
    let queue = client.queue("jobs");
    queue.enqueue(VALUE).await.unwrap();
    let job = queue.take().await.unwrap();
    written.add("a delivery", format!("{job:?}"));
    job.nack().await.unwrap();
    assert_eq!(queue.dequeue().await.unwrap(), VALUE);
    let leadership = client.election("e").campaign(VALUE).await.unwrap();
    leadership.resign().await.unwrap();
    let put = client.txn().and_then([synod::txn::put("k", VALUE)]);
    put.await.unwrap();
    written.add("a client", format!("{client:?}"));
    client.close().await.unwrap();

    written.error("a wrong password", &side.client(WRONG).await.unwrap_err());
    let url = side.served.url.replace("://", &format!("://root:{ROOT}@"));
    let options = Client::builder(&url);
    written.add("options with a password", format!("{options:?}"));
    written.error(
        "a URL with a password",
        &options.connect().await.unwrap_err(),
    );
    // To the other kind of server, and with an authority that has not signed it.
    let other = match side.tls {
        true => side.served.url.replace("https", "http"),
        false => side.served.url.replace("http", "https"),
    };
    let stranger = std::fs::read(side.certs.other_ca()).unwrap();
    for url in [&other, &side.served.url] {
        let mut options = Client::builder(url)
            .with_user("root", ROOT)
            .with_timeout(Duration::from_secs(2));
        if url.starts_with("https") {
            options = options.with_tls(TlsOptions::new().with_ca(stranger.clone()));
        } else if !side.tls {
            continue;
        }
        written.add("options with a user", format!("{options:?}"));
        written.error("broken TLS", &options.connect().await.unwrap_err());
    }
}

/// The command: what it says when it succeeds and fails, and how it stands in the list of processes.
async fn command(side: &mut Side, written: &mut Written) {
    let mut push = side.command(&["queue", "push", "--name", "jobs", "-"], ROOT);
    push.stdin(Stdio::piped());
    let ran = finish(&mut push, VALUE.as_bytes()).await;
    assert_eq!(ran.code, Some(0), "{ran:?}");
    written.add("a command that succeeds", format!("{ran:?}"));
    let ran = finish(
        &mut side.command(&["queue", "len", "--name", "jobs"], WRONG),
        b"",
    )
    .await;
    assert_ne!(ran.code, Some(0), "{ran:?}");
    written.add("a command with a wrong password", format!("{ran:?}"));

    let mut waiting = side.command(&["queue", "pop", "--name", "empty"], ROOT);
    let mut waiting = Process::spawn(&mut waiting, None).unwrap();
    let pids = [waiting.pid(), side.served.process().pid()];
    // Once it is this program and no fork of ours any more.
    let line = format!("/proc/{}/cmdline", pids[0]);
    let started = async || std::fs::read_to_string(&line).is_ok_and(|line| line.contains("empty"));
    wait::until("the command's line", started).await;
    for pid in pids {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
        assert!(line.contains("synod"), "{line:?}");
        written.add("the list of processes", line);
    }
    waiting.kill();
}

/// The pages, over plain HTTP.
async fn pages(side: &Side, written: &mut Written) {
    let address = side.served.url.strip_prefix("http://").unwrap();
    for path in ["/metrics", "/health", "/readyz", "/livez", "/version"] {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        let reading = stream.read_to_string(&mut text);
        wait::soon("a page", reading).await.unwrap();
        assert!(text.starts_with("HTTP/1.1 200"), "{path}: {text}");
        written.add(path, text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_told() {
    let log = Log::default();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::FULL)
        .with_ansi(false)
        .with_writer(log.clone())
        .init();
    for (tls, format) in [(true, "text"), (false, "json")] {
        let mut side = Side::start(tls, format).await;
        let mut written = Written::default();
        let token = raw(&side, &mut written).await;
        library(&side, &mut written).await;
        command(&mut side, &mut written).await;
        if !tls {
            pages(&side, &mut written).await;
        }
        assert_eq!(side.served.stop().await, Some(0));
        let server = std::fs::read_to_string(side.home.path("log")).unwrap();
        // It says much, of what is no secret.
        for word in ["serving", "Accepted", "Refused", "KV/Put"] {
            assert!(server.contains(word), "{word}");
        }
        assert!(log.text().contains("synod.queue.enqueue"));
        written.add("the server's log", server);
        written.add("the client's log", log.text());
        written.assert_silent(&token);
    }
}
