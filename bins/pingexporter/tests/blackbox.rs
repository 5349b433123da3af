//! Probes beside blackbox_exporter's of the same servers: same names, types and labels, same values; what differs is in
//! docs/probes/README.md.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;

use common::Files;
use pe_testkit::{NameServer, Nginx, Server, require, wait};
use serde_json::{Value, json};

/// Labels that only ours have, and one that has addresses too with us.
const OURS: [&str; 6] = [
    "device",
    "exporter",
    "ip",
    "probe",
    "serialnumber",
    "subjectalternative",
];

/// Names that are there always, and here where they mean something: the serial number of a zone where it is in the answer, the rest where
/// there was an answer.
const ONLY_WHERE_KNOWN: [&str; 4] = [
    "probe_dns_serial",
    "probe_http_version",
    "probe_http_content_length",
    "probe_http_uncompressed_body_length",
];

/// Values that are the same whoever measures.
const SAME: [&str; 18] = [
    "probe_success",
    "probe_ip_protocol",
    "probe_ip_addr_hash",
    "probe_failed_due_to_regex",
    "probe_http_status_code",
    "probe_http_version",
    "probe_http_redirects",
    "probe_http_ssl",
    "probe_http_content_length",
    "probe_http_uncompressed_body_length",
    "probe_http_last_modified_timestamp_seconds",
    "probe_ssl_earliest_cert_expiry",
    "probe_ssl_last_chain_expiry_timestamp_seconds",
    "probe_ssl_last_chain_info",
    "probe_dns_query_succeeded",
    "probe_dns_answer_rrs",
    "probe_dns_authority_rrs",
    "probe_dns_additional_rrs",
];

/// The types of a page, and the series of each name: labels and value.
#[derive(Debug, Default)]
struct Page {
    types: BTreeMap<String, String>,
    series: BTreeMap<String, BTreeMap<BTreeMap<String, String>, f64>>,
}

impl Page {
    /// The series of a page that `takes` says yes to, without labels that only ours have.
    fn read(text: &str, takes: impl Fn(&BTreeMap<String, String>) -> bool) -> Self {
        let mut page = Self::default();
        for line in text.lines() {
            if let Some(told) = line.strip_prefix("# TYPE ") {
                let (name, kind) = told.split_once(' ').unwrap();
                page.types.insert(name.to_owned(), kind.to_owned());
            }
            let Some((series, value)) = line.rsplit_once(' ').filter(|_| !line.starts_with('#'))
            else {
                continue;
            };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let labels = labels.trim_end_matches('}').trim_end_matches('"');
            let labels = labels.split("\",").filter(|label| !label.is_empty());
            let mut labels: BTreeMap<String, String> = labels
                .map(|label| label.split_once("=\"").unwrap())
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            if !takes(&labels) {
                continue;
            }
            labels.retain(|name, _| !OURS.contains(&&**name));
            let series = page.series.entry(name.to_owned()).or_default();
            series.insert(labels, value.parse().unwrap());
        }
        page
    }

    /// Names of labels of a name, and values of those whose values are few.
    fn labels(&self, name: &str) -> BTreeSet<(String, Option<String>)> {
        let series = self.series[name].keys().flatten();
        let few = ["phase", "version"];
        series
            .map(|(label, value)| {
                (
                    label.clone(),
                    few.contains(&&**label).then(|| value.clone()),
                )
            })
            .collect()
    }
}

fn blackbox(modules: &Value) -> Server {
    let modules = json!({ "modules": modules }).to_string();
    let server = Server::start("blackbox", "/", move |address, directory| {
        let file = directory.join("blackbox.yml");
        fs::write(&file, &modules)?;
        let mut command = pe_testkit::command("prometheus-blackbox-exporter");
        command
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--web.listen-address={address}"));
        Ok(command)
    });
    server.unwrap()
}

/// A probe: its name, blackbox_exporter's prober and settings, its target, and our entry.
struct Case {
    name: &'static str,
    module: Value,
    target: String,
    ours: Value,
}

fn cases(web: SocketAddr, secure: &Nginx, names: SocketAddr, closed: SocketAddr) -> Vec<Case> {
    let (web, names, closed) = (web.port(), names.port(), closed.port());
    let tls = secure.address().port();
    let ca = secure.certificate();
    let trust = json!({"ca_file": ca});
    let http = |further: Value| json!({"prober": "http", "timeout": "5s", "http": further});
    let tcp = |further: Value| json!({"prober": "tcp", "timeout": "5s", "tcp": further});
    let dns = |kind: &str| json!({"prober": "dns", "timeout": "5s", "dns": {"query_name": "router.test", "query_type": kind, "preferred_ip_protocol": "ip4"}});
    let four = |mut settings: Value| {
        settings["preferred_ip_protocol"] = "ip4".into();
        settings
    };
    vec![
        Case {
            name: "page",
            module: http(four(json!({"fail_if_body_not_matches_regexp": ["well"]}))),
            target: format!("http://localhost:{web}/page"),
            ours: json!({"http": {"port": web, "path": "/page", "body": "well"}}),
        },
        Case {
            name: "another-page",
            module: http(four(json!({"fail_if_body_not_matches_regexp": ["ill"]}))),
            target: format!("http://localhost:{web}/page"),
            ours: json!({"http": {"port": web, "path": "/page", "body": "ill"}}),
        },
        Case {
            name: "moved",
            module: http(four(json!({}))),
            target: format!("http://localhost:{web}/moved"),
            ours: json!({"http": {"port": web, "path": "/moved"}}),
        },
        Case {
            name: "secure",
            module: http(four(json!({"tls_config": trust}))),
            target: format!("https://localhost:{tls}/page"),
            ours: json!({"http": {"port": tls, "path": "/page", "tls": trust}}),
        },
        Case {
            name: "no-web",
            module: http(four(json!({}))),
            target: format!("http://localhost:{closed}/"),
            ours: json!({"http": {"port": closed}}),
        },
        Case {
            name: "open",
            module: tcp(four(json!({}))),
            target: format!("localhost:{web}"),
            ours: json!({"tcp": {"port": web}}),
        },
        Case {
            name: "closed",
            module: tcp(four(json!({}))),
            target: format!("localhost:{closed}"),
            ours: json!({"tcp": {"port": closed}}),
        },
        Case {
            name: "dialogue",
            module: tcp(four(
                json!({"query_response": [{"send": "GET / HTTP/1.0\r\n\r\n"}, {"expect": "^HTTP/1.[01] "}]}),
            )),
            target: format!("localhost:{web}"),
            ours: json!({"tcp": {"port": web, "send": "GET / HTTP/1.0\r\n\r\n", "expect": "^HTTP/1.[01] "}}),
        },
        Case {
            name: "other-dialogue",
            module: tcp(four(
                json!({"query_response": [{"send": "GET / HTTP/1.0\r\n\r\n"}, {"expect": "^SSH"}]}),
            )),
            target: format!("localhost:{web}"),
            ours: json!({"tcp": {"port": web, "send": "GET / HTTP/1.0\r\n\r\n", "expect": "^SSH"}}),
        },
        Case {
            name: "tls",
            module: tcp(four(json!({"tls": true, "tls_config": trust}))),
            target: format!("localhost:{tls}"),
            ours: json!({"tcp": {"port": tls, "tls": trust}}),
        },
        Case {
            name: "name",
            module: dns("A"),
            target: format!("localhost:{names}"),
            ours: json!({"dns": {"port": names, "name": "router.test", "edns": false}}),
        },
        Case {
            name: "zone",
            module: dns("SOA"),
            target: format!("localhost:{names}"),
            ours: json!({"dns": {"port": names, "name": "router.test", "type": "SOA", "edns": false}}),
        },
    ]
}

#[test]
fn probes_tell_what_blackbox_exporter_tells() {
    require!(
        Program("nginx"),
        Program("openssl"),
        Program("dnsmasq"),
        Program("prometheus-blackbox-exporter")
    );
    let closed = pe_testkit::free_port().unwrap();
    let modified = "add_header Last-Modified \"Sun, 06 Nov 1994 08:49:37 GMT\";";
    let pages = format!(
        "location = / {{ return 204; }} location = /page {{ {modified} return 200 \"all is well\\n\"; }} location = /moved {{ return 302 /page; }}"
    );
    let web = Nginx::with_directives(closed, &pages);
    let secure = Nginx::with_tls(web.address());
    let names = NameServer::start("192.0.2.7 router.test\n");
    let cases = cases(web.address(), &secure, names.address(), closed);
    let modules = cases
        .iter()
        .map(|case| (case.name.to_owned(), case.module.clone()));
    let blackbox = blackbox(&Value::Object(modules.collect()));
    let jobs = cases.iter().map(
        |case| json!({"job": case.name, "ip": "localhost", "family": "4", "metrics": [case.ours]}),
    );
    let group = json!({
        "conf": {"prom_id": "p", "interval": "6s", "timeout": "5s"},
        "jobs": jobs.collect::<Vec<_>>(),
    });
    let once = Files::new().group("g.json", &group).once();
    let told = String::from_utf8_lossy(&once.stderr);
    assert!(once.status.success(), "{told}");
    let ours = String::from_utf8(once.stdout).unwrap();
    for case in &cases {
        let of_case = |labels: &BTreeMap<String, String>| {
            labels
                .get("device")
                .is_some_and(|device| device == case.name)
        };
        let ours = Page::read(&ours, of_case);
        let path = format!("/probe?module={}&target={}", case.name, case.target);
        let theirs = wait::until("dnsmasq", || {
            let page = blackbox.get(&path).ok()?.text();
            let is_served = case.module["prober"] != "dns" || page.contains("_succeeded 1");
            is_served.then_some(page)
        });
        compare(case.name, &ours, &Page::read(&theirs, |_| true));
    }
}

fn compare(case: &str, ours: &Page, theirs: &Page) {
    for (name, series) in &theirs.series {
        let Some(own) = ours.series.get(name) else {
            assert!(
                ONLY_WHERE_KNOWN.contains(&&**name),
                "{case}: {name} is told by blackbox_exporter alone"
            );
            continue;
        };
        assert_eq!(ours.types[name], theirs.types[name], "{case}: {name}");
        // Over UDP there is no connection.
        let expected = theirs.labels(name).into_iter();
        let expected = expected.filter(|(_, value)| {
            name != "probe_dns_duration_seconds" || value.as_deref() != Some("connect")
        });
        let missing: Vec<_> = expected
            .filter(|label| !ours.labels(name).contains(label))
            .collect();
        assert!(missing.is_empty(), "{case}: {name} has no {missing:?}");
        if SAME.contains(&&**name) {
            assert_eq!(own, series, "{case}: {name}");
        }
    }
}
