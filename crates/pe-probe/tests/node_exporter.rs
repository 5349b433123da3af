//! `exposition` with a real node_exporter: behind TLS and passwords of a real nginx, and in each format that it speaks.
#![cfg(feature = "exposition")]
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use common::certificates::Authority;
use common::{Shown, probe};
use pe_probe::ExpositionFactory;
use pe_testkit::{Nginx, Server, free_port, require, wait};
use serde_json::{Value, json};

/// Series of each type, with numbers and texts that are not the same in every notation.
const TEXTFILE: &str = "# HELP site_requests Requests\n# TYPE site_requests histogram\n\
    site_requests_bucket{path=\"/\",le=\"0.005\"} 3\nsite_requests_bucket{path=\"/\",le=\"1e+06\"} 5\n\
    site_requests_bucket{path=\"/\",le=\"+Inf\"} 7\nsite_requests_sum{path=\"/\"} 1.5e+06\nsite_requests_count{path=\"/\"} 7\n\
    # HELP site_times Times\n# TYPE site_times summary\nsite_times{quantile=\"0.5\"} 0.25\nsite_times{quantile=\"0.99\"} 3\n\
    site_times_sum 17.25\nsite_times_count 9\n# TYPE site_runs counter\nsite_runs 12\n# TYPE site_other untyped\nsite_other -Inf\n\
    # HELP site_disk Bytes of a \\\\ disk\n# TYPE site_disk gauge\n\
    site_disk{device=\"sda\",note=\"a \\\"b\\\" \\\\ c\\nd é\"} 1.2345678901234567e+19\nsite_disk{device=\"sdb\",note=\"\"} 0\n";

fn node_exporter(directory: PathBuf) -> Server {
    let started = Server::start("prometheus-node-exporter", "/", move |address, _| {
        let mut command = pe_testkit::command("prometheus-node-exporter");
        command
            .arg(format!("--web.listen-address={address}"))
            .args([
                "--web.disable-exporter-metrics",
                "--collector.disable-defaults",
                "--collector.textfile",
            ])
            .arg(format!(
                "--collector.textfile.directory={}",
                directory.display()
            ));
        Ok(command)
    });
    started.unwrap()
}

/// A node_exporter with the series of [`TEXTFILE`].
fn with_series() -> (tempfile::TempDir, Server) {
    let pages = tempfile::tempdir().unwrap();
    fs::write(pages.path().join("site.prom"), TEXTFILE).unwrap();
    let node = node_exporter(pages.path().to_owned());
    (pages, node)
}

async fn ask(address: SocketAddr, mut own: Value) -> Shown {
    own["port"] = address.port().into();
    probe(
        &ExpositionFactory::default(),
        &address.ip().to_string(),
        own,
    )
    .await
}

/// The device's metrics in the text format, but for those that are not the same twice.
fn passed_on(shown: &Shown) -> Vec<&str> {
    let own = |line: &&str| {
        let line = line.trim_start_matches("# HELP ");
        let line = line.trim_start_matches("# TYPE ");
        line.starts_with("site_") || line.starts_with("node_textfile_")
    };
    let mut lines: Vec<&str> = shown.text.lines().filter(own).collect();
    lines.sort_unstable();
    lines
}

#[tokio::test]
async fn protobuf_has_the_samples_that_text_has() {
    require!(Program("prometheus-node-exporter"));
    let (_pages, node) = with_series();
    let page = |format: &'static str| ask(node.address(), json!({"format": format}));
    let text = page("text").await;
    text.succeeded();
    let series = passed_on(&text);
    assert_eq!(
        series.iter().filter(|line| !line.starts_with('#')).count(),
        15
    );
    let messages = page("protobuf").await;
    messages.succeeded();
    assert_eq!(passed_on(&messages), series);
    for counted in [
        "probe_exposition_series",
        "probe_exposition_timestamped_series",
    ] {
        assert_eq!(messages.value(counted), text.value(counted), "{counted}");
    }
    // It is another format that came.
    let bytes = |shown: &Shown| shown.value("probe_exposition_page_bytes").unwrap();
    assert!(bytes(&messages) < bytes(&text));
    assert_eq!(passed_on(&page("any").await), series);
}

/// An nginx in front of `upstream` that speaks TLS at the address, and wants a password at `/basic` and a token at `/bearer`.
fn guarded(upstream: SocketAddr, directory: &Path, authority: &Authority) -> (Nginx, SocketAddr) {
    let address = free_port().unwrap();
    let pair = authority.sound("localhost");
    let passwords = directory.join("passwords");
    fs::write(&passwords, "prom:{PLAIN}first\n").unwrap();
    let (certificate, key) = (pair.certificate.display(), pair.key.display());
    let nginx = Nginx::with_directives(
        upstream,
        &format!(
            "listen {address} ssl; ssl_certificate {certificate}; ssl_certificate_key {key};
             location = /basic {{
                 auth_basic \"devices\"; auth_basic_user_file {}; proxy_pass http://{upstream}/metrics;
             }}
             location = /bearer {{
                 if ($http_authorization != \"Bearer sesame\") {{ return 401; }}
                 proxy_pass http://{upstream}/metrics;
             }}",
            passwords.display()
        ),
    );
    wait::until("nginx", || std::net::TcpStream::connect(address).ok());
    (nginx, address)
}

#[tokio::test]
async fn a_page_behind_tls_is_passed_on_where_its_certificate_is_trusted() {
    require!(
        Program("prometheus-node-exporter"),
        Program("nginx"),
        Program("openssl")
    );
    let (pages, node) = with_series();
    let authority = Authority::new();
    let (nginx, address) = guarded(node.address(), pages.path(), &authority);
    let trusted = authority.certificate();
    let with = |tls: Value| ask(address, json!({"tls": tls}));
    let shown = with(json!({"ca_file": trusted})).await;
    shown.succeeded();
    let direct = ask(node.address(), json!({})).await;
    assert_eq!(passed_on(&shown), passed_on(&direct));
    assert!(shown.value("probe_ssl_earliest_cert_expiry").is_some());
    let other = Authority::new();
    for (tls, reason) in [
        (json!({"ca_file": other.certificate()}), "tls_unknown_ca"),
        (json!(true), "tls_unknown_ca"),
        (
            json!({"ca_file": trusted, "server_name": "other.test"}),
            "tls_wrong_name",
        ),
    ] {
        let shown = with(tls.clone()).await;
        shown.failed(reason);
        assert_eq!(passed_on(&shown), [""; 0], "{tls}");
    }
    with(json!({"verify": false})).await.succeeded();
    let nosuch = with(json!({"ca_file": pages.path().join("nosuch")})).await;
    assert_eq!(nosuch.reasons(), ["tls_files"]);
    // Without TLS, where there is TLS, and the other way round.
    ask(address, json!({})).await.failed("http_status");
    let plain = ask(nginx.address(), json!({"tls": {"ca_file": trusted}})).await;
    plain.failed("tls_handshake");
}

#[tokio::test]
async fn passwords_and_tokens_of_files_open_a_page() {
    require!(
        Program("prometheus-node-exporter"),
        Program("nginx"),
        Program("openssl")
    );
    let (pages, node) = with_series();
    let authority = Authority::new();
    let (_nginx, address) = guarded(node.address(), pages.path(), &authority);
    let secret = pages.path().join("secret");
    let tls = json!({"ca_file": authority.certificate()});
    let basic = |further: Value| {
        let mut own = json!({"path": "/basic", "tls": tls});
        let further = further.as_object().unwrap().clone();
        own.as_object_mut().unwrap().extend(further);
        ask(address, own)
    };
    let failed_with_401 = |shown: Shown| {
        shown.failed("http_status");
        assert_eq!(shown.value("probe_http_status_code"), Some(401.0));
        assert_eq!(passed_on(&shown), [""; 0]);
    };
    failed_with_401(basic(json!({})).await);
    failed_with_401(basic(json!({"username": "prom", "password": "wrong"})).await);
    let shown = basic(json!({"username": "prom", "password": "first"})).await;
    shown.succeeded();
    assert!(!passed_on(&shown).is_empty());
    let of_file = json!({"username": "prom", "password_file": secret});
    let nosuch = basic(of_file.clone()).await;
    assert_eq!(nosuch.reasons(), ["secret_file"]);
    assert_eq!(nosuch.value("probe_success"), None);
    for (words, is_right) in [("first\n", true), ("second\n", false)] {
        fs::write(&secret, words).unwrap();
        match is_right {
            true => basic(of_file.clone()).await.succeeded(),
            false => failed_with_401(basic(of_file.clone()).await),
        }
    }
    let bearer = || {
        let own = json!({"path": "/bearer", "tls": tls, "bearer_token_file": secret});
        ask(address, own)
    };
    failed_with_401(bearer().await);
    fs::write(&secret, "sesame\n").unwrap();
    bearer().await.succeeded();
}
