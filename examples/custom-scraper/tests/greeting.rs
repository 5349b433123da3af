//! The scraper against a service that greets, one that does not, and nobody.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::net::{IpAddr, TcpListener, TcpStream};
use std::time::Duration;

use example_custom_scraper::factory;
use pe_scrape::{ScraperFactory, ScraperSettings, Target, testkit};
use serde_json::json;

/// The port of a service that greets on 127.0.0.1, that accepts without a word on 127.0.0.2, and that is nowhere else.
fn services() -> u16 {
    let polite = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = polite.local_addr().unwrap().port();
    let silent = TcpListener::bind(("127.0.0.2", port)).unwrap();
    std::thread::spawn(move || {
        for mut stream in polite.incoming().flatten() {
            let _ = stream.write_all(b"220 welcome\r\n");
        }
    });
    std::thread::spawn(move || silent.incoming().flatten().collect::<Vec<TcpStream>>());
    port
}

fn targets() -> Vec<Target> {
    let target = |last| Target::from_ip(IpAddr::from([127, 0, 0, last]));
    (1..=3).map(target).collect()
}

fn settings(own: serde_json::Value) -> ScraperSettings {
    let mut settings = ScraperSettings::default().with_own(own);
    settings.timeout = Duration::from_millis(200);
    settings
}

#[tokio::test]
async fn a_greeting_is_measured_and_silence_is_down() {
    let settings = settings(json!({"port": services()}));
    let scraper = factory().create(&settings).unwrap();
    let frame = testkit::measure(&*scraper, targets(), Duration::from_secs(2)).await;
    assert_eq!(frame.value(0, "greeting_up"), Some(1.0));
    assert!(frame.value(0, "greeting_seconds").unwrap() < 0.2);
    for down in [1, 2] {
        assert_eq!(frame.value(down, "greeting_up"), Some(0.0));
        assert_eq!(frame.value(down, "greeting_seconds"), None);
    }
}

#[tokio::test]
async fn an_engine_can_rely_on_it() {
    testkit::check(
        &factory(),
        &settings(json!({"port": services()})),
        targets(),
    )
    .await;
}

#[test]
fn mistakes_in_settings_are_told() {
    for (own, expected) in [
        (
            json!({"prot": 25}),
            "unknown key `prot` (did you mean `port`?)",
        ),
        (json!({"port": 0}), "port: "),
        (json!({"port": true}), "port: "),
    ] {
        let refused = factory().describe(&settings(own)).unwrap_err().to_string();
        assert!(refused.contains(expected), "{refused}");
    }
}
