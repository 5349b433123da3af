//! The shapes of the API, which scripts rely on; docs/api.md says what the fields mean.
#![allow(clippy::unwrap_used)]

mod common;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use common::{registry, request};
use pe_engine::{Engine, Group};
use pe_web::{History, Server, WebSettings};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn serve() -> SocketAddr {
    let address = serve_with(History::default()).await;
    // The latest results are there before the history has them.
    until_true(async || {
        json(address, "/api/v1/devices?state=down").await["devices"][0]["since"].is_number()
    })
    .await;
    address
}

async fn serve_with(history: History) -> SocketAddr {
    let group = Group::builder("plant", Duration::from_millis(200))
        .scraper("up", Value::Null)
        .scraper("succeeds", Value::Null)
        .device("press-{ip}", "127.0.1.0/28")
        .device("broken", "127.0.0.1");
    let history = Arc::new(history);
    let engine = Engine::builder(registry())
        .group(group.build().unwrap())
        .sink("history", history.clone())
        .build()
        .unwrap();
    let mut settings = WebSettings::from("127.0.0.1:0".parse::<SocketAddr>().unwrap());
    settings.history = Some(history);
    let server = Server::bind(settings).await.unwrap();
    let address = server.local_addr();
    tokio::spawn(server.serve(engine.handle(), std::future::pending()));
    tokio::spawn(engine.run(std::future::pending()));
    until_true(async || json(address, "/api/v1/devices?state=down").await["total"] == 1).await;
    address
}

async fn until_true(mut is_so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(30), waiting).await;
    waited.expect("the results never come");
}

async fn json(address: SocketAddr, path: &str) -> Value {
    let response = request(address, &format!("GET {path} HTTP/1.0")).await;
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-type: application/json"), "{head}");
    serde_json::from_str(body).unwrap()
}

/// All fields by their paths; those of a list's members stand once.
fn shape(value: &Value) -> String {
    fn collect(value: &Value, path: &str, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    collect(value, &format!("{path}.{name}"), found);
                }
            }
            Value::Array(members) if !members.is_empty() => {
                for member in members {
                    collect(member, &format!("{path}[]"), found);
                }
            }
            _ => {
                found.insert(path.trim_start_matches('.').to_owned());
            }
        }
    }
    let mut found = BTreeSet::new();
    collect(value, "", &mut found);
    found.into_iter().collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn the_shapes_are_those_that_are_documented() {
    let address = serve().await;
    assert_eq!(
        shape(&json(address, "/api/v1/status").await),
        "build.version clock.ahead_of_receiver clock.synchronized devices.down devices.history[].down devices.history[].losing devices.history[].start \
         devices.history[].unknown devices.losing devices.loss_bands[] devices.reasons.down[][] devices.total \
         devices.unknown devices.up devices.waiting groups[].cycle groups[].devices groups[].file groups[].finished \
         groups[].interval groups[].is_stale groups[].name groups[].overruns_1h groups[].states.down \
         groups[].states.losing groups[].states.unknown groups[].states.up groups[].states.waiting listen[] newest_result now problems \
         process.resident_bytes reload.attempted reload.diagnostics reload.successful sinks site sockets.receive_drops sockets.replies_received sockets.requests_sent sockets.send_errors started state watched"
    );
    let row = "address device group id ip jitter loss_recent reason rtt since state trace[].loss trace[].rtt trace[].state";
    let list = json(address, "/api/v1/devices?limit=2").await;
    let rows: Vec<String> = row
        .split(' ')
        .map(|field| format!("devices[].{field}"))
        .collect();
    let own =
        "limit offset states.down states.losing states.unknown states.up states.waiting total";
    assert_eq!(shape(&list), format!("{} {own}", rows.join(" ")));
    let id = list["devices"][0]["id"].as_str().unwrap();
    assert_eq!(
        shape(&json(address, &format!("/api/v1/devices/{id}")).await),
        "address changes[].at changes[].reason changes[].state device errors group history.basis history.slots[].is_best_to_worst \
         history.slots[].loss history.slots[].median history.slots[].quantiles[] history.slots[].seconds \
         history.slots[].start history.slots[].state history.span id interval ip jitter labels[][] latest[].help \
         latest[].name latest[].value loss_recent measured next number of previous.device previous.id reason rtt since state trace[].loss \
         trace[].rtt trace[].state"
    );
}

#[tokio::test]
async fn a_list_is_filtered_sorted_and_cut() {
    let address = serve().await;
    let worst = json(address, "/api/v1/devices?limit=1").await;
    assert_eq!(
        (&worst["devices"][0]["device"], &worst["total"]),
        (&"broken".into(), &15.into())
    );
    let found = json(
        address,
        "/api/v1/devices?filter=PRESS-&sort=-address&limit=3&offset=1",
    )
    .await;
    let names: Vec<&str> = found["devices"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["ip"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["127.0.1.13", "127.0.1.12", "127.0.1.11"]);
    assert_eq!(
        (&found["total"], &found["states"]["down"]),
        (&14.into(), &0.into())
    );
    let none = json(address, "/api/v1/devices?group=other").await;
    assert_eq!(none["devices"], Value::Array(Vec::new()));
    for path in [
        "/api/v1/devices/0000000000000000",
        "/api/v1/devices/x",
        "/device/%2e%2e",
    ] {
        let response = request(address, &format!("GET {path} HTTP/1.1")).await;
        assert!(response.starts_with("HTTP/1.1 404"), "{path}: {response}");
    }
}

#[tokio::test]
async fn without_memory_for_the_past_there_are_the_latest_results() {
    let address = serve_with(History::with_bytes(0)).await;
    let list = json(address, "/api/v1/devices?sort=name").await;
    assert_eq!(
        (
            &list["total"],
            &list["states"]["up"],
            &list["states"]["down"]
        ),
        (&15.into(), &14.into(), &1.into())
    );
    let broken = &list["devices"][0];
    assert_eq!(
        (&broken["state"], &broken["trace"]),
        (&"down".into(), &Value::Array(Vec::new()))
    );
    let device = json(
        address,
        &format!("/api/v1/devices/{}", broken["id"].as_str().unwrap()),
    )
    .await;
    assert_eq!(
        (&device["state"], &device["history"]["slots"]),
        (&"down".into(), &Value::Array(Vec::new()))
    );
    let status = json(address, "/api/v1/status").await;
    assert_eq!(
        (&status["devices"]["up"], &status["devices"]["down"]),
        (&14.into(), &1.into())
    );
    let page = request(address, "GET / HTTP/1.0").await;
    assert!(page.contains("broken") && page.contains("1 down"), "{page}");
    let events = events_of(address, 1).await;
    assert!(events.contains("\"down\":1"), "{events}");
}

#[tokio::test]
async fn cycles_are_told_as_they_finish() {
    let seen = events_of(serve().await, 2).await;
    assert!(
        seen.contains("content-type: text/event-stream") && seen.contains("\"down\":1"),
        "{seen}"
    );
}

/// The stream of events up to so many cycles.
async fn events_of(address: SocketAddr, cycles: usize) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream
        .write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut seen = String::new();
    let events = async {
        while seen.matches("\"group\":\"plant\"").count() < cycles {
            let mut buffer = [0; 4096];
            let read = stream.read(&mut buffer).await.unwrap();
            assert!(read > 0, "{seen}");
            seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    };
    tokio::time::timeout(Duration::from_secs(30), events)
        .await
        .unwrap();
    seen
}
