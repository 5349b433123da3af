//! TLS and passwords by a real file, with a real client.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{request, serve};
use pe_web::{Server, WebSettings};

/// The bcrypt hash of `secret`.
fn users() -> String {
    let hash = bcrypt::hash("secret", 4).unwrap();
    format!("basic_auth_users:\n  ann: {hash}\n")
}

/// A certificate for 127.0.0.1 that signs itself, and its key.
fn certificate(directory: &Path, name: &str) {
    let output = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args([
            "-subj",
            &format!("/CN={name}"),
            "-addext",
            "subjectAltName=IP:127.0.0.1",
        ])
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// A certificate for a client, signed by the authority of [`certificate`], and its key.
fn client_certificate(directory: &Path) {
    fs::write(directory.join("client.ext"), "subjectAltName=DNS:client\n").unwrap();
    for arguments in [
        "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=client -keyout client.key -out client.csr",
        "x509 -req -in client.csr -CA cert.pem -CAkey key.pem -set_serial 7 -days 2 -out client.pem -extfile client.ext",
    ] {
        let mut command = Command::new("openssl");
        command.args(arguments.split(' ')).current_dir(directory);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

/// What curl makes of a request: the status, else 000.
async fn curl(directory: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new("curl");
    command
        .args([
            "--silent",
            "--show-error",
            "--noproxy",
            "*",
            "--max-time",
            "10",
        ])
        .args(["--output", "body", "--write-out", "%{http_code}"])
        .args(arguments)
        .current_dir(directory);
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    String::from_utf8_lossy(&output.unwrap().unwrap().stdout).into_owned()
}

async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(60), waiting).await;
    waited.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test]
async fn everything_but_health_needs_the_password() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("web.yml");
    fs::write(&file, users()).unwrap();
    let address = serve("", |settings| settings.config_file = Some(file.clone())).await;
    for path in ["/-/healthy", "/-/ready"] {
        let response = request(address, &format!("GET {path} HTTP/1.1")).await;
        assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    }
    for path in ["/", "/metrics", "/nothing"] {
        let response = request(address, &format!("GET {path} HTTP/1.1")).await;
        assert!(response.starts_with("HTTP/1.1 401"), "{response}");
        assert!(response.contains("www-authenticate: Basic"), "{response}");
    }
    // ann:secret and ann:wrong
    let right = "GET /metrics HTTP/1.1\r\nAuthorization: Basic YW5uOnNlY3JldA==";
    let wrong = "GET /metrics HTTP/1.1\r\nAuthorization: Basic YW5uOndyb25n";
    assert!(request(address, right).await.starts_with("HTTP/1.1 200"));
    assert!(request(address, wrong).await.starts_with("HTTP/1.1 401"));

    // A file that is not in order changes nothing; one that is does.
    fs::write(&file, "basic_auth_users: [").unwrap();
    assert!(request(address, wrong).await.starts_with("HTTP/1.1 401"));
    fs::write(&file, "").unwrap();
    eventually("the password is still asked for", async || {
        request(address, wrong).await.starts_with("HTTP/1.1 200")
    })
    .await;
}

#[tokio::test]
async fn connections_are_encrypted_with_the_newest_certificate() {
    pe_testkit::require!(Program("openssl"), Program("curl"));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    certificate(path, "first");
    let file = path.join("web.yml");
    let tls =
        "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n  min_version: TLS13\n";
    fs::write(&file, tls).unwrap();
    let address = serve("", |settings| settings.config_file = Some(file.clone())).await;
    let url = format!("https://{address}/metrics");
    assert_eq!(curl(path, &["--cacert", "cert.pem", &url]).await, "200");
    assert!(
        fs::read_to_string(path.join("body"))
            .unwrap()
            .contains("ping_up{")
    );
    assert_eq!(
        curl(path, &["--cacert", "cert.pem", "--tls-max", "1.2", &url]).await,
        "000"
    );
    let plain = request(address, "GET /metrics HTTP/1.1").await;
    assert!(!plain.contains("ping_up"), "{plain}");

    fs::copy(path.join("cert.pem"), path.join("old.pem")).unwrap();
    certificate(path, "second");
    eventually("the former certificate is still shown", async || {
        curl(path, &["--cacert", "cert.pem", &url]).await == "200"
    })
    .await;
    assert_eq!(curl(path, &["--cacert", "old.pem", &url]).await, "000");

    // Only clients with a certificate of the authority.
    let verified = format!(
        "{tls}  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: cert.pem\n"
    );
    fs::write(&file, verified).unwrap();
    eventually(
        "a client without a certificate is still let in",
        async || curl(path, &["--cacert", "cert.pem", &url]).await == "000",
    )
    .await;
    client_certificate(path);
    let own = [
        "--cacert",
        "cert.pem",
        "--cert",
        "client.pem",
        "--key",
        "client.key",
        &url,
    ];
    assert_eq!(curl(path, &own).await, "200");
}

#[tokio::test]
async fn a_file_that_is_not_in_order_is_told_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("web.yml");
    let mut settings = WebSettings::from("127.0.0.1:0".parse::<SocketAddr>().unwrap());
    settings.config_file = Some(file.clone());
    let told = |settings: &WebSettings| {
        let settings = settings.clone();
        async { Server::bind(settings).await.err().unwrap().to_string() }
    };
    assert!(told(&settings).await.contains("cannot read"));
    fs::write(
        &file,
        "tls_server_config:\n  cert_file: none.pem\n  key_file: none.pem\n",
    )
    .unwrap();
    let error = told(&settings).await;
    assert!(error.contains("none.pem"), "{error}");
}
