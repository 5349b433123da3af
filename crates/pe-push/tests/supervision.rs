//! A sink's task whose log lines panic. A program of its own, since log lines are a process's.
#![allow(clippy::unwrap_used)]

mod common;

use common::{metric, report, sink, until};
use pe_scrape::Sink;
use pe_testkit::{Gateway, require};

/// Standard error that is gone, as some writers meet it.
struct Gone;

impl std::io::Write for Gone {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        panic!("failed printing to stderr")
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_task_that_panics_while_it_logs_is_started_again_and_loses_nothing() {
    require!(Program("prometheus-pushgateway"));
    let subscriber = tracing_subscriber::fmt().with_writer(|| Gone).finish();
    let _log = tracing::subscriber::set_default(subscriber);
    let mut gateway = Gateway::start();
    gateway.kill();
    let sink = sink(&gateway.url(), |_| {});
    let restarts = || {
        let label = Some(("task", "push"));
        metric(&sink, "pingexporter_task_restarts_total", label)
    };
    assert_eq!(restarts(), 0.0);
    sink.publish(report("p", &[("d", "127.0.0.1", 4.0)]));
    until("a restart", || restarts() >= 1.0).await;
    gateway.restart().unwrap();
    // No new results: the task that was started again tries those that did not arrive.
    let series = "dev_ping{device=\"d\",instance=\"\",ip=\"127.0.0.1\",job=\"d\"} 4";
    until("what was pending", || gateway.metrics().contains(series)).await;
}
