//! The caching resolver against Debian's dnsmasq, whose answers change meanwhile.
#![allow(clippy::unwrap_used)]

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use pe_resolve::{CachingResolver, Resolve, ResolverSettings};
use pe_scrape::Family;
use pe_testkit::{NameServer, require};

fn resolver(server: SocketAddr) -> CachingResolver {
    let mut options = ResolverSettings::default();
    options.servers = vec![server.into()];
    options.min_ttl = Duration::from_millis(200);
    options.retry = Duration::from_millis(100);
    options.timeout = Some(Duration::from_millis(300));
    CachingResolver::new(options)
}

/// Asks until the answer is as wanted.
async fn until(
    resolver: &CachingResolver,
    host: &str,
    family: Option<Family>,
    wanted: impl Fn(&Result<IpAddr, String>) -> bool,
) {
    let started = Instant::now();
    loop {
        let answer = resolver
            .resolve(host, family)
            .await
            .map_err(|error| error.message);
        if wanted(&answer) {
            return;
        }
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "{host}: {answer:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Asks for `a.test` until `enough` is true, and expects the same answer each time.
async fn stays(resolver: &CachingResolver, address: &str, enough: impl Fn() -> bool) {
    let is_same = is(address);
    until(resolver, "a.test", None, |answer| {
        assert!(is_same(answer), "{address}: {answer:?}");
        enough()
    })
    .await;
}

fn is(address: &str) -> impl Fn(&Result<IpAddr, String>) -> bool {
    let address: IpAddr = address.parse().unwrap();
    move |answer| *answer == Ok(address)
}

fn counted(resolver: &CachingResolver, metric: &str, result: Option<&str>) -> f64 {
    resolver
        .metrics()
        .iter()
        .find_map(|frame| {
            let row = frame
                .rows()
                .iter()
                .position(|row| row.get("result") == result)?;
            frame.value(row, metric)
        })
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_follow_the_name_server() {
    require!(Program("dnsmasq"));
    let mut server =
        NameServer::start("127.0.0.5 a.test\n::5 six.test\n127.0.0.6 both.test\n::6 both.test\n");
    let resolver = resolver(server.address());
    until(&resolver, "a.test", None, is("127.0.0.5")).await;
    until(&resolver, "a.test", Some(Family::V4), is("127.0.0.5")).await;
    until(&resolver, "six.test", None, is("::5")).await;
    until(&resolver, "both.test", Some(Family::V4), is("127.0.0.6")).await;
    until(&resolver, "both.test", Some(Family::V6), is("::6")).await;
    for (host, family, words) in [
        ("a.test", Some(Family::V6), "no address"),
        ("none.test", None, "no such name"),
        ("not a name..", None, ""),
    ] {
        // What was asked before the server answered is asked again.
        let said = |answer: &Result<IpAddr, String>| {
            answer
                .as_ref()
                .is_err_and(|message| message.contains(words))
        };
        until(&resolver, host, family, said).await;
    }
    // Neither a literal address nor the host's own name needs the server.
    assert_eq!(
        resolver.resolve("127.0.0.9", Some(Family::V4)).await,
        Ok([127, 0, 0, 9].into())
    );
    assert!(resolver.resolve("::1", Some(Family::V4)).await.is_err());

    // A changed address is picked up, a removed name is refused, and comes back.
    server.change("127.0.0.50 a.test\n");
    until(&resolver, "a.test", None, is("127.0.0.50")).await;
    server.change("");
    until(&resolver, "a.test", None, Result::is_err).await;
    server.change("127.0.0.51 a.test\n");
    until(&resolver, "a.test", None, is("127.0.0.51")).await;

    // Without a server, the last address is kept, and that is counted.
    server.kill();
    let failed = |resolver: &CachingResolver| {
        counted(resolver, "pingexporter_dns_lookups_total", Some("failed"))
    };
    let before = failed(&resolver);
    stays(&resolver, "127.0.0.51", || {
        let stale = counted(&resolver, "pingexporter_dns_stale_answers_total", None);
        stale > 0.0 && failed(&resolver) > before
    })
    .await;
    assert!(resolver.resolve("never-seen.test", None).await.is_err());
    server.restart("127.0.0.52 a.test\n");
    until(&resolver, "a.test", None, is("127.0.0.52")).await;
    assert!(counted(&resolver, "pingexporter_dns_cache_entries", None) >= 5.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_names_at_once() {
    require!(Program("dnsmasq"));
    let hosts: String = (0..2000)
        .map(|n| format!("127.1.{}.{} n{n}.test\n", n / 200, n % 200 + 1))
        .collect();
    let server = NameServer::start(&hosts);
    let mut options = ResolverSettings::default();
    options.servers = vec![server.address().into()];
    let resolver = CachingResolver::new(options);
    until(&resolver, "n0.test", None, is("127.1.0.1")).await;
    let lookups = (0..2000).map(|n| {
        let resolver = resolver.clone();
        tokio::spawn(async move {
            resolver
                .resolve(&format!("n{n}.test"), Some(Family::V4))
                .await
        })
    });
    for (n, lookup) in lookups.collect::<Vec<_>>().into_iter().enumerate() {
        let expected: IpAddr = format!("127.1.{}.{}", n / 200, n % 200 + 1)
            .parse()
            .unwrap();
        assert_eq!(lookup.await.unwrap(), Ok(expected));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_hangs_delays_only_names_that_are_not_known() {
    require!(Program("dnsmasq"));
    let mut server = NameServer::start("127.0.0.5 a.test\n");
    let resolver = resolver(server.address());
    until(&resolver, "a.test", None, is("127.0.0.5")).await;
    server.kill();
    // The same address, but nobody answers.
    let _silent = UdpSocket::bind(server.address()).unwrap();
    // Twenty names wait for the silent server; the known one does not.
    let waiting: Vec<_> = (0..20)
        .map(|n| {
            let resolver = resolver.clone();
            tokio::spawn(async move { resolver.resolve(&format!("w{n}.test"), None).await })
        })
        .collect();
    for _ in 0..50 {
        let known = tokio::time::timeout(Duration::from_secs(30), resolver.resolve("a.test", None));
        assert_eq!(known.await.unwrap(), Ok([127, 0, 0, 5].into()));
    }
    assert!(waiting.iter().any(|lookup| !lookup.is_finished()));
    for lookup in waiting {
        assert!(lookup.await.unwrap().is_err());
    }
}

/// A name server on its own thread that answers A with 127.0.0.5 at first and SERVFAIL from then on, and AAAA with nothing.
fn ailing_server() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut buffer, mut asked) = ([0; 512], 0);
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            // RFC 1035, section 4.1: the header, then the question: labels up to an empty one, type, class.
            let labels = buffer[12..length]
                .iter()
                .position(|byte| *byte == 0)
                .unwrap();
            let question = &buffer[12..12 + labels + 5];
            let is_a = question[labels + 2] == 1;
            let found = is_a && asked == 0;
            asked += u32::from(is_a);
            let code = if is_a && !found { 2 } else { 0 };
            let mut reply = vec![
                buffer[0],
                buffer[1],
                0x81,
                0x80 | code,
                0,
                1,
                0,
                u8::from(found),
                0,
                0,
                0,
                0,
            ];
            reply.extend_from_slice(question);
            if found {
                reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4, 127, 0, 0, 5]);
            }
            let _ = socket.send_to(&reply, peer);
        }
    });
    address
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_for_one_family_is_no_denial_of_the_name() {
    let resolver = resolver(ailing_server());
    until(&resolver, "a.test", None, is("127.0.0.5")).await;
    let failed = || counted(&resolver, "pingexporter_dns_lookups_total", Some("failed"));
    stays(&resolver, "127.0.0.5", || failed() >= 3.0).await;
}
