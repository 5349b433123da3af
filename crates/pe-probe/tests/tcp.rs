//! The probe `tcp` against sockets and servers of this machine.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use common::{Shown, probe};
use pe_probe::TcpFactory;
use pe_scrape::{ScraperFactory, ScraperSettings};
use pe_testkit::{in_namespace, require};
use serde_json::{Value, json};

#[tokio::test]
async fn an_open_port_is_up_and_a_closed_one_is_down_on_both_families() {
    for (host, family) in [("127.0.0.1", 4.0), ("::1", 6.0)] {
        let listener = TcpListener::bind((host, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shown = probe(&TcpFactory::default(), host, json!({"port": port})).await;
        assert_eq!(shown.value("probe_success"), Some(1.0));
        assert_eq!(shown.value("probe_ip_protocol"), Some(family));
        assert!(shown.value("probe_tcp_connect_seconds").unwrap() < 1.0);
        assert_eq!(shown.label("probe_success", "probe"), format!("tcp:{port}"));
        drop(listener);
        let shown = probe(&TcpFactory::default(), host, json!({"port": port})).await;
        shown.failed("refused");
    }
}

#[tokio::test]
async fn the_label_is_the_name_that_is_set() {
    let own = json!({"port": 1, "name": "console"});
    let shown = probe(&TcpFactory::default(), "127.0.0.1", own).await;
    assert_eq!(shown.label("probe_success", "probe"), "console");
}

/// Listens, and does `serve` with each connection.
fn listen(serve: impl Fn(TcpStream) + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || listener.incoming().flatten().for_each(serve));
    port
}

async fn tcp(port: u16, mut own: Value) -> Shown {
    own["port"] = port.into();
    probe(&TcpFactory::default(), "127.0.0.1", own).await
}

#[tokio::test]
async fn a_dialogue_goes_on_with_what_was_said() {
    let port = listen(|mut stream| {
        let _ = stream.write_all(b"220 box-7 ready\r\n");
        let mut line = [0; 64];
        let count = stream.read(&mut line).unwrap_or(0);
        let answer = match &line[..count] {
            b"HELLO box-7\r\n" => "250 3.14\r\n",
            _ => "500 who?\r\n",
        };
        let _ = stream.write_all(answer.as_bytes());
        let _ = stream.read(&mut line);
    });
    let steps = json!([
        {"expect": r"^220 (\S+)", "send": "HELLO ${1}\r\n"},
        {"expect": r"(?m)^250 (?<version>\S+)"},
    ]);
    let shown = tcp(port, json!({"dialogue": steps})).await;
    shown.succeeded();
    assert_eq!(shown.label("probe_expect_info", "version"), "3.14");
    assert!(shown.value("probe_tcp_dialogue_seconds").is_some());
    let greeting = json!({"expect": "^220 box-8", "timeout": "300ms"});
    tcp(port, greeting).await.failed("mismatch");
}

#[tokio::test]
async fn peers_that_do_not_come_to_an_end_have_their_reasons() {
    let silent = listen(|stream| drop(hold(stream)));
    let own = json!({"expect": "x", "timeout": "200ms"});
    tcp(silent, own.clone()).await.failed("timeout");
    let tls = json!({"tls": {"verify": false}, "timeout": "200ms"});
    tcp(silent, tls.clone()).await.failed("tls_timeout");

    let dripping = listen(|mut stream| {
        while stream.write_all(b"y").is_ok() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    });
    tcp(dripping, own.clone()).await.failed("transfer_timeout");

    let endless = listen(|mut stream| while stream.write_all(&[b'y'; 4096]).is_ok() {});
    tcp(endless, json!({"expect": "x"}))
        .await
        .failed("too_large");
    tcp(endless, tls).await.failed("tls_handshake");

    let closing = listen(drop);
    tcp(closing, own).await.failed("closed");
}

/// Keeps a connection until its peer closes it.
fn hold(mut stream: TcpStream) -> TcpStream {
    let mut rest = [0; 4096];
    while stream.read(&mut rest).is_ok_and(|count| count > 0) {}
    stream
}

#[test]
fn what_this_machine_cannot_ask_is_unknown() {
    require!(Namespaces);
    in_namespace(|_| {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        for host in ["192.0.2.1", "2001:db8::1"] {
            let shown = runtime.block_on(probe(&TcpFactory::default(), host, json!({"port": 1})));
            assert_eq!(shown.value("probe_success"), None, "{host}");
            assert_eq!(shown.reasons(), ["no_route"], "{host}");
        }
    });
}

#[test]
fn a_host_that_does_not_answer_is_down() {
    require!(Namespaces);
    in_namespace(|namespace| {
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build().unwrap();
        for host in [namespace.silent_v4(1), namespace.silent_v6(1)] {
            let own = json!({"port": 1, "timeout": "200ms"});
            let host = host.to_string();
            let shown = runtime.block_on(probe(&TcpFactory::default(), &host, own));
            shown.failed("connect_timeout");
        }
    });
}

#[test]
fn settings_that_cannot_be_are_told_at_their_place() {
    let refused = |own: Value| {
        let settings = ScraperSettings::default().with_own(own);
        let factory = TcpFactory::default();
        let refused = factory.create(&settings).map(drop).unwrap_err();
        refused.to_string()
    };
    assert!(refused(json!({"port": 1, "expect": "("})).contains("regular expression"));
    let label = refused(json!({"port": 1, "expect": "(?<device>x)"}));
    assert!(label.contains("`device` cannot be a label"), "{label}");
    let both = refused(json!({"port": 1, "expect": "x", "dialogue": [{"send": "y"}]}));
    assert!(both.contains("leave these out"), "{both}");
    let tls = refused(json!({"port": 1, "tls": {"cert_file": "x"}}));
    assert!(tls.contains("add `key_file`"), "{tls}");
    let timeout = refused(json!({"port": 1, "timeout": "1m"}));
    assert!(timeout.contains("below interval"), "{timeout}");
}
