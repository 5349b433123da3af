//! TLS against `openssl s_server`: what a handshake shows, and each way in which it fails.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use common::certificates::{Authority, LOCAL, Pair};
use common::{Shown, probe};
use pe_probe::TcpFactory;
use pe_testkit::{free_port, require, wait};
use serde_json::{Value, json};

/// `openssl s_server`, killed when dropped.
struct TlsServer(Child, SocketAddr);

impl TlsServer {
    fn start(pair: &Pair, arguments: &[&str]) -> Self {
        let address = free_port().unwrap();
        let mut command = Command::new("openssl");
        command
            .args(["s_server", "-quiet", "-accept", &address.to_string()])
            .arg("-cert")
            .arg(&pair.certificate)
            .arg("-key")
            .arg(&pair.key)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let server = Self(command.spawn().unwrap(), address);
        wait::until("s_server", || TcpStream::connect(address).ok());
        server
    }

    /// What `tcp` shows of it with these settings of TLS.
    async fn probe(&self, tls: Value) -> Shown {
        let own = json!({"port": self.1.port(), "tls": tls});
        probe(&TcpFactory::default(), "127.0.0.1", own).await
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test]
async fn a_handshake_shows_version_cipher_chain_and_expiry() {
    require!(Program("openssl"));
    let authority = Authority::new();
    let pair = authority.signed("leaf", LOCAL, "20200101", "20300101");
    for (flag, version) in [("-tls1_3", "TLS 1.3"), ("-tls1_2", "TLS 1.2")] {
        let server = TlsServer::start(&pair, &[flag]);
        let shown = server
            .probe(json!({"ca_file": authority.certificate()}))
            .await;
        shown.succeeded();
        let label = ("version", version);
        assert_eq!(shown.of("probe_tls_version_info", label), Some(1.0));
        // date -u -d 2030-01-01 +%s
        let expiry = shown.value("probe_ssl_earliest_cert_expiry");
        assert_eq!(expiry, Some(1_893_456_000.0));
        // The authority's own ends in forty days.
        let chain = shown.value("probe_ssl_last_chain_expiry_timestamp_seconds");
        assert!(chain < expiry && chain > Some(1.6e9), "{chain:?}");
        assert!(
            shown
                .label("probe_tls_cipher_info", "cipher")
                .starts_with("TLS_")
        );
        let info = "probe_ssl_last_chain_info";
        assert_eq!(shown.label(info, "subject"), "CN=leaf");
        assert_eq!(shown.label(info, "issuer"), "CN=authority");
        assert_eq!(
            shown.label(info, "subjectalternative"),
            "localhost,127.0.0.1,::1"
        );
        assert!(shown.value("probe_tls_handshake_seconds").is_some());
    }
}

#[tokio::test]
async fn each_fault_of_a_certificate_has_its_reason_and_its_expiry_is_shown() {
    require!(Program("openssl"));
    let authority = Authority::new();
    let stranger = Authority::new();
    let trusted = json!({"ca_file": authority.certificate()});
    let faults = [
        (
            authority.signed("old", LOCAL, "20200101", "20210101"),
            "tls_expired",
        ),
        (
            authority.signed("new", LOCAL, "20480101", "20490101"),
            "tls_not_yet_valid",
        ),
        (
            authority.signed("other", "DNS:other.test", "20200101", "20490101"),
            "tls_wrong_name",
        ),
        (stranger.sound("strange"), "tls_unknown_ca"),
        (stranger.self_signed(), "tls_self_signed"),
    ];
    for (pair, reason) in &faults {
        let server = TlsServer::start(pair, &[]);
        let shown = server.probe(trusted.clone()).await;
        shown.failed(reason);
        assert!(shown.value("probe_ssl_earliest_cert_expiry").is_some());
        let chain = shown.value("probe_ssl_last_chain_expiry_timestamp_seconds");
        assert_eq!(chain, None, "{reason}");
        server.probe(json!({"verify": false})).await.succeeded();
    }
    let (other, _) = &faults[2];
    let server = TlsServer::start(other, &[]);
    let mut named = trusted;
    named["server_name"] = "other.test".into();
    server.probe(named).await.succeeded();
    // A certificate that is trusted itself needs no authority.
    let (own, _) = &faults[4];
    let server = TlsServer::start(own, &[]);
    server
        .probe(json!({"ca_file": own.certificate}))
        .await
        .succeeded();
}

#[tokio::test]
async fn a_certificate_that_is_wanted_is_shown_or_missed() {
    require!(Program("openssl"));
    let authority = Authority::new();
    let (pair, client) = (authority.sound("leaf"), authority.sound("client"));
    let ca = authority.certificate();
    for version in ["-tls1_3", "-tls1_2"] {
        let arguments = ["-Verify", "1", "-verify_return_error", version, "-CAfile"];
        let arguments = arguments.into_iter().chain([ca.to_str().unwrap()]);
        let server = TlsServer::start(&pair, &arguments.collect::<Vec<_>>());
        let shown = server.probe(json!({"ca_file": ca})).await;
        shown.failed("tls_client_certificate");
        let own = json!({"ca_file": ca, "cert_file": client.certificate, "key_file": client.key});
        server.probe(own).await.succeeded();
    }
}

#[tokio::test]
async fn files_that_cannot_be_read_are_no_fault_of_the_device() {
    require!(Program("openssl"));
    let authority = Authority::new();
    let server = TlsServer::start(&authority.sound("leaf"), &[]);
    let shown = server.probe(json!({"ca_file": "/nowhere/ca.pem"})).await;
    assert_eq!(shown.value("probe_success"), None);
    assert_eq!(shown.reasons(), ["tls_files"]);
}
