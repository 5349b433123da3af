//! What a sink logs while a real gateway goes and comes. A program of its own, since log lines are a process's.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use pe_push::{Pushgateway, PushgatewaySink, SinkOptions};
use pe_scrape::{CycleReport, FrameBuilder, LabelSet, MetricDescriptor, Sink};
use pe_testkit::{Gateway, require};

fn report(value: f64) -> Arc<CycleReport> {
    let mut report = CycleReport::new("p", 0, SystemTime::now());
    let metrics = [MetricDescriptor::gauge("dev_ping", "Ping to device (ms)")];
    let labels = LabelSet::new([("device", "d"), ("ip", "127.0.0.1")]).unwrap();
    let frame = FrameBuilder::new(&metrics)
        .unwrap()
        .row(labels, &[value])
        .build();
    report.devices = vec![Arc::new(frame)];
    Arc::new(report)
}

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
        .finish();
    let _log = tracing::subscriber::set_default(subscriber);

    let mut gateway = Gateway::start();
    let client = Pushgateway::new(&gateway.url()).unwrap();
    let sink = PushgatewaySink::new(client, SinkOptions::default());
    let publish = |value: f64| sink.publish(report(value));
    publish(1.0);
    sink.flush().await.unwrap();
    assert!(lines.all().is_empty(), "{:?}", lines.all());

    gateway.kill();
    for value in [2.0, 3.0, 4.0] {
        publish(value);
        let error = sink.flush().await.unwrap_err().to_string();
        assert!(error.contains("cannot connect"), "{error}");
    }
    assert_eq!(lines.all().len(), 1, "{:?}", lines.all());

    gateway.restart().unwrap();
    // Without new results: those that did not arrive are tried again.
    sink.flush().await.unwrap();
    assert!(
        gateway
            .metrics()
            .contains("dev_ping{device=\"d\",instance=\"\",ip=\"127.0.0.1\",job=\"d\"} 4")
    );
    let lines = lines.all();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(
        lines[0].contains("WARN") && lines[0].contains("cannot connect to"),
        "{lines:?}"
    );
    assert!(
        lines[1].contains("INFO") && lines[1].contains("arrive again"),
        "{lines:?}"
    );
    let counted = |result: &str| {
        let frames = sink.metrics();
        let row = frames[0]
            .rows()
            .iter()
            .position(|row| row.get("result") == Some(result))
            .unwrap();
        frames[0].value(row, "pingexporter_pushes_total").unwrap()
    };
    assert_eq!(counted("success"), 4.0);
    assert!(counted("unreachable") >= 6.0);
}
