//! What goes wrong, and what `synod` says then: never a panic, always the cause and a way out, and
//! an exit code that scripts can rely on.

use std::path::Path;

use synod_tests::certs::Certs;
use synod_tests::cli::{Home, Served, finish};
use synod_tests::ports::Port;
use synod_tests::wait;
use tokio::io::AsyncReadExt;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_listens() {
    let home = Home::new();
    let port = Port::reserve();
    let url = format!("http://{}", port.address());
    for args in [
        &["queue", "--addr", &url][..],
        &["queue", "push", "a", "--addr", &url],
        &["queue", "pop", "--addr", &url],
        &["status", "--addr", &url],
    ] {
        let ran = home.run(args).await;
        ran.assert_failed(3, &format!("cannot reach {url}"), &["refused", "hint: "]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_certificate() {
    let home = Home::new();
    let certs = Certs::new();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let (cert, key) = certs.server();
    let (cert, key, ca) = (path(&cert), path(&key), path(&certs.ca()));
    let server = Served::start(
        &home,
        &[
            "--memory",
            "--listen",
            "127.0.0.1:0",
            "--cert-file",
            &cert,
            "--key-file",
            &key,
            "--trusted-ca-file",
            &ca,
            "--client-cert-auth",
        ],
    )
    .await;
    assert!(server.url.starts_with("https://"));
    let (client_cert, client_key) = certs.client();
    let (client_cert, client_key) = (path(&client_cert), path(&client_key));
    let addr = server.url.trim_start_matches("https://");
    let good = [
        "queue",
        "len",
        "--addr",
        addr,
        "--cacert",
        &ca,
        "--cert",
        &client_cert,
        "--key",
        &client_key,
    ];
    assert_eq!(
        home.ok(&good).await,
        "0\n",
        "an entry without a scheme means https here"
    );

    let other = path(&certs.other_ca());
    let ran = home
        .run(&["queue", "len", "--addr", addr, "--cacert", &other])
        .await;
    ran.assert_failed(3, "cannot reach https://", &["certificate", "--cacert"]);

    let (stranger, stranger_key) = certs.stranger();
    let (stranger, stranger_key) = (path(&stranger), path(&stranger_key));
    let none = ["queue", "len", "--addr", addr, "--cacert", &ca];
    let with_stranger = ["--cert", &stranger, "--key", &stranger_key];
    for args in [&[&none[..], &with_stranger].concat()[..], &none] {
        // With TLS 1.3 the refusal comes after the handshake: who writes once more before it is read may
        // find the connection reset, and knows of no certificate then.
        wait::until("a certificate is refused", || async {
            let ran = home.run(args).await;
            ran.assert_failed(3, "cannot reach https://", &[]);
            ran.stderr.contains("--cert")
        })
        .await;
    }

    let ran = home
        .run(&["queue", "len", "--addr", addr, "--cacert", "/nowhere.pem"])
        .await;
    ran.assert_failed(2, "cannot read /nowhere.pem", &[]);
    let ran = home
        .run(&["queue", "len", "--addr", addr, "--cert", &client_cert])
        .await;
    ran.assert_failed(2, "--cert needs --key", &[]);
}

/// Who shows a certificate never sends a password in the clear.
#[tokio::test(flavor = "multi_thread")]
async fn with_certificates_no_password_is_sent_in_the_clear() {
    let home = Home::new();
    let certs = Certs::new();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let (cert, key) = certs.client();
    let (cert, key, ca) = (path(&cert), path(&key), path(&certs.ca()));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let heard = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut bytes = vec![0; 4096];
        let count = stream.read(&mut bytes).await.unwrap();
        bytes.truncate(count);
        bytes
    });
    let url = format!("http://{addr}");
    let user = ["--user", "root:hunter2", "--timeout", "5s"];
    for options in [&["--cacert", &ca][..], &["--cert", &cert, "--key", &key]] {
        for command in [
            &["queue", "len", "--addr", &url][..],
            &["status", "--addr", &url],
        ] {
            let ran = home.run(&[command, options, &user].concat()).await;
            ran.assert_failed(2, "", &["https://"]);
        }
    }
    // The first connection comes from here, and is one of TLS.
    let command = [
        "queue", "len", "--addr", &addr, "--cert", &cert, "--key", &key,
    ];
    let ran = home.run(&[&command[..], &user].concat()).await;
    ran.assert_failed(3, "cannot reach https://", &[]);
    let heard = heard.await.unwrap();
    assert_eq!(heard.first(), Some(&0x16), "a handshake");
    assert!(!heard.windows(7).any(|window| window == b"hunter2"));
}

/// It is found out before anything is made or said.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_certificate() {
    let home = Home::new();
    let certs = Certs::new();
    let path = |path: &Path| path.to_str().unwrap().to_owned();
    let (cert, key) = (path(&certs.server().0), path(&certs.client().1));
    let (data, password) = (home.path("tls-data"), home.path("password"));
    std::fs::write(&password, "secret\n").unwrap();
    let (data_path, password) = (path(&data), path(&password));
    let ran = home
        .run(&[
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--cert-file",
            &cert,
            "--key-file",
            &key,
            "--data",
            &data_path,
            "--root-password-file",
            &password,
        ])
        .await;
    ran.assert_failed(2, "cannot serve with ", &["not usable", "hint: --key-file"]);
    assert_eq!(ran.stdout, "");
    assert!(!data.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use() {
    let home = Home::new();
    let server = Served::start(&home, &["--memory", "--listen", "127.0.0.1:0"]).await;
    let addr = server.url.trim_start_matches("http://");
    let data = home.data();
    let ran = home
        .run(&["serve", "--data", data.to_str().unwrap(), "--listen", addr])
        .await;
    ran.assert_failed(
        1,
        &format!("cannot listen on {addr}"),
        &["in use", "--listen"],
    );
    assert!(!data.exists(), "no data are touched");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_of_two_mebibytes() {
    let home = Home::new();
    let server = Served::start(&home, &["--memory", "--listen", "127.0.0.1:0"]).await;
    let data = format!("file:{}", home.data().display());
    let value = vec![b'v'; 2 << 20];
    for addr in [server.url.as_str(), "memory:", &data] {
        let ran = home
            .run_with(&["queue", "push", "-", "--addr", addr], &value)
            .await;
        ran.assert_failed(1, "cannot push", &["2097152", "max-request-bytes"]);
    }
    assert_eq!(
        home.ok(&["queue", "len", "--addr", &server.url]).await,
        "0\n"
    );
    let roomy = Served::start(
        &home,
        &[
            "--memory",
            "--listen",
            "127.0.0.1:0",
            "--max-request-bytes",
            "4194304",
        ],
    )
    .await;
    let ran = home
        .run_with(&["queue", "push", "-", "--addr", &roomy.url], &value)
        .await;
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(
        home.ok(&["queue", "pop", "--addr", &roomy.url]).await.len(),
        (2 << 20) + 1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_none() {
    let home = Home::new();
    for addr in [
        "redis://localhost:6379",
        "file:",
        "h:notaport",
        "a:1,,b:2",
        "memory:x",
    ] {
        let ran = home.run(&["queue", "len", "--addr", addr]).await;
        ran.assert_failed(2, "", &["http://HOST:PORT", "file:PATH", "memory:"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn serving_strangers_without_tls_is_refused() {
    let home = Home::new();
    let ran = home
        .run(&["serve", "--memory", "--listen", "0.0.0.0:0"])
        .await;
    ran.assert_failed(
        2,
        "0.0.0.0:0 can be reached",
        &["--cert-file", "--insecure"],
    );
    let mut command = home.command(&["serve", "--memory", "--listen", "0.0.0.0:0", "--insecure"]);
    let mut process =
        synod_tests::process::Process::spawn(&mut command, None).expect("it can be started");
    let stderr = process.child().stderr.take().unwrap();
    let warning = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(stderr), &mut line).unwrap();
        line
    });
    let warning = synod_tests::wait::soon("a warning", warning).await.unwrap();
    assert!(
        warning.starts_with("warning: everybody who can reach 0.0.0.0:0"),
        "{warning}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_line_that_is_wrong() {
    let home = Home::new();
    for args in [
        &["no-such-command"][..],
        &["queue", "pop", "--count", "0"],
        &["queue", "pop", "--timeout", "5"],
        &["queue", "pop", "--count", "2", "--follow"],
        &["serve", "--memory", "--data", "x"],
        &["serve", "--addr", "h:1"],
        &["serve", "--name", "q"],
        &["serve", "--listen", "nonsense"],
        &["serve", "--client-cert-auth"],
        &["stop", "--addr", "h:1"],
        &["status", "--addr", "memory:"],
        &["queue", "len", "--output", "xml"],
    ] {
        let ran = home.run(args).await;
        assert_eq!(ran.code, Some(2), "{args:?}: {ran:?}");
        assert!(ran.stderr.starts_with("error: "), "{args:?}: {ran:?}");
    }
    let ran = home
        .run(&["queue", "len", "--addr", "x:y", "--output", "json"])
        .await;
    let error: serde_json::Value = serde_json::from_str(ran.stderr.trim()).unwrap();
    assert_eq!(error["exit"], 2);
}

/// `sh` is content with it, and an item would be gone for nothing.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_command_is_refused() {
    let home = Home::new();
    home.ok(&["queue", "push", "kept"]).await;
    home.ok(&["pq", "push", "kept", "1"]).await;
    for args in [
        &["queue", "take", "--exec", ""][..],
        &["queue", "take", "--follow", "--exec", " \t\n"],
        &["pq", "take", "--exec", ""],
        &["lock", "l", "--", ""],
        &["rwlock", "l", "--read", "--", " "],
        &["semaphore", "s", "--permits", "1", "--", "", "x"],
        &["elect", "e", "me", "--", ""],
        &["barrier", "hold", "--", ""],
        &["double-barrier", "-c", "1", "--", ""],
    ] {
        let ran = home.run(args).await;
        ran.assert_failed(2, "the command to run is empty", &["a variable"]);
    }
    assert_eq!(home.ok(&["queue", "list"]).await, "kept\n");
    assert_eq!(home.ok(&["pq", "list"]).await, "kept\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn help_tells_the_exit_codes_and_completions_are_scripts() {
    let home = Home::new();
    let help = home.ok(&["--help"]).await;
    for part in [
        "Exit codes:",
        "130  ended by Ctrl-C",
        "SYNOD_DATA_DIR",
        "Examples:",
    ] {
        assert!(help.contains(part), "{part}");
    }
    assert!(home.ok(&["--version"]).await.starts_with("synod 0."));
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            home.ok(&["completions", shell]).await.contains("queue"),
            "{shell}"
        );
    }
    let mut command = home.command(&["completions", "bash"]);
    command.stdout(
        std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap(),
    );
    let ran = finish(&mut command, b"").await;
    ran.assert_failed(1, "cannot write the output", &["space"]);
}

/// Who asked for objects gets one, also when the rest of the line cannot be read.
#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_command_line_is_an_object_for_who_asked_for_json() {
    let home = Home::new();
    for args in [
        &["queue", "list", "--output", "json", "--bogus"][..],
        &["--output=json", "nothing"],
        &["queue", "pop", "--timeout", "soon", "--output", "json"],
    ] {
        let ran = home.run(args).await;
        assert_eq!(ran.code, Some(2), "{args:?}");
        assert_eq!(ran.stdout, "", "{args:?}");
        let said: serde_json::Value = serde_json::from_str(&ran.stderr).unwrap();
        assert_eq!(said["exit"], 2, "{said}");
        let error = said["error"].as_str().unwrap();
        assert!(
            error.contains(args.last().unwrap()) || error.contains("soon"),
            "{said}"
        );
        assert!(said["hint"].as_str().unwrap().contains("--help"), "{said}");
    }
    let help = home.run(&["queue", "--help", "--output", "json"]).await;
    assert_eq!(help.code, Some(0));
    assert!(help.stdout.contains("Examples:"), "help is for people");
}
