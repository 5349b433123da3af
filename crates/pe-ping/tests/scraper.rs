//! The ping scraper, as an engine uses it, on loopback.
#![allow(clippy::unwrap_used)]

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use pe_ping::{OpenSocket, PingScraperFactory, SocketRequest};
use pe_scrape::exposition::{Block, Format, encode};
use pe_scrape::resolve::{Resolve, ResolveError};
use pe_scrape::{
    Address, Batch, Cell, Family, Frame, Scraper, ScraperFactory, ScraperRegistry, ScraperSettings,
    Table, Target, testkit, with_causes,
};
use serde_json::{Value, json};

fn settings(own: Value) -> ScraperSettings {
    let mut settings = ScraperSettings::default().with_own(own);
    settings.timeout = Duration::from_millis(500);
    settings.interval = Duration::from_secs(10);
    settings.value_dev_down = 5_000.0;
    settings
}

fn name(host: &str) -> Target {
    let address = Address::Name {
        host: host.into(),
        family: Some(Family::V4),
    };
    Target::new(host, host, address, []).unwrap()
}

async fn measure(scraper: &dyn Scraper, targets: Arc<[Target]>) -> (Frame, Batch) {
    let table = Arc::new(Table::new(scraper.columns().clone(), targets.len()));
    let labels = targets
        .iter()
        .map(|target| target.labels().clone())
        .collect();
    let batch = Batch::new(
        targets,
        table.clone(),
        Instant::now() + Duration::from_secs(8),
    );
    scraper.scrape_batch(&batch).await.unwrap();
    (Frame::freeze(&table, labels, SystemTime::now()), batch)
}

#[tokio::test]
async fn two_thousand_devices_in_one_batch() {
    let mut registry = ScraperRegistry::new();
    registry
        .register("ping", PingScraperFactory::default())
        .unwrap();
    let scraper = registry.create("ping", &settings(Value::Null)).unwrap();
    let targets = (0..2_000)
        .map(|n| Target::from_ip(Ipv4Addr::from(0x7f02_0001 + n).into()))
        .collect();
    let (frame, batch) = measure(&*scraper, targets).await;
    assert_eq!(
        (batch.progress().errors(), batch.progress().overdue()),
        (0, false)
    );
    for row in 0..2_000 {
        let value = |name| frame.value(row, name);
        assert_eq!(value("ping_up"), Some(1.0));
        assert_eq!(value("ping_loss_ratio"), Some(0.0));
        let seconds = value("ping_rtt_mean_seconds").unwrap();
        assert!(seconds > 0.0 && seconds < 0.5);
        assert!((value("dev_ping").unwrap() - seconds * 1e3).abs() < 1e-9);
        assert_eq!(value("ping_rtt_std_deviation_seconds"), Some(0.0));
        assert_eq!(value("ping_rtt_jitter_seconds"), None);
        assert_eq!(value("ping_requests_total"), Some(1.0));
        assert_eq!(value("ping_reply_ttl"), Some(64.0));
    }
}

#[tokio::test]
async fn several_probes_and_a_histogram() {
    let factory = PingScraperFactory::default();
    let own = json!({
        "count": 4,
        "probe_interval": "20ms",
        "histogram": {"buckets": [1e-9, 10], "native": true},
    });
    let scraper = factory.scraper(&settings(own)).unwrap();
    let targets: Arc<[Target]> = ["127.0.0.1", "::1"]
        .map(|ip| Target::from_ip(ip.parse().unwrap()))
        .into();
    let (frame, batch) = measure(&scraper, targets.clone()).await;
    for row in 0..2 {
        let value = |name| frame.value(row, name);
        assert_eq!(value("ping_replies_total"), Some(4.0));
        assert!(value("ping_rtt_best_seconds") <= value("ping_rtt_mean_seconds"));
        assert!(value("ping_rtt_mean_seconds") <= value("ping_rtt_worst_seconds"));
        assert!(value("ping_rtt_jitter_seconds").is_some());
    }
    // Counters and the histogram go on in the same table.
    batch.table().clear_gauges();
    let again = Batch::new(
        targets,
        batch.table().clone(),
        Instant::now() + Duration::from_secs(8),
    );
    scraper.scrape_batch(&again).await.unwrap();
    let labels = again.targets().map(|(_, target)| target.labels().clone());
    let frame = Frame::freeze(again.table(), labels.collect(), SystemTime::now());
    assert_eq!(frame.value(0, "ping_requests_total"), Some(8.0));
    let text = encode(&[Block::new(&frame)], Format::Text);
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains(r#"le="10"} 8"#), "{text}");
}

/// Knows `good`, says no to `bad`, gets no answer for `lost`, and never returns for `slow`.
struct Names;

#[async_trait]
impl Resolve for Names {
    async fn resolve(&self, host: &str, family: Option<Family>) -> Result<IpAddr, ResolveError> {
        assert_eq!(family, Some(Family::V4));
        match host {
            "good" => Ok([127, 0, 0, 77].into()),
            "slow" => std::future::pending().await,
            "lost" => Err(ResolveError::new(host, "no name server answers")),
            _ => Err(ResolveError::denied(host, "no such host")),
        }
    }
}

/// How often the probes of a row failed for `reason`.
fn errors<'f>(
    frame: &'f Frame,
    scraper: &dyn Scraper,
    row: usize,
    reason: &str,
) -> Option<Cell<'f>> {
    let columns = scraper.columns().descriptors();
    let column = columns
        .iter()
        .position(|descriptor| descriptor.labels().any(|label| label == ("reason", reason)));
    frame.cell(row, column.unwrap())
}

#[tokio::test]
async fn names_that_fail_hide_nobody_else() {
    let factory = PingScraperFactory::new(Names);
    let scraper = factory.scraper(&settings(Value::Null)).unwrap();
    let targets: Arc<[Target]> = Arc::new([
        name("slow"),
        name("bad"),
        name("good"),
        Target::from_ip([127, 0, 0, 1].into()),
        name("lost"),
    ]);
    let (frame, batch) = measure(&scraper, targets.clone()).await;
    let up: Vec<_> = (0..5).map(|row| frame.value(row, "ping_up")).collect();
    // A name that does not exist is down; of one that nobody answered for, nothing is known.
    assert_eq!(up, [None, Some(0.0), Some(1.0), Some(1.0), None]);
    assert_eq!(frame.value(0, "dev_ping"), None);
    assert_eq!(frame.value(1, "dev_ping"), Some(5_000.0));
    assert_eq!(frame.value(1, "ping_rtt_mean_seconds"), None);
    assert_eq!(frame.value(1, "ping_loss_ratio"), None);
    assert_eq!(batch.progress().errors(), 3);
    let first = batch.progress().first().unwrap();
    assert!(first.contains("cannot resolve "), "{first}");
    for (row, reason, other) in [
        (0, "dns_unanswered", "dns"),
        (1, "dns", "dns_unanswered"),
        (4, "dns_unanswered", "dns"),
    ] {
        let count = |reason| errors(&frame, &scraper, row, reason);
        assert_eq!(count(reason), Some(Cell::Value(1.0)), "{row}");
        assert_eq!(count(other), None, "{row}");
    }

    let mut settings = settings(Value::Null);
    settings.unknown_is_down = true;
    let scraper = factory.scraper(&settings).unwrap();
    let (frame, _) = measure(&scraper, targets).await;
    let up: Vec<_> = (0..5).map(|row| frame.value(row, "ping_up")).collect();
    assert_eq!(up, [0.0, 0.0, 1.0, 1.0, 0.0].map(Some));
    assert_eq!(frame.value(4, "dev_ping"), Some(5_000.0));
    let count = errors(&frame, &scraper, 4, "dns_unanswered");
    assert_eq!(count, Some(Cell::Value(1.0)));
}

/// A device behind a middlebox that lets nothing through for the identifier it has seen first.
/// Opens no raw socket, so that datagram sockets are used.
#[derive(Debug)]
struct NoRights;

impl OpenSocket for NoRights {
    fn open(&self, _: &SocketRequest) -> io::Result<OwnedFd> {
        Err(io::Error::from_raw_os_error(libc::EPERM))
    }
}

/// Factories whose scrapers use raw sockets, and datagram sockets. The group may open those in the namespace.
fn factories(namespace: &pe_testkit::Namespace) -> [PingScraperFactory; 2] {
    namespace.sysctl("ipv4.ping_group_range", "0 0");
    [
        PingScraperFactory::default(),
        PingScraperFactory::default().opener(Arc::new(NoRights)),
    ]
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(future)
}

/// How many targets are up in each of some cycles.
fn ups(scraper: &dyn Scraper, targets: &Arc<[Target]>, cycles: usize) -> Vec<usize> {
    let cycle = |_| {
        let (frame, _) = block_on(measure(scraper, targets.clone()));
        let up = (0..targets.len()).filter(|row| frame.value(*row, "ping_up") == Some(1.0));
        up.count()
    };
    (0..cycles).map(cycle).collect()
}

#[test]
fn a_device_that_stays_lost_is_asked_with_another_identifier() {
    pe_testkit::require!(Tun);
    for family in [pe_testkit::Family::V4, pe_testkit::Family::V6] {
        for kind in 0..2 {
            pe_testkit::in_namespace(|namespace| {
                let scenario = r#"{ "about": "a stale entry", "devices": [
                    { "hosts": "1-20", "faults": [{ "do": "drop_first_identifier" }] },
                    { "hosts": "21-40" }
                ] }"#;
                let scenario = serde_json::from_str(scenario).unwrap();
                let network = pe_testkit::Simnet::start(namespace, &scenario, family);
                let mut settings = settings(Value::Null);
                settings.timeout = Duration::from_millis(200);
                let targets: Arc<[Target]> = (1..=40)
                    .map(|host| Target::from_ip(network.address(host)))
                    .collect();
                let scraper = factories(namespace)[kind].scraper(&settings).unwrap();
                assert_eq!(ups(&scraper, &targets, 5), [20, 20, 20, 40, 40]);
            });
        }
    }
}

/// A namespace in which a process waits, beside the one that the test runs in.
struct Peer(std::process::Child);

impl Peer {
    fn new() -> Self {
        let mut command = std::process::Command::new("unshare");
        let child = command.args(["--net", "sleep", "60"]).spawn().unwrap();
        let own = std::fs::read_link("/proc/thread-self/ns/net").unwrap();
        let its = format!("/proc/{}/ns/net", child.id());
        pe_testkit::wait::until_true("a namespace of its own", || {
            std::fs::read_link(&its).is_ok_and(|its| its != own)
        });
        Self(child)
    }

    fn id(&self) -> u32 {
        self.0.id()
    }

    /// Runs a line of shell in it.
    fn run(&self, namespace: &pe_testkit::Namespace, line: &str) {
        let target = self.id().to_string();
        namespace.run("nsenter", &["-t", &target, "-n", "sh", "-ec", line]);
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Gone already if this fails.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn devices_behind_a_router_whose_uplink_fails_over_come_back() {
    pe_testkit::require!(
        Namespaces,
        Program("nft"),
        Program("unshare"),
        Program("nsenter")
    );
    for kind in 0..2 {
        pe_testkit::in_namespace(|namespace| {
            let (router, far) = (Peer::new(), Peer::new());
            namespace.ip("link add lan0 type veth peer name lan1");
            namespace.ip(&format!("link set lan1 netns {}", router.id()));
            namespace.ip("link set lan0 up");
            namespace.add_address("lan0", "10.1.0.2/24");
            router.run(
                namespace,
                &format!(
                    "ip link add wan1 type veth peer name up1 netns {far}
                     ip link add wan2 type veth peer name up2 netns {far}
                     ip addr add 10.1.0.1/24 dev lan1; ip link set lan1 up
                     ip addr add 10.2.1.1/24 dev wan1; ip link set wan1 up
                     ip addr add 10.2.2.1/24 dev wan2; ip link set wan2 up
                     sysctl -qw net.ipv4.ip_forward=1",
                    far = far.id()
                ),
            );
            far.run(
                namespace,
                "ip link set lo up; ip route add local 10.9.0.0/24 dev lo
                 ip addr add 10.2.1.2/24 dev up1; ip link set up1 up
                 ip addr add 10.2.2.2/24 dev up2; ip link set up2 up",
            );
            namespace.add_route("10.9.0.0/24 via 10.1.0.1");
            router.run(
                namespace,
                "ip route add 10.9.0.0/24 via 10.2.1.2
                 nft 'table ip t { chain c { type nat hook postrouting priority 100;
                 oifname wan1 snat to 10.2.1.1; oifname wan2 snat to 10.2.2.1; }; }'",
            );
            let mut settings = settings(Value::Null);
            settings.timeout = Duration::from_millis(200);
            let targets: Arc<[Target]> = (1..=20_u8)
                .map(|host| Target::from_ip([10, 9, 0, host].into()))
                .collect();
            let scraper = factories(namespace)[kind].scraper(&settings).unwrap();
            assert_eq!(ups(&scraper, &targets, 3), [20; 3]);
            // The provider behind the first uplink is gone; the router's entries of our identifier stay with its address.
            far.run(namespace, "ip link set up1 down");
            router.run(namespace, "ip route replace 10.9.0.0/24 via 10.2.2.2");
            assert_eq!(ups(&scraper, &targets, 5), [0, 0, 0, 20, 20]);
        });
    }
}

#[tokio::test]
async fn one_target_by_itself() {
    let factory = PingScraperFactory::default();
    let own = json!({"count": 3, "probe_interval": "10ms", "histogram": true});
    let scraper = factory.scraper(&settings(own)).unwrap();
    let table = Table::new(scraper.columns().clone(), 1);
    let target = Target::from_ip([127, 0, 0, 5].into());
    scraper.scrape(&target, table.row(0)).await.unwrap();
    let frame = Frame::freeze(
        &table,
        Arc::new([target.labels().clone()]),
        SystemTime::now(),
    );
    assert_eq!(frame.value(0, "ping_replies_total"), Some(3.0));
}

#[tokio::test]
async fn a_factory_counts_for_all_its_scrapers_and_forgets_nothing() {
    let factory = PingScraperFactory::default();
    let first = factory.scraper(&settings(Value::Null)).unwrap();
    let second = factory.scraper(&settings(json!({"count": 2}))).unwrap();
    let other = factory.scraper(&settings(json!({"size": 1_000}))).unwrap();
    for scraper in [&first, &second, &other] {
        measure(scraper, Arc::new([Target::from_ip([127, 0, 0, 1].into())])).await;
    }
    let sent = || {
        let frames = factory.metrics();
        let mut values = frames
            .iter()
            .filter_map(|frame| frame.value(0, "pingexporter_icmp_requests_sent_total"));
        (values.next(), values.next())
    };
    assert_eq!(sent(), (Some(4.0), None));
    // What closed sockets counted stays, with scrapers and without.
    drop((first, other));
    assert_eq!(sent(), (Some(4.0), None));
    drop(second);
    assert_eq!(sent(), (Some(4.0), None));
}

#[test]
fn settings_are_checked_without_sockets() {
    let mut registry = ScraperRegistry::new();
    registry
        .register("ping", PingScraperFactory::default())
        .unwrap();
    let check = |own| {
        registry
            .describe("ping", &settings(own))
            .map(drop)
            .map_err(|error| with_causes(&error))
    };
    assert_eq!(check(json!({"count": 3, "interface": "nowhere0"})), Ok(()));
    let unknown = check(json!({"cuont": 3})).unwrap_err();
    assert!(
        unknown.contains("unknown key `cuont` (did you mean `count`?)"),
        "{unknown}"
    );
}

#[tokio::test]
async fn an_engine_can_rely_on_it() {
    // 127.0.0.1 and ::1 answer; nobody is there at the others, whose requests this machine refuses or loses at once.
    let targets = ["127.0.0.1", "::1", "127.0.0.9"].map(|ip| Target::from_ip(ip.parse().unwrap()));
    let factory = PingScraperFactory::default();
    testkit::check(&factory, &settings(Value::Null), targets.into()).await;
}

/// Names that are resolved one after the other, and the limit of a cycle that all of its sweeps share.
struct OneByOne;

#[async_trait]
impl Resolve for OneByOne {
    async fn resolve(&self, host: &str, _: Option<Family>) -> Result<IpAddr, ResolveError> {
        let number: u8 = host.parse().unwrap();
        tokio::time::sleep(Duration::from_millis(5 * u64::from(number))).await;
        Ok([127, 0, 3, number].into())
    }
}

#[tokio::test]
async fn all_sweeps_of_a_cycle_keep_to_one_rate_together() {
    let factory = PingScraperFactory::new(OneByOne);
    // Other payloads need other sockets, and so other threads.
    let scrapers = [json!({"size": 56}), json!({"size": 100})]
        .map(|own| factory.scraper(&settings(own)).unwrap());
    let pacer = pe_scrape::Pacer::new(100.0, 2);
    let started = Instant::now();
    let measured = scrapers.each_ref().map(|scraper| {
        let names = (1..=20_u8).map(|number| {
            let host: Arc<str> = number.to_string().into();
            let address = Address::Name {
                host: host.clone(),
                family: None,
            };
            Target::new(host.clone(), host, address, []).unwrap()
        });
        let targets: Arc<[Target]> = names.collect();
        let table = Arc::new(Table::new(scraper.columns().clone(), targets.len()));
        let mut batch = Batch::new(targets, table, started + Duration::from_secs(8));
        batch.pacer = Some(pacer.clone());
        async move {
            scraper.scrape_batch(&batch).await.unwrap();
            batch
        }
    });
    let [one, other] = measured;
    let (one, other) = tokio::join!(one, other);
    for batch in [&one, &other] {
        assert!(batch.unfinished().next().is_none());
    }
    // 40 requests, of which two may leave at once: no sooner than this whatever the machine does.
    assert!(
        started.elapsed() >= Duration::from_millis(375),
        "{:?}",
        started.elapsed()
    );
}
