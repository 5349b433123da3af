//! The tables of docs/probes are those of the code: every metric with its type, help text and labels, and every reason.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use pe_probe::{Probe, ProbeFactory, Reason};
use pe_scrape::{MetricDescriptor, MetricKind, ScraperSettings, Unit};
use serde_json::{Value, json};

/// Labels with more values than a page should list have them in a table of their own, or in words.
const MOST_VALUES: usize = 6;

/// A metric as a table tells it, or as the code has it.
#[derive(Debug, PartialEq, Eq, Clone)]
struct Told {
    kind: String,
    help: String,
    /// Names, and values where they are few.
    labels: BTreeMap<String, BTreeSet<String>>,
}

type Metrics = BTreeMap<String, Told>;

fn page(name: &str) -> String {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/probes");
    std::fs::read_to_string(docs.join(name)).unwrap()
}

/// The cells of the rows of the tables whose head begins with these.
fn rows(page: &str, head: &str) -> Vec<Vec<String>> {
    let lines = page.lines().skip_while(|line| !line.starts_with(head));
    let lines = lines.skip(2).take_while(|line| line.starts_with('|'));
    let cells = lines.map(|line| {
        let cells = line.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().to_owned()).collect()
    });
    cells.collect()
}

/// What is between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Type, help text and notes of each name in the table of a page. `…` stands for the first name of a row.
fn table(name: &str) -> BTreeMap<String, [String; 3]> {
    let rows = rows(&page(name), "| metric | type | help text | notes |");
    assert!(!rows.is_empty(), "{name} has no table of metrics");
    let mut told = BTreeMap::new();
    for row in rows {
        let first = quoted(&row[0]).next().unwrap();
        for name in quoted(&row[0]) {
            let name = match name.strip_prefix('…') {
                Some(suffix) => format!("{first}{suffix}"),
                None => name.to_owned(),
            };
            let [_, kind, help, notes] = &row[..] else {
                panic!("{row:?}");
            };
            let known = told.insert(name, [kind.clone(), help.clone(), notes.clone()]);
            assert_eq!(known, None, "{} is told twice", row[0]);
        }
    }
    told
}

fn word(kind: &MetricKind) -> &'static str {
    match kind {
        MetricKind::Gauge => "gauge",
        MetricKind::Counter => "counter",
        _ => "another",
    }
}

/// The metrics of a probe with such settings.
fn exported<P: Probe>(own: Value) -> Metrics {
    let mut settings = ScraperSettings::default();
    settings.own = own;
    let scraper = ProbeFactory::<P>::default().scraper(&settings).unwrap();
    let mut metrics = Metrics::new();
    for metric in scraper.metrics() {
        check_unit(metric);
        let told = metrics.entry(metric.name().to_owned());
        let told = told.or_insert_with(|| Told {
            kind: word(metric.kind()).to_owned(),
            help: metric.help().to_owned(),
            labels: BTreeMap::new(),
        });
        assert_eq!(
            (&*told.kind, &*told.help),
            (word(metric.kind()), metric.help())
        );
        for (name, value) in metric.labels().filter(|(name, _)| *name != "probe") {
            let values = told.labels.entry(name.to_owned()).or_default();
            values.insert(value.to_owned());
        }
    }
    metrics
}

/// Names of blackbox_exporter's that have a unit and do not tell it.
const UNTOLD: [&str; 2] = [
    "probe_http_content_length",
    "probe_http_uncompressed_body_length",
];

fn check_unit(metric: &MetricDescriptor) {
    let unit = match metric.unit() {
        Unit::None => return,
        Unit::Seconds => "_seconds",
        Unit::Bytes => "_bytes",
        Unit::Ratio => "_ratio",
        unit => panic!("{} has the unit {unit:?}", metric.name()),
    };
    if UNTOLD.contains(&metric.name()) {
        return;
    }
    let name = metric.name().trim_end_matches("_total");
    assert!(
        name.ends_with(unit),
        "{} has the unit {unit}",
        metric.name()
    );
}

/// Compares what a probe exports with what its page tells, and the pages that this refers to: that of all probes and, where there
/// is TLS, that of `tcp`.
fn compare(name: &str, exported: &Metrics) {
    let own = table(name);
    let mut told = own.clone();
    told.extend(table("README.md"));
    let page = page(name);
    if page.contains("](tcp.md") {
        let tls = table("tcp.md").into_iter();
        told.extend(
            tls.filter(|(name, _)| {
                name.starts_with("probe_ssl_") || name.starts_with("probe_tls_")
            }),
        );
    }
    for (metric, shown) in exported {
        let [kind, help, notes] = told
            .get(metric)
            .unwrap_or_else(|| panic!("{name} does not tell of {metric}"));
        assert_eq!(
            (kind, help),
            (&shown.kind, &shown.help),
            "{metric} in {name}"
        );
        let words: BTreeSet<&str> = quoted(notes).collect();
        for (label, values) in &shown.labels {
            assert!(
                words.contains(&**label),
                "{name} does not tell of the label {label} of {metric}"
            );
            let values = values.iter().filter(|_| values.len() <= MOST_VALUES);
            for value in values.filter(|value| !value.starts_with('/')) {
                assert!(
                    words.contains(&**value) || page.contains(&format!("`{value}`")),
                    "{name} does not tell of {label}={value} of {metric}"
                );
            }
        }
    }
    let invented: Vec<_> = own
        .keys()
        .filter(|name| !exported.contains_key(*name))
        .collect();
    assert!(invented.is_empty(), "{name} tells of {invented:?}");
    let common = table("README.md");
    assert!(common.keys().all(|name| exported.contains_key(name)));
}

#[test]
fn the_tables_of_metrics_are_those_of_the_probes() {
    let tcp = json!({"port": 22, "tls": true, "expect": "(?<a>b)"});
    compare("tcp.md", &exported::<pe_probe::tcp::TcpProbe>(tcp));
    let http = json!({"json": {"/a": "."}});
    compare("http.md", &exported::<pe_probe::http::HttpProbe>(http));
    let dns = json!({"name": "a.test", "transport": "tls"});
    let over_udp = json!({"name": "a.test"});
    let mut dns = exported::<pe_probe::dns::DnsProbe>(dns);
    dns.extend(exported::<pe_probe::dns::DnsProbe>(over_udp));
    compare("dns.md", &dns);
    let udp = json!({"port": 1, "send": "a"});
    compare("udp.md", &exported::<pe_probe::udp::UdpProbe>(udp));
    compare("sntp.md", &exported::<pe_probe::sntp::SntpProbe>(json!({})));
    let exposition = json!({"port": 9100, "tls": true});
    let exposition = exported::<pe_probe::exposition::ExpositionProbe>(exposition);
    compare("exposition.md", &exposition);
    let command = json!({"argv": ["/bin/true"]});
    compare(
        "command.md",
        &exported::<pe_probe::command::CommandProbe>(command),
    );
}

#[test]
fn the_table_of_reasons_is_that_of_the_code() {
    let rows = rows(&page("README.md"), "| reason | means | device |");
    let told: Vec<(&str, bool)> = rows
        .iter()
        .map(|row| {
            let is_unknown = match &*row[2] {
                "unknown" => true,
                "down" => false,
                other => panic!("{other}"),
            };
            (row[0].trim_matches('`'), is_unknown)
        })
        .collect();
    let reasons = Reason::ALL.iter();
    let reasons: Vec<_> = reasons
        .map(|reason| (reason.as_str(), reason.is_unknown()))
        .collect();
    assert_eq!(told, reasons);
}
