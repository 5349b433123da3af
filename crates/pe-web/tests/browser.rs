//! The pages in a real browser: with its scripts, without them, and with names that would like to be scripts.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use common::{registry, request};
use pe_engine::{Engine, Group};
use pe_web::{History, Server, WebSettings};

/// A name that breaks out of a page that does not escape it, with marks that hide text.
const HOSTILE: &str = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">'\u{202e}\u{7}";

async fn serve() -> SocketAddr {
    let group = Group::builder("plant", Duration::from_millis(500))
        .scraper("up", serde_json::Value::Null)
        .device("works-{ip}", "127.0.1.0/27")
        .device("broken", "127.0.0.1")
        .device(HOSTILE, "127.0.0.2")
        .device("n".repeat(10_000), "127.0.0.3");
    let history = Arc::new(History::default());
    let engine = Engine::builder(registry())
        .group(group.build().unwrap())
        .sink("history", history.clone())
        .build()
        .unwrap();
    let mut settings = WebSettings::from("127.0.0.1:0".parse::<SocketAddr>().unwrap());
    settings.history = Some(history.clone());
    let server = Server::bind(settings).await.unwrap();
    let address = server.local_addr();
    tokio::spawn(server.serve(engine.handle(), std::future::pending()));
    tokio::spawn(engine.run(std::future::pending()));
    let ready = async {
        while !request(address, "GET /api/v1/devices?state=down HTTP/1.1")
            .await
            .contains("\"total\":1,")
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), ready)
        .await
        .unwrap();
    address
}

/// The document as the browser has it after a while, its scripts included.
async fn document(url: String) -> String {
    let profile = tempfile::tempdir().unwrap();
    let mut command = Command::new("chromium");
    command
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-extensions",
        ])
        .args(["--no-proxy-server", "--timeout=3000", "--dump-dom"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(url);
    let output = tokio::task::spawn_blocking(move || command.output());
    let output = tokio::time::timeout(Duration::from_secs(60), output).await;
    let output = output.unwrap().unwrap().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test]
async fn the_pages_live_in_a_browser_and_hostile_names_stay_text() {
    pe_testkit::require!(Program("chromium"));
    let address = serve().await;
    let page = document(format!("http://{address}/")).await;
    assert!(page.contains("1 down · "), "{page}");
    // The script, which the policy allows by its hash, shows the button.
    assert!(
        page.contains("<button id=\"pause\" type=\"button\" aria-pressed=\"false\">"),
        "{page}"
    );
    assert!(!page.contains("<title>owned"), "{page}");

    let page = document(format!("http://{address}/?q=script&sort=-name")).await;
    assert!(page.contains("1–1 of 1"), "{page}");
    assert!(
        page.contains("&lt;script&gt;document.title='owned'&lt;/script&gt;&lt;img"),
        "{page}"
    );
    assert!(page.contains("\\u{202e}\\u{7}"), "{page}");
    assert!(
        !page.contains("<title>owned") && !page.contains("<img"),
        "{page}"
    );

    let id = page.split("href=\"device/").nth(1).unwrap();
    let id = id.split('"').next().unwrap();
    let page = document(format!(
        "http://{address}/device/{id}?span=cycles&scale=log"
    ))
    .await;
    assert!(
        page.contains("Changes of state") && page.contains("<span id=\"steps\">"),
        "{page}"
    );
    assert!(
        !page.contains("<title>owned") && !page.contains("<img"),
        "{page}"
    );
}
