//! `udp` against sockets of this machine.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::{SocketAddr, UdpSocket};

use common::{Shown, probe};
use pe_probe::UdpFactory;
use pe_scrape::ScraperSettings;
use serde_json::{Value, json};

/// A device that makes of each datagram what `answer` says, nothing or several.
fn device(ip: &str, answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind((ip, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = vec![0; 65_535];
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            for datagram in answer(&buffer[..length]) {
                let _ = socket.send_to(&datagram, client);
            }
        }
    });
    address
}

async fn ask(device: SocketAddr, mut own: Value) -> Shown {
    let settings = own.as_object_mut().unwrap();
    settings.insert("port".to_owned(), device.port().into());
    settings.insert("timeout".to_owned(), "400ms".into());
    probe(&UdpFactory::default(), &device.ip().to_string(), own).await
}

fn echo(datagram: &[u8]) -> Vec<Vec<u8>> {
    vec![datagram.to_vec()]
}

#[tokio::test]
async fn each_setting_has_its_effect_on_both_families() {
    for ip in ["127.0.0.1", "::1"] {
        let device = device(ip, echo);
        for (own, length) in [
            (json!({}), 0.0),
            (json!({"send": "status\n"}), 7.0),
            (json!({"send": "status", "expect": "^stat"}), 6.0),
            (json!({"send_hex": "01 03:FF 00"}), 4.0),
            (
                json!({"send_hex": "0103ff00", "expect_hex": "01 ?? ff"}),
                4.0,
            ),
            (
                json!({"send_hex": "ff00", "expect": "(?-u)^\\xff\\x00$"}),
                2.0,
            ),
        ] {
            let shown = ask(device, own).await;
            shown.succeeded();
            assert_eq!(shown.value("probe_udp_reply_bytes"), Some(length));
            assert!(shown.value("probe_udp_reply_seconds").unwrap() < 0.4);
        }
        let shown = ask(device, json!({"send": "a", "expect": "b"})).await;
        shown.failed("mismatch");
        assert_eq!(shown.value("probe_udp_reply_bytes"), Some(1.0));
        ask(device, json!({"send_hex": "0103", "expect_hex": "0104"}))
            .await
            .failed("mismatch");
    }
}

#[tokio::test]
async fn the_right_answer_may_follow_another_datagram() {
    let device = device("127.0.0.1", |_| vec![b"hello".to_vec(), b"pong!".to_vec()]);
    let shown = ask(device, json!({"send": "ping", "expect": "pong"})).await;
    shown.succeeded();
}

#[tokio::test]
async fn the_largest_datagram_is_sent_and_received() {
    let device = device("127.0.0.1", echo);
    let shown = ask(device, json!({"send": "x".repeat(65_507)})).await;
    shown.succeeded();
    assert_eq!(shown.value("probe_udp_reply_bytes"), Some(65_507.0));
}

#[tokio::test]
async fn silence_and_a_closed_port_are_told_apart() {
    let silent = device("127.0.0.1", |_| Vec::new());
    ask(silent, json!({"send": "x"})).await.failed("timeout");
    for (ip, other) in [("127.0.0.1", "127.0.0.2"), ("::1", "::1")] {
        // Nobody takes the port at another address while it is held at this one.
        let held = UdpSocket::bind((other, 0)).unwrap();
        let port = held.local_addr().unwrap().port();
        if ip == other {
            drop(held);
        }
        let closed = SocketAddr::new(ip.parse().unwrap(), port);
        ask(closed, json!({"send": "x"})).await.failed("refused");
    }
}

#[tokio::test]
async fn what_another_address_sends_is_no_answer() {
    // The answer comes from another port than the one that was asked.
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    let device = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 64];
        let (_, client) = socket.recv_from(&mut buffer).unwrap();
        other.send_to(b"forged", client).unwrap();
        // The port stays open until the probe is over.
        let _ = socket.recv_from(&mut buffer);
    });
    ask(device, json!({"send": "x"})).await.failed("timeout");
    UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .send_to(b"end", device)
        .unwrap();
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let refused = |own: Value| {
        let settings = ScraperSettings::default().with_own(own);
        UdpFactory::default()
            .scraper(&settings)
            .map(drop)
            .unwrap_err()
            .to_string()
    };
    assert_eq!(refused(json!({})), "missing key `port`");
    assert!(
        refused(json!({"port": 9, "send": "a", "send_hex": "00"}))
            .starts_with("send_hex: `send` says already")
    );
    assert!(refused(json!({"port": 9, "send_hex": "0x00"})).starts_with("send_hex: expected 1 to"));
    assert!(
        refused(json!({"port": 9, "send": "x".repeat(65_508)})).starts_with("send: longer than")
    );
    assert!(
        refused(json!({"port": 9, "expect": "("})).starts_with("expect: not a regular expression")
    );
    assert!(
        refused(json!({"port": 9, "expect_hex": "0"})).starts_with("expect_hex: expected bytes")
    );
}
