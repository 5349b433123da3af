//! The overview and a device's page, used as a person uses them: by a browser that a driver clicks and types in.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::registry;
use pe_engine::{Engine, Group};
use pe_testkit::Browser;
use pe_web::{History, Server, WebSettings};
use tokio::runtime::{Builder, Runtime};

/// The server and its engine, all of which ends with the runtime.
struct Agent(Runtime);

impl Agent {
    fn start(address: &str, group: &str) -> (Self, SocketAddr) {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let group = Group::builder(group, Duration::from_millis(300))
            .scraper("up", serde_json::Value::Null)
            .device("works-{ip}", "127.0.1.0/27")
            .device("broken", "127.0.0.1");
        let history = Arc::new(History::default());
        let address = runtime.block_on(async {
            let engine = Engine::builder(registry())
                .group(group.build().unwrap())
                .sink("history", history.clone())
                .build()
                .unwrap();
            let mut settings = WebSettings::from(address.parse::<SocketAddr>().unwrap());
            settings.history = Some(history);
            let server = Server::bind(settings).await.unwrap();
            let address = server.local_addr();
            tokio::spawn(server.serve(engine.handle(), std::future::pending()));
            tokio::spawn(engine.run(std::future::pending()));
            address
        });
        (Self(runtime), address)
    }

    fn stop(self) {
        self.0.shutdown_timeout(Duration::from_secs(5));
    }
}

const NAMES: &str = "[...document.querySelectorAll('.dev td:nth-child(2)')].map(c=>c.textContent)";

/// Tables and the like that are wider than what they are in.
const TOO_WIDE: &str = "[...document.querySelectorAll('main,section,table,nav,form,svg')].filter(e=>\
    e.getBoundingClientRect().right>e.parentElement.getBoundingClientRect().right+1).map(e=>e.outerHTML.slice(0,80)).join()";

#[test]
fn the_pages_are_used_by_mouse_and_keyboard_and_survive_a_restart() {
    pe_testkit::require!(Program("chromium"), Program("chromedriver"));
    let (agent, address) = Agent::start("127.0.0.1:0", "plant");
    let browser = Browser::start();
    browser.open(&format!("http://{address}/"));
    browser.wait("document.querySelector('#live').textContent=='live'");
    browser.wait("document.title.startsWith('1 down')");
    browser.wait(&format!("{NAMES}[0]=='broken' && {NAMES}.length==25"));

    // Nothing reaches over its neighbour, at any breakpoint.
    for width in [1300, 1230, 1030, 900, 700, 500] {
        browser.resize(width, 900);
        browser.wait(&format!("innerWidth=={width}"));
        assert_eq!(browser.eval(TOO_WIDE), "", "{width}");
    }
    browser.resize(1280, 900);

    // A click on a head sorts, a second one turns it round.
    browser.click(".dev th:nth-child(2) a");
    browser.wait("location.search=='?sort=name' && document.readyState=='complete'");
    browser.wait(&format!(
        "{NAMES}[0]=='broken' && {NAMES}[1]=='works-127.0.1.1'"
    ));
    browser.click(".dev th:nth-child(2) a");
    browser.wait(&format!("{NAMES}[0]=='works-127.0.1.9'"));
    assert_eq!(
        browser.eval("document.querySelector('[aria-sort]').getAttribute('aria-sort')"),
        "descending"
    );

    // What is typed filters without the page being loaded again, and has an address.
    browser.eval("window.loaded=1");
    browser.write("#q", "1.30");
    browser.wait(&format!("{NAMES}.join()=='works-127.0.1.30'"));
    assert_eq!(browser.eval("window.loaded"), 1);
    browser.wait("location.search.includes('q=1.30') && location.search.includes('sort=-name')");

    // The device's page, which takes in what is new by itself.
    browser.click(".dev td:nth-child(2) a");
    browser.wait("location.pathname.startsWith('/device/')");
    browser.wait("document.querySelector('h1').textContent=='works-127.0.1.30'");
    browser.eval("window.loaded=2");
    browser.eval("window.seen=document.querySelector('#facts h2 i').textContent");
    browser.wait("document.querySelector('#facts h2 i').textContent!=window.seen");
    browser.click("#steps button");
    browser.wait("document.querySelector('.cur')!=null");
    browser.eval("window.seen=document.querySelector('#facts h2 i').textContent");
    browser.wait("document.querySelector('#facts h2 i').textContent!=window.seen");
    browser.wait("document.querySelector('.cur')!=null");

    // Without the agent the page says so; with the next one it goes on.
    agent.stop();
    browser.wait("document.querySelector('#live').textContent.startsWith('no connection')");
    let (agent, _) = Agent::start(&address.to_string(), "plant");
    browser.wait("document.querySelector('#live').textContent=='live'");
    browser.wait("document.querySelector('#said').textContent!=''");
    browser.wait("document.querySelector('h1').textContent=='works-127.0.1.30'");
    assert_eq!(browser.eval("window.loaded"), 2);
    agent.stop();
}
