//! What a sink logs while a real gateway goes and comes. A program of its own, since log lines are a process's.
#![allow(clippy::unwrap_used)]

mod common;

use std::sync::{Arc, Mutex};

use common::{metric, report, sink};
use pe_scrape::{Sink, with_causes};
use pe_testkit::{Gateway, require};

/// Log lines of this test's subscriber.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn all(&self) -> Vec<String> {
        String::from_utf8_lossy(&self.0.lock().unwrap())
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_gateway_that_goes_and_comes_is_told_once_each_time() {
    require!(Program("prometheus-pushgateway"));
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .without_time()
        .finish();
    let _log = tracing::subscriber::set_default(subscriber);

    let mut gateway = Gateway::start();
    let sink = sink(&gateway.url(), |_| {});
    let publish = |value: f64| sink.publish(report("p", &[("d", "127.0.0.1", value)]));
    publish(1.0);
    sink.flush().await.unwrap();
    assert!(lines.all().is_empty(), "{:?}", lines.all());

    gateway.kill();
    for value in [2.0, 3.0, 4.0] {
        publish(value);
        let error = sink.flush().await.unwrap_err();
        let message = format!(
            "cannot connect to {} (check the address, and that the server runs there)",
            gateway.url()
        );
        assert_eq!(error.to_string(), message);
        let joined = with_causes(&*error);
        let causes = joined.strip_prefix(&message).unwrap();
        assert_eq!(causes.matches("refused").count(), 1, "{joined}");
    }
    assert_eq!(lines.all().len(), 1, "{:?}", lines.all());

    gateway.restart().unwrap();
    // Without new results: those that did not arrive are tried again.
    sink.flush().await.unwrap();
    let series = "dev_ping{device=\"d\",instance=\"\",ip=\"127.0.0.1\",job=\"d\"} 4";
    assert!(gateway.metrics().contains(series));
    let lines = lines.all();
    assert_eq!(lines.len(), 2, "{lines:?}");
    let begins = " WARN pe_push::pushgateway::deliver: pushes fail sink=\"pushgateway\" error=\"cannot connect to http://";
    assert!(
        lines[0].starts_with(begins) && lines[0].contains("refused"),
        "{lines:?}"
    );
    let ends =
        " INFO pe_push::pushgateway::deliver: pushes arrive again sink=\"pushgateway\" failed=";
    assert!(lines[1].starts_with(ends), "{lines:?}");
    let counted =
        |result: &str| metric(&sink, "pingexporter_pushes_total", Some(("result", result)));
    assert_eq!(counted("success"), 4.0);
    assert!(counted("unreachable") >= 6.0);
    assert_eq!(metric(&sink, "pingexporter_push_groups", None), 2.0);
}
