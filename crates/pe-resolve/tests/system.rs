//! Names as the system's files say: real name servers at port 53 of network namespaces, and files that change meanwhile.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::time::{Duration, Instant};

use pe_resolve::{CachingResolver, Resolve, ResolveError, ResolverSettings};
use pe_scrape::Family;
use pe_testkit::{NameServer, Namespace, in_namespace, require};
use tempfile::TempDir;

/// The system's files, in a directory of the test.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).unwrap();
    }

    /// A resolver that reads them, and asks often.
    fn resolver(&self) -> CachingResolver {
        CachingResolver::new(self.settings())
    }

    fn settings(&self) -> ResolverSettings {
        let mut settings = ResolverSettings::default();
        settings.min_ttl = Duration::from_millis(200);
        settings.max_ttl = Duration::from_millis(300);
        settings.retry = Duration::from_millis(100);
        settings.files.resolv_conf = self.0.path().join("resolv.conf");
        settings.files.hosts = self.0.path().join("hosts");
        settings.files.nsswitch = self.0.path().join("nsswitch.conf");
        settings
    }
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Runs a test in a namespace, with the threads of its runtime.
fn inside(test: impl AsyncFnOnce(&Namespace) + Send) {
    in_namespace(|namespace| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test(namespace));
    });
}

/// Asks until the answer is as wanted.
async fn until(
    resolver: &CachingResolver,
    host: &str,
    wanted: impl Fn(&Result<IpAddr, ResolveError>) -> bool,
) -> Result<IpAddr, ResolveError> {
    until_of(resolver, host, None, wanted).await
}

/// Asks for an address of this family until the answer is as wanted.
async fn until_of(
    resolver: &CachingResolver,
    host: &str,
    family: Option<Family>,
    wanted: impl Fn(&Result<IpAddr, ResolveError>) -> bool,
) -> Result<IpAddr, ResolveError> {
    let started = Instant::now();
    loop {
        let answer = resolver.resolve(host, family).await;
        if wanted(&answer) {
            return answer;
        }
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "{host}: {answer:?}"
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn until_found(resolver: &CachingResolver, host: &str, expected: &str) {
    let expected = Ok(address(expected));
    let _ = until(resolver, host, |answer| *answer == expected).await;
}

/// A name server at port 53 that answers each question for A with 127.0.0.5, after some time.
fn slow_server(delay: Duration) {
    let socket = UdpSocket::bind("127.0.0.1:53").unwrap();
    std::thread::spawn(move || {
        let mut buffer = [0; 512];
        while let Ok((length, peer)) = socket.recv_from(&mut buffer) {
            // RFC 1035, section 4.1: the header, then the question: labels up to an empty one, type, class.
            let question = buffer[12..length].to_vec();
            let end = question.iter().position(|byte| *byte == 0).unwrap() + 5;
            let mut reply = vec![buffer[0], buffer[1], 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0];
            reply.extend_from_slice(&question[..end]);
            reply.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 5]);
            let socket = socket.try_clone().unwrap();
            std::thread::spawn(move || {
                std::thread::sleep(delay);
                let _ = socket.send_to(&reply, peer);
            });
        }
    });
}

#[test]
fn without_a_name_server_names_are_unknown_until_there_is_one() {
    require!(Namespaces, Program("dnsmasq"));
    inside(async |namespace| {
        let files = Files::new();
        let resolver = files.resolver();
        assert_eq!(
            resolver.resolve("127.0.0.9", None).await,
            Ok(address("127.0.0.9"))
        );
        let error = resolver.resolve("a.test", None).await.unwrap_err();
        assert!(!error.is_denied, "{error}");
        assert!(error.message.contains("resolv.conf"), "{error}");

        files.write("resolv.conf", "# written by a DHCP client soon\n");
        let error = until(
            &resolver,
            "a.test",
            |answer| matches!(answer, Err(error) if error.message.contains("names no name server")),
        );
        assert!(!error.await.unwrap_err().is_denied);

        // A hosts line needs none; a name server that appears is asked.
        files.write("hosts", "127.0.0.8 a.test\n");
        until_found(&resolver, "a.test", "127.0.0.8").await;
        let _server = NameServer::start_on(namespace, "lo", "127.0.0.7 b.test\n127.0.0.6 a.test\n");
        files.write("resolv.conf", "nameserver 127.0.0.1\n");
        until_found(&resolver, "b.test", "127.0.0.7").await;
        let denied = until(&resolver, "none.test", Result::is_err).await;
        assert!(denied.unwrap_err().is_denied);

        // The hosts file goes first, and only as long as it has the name.
        until_found(&resolver, "a.test", "127.0.0.8").await;
        files.write("hosts", "");
        until_found(&resolver, "a.test", "127.0.0.6").await;
    });
}

#[test]
fn a_name_server_that_takes_the_place_of_a_silent_one_is_asked_at_once() {
    require!(Namespaces, Program("dnsmasq"));
    inside(async |namespace| {
        let silent_server = UdpSocket::bind("127.0.0.53:53").unwrap();
        let files = Files::new();
        // Longer than this test waits.
        let silent = "nameserver 127.0.0.53\noptions timeout:30 attempts:5\n";
        files.write("resolv.conf", silent);
        let resolver = files.resolver();
        let asking = |host: &'static str| {
            let resolver = resolver.clone();
            tokio::spawn(async move { resolver.resolve(host, None).await })
        };
        let (by_server, by_hosts) = (asking("a.test"), asking("b.test"));
        let mut question = [0; 512];
        let heard = silent_server.set_read_timeout(Some(Duration::from_secs(30)));
        heard
            .and_then(|()| silent_server.recv_from(&mut question))
            .unwrap();

        files.write("hosts", "127.0.0.8 b.test\n");
        assert_eq!(by_hosts.await.unwrap(), Ok(address("127.0.0.8")));
        let _server = NameServer::start_on(namespace, "lo", "127.0.0.7 a.test\n");
        files.write("resolv.conf", "nameserver 127.0.0.1\n");
        assert_eq!(by_server.await.unwrap(), Ok(address("127.0.0.7")));
    });
}

#[test]
fn a_name_server_is_heard_as_late_as_resolv_conf_says() {
    require!(Namespaces);
    inside(async |_| {
        slow_server(Duration::from_millis(1500));
        let files = Files::new();
        files.write(
            "resolv.conf",
            "nameserver 127.0.0.1\noptions timeout:3 attempts:1\n",
        );
        let patient = files.resolver();
        let hasty = Files::new();
        hasty.write(
            "resolv.conf",
            "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n",
        );
        let hasty = hasty.resolver();
        let (heard, unheard) = tokio::join!(
            patient.resolve("a.test", Some(Family::V4)),
            hasty.resolve("a.test", Some(Family::V4))
        );
        assert_eq!(heard, Ok(address("127.0.0.5")));
        let error = unheard.unwrap_err();
        assert!(!error.is_denied, "{error}");
        assert!(error.message.contains("did not answer in time"), "{error}");
    });
}

#[test]
fn odd_names_search_domains_and_further_servers_are_asked() {
    require!(Namespaces, Program("dnsmasq"));
    inside(async |namespace| {
        let hosts = "127.0.0.7 dev_7.lab.test\n127.0.0.8 _sip._udp.test\n127.0.0.9 9-9.test\n";
        let _server = NameServer::start_on(namespace, "lo", hosts);
        // Nobody listens at the first one.
        let files = Files::new();
        files.write(
            "resolv.conf",
            "nameserver 127.0.0.2\nnameserver 127.0.0.1\nsearch nowhere.test lab.test\noptions rotate timeout:1\n",
        );
        let resolver = files.resolver();
        until_found(&resolver, "dev_7.lab.test", "127.0.0.7").await;
        until_found(&resolver, "dev_7", "127.0.0.7").await;
        until_found(&resolver, "DEV_7.Lab.Test.", "127.0.0.7").await;
        until_found(&resolver, "_sip._udp.test", "127.0.0.8").await;
        until_found(&resolver, "9-9.test", "127.0.0.9").await;
    });
}

#[test]
fn variables_of_the_environment_go_over_the_file() {
    require!(Namespaces, Program("dnsmasq"));
    inside(async |namespace| {
        let hosts = "127.0.0.7 dev.lab.test\n127.0.0.8 a.b.lab.test\n127.0.0.9 dev.file.test\n";
        let _server = NameServer::start_on(namespace, "lo", hosts);
        let files = Files::new();
        files.write(
            "resolv.conf",
            "nameserver 127.0.0.1\nsearch file.test\noptions no-tld-query ndots:1\n",
        );
        until_found(&files.resolver(), "dev", "127.0.0.9").await;

        let mut settings = files.settings();
        settings.local_domain = Some("nowhere.test  lab.test".into());
        settings.options = Some("ndots:3\nnameserver 127.0.0.2".into());
        let resolver = CachingResolver::new(settings);
        until_found(&resolver, "dev", "127.0.0.7").await;
        until_found(&resolver, "a.b", "127.0.0.8").await;
        until_found(&resolver, "dev.lab.test", "127.0.0.7").await;

        // An empty list searches nowhere, and the options stand where the file is gone.
        files.write("resolv.conf", "");
        let mut settings = files.settings();
        settings.local_domain = Some(String::new());
        settings.options = Some("no-aaaa".into());
        let resolver = CachingResolver::new(settings);
        until_found(&resolver, "dev.lab.test", "127.0.0.7").await;
        let nowhere = until(&resolver, "dev", Result::is_err).await;
        assert_eq!(nowhere.unwrap_err().host, "dev");
    });
}

#[test]
fn a_name_server_at_a_link_local_address_is_asked() {
    require!(Namespaces, Ipv6, Program("dnsmasq"));
    inside(async |namespace| {
        namespace.add_veth("a1", "b1");
        namespace.add_address("a1", "fe80::53/64");
        let _server = NameServer::start_on(namespace, "a1", "127.0.0.7 a.test\n");
        let files = Files::new();
        files.write("resolv.conf", "nameserver fe80::53%a1\n");
        until_found(&files.resolver(), "a.test", "127.0.0.7").await;

        let mut settings = ResolverSettings::default();
        settings.servers = vec!["[fe80::53%a1]:53".parse().unwrap()];
        until_found(&CachingResolver::new(settings), "a.test", "127.0.0.7").await;

        // A link that is not there: nothing is known.
        files.write("resolv.conf", "nameserver fe80::53%gone\n");
        let error = files.resolver().resolve("a.test", None).await.unwrap_err();
        assert!(!error.is_denied, "{error}");
    });
}

#[test]
fn a_family_with_a_route_goes_first_and_the_address_in_use_stays() {
    require!(Namespaces, Ipv6, Program("dnsmasq"));
    inside(async |namespace| {
        let hosts = "192.0.2.5 both.test other.test\n::1 both.test other.test\n\
                     127.0.0.1 many.test\n127.0.0.2 many.test\n127.0.0.3 many.test\n";
        let server = NameServer::start_on(namespace, "lo", hosts);
        let files = Files::new();
        files.write("resolv.conf", "nameserver 127.0.0.1\n");
        let resolver = files.resolver();
        until_found(&resolver, "both.test", "::1").await;
        // Who wants IPv4 gets it; a server that was asked before it listened is left alone for a moment.
        let v4 = Ok(address("192.0.2.5"));
        let _ = until_of(&resolver, "both.test", Some(Family::V4), |answer| {
            *answer == v4
        })
        .await;
        let all = resolver.resolve_all("both.test").await.unwrap();
        assert_eq!(all, [address("::1"), address("192.0.2.5")]);

        // With a route, IPv4 goes first; what is in use stays.
        namespace.add_route("192.0.2.0/24 dev lo");
        until_found(&resolver, "other.test", "192.0.2.5").await;
        assert_eq!(
            resolver.resolve("both.test", None).await,
            Ok(address("::1"))
        );
        // Without it, the other family is used.
        namespace.ip("route del 192.0.2.0/24 dev lo");
        until_found(&resolver, "other.test", "::1").await;

        // dnsmasq gives its addresses in another order each time.
        let first = until(&resolver, "many.test", Result::is_ok).await.unwrap();
        let lookups = || {
            let frames = resolver.metrics();
            let found = |frame: &pe_scrape::Frame| {
                let mut rows = frame.rows().iter();
                let row = rows.position(|row| row.get("result") == Some("found"))?;
                frame.value(row, "pingexporter_dns_lookups_total")
            };
            frames.iter().find_map(found).unwrap()
        };
        let before = lookups();
        while lookups() < before + 10.0 {
            assert_eq!(resolver.resolve("many.test", None).await, Ok(first));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(resolver.resolve_all("many.test").await.unwrap().len(), 3);
        let rest: String = ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
            .iter()
            .filter(|text| address(text) != first)
            .map(|text| format!("{text} many.test\n"))
            .collect();
        server.change(&rest);
        let next = until(&resolver, "many.test", |answer| *answer != Ok(first)).await;
        assert!(rest.contains(&next.unwrap().to_string()));
    });
}

#[test]
fn the_c_library_is_asked_where_the_system_has_other_sources() {
    require!(Namespaces);
    if cfg!(not(target_env = "gnu")) {
        return;
    }
    inside(async |_| {
        let files = Files::new();
        // Nothing of this is read but the sources; the library has files of its own.
        files.write("hosts", "127.0.0.77 localhost\n");
        files.write("nsswitch.conf", "hosts: files myhostname dns\n");
        let resolver = files.resolver();
        assert_eq!(
            resolver.resolve("localhost", Some(Family::V4)).await,
            Ok(address("127.0.0.1"))
        );
        files.write("nsswitch.conf", "hosts: files dns\n");
        until_found(&resolver, "localhost", "127.0.0.77").await;
    });
}
