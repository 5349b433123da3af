//! The status page of a running program in a real browser, while everything goes wrong that can: devices that are down, lose
//! requests or cannot be asked, a gateway that is not there, a configuration that is refused.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use common::{Agent, Files, device, push_to};
use pe_testkit::{Browser, Family, Nginx, Scenario, Simnet, in_namespace, require};
use serde_json::json;

/// Where `cargo xtask packages` puts it.
const AXE: &str = concat!(
    env!("CARGO_TARGET_TMPDIR"),
    "/axe/node_modules/axe-core/axe.min.js"
);

/// A name that breaks out of a page that does not escape it, with marks that hide text, 10 kB long.
fn hostile() -> String {
    let start = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">'&amp;\u{202e}\u{7}\u{1b}[31m";
    format!("{start}{}", "n".repeat(10_000 - start.len()))
}

/// A site with devices of each state, behind an agent with a gateway that is not there.
fn troubled(network: &Simnet) -> (Files, Agent, SocketAddr) {
    let address = |host| network.address(host).to_string();
    let mut devices = vec![
        device("works", &address(1)),
        device("far", &address(2)),
        device("loses", &address(3)),
        device("silent", &address(99)),
        device("nowhere", "203.0.113.7"),
        device(&hostile(), &address(4)),
    ];
    devices[0]["labels"] = json!({ "line": "2", "note": hostile() });
    let conf = json!({ "prom_id": "machines", "interval": "500ms", "timeout": "200ms", "count": 3, "probe_interval": "50ms" });
    let files = Files::new()
        .group("machines.json", &json!({ "conf": conf, "jobs": devices }))
        .group(
            "loop.json",
            &common::group("loop", &[device("self", "127.0.0.1")]),
        )
        .push(&push_to("http://127.0.0.1:9"));
    let (agent, address) = files.serve(&[]);
    agent.await_log("started");
    (files, agent, address)
}

fn scenario() -> Scenario {
    serde_json::from_value(json!({
        "about": "Devices that answer, that are far, and that lose every third request",
        "devices": [
            { "hosts": 1, "delay": { "mean_ms": 2, "deviation_ms": 0.3 } },
            { "hosts": 2, "delay": { "mean_ms": 40, "deviation_ms": 6 } },
            { "hosts": 3, "delay": 5, "faults": [{ "when": { "every": 3 }, "do": "drop" }] },
            { "hosts": 4, "delay": 1 },
        ],
    }))
    .unwrap()
}

#[test]
fn axe_finds_nothing_wrong_while_everything_else_is() {
    require!(Tun, Program("chromium"), Program("chromedriver"), File(AXE));
    in_namespace(|namespace| {
        let network = Simnet::start(namespace, &scenario(), Family::V4);
        let (files, agent, address) = troubled(&network);
        fs::write(
            files.configs().join("broken.json"),
            "{\"conf\": {\"prom_id\": 7}",
        )
        .unwrap();
        let browser = Browser::start();
        let overview = format!("http://{address}/");
        browser.open(&overview);
        browser.wait("document.querySelector('#reload')!=null");
        browser.wait("document.querySelector('#sink').textContent.includes('failing')");
        browser.wait("document.querySelectorAll('.dev .st.d, .dev .st.q, .dev .st.l').length==3");
        let device = |name: &str| {
            let found = format!(
                "[...document.querySelectorAll('.dev td:nth-child(2) a')].find(a=>a.textContent.startsWith('{name}')).href"
            );
            browser.eval(&found).as_str().unwrap().to_owned()
        };
        let [loses, silent, far] = ["loses", "silent", "far"].map(device);
        let pages = [
            overview.clone(),
            format!("{overview}?q=nothing-is-called-so"),
            format!("{loses}?span=cycles"),
            format!("{silent}?span=3h"),
            format!("{far}?span=1d&scale=log"),
        ];
        let mut found = Vec::new();
        for (scheme, phone) in [("light", None), ("dark", None), ("light", Some(390))] {
            browser.prefer(scheme);
            browser.emulate_phone(phone);
            for page in &pages {
                browser.open(page);
                browser.wait("document.querySelector('#live').textContent=='live'");
                for violation in browser.violations(Path::new(AXE)) {
                    found.push(format!("{scheme}, {phone:?}, {page}: {violation}"));
                }
            }
        }
        assert!(found.is_empty(), "{}", found.join("\n"));
        // It would have found something.
        browser.run("document.querySelector('#steps button').removeAttribute('aria-label'); document.documentElement.lang = ''");
        let found = browser.violations(Path::new(AXE));
        assert!(!found.is_empty(), "axe-core looked at nothing");
        assert!(agent.stop().success());
    });
}

/// The links to the devices of the table, in order.
const LINKS: &str = "[...document.querySelectorAll('.dev td:nth-child(2) a')]";

/// Nothing of a hostile name became a part of the page.
fn assert_harmless(browser: &Browser) {
    assert_eq!(
        browser
            .eval("document.title=='owned'||document.images.length>0||document.scripts.length!=1"),
        false
    );
}

#[test]
fn the_pages_work_below_a_path_by_keyboard_and_with_hostile_names() {
    require!(
        Tun,
        Program("chromium"),
        Program("chromedriver"),
        Program("nginx")
    );
    in_namespace(|namespace| {
        let network = Simnet::start(namespace, &scenario(), Family::V4);
        let (_files, agent, address) = troubled(&network);
        let directives = format!(
            "location /site/7/ {{ proxy_pass http://{address}/; proxy_http_version 1.1; proxy_buffering off; }}"
        );
        let nginx = Nginx::with_directives(address, &directives);
        let browser = Browser::start();
        browser.open(&format!("{}/site/7/", nginx.url()));
        // Events come through the proxy, and what is new with them.
        browser.wait("document.querySelector('#live').textContent=='live'");
        browser.wait("document.querySelectorAll('.dev .st.d, .dev .st.q, .dev .st.l').length==3");
        assert_harmless(&browser);
        browser.wait(&format!(
            "{LINKS}.some(a=>a.textContent.startsWith('<script>document.title'))"
        ));

        // The first key leads past what is on every page.
        browser.press('\u{e004}');
        assert_eq!(browser.eval("document.activeElement.className"), "skip");
        browser.press('\u{e007}');
        assert_eq!(browser.eval("location.hash"), "#main");
        // From there one key after another, to the name of a device.
        let mut seen = Vec::new();
        while browser.eval("document.activeElement.pathname?.includes('/device/')") != true {
            browser.press('\u{e004}');
            let here = browser.eval(
                "getComputedStyle(document.activeElement).outlineStyle+' '+document.activeElement.textContent.slice(0,30)",
            );
            let here = here.as_str().unwrap().to_owned();
            assert!(
                here.starts_with("solid") || here.starts_with("auto"),
                "no ring: {here}"
            );
            seen.push(here);
            assert!(
                seen.len() < 60,
                "the focus never comes to a device: {seen:?}"
            );
        }
        assert!(
            seen.iter().any(|here| here.ends_with("timeout")),
            "{seen:?}"
        );
        browser.press('\u{e007}');
        browser.wait("location.pathname.startsWith('/site/7/device/')");
        browser.wait("document.querySelector('#live').textContent=='live'");
        browser.click(".path a");
        browser.wait("location.pathname=='/site/7/'");

        // What is typed is a text, whatever it is.
        browser.write("#q", "</script><img src=x onerror=alert(1)>");
        browser.wait(
            "location.search.includes('onerror') && document.querySelector('#list .big')!=null",
        );
        assert_harmless(&browser);
        browser.eval("history.replaceState(null,'','./')");

        // The page of the hostile device has its whole name and labels, as text.
        browser.open(&format!("{}/site/7/?q=script", nginx.url()));
        browser.wait(&format!("{LINKS}.length==2"));
        for place in [0, 1] {
            browser.open(&format!("{}/site/7/?q=script&sort=name", nginx.url()));
            let link = browser.eval(&format!("{LINKS}[{place}].href"));
            browser.open(link.as_str().unwrap());
            browser.wait("document.querySelector('#live').textContent=='live'");
            assert_harmless(&browser);
            browser.wait("document.documentElement.scrollWidth<=innerWidth");
            let whole = "[...document.querySelectorAll('details.in bdi')].some(b=>b.textContent.length>9000&&b.textContent.includes('\\\\u{202e}\\\\u{7}\\\\u{1b}[31m'))";
            assert_eq!(browser.eval(whole), true, "{place}");
        }
        assert!(agent.stop().success());
    });
}

#[test]
fn the_pages_are_useful_without_scripts() {
    require!(Tun, Program("chromium"), Program("chromedriver"));
    in_namespace(|namespace| {
        let network = Simnet::start(namespace, &scenario(), Family::V4);
        let (_files, agent, address) = troubled(&network);
        let browser = Browser::start();
        browser.open(&format!("http://{address}/"));
        browser.wait("document.querySelectorAll('.dev .st.d, .dev .st.q, .dev .st.l').length==3");
        browser.without_scripts(true);
        browser.open(&format!("http://{address}/?refresh=5"));
        browser.wait("document.querySelector('#pause').hidden && document.querySelector('meta[http-equiv=refresh]').content=='5'");
        browser.open(&format!("http://{address}/"));
        browser.write("#q", "o");
        browser.click("form button[type=submit]");
        browser.wait("location.search.includes('q=o')");
        browser.wait(&format!(
            "{LINKS}.some(a=>a.textContent=='works') && !{LINKS}.some(a=>a.textContent=='far')"
        ));
        browser.click(".dev th:nth-child(2) a");
        browser.wait("location.search.includes('q=o') && location.search.includes('sort=name')");
        browser.wait(&format!("{LINKS}[1].textContent=='loses'"));
        browser.click("#states a:nth-child(4)");
        browser.wait(&format!("{LINKS}.map(a=>a.textContent).join()=='loses'"));
        browser.click(".dev td:nth-child(2) a");
        browser.wait("document.querySelector('h1').textContent=='loses' && document.querySelector('svg.pl')!=null");
        browser.click(".tool nav a:nth-child(1)");
        browser.wait(
            "location.search=='?span=cycles' && document.querySelectorAll('.pl .m').length>0",
        );
        browser.click("#graph summary");
        browser.wait("document.querySelector('#values').offsetHeight>100");
        assert!(agent.stop().success());
    });
}
