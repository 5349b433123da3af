//! `sntp` against chrony, and against servers that misbehave.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime};

use common::{Shown, probe};
use pe_probe::SntpFactory;
use pe_probe::sntp::packet::Timestamp;
use pe_testkit::require;
use serde_json::{Value, json};

/// Where `cargo xtask packages` puts it.
const CHRONYD: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/chrony/usr/sbin/chronyd");

async fn ask(server: SocketAddr, mut own: Value) -> Shown {
    let settings = own.as_object_mut().unwrap();
    settings.insert("port".to_owned(), server.port().into());
    settings.entry("timeout").or_insert(json!("400ms"));
    probe(&SntpFactory::default(), &server.ip().to_string(), own).await
}

/// A real chronyd that leaves the clock of the machine alone. Killed when dropped.
struct Chrony {
    child: Child,
    _directory: tempfile::TempDir,
    address: SocketAddr,
}

impl Chrony {
    async fn start(ip: &str, further: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let address = UdpSocket::bind((ip, 0)).unwrap().local_addr().unwrap();
        let file = directory.path().join("chrony.conf");
        let config = format!(
            "port {}\nbindaddress {ip}\nallow all\ncmdport 0\nbindcmdaddress /\npidfile {}/pid\n{further}\n",
            address.port(),
            directory.path().display()
        );
        fs::write(&file, config).unwrap();
        let mut command = pe_testkit::command(CHRONYD);
        command.args(["-x", "-d", "-u", "root", "-f"]).arg(file);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let chrony = Self {
            child: pe_testkit::start(command).unwrap(),
            _directory: directory,
            address,
        };
        let deadline = Instant::now() + pe_testkit::wait::PATIENCE;
        while ask(address, json!({}))
            .await
            .value("probe_sntp_stratum")
            .is_none()
        {
            assert!(Instant::now() < deadline, "chronyd does not answer");
        }
        chrony
    }
}

impl Drop for Chrony {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn chrony_is_asked_for_its_time_on_both_families() {
    require!(File(CHRONYD), Root, Ipv6);
    for ip in ["127.0.0.1", "::1"] {
        let chrony = Chrony::start(ip, "local stratum 5").await;
        for version in [3, 4] {
            let shown = ask(
                chrony.address,
                json!({"version": version, "max_offset": "50ms", "max_stratum": 5}),
            )
            .await;
            shown.succeeded();
            // It serves this machine's own clock.
            assert!(shown.value("probe_sntp_offset_seconds").unwrap().abs() < 0.05);
            let delay = shown.value("probe_sntp_delay_seconds").unwrap();
            assert!((0.0..0.4).contains(&delay), "{delay}");
            assert_eq!(shown.value("probe_sntp_stratum"), Some(5.0));
            assert_eq!(shown.value("probe_sntp_leap"), Some(0.0));
            assert!(shown.value("probe_sntp_root_dispersion_seconds").unwrap() < 1.0);
            assert_eq!(shown.value("probe_sntp_root_delay_seconds"), Some(0.0));
            assert!(shown.value("probe_sntp_precision_seconds").unwrap() < 0.001);
            let reference = shown.label("probe_sntp_reference_info", "reference");
            assert_eq!(reference, "127.127.1.1");
        }
        ask(chrony.address, json!({"max_stratum": 4}))
            .await
            .failed("stratum");
    }
}

#[tokio::test]
async fn a_server_that_is_not_synchronised_is_told() {
    require!(File(CHRONYD), Root);
    let chrony = Chrony::start("127.0.0.1", "").await;
    let shown = ask(chrony.address, json!({})).await;
    shown.failed("unsynchronised");
    assert_eq!(shown.value("probe_sntp_leap"), Some(3.0));
    assert_eq!(shown.value("probe_sntp_offset_seconds"), None);
}

/// A server whose clock is `ahead` seconds ahead of ours, and whose replies `change` spoils.
fn server(ahead: f64, change: impl Fn(&mut [u8; 48]) + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut request = [0; 512];
        while let Ok((_, client)) = socket.recv_from(&mut request) {
            let now = SystemTime::now();
            let now = match ahead < 0.0 {
                true => now - Duration::from_secs_f64(-ahead),
                false => now + Duration::from_secs_f64(ahead),
            };
            let mut reply = [0; 48];
            reply[0] = 4 << 3 | 4;
            reply[1] = 2;
            reply[24..32].copy_from_slice(&request[40..48]);
            reply[32..40].copy_from_slice(&Timestamp::of(now).0.to_be_bytes());
            reply[40..].copy_from_slice(&Timestamp::of(now).0.to_be_bytes());
            change(&mut reply);
            let _ = socket.send_to(&reply, client);
        }
    });
    address
}

#[tokio::test]
async fn the_offset_is_that_of_the_device_against_ours() {
    for ahead in [0.0, 12.5, -86_400.0, 1e9] {
        let shown = ask(server(ahead, |_| {}), json!({})).await;
        shown.succeeded();
        let offset = shown.value("probe_sntp_offset_seconds").unwrap();
        assert!((offset - ahead).abs() < 0.3, "{offset}, not {ahead}");
    }
    ask(server(12.5, |_| {}), json!({"max_offset": 1}))
        .await
        .failed("clock_offset");
    ask(server(-12.5, |_| {}), json!({"max_offset": 1}))
        .await
        .failed("clock_offset");
    ask(server(12.5, |_| {}), json!({"max_offset": 20}))
        .await
        .succeeded();
}

#[tokio::test]
async fn replies_that_tell_no_time_have_reasons_of_their_own() {
    type Change = fn(&mut [u8; 48]);
    let kiss: Change = |reply| {
        reply[0] |= 0xc0;
        reply[1] = 0;
        reply[12..16].copy_from_slice(b"RATE");
    };
    let cases: [(Change, &str); 5] = [
        (kiss, "kiss_of_death"),
        (|reply| reply[24] ^= 1, "wrong_origin"),
        (|reply| reply[0] = 4 << 3 | 3, "protocol"),
        (|reply| reply[0] |= 0xc0, "unsynchronised"),
        (|reply| reply[1] = 16, "unsynchronised"),
    ];
    for (change, reason) in cases {
        ask(server(0.0, change), json!({})).await.failed(reason);
    }
}

#[tokio::test]
async fn servers_that_do_not_answer_are_told_apart() {
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    ask(silent.local_addr().unwrap(), json!({}))
        .await
        .failed("timeout");
    // Nobody takes the port at another address while it is held at this one.
    let held = UdpSocket::bind("127.0.0.2:0").unwrap();
    let closed = SocketAddr::from(([127, 0, 0, 1], held.local_addr().unwrap().port()));
    ask(closed, json!({})).await.failed("refused");
}
