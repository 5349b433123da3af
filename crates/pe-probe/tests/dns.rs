//! `dns` against dnsmasq and unbound, and against servers that misbehave.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::process::Child;

use common::certificates::{Authority, Pair};
use common::{Shown, probe};
use pe_probe::DnsFactory;
use pe_scrape::ScraperSettings;
use pe_testkit::{NameServer, free_port, require};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Asks `server` for `router.test` with further settings.
async fn query(server: SocketAddr, further: Value) -> Shown {
    let mut own = json!({"name": "router.test", "port": server.port()});
    let settings = own.as_object_mut().unwrap();
    settings.extend(further.as_object().unwrap().clone());
    settings.entry("timeout").or_insert(json!("400ms"));
    probe(&DnsFactory::default(), &server.ip().to_string(), own).await
}

/// Waits until a server that was just started answers.
async fn answering(server: SocketAddr) {
    let deadline = std::time::Instant::now() + pe_testkit::wait::PATIENCE;
    while query(server, json!({}))
        .await
        .value("probe_dns_query_succeeded")
        != Some(1.0)
    {
        assert!(
            std::time::Instant::now() < deadline,
            "{server} does not answer"
        );
    }
}

const HOSTS: &str = "192.0.2.7 router.test\n2001:db8::7 router.test\n";

#[tokio::test]
async fn dnsmasq_is_asked_over_udp_and_tcp() {
    require!(Program("dnsmasq"));
    let server = NameServer::start(HOSTS);
    answering(server.address()).await;
    for transport in ["udp", "tcp"] {
        let shown = query(server.address(), json!({"transport": transport})).await;
        shown.succeeded();
        assert_eq!(shown.value("probe_dns_answer_rrs"), Some(1.0));
        assert_eq!(shown.value("probe_dns_rcode"), Some(0.0));
        assert_eq!(shown.of("probe_dns_flag", ("flag", "aa")), Some(1.0));
        let phase = |phase| shown.of("probe_dns_duration_seconds", ("phase", phase));
        assert!(phase("request").is_some_and(|took| took > 0.0));
        assert_eq!(phase("connect").is_some(), transport == "tcp");
        let name = format!("dns:{}", server.address().port());
        assert_eq!(shown.label("probe_success", "probe"), name);
    }
}

#[tokio::test]
async fn each_setting_of_the_question_and_the_answer_has_its_effect() {
    require!(Program("dnsmasq"));
    let server = NameServer::start(HOSTS);
    let server = server.address();
    answering(server).await;
    let good = [
        json!({"type": "aaaa", "answer": ["2001:db8::7$"]}),
        json!({"name": "nosuch.test", "rcodes": ["NXDOMAIN"]}),
        json!({"name": "nosuch.test", "rcodes": ["noerror", "3"]}),
        json!({"name": "ROUTER.test."}),
        json!({"flags": ["aa", "!ad"]}),
        json!({"edns": false}),
        json!({"dnssec": true}),
        json!({"every_answer": ["IN A 192"], "no_answer": ["AAAA"]}),
        json!({"name": "7.2.0.192.in-addr.arpa", "type": "PTR", "answer": [r"router\.test"]}),
        json!({"name": "version.bind", "type": "TXT", "class": "ch", "answer": ["dnsmasq-"]}),
    ];
    for settings in good {
        let shown = query(server, settings.clone()).await;
        assert_eq!(shown.reasons(), [""; 0], "{settings}");
    }
    let bad = [
        (json!({"name": "nosuch.test"}), "dns_rcode"),
        (json!({"rcodes": ["NXDOMAIN"]}), "dns_rcode"),
        (json!({"flags": ["ad"]}), "dns_flags"),
        (json!({"flags": ["!aa"]}), "dns_flags"),
        (json!({"answer": ["192.0.2.8"]}), "dns_answer"),
        (json!({"every_answer": ["AAAA"]}), "dns_answer"),
        (json!({"no_answer": ["192"]}), "dns_answer"),
        (json!({"type": "MX", "every_answer": ["."]}), "dns_answer"),
    ];
    for (settings, reason) in bad {
        let shown = query(server, settings).await;
        shown.failed(reason);
        assert_eq!(shown.value("probe_dns_query_succeeded"), Some(1.0));
    }
}

#[tokio::test]
async fn a_truncated_response_is_asked_for_again_over_tcp_or_told() {
    require!(Program("dnsmasq"));
    let many: String = (0..200)
        .map(|n| format!("192.0.2.{n} router.test\n"))
        .collect();
    let server = NameServer::start(&many);
    answering(server.address()).await;
    let shown = query(server.address(), json!({})).await;
    shown.succeeded();
    assert_eq!(shown.value("probe_dns_truncated"), Some(1.0));
    assert_eq!(shown.value("probe_dns_answer_rrs"), Some(200.0));
    let shown = query(server.address(), json!({"retry_over_tcp": false})).await;
    shown.failed("dns_truncated");
    assert_eq!(shown.value("probe_dns_truncated"), Some(1.0));
    let shown = query(server.address(), json!({"transport": "tcp"})).await;
    assert_eq!(shown.value("probe_dns_truncated"), None);
}

/// A real unbound that knows the zone `test.`, on a port of both families. Killed when dropped.
struct Unbound {
    child: Child,
    _directory: tempfile::TempDir,
    port: u16,
}

impl Unbound {
    fn start(further: &str) -> Self {
        Self::start_at(free_port().unwrap().port(), further)
    }

    /// One that speaks TLS at its port.
    fn with_tls(pair: &Pair) -> Self {
        let port = free_port().unwrap().port();
        let (key, certificate) = (pair.key.display(), pair.certificate.display());
        let tls = format!(
            "  tls-port: {port}\n  tls-service-key: \"{key}\"\n  tls-service-pem: \"{certificate}\"\n"
        );
        Self::start_at(port, &tls)
    }

    fn start_at(port: u16, further: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("unbound.conf");
        let at = directory.path().display();
        let config = format!(
            "server:\n  interface: 127.0.0.1@{port}\n  interface: ::1@{port}\n  username: \"\"\n  chroot: \"\"\n  \
             directory: \"{at}\"\n  pidfile: \"\"\n  use-syslog: no\n  do-daemonize: no\n  num-threads: 1\n  \
             do-not-query-localhost: no\n  local-zone: \"test.\" static\n  \
             local-data: \"router.test. 60 IN A 192.0.2.9\"\n  \
             local-data: \"test. 60 IN SOA ns.test. root.test. 2026112601 3600 900 604800 60\"\n{further}\n\
             remote-control:\n  control-enable: no\n"
        );
        fs::write(&file, config).unwrap();
        let mut command = pe_testkit::command("unbound");
        command.arg("-d").arg("-c").arg(file);
        command.stderr(std::process::Stdio::null());
        Self {
            child: pe_testkit::start(command).unwrap(),
            _directory: directory,
            port,
        }
    }

    fn address(&self, ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse().unwrap(), self.port)
    }
}

impl Drop for Unbound {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn unbound_is_asked_over_both_families() {
    require!(Program("unbound"), Ipv6);
    let server = Unbound::start("");
    for ip in ["127.0.0.1", "::1"] {
        answering(server.address(ip)).await;
        for transport in ["udp", "tcp"] {
            let shown = query(
                server.address(ip),
                json!({"transport": transport, "answer": [r"192\.0\.2\.9$"]}),
            )
            .await;
            shown.succeeded();
            assert_eq!(
                shown.value("probe_ip_protocol"),
                Some(if ip == "::1" { 6.0 } else { 4.0 })
            );
        }
        let shown = query(server.address(ip), json!({"name": "test", "type": "SOA"})).await;
        shown.succeeded();
        assert_eq!(shown.value("probe_dns_serial"), Some(2_026_112_601.0));
    }
}

#[tokio::test]
async fn unbound_is_asked_over_tls() {
    require!(Program("unbound"), Program("openssl"), Ipv6);
    let authority = Authority::new();
    let pair = authority.sound("127.0.0.1");
    let server = Unbound::with_tls(&pair);
    let address = server.address("127.0.0.1");
    let ask = |tls: Value| {
        query(
            address,
            json!({"transport": "tls", "answer": [r"192\.0\.2\.9$"], "timeout": "2s", "tls": tls}),
        )
    };
    let trusted = json!({"ca_file": authority.certificate()});
    let deadline = std::time::Instant::now() + pe_testkit::wait::PATIENCE;
    let shown = loop {
        let shown = ask(trusted.clone()).await;
        if shown.value("probe_success") == Some(1.0) || std::time::Instant::now() > deadline {
            break shown;
        }
    };
    shown.succeeded();
    for phase in ["connect", "tls", "request"] {
        let took = shown.of("probe_dns_duration_seconds", ("phase", phase));
        assert!(took.is_some_and(|took| took > 0.0), "{phase}");
    }
    assert!(shown.value("probe_ssl_earliest_cert_expiry").is_some());
    let other = Authority::new();
    let shown = ask(json!({"ca_file": other.certificate()})).await;
    assert_eq!(shown.value("probe_success"), Some(0.0));
    assert!(
        shown.reasons()[0].starts_with("tls_"),
        "{:?}",
        shown.reasons()
    );
    ask(json!({"verify": false})).await.succeeded();
    // A server that speaks no TLS.
    let plain = Unbound::start("");
    answering(plain.address("127.0.0.1")).await;
    let shown = query(plain.address("127.0.0.1"), json!({"transport": "tls"})).await;
    assert_eq!(shown.value("probe_success"), Some(0.0));
    assert!(
        shown.reasons()[0].starts_with("tls_") || shown.reasons() == ["closed"],
        "{:?}",
        shown.reasons()
    );
}

#[tokio::test]
async fn a_server_that_refuses_is_told_by_its_code() {
    require!(Program("unbound"), Ipv6);
    let server = Unbound::start("  access-control: 127.0.0.0/8 refuse\n");
    answering(server.address("127.0.0.1")).await;
    let shown = query(server.address("127.0.0.1"), json!({})).await;
    shown.failed("dns_rcode");
    assert_eq!(shown.value("probe_dns_rcode"), Some(5.0));
    query(server.address("127.0.0.1"), json!({"rcodes": ["REFUSED"]}))
        .await
        .succeeded();
}

/// A server over UDP that makes of each query what `answer` says, nothing or several datagrams.
fn lying_server(answer: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, client)) = socket.recv_from(&mut buffer) {
            for datagram in answer(&buffer[..length]) {
                let _ = socket.send_to(&datagram, client);
            }
        }
    });
    address
}

/// The query as a response without records.
fn response(query: &[u8]) -> Vec<u8> {
    let mut bytes = query.to_vec();
    bytes[2] |= 0x80;
    bytes
}

fn with_other_id(query: &[u8]) -> Vec<u8> {
    let mut bytes = response(query);
    bytes[0] ^= 1;
    bytes
}

fn with_other_question(query: &[u8]) -> Vec<u8> {
    let mut bytes = response(query);
    bytes[13] ^= 1;
    bytes
}

#[tokio::test]
async fn what_is_no_response_to_the_query_is_ignored_and_then_told() {
    type Lie = fn(&[u8]) -> Vec<u8>;
    let lies: [(Lie, &str); 5] = [
        (with_other_id, "wrong_id"),
        (with_other_question, "wrong_question"),
        (<[u8]>::to_vec, "protocol"),
        (|query| response(query)[..15].to_vec(), "protocol"),
        (|_| Vec::new(), "protocol"),
    ];
    for (lie, reason) in lies {
        let liar = lying_server(move |query| vec![lie(query)]);
        let shown = query(liar, json!({})).await;
        shown.failed(reason);
        assert_eq!(shown.value("probe_dns_query_succeeded"), Some(0.0));
        // The right response that follows counts.
        let late = lying_server(move |query| vec![lie(query), response(query)]);
        query(late, json!({})).await.succeeded();
    }
}

#[tokio::test]
async fn a_server_is_asked_whether_it_has_validated_and_its_word_is_taken() {
    const AD: u8 = 0x20;
    // As RFC 6840 has it, in section 5.8: only who asks for the flag gets it.
    let validating = lying_server(|query| vec![response(query)]);
    // A resolver that does not validate.
    let other = lying_server(|query| {
        let mut bytes = response(query);
        bytes[3] &= !AD;
        vec![bytes]
    });
    for (server, flag, opposite) in [(validating, "ad", "!ad"), (other, "!ad", "ad")] {
        let shown = query(server, json!({"flags": [flag]})).await;
        shown.succeeded();
        let is_set = if flag == "ad" { 1.0 } else { 0.0 };
        assert_eq!(shown.of("probe_dns_flag", ("flag", "ad")), Some(is_set));
        query(server, json!({"flags": [opposite]}))
            .await
            .failed("dns_flags");
    }
}

#[tokio::test]
async fn servers_that_do_not_answer_are_told_apart() {
    let silent = lying_server(|_| Vec::new());
    query(silent, json!({})).await.failed("timeout");
    // Nobody takes the port at another address while it is held at this one.
    let held = UdpSocket::bind("127.0.0.2:0").unwrap();
    let nobody = SocketAddr::from(([127, 0, 0, 1], held.local_addr().unwrap().port()));
    query(nobody, json!({})).await.failed("refused");
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    query(nobody, json!({"transport": "tcp"}))
        .await
        .failed("refused");
}

#[tokio::test]
async fn a_connection_that_goes_wrong_is_told_by_where_it_did() {
    async fn server(reply: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut kept = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let length = stream.read_u16().await.unwrap();
                let mut query = vec![0; length.into()];
                stream.read_exact(&mut query).await.unwrap();
                let reply = reply(&query);
                if reply.as_slice() == b"close" {
                    continue;
                }
                stream.write_all(&reply).await.unwrap();
                kept.push(stream);
            }
        });
        address
    }
    fn framed(message: Vec<u8>) -> Vec<u8> {
        [&(message.len() as u16).to_be_bytes()[..], &message].concat()
    }
    type Reply = fn(&[u8]) -> Vec<u8>;
    let cases: [(Reply, &str); 6] = [
        (|_| b"close".to_vec(), "closed"),
        (|_| Vec::new(), "timeout"),
        (|_| vec![0, 50, 1, 2], "transfer_timeout"),
        (|query| framed(with_other_id(query)), "wrong_id"),
        (|query| framed(with_other_question(query)), "wrong_question"),
        (|query| framed(query[..11].to_vec()), "protocol"),
    ];
    for (reply, reason) in cases {
        let address = server(reply).await;
        query(address, json!({"transport": "tcp"}))
            .await
            .failed(reason);
    }
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let refused = |further: Value| {
        let mut own = json!({"name": "router.test"});
        own.as_object_mut()
            .unwrap()
            .extend(further.as_object().unwrap().clone());
        let settings = ScraperSettings::default().with_own(own);
        let refused = DnsFactory::default().scraper(&settings);
        refused.map(drop).unwrap_err().to_string()
    };
    assert!(refused(json!({"type": "AA"})).starts_with("type: \"AA\" is not a type of record"));
    assert!(refused(json!({"name": "a..b"})).contains("is not a name of DNS"));
    assert!(refused(json!({"rcodes": ["OK"]})).starts_with("rcodes[0]: expected a response code"));
    assert!(refused(json!({"flags": ["aa", "tc"]})).starts_with("flags[1]: expected `aa`"));
    assert!(refused(json!({"answer": ["("]})).starts_with("answer[0]: not a regular expression"));
    assert!(refused(json!({"transport": "quic"})).contains("`udp`"));
    assert!(refused(json!({"tls": {}})).starts_with("tls: has no effect"));
    assert!(refused(json!({"port": 0})).contains("port"));
}
