//! The probe `tcp` against sockets and servers of this machine.
#![allow(clippy::unwrap_used)]

mod common;

use std::net::TcpListener;

use common::probe;
use pe_probe::TcpFactory;
use serde_json::json;

#[tokio::test]
async fn an_open_port_is_up_and_a_closed_one_is_down_on_both_families() {
    for (host, family) in [("127.0.0.1", 4.0), ("::1", 6.0)] {
        let listener = TcpListener::bind((host, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shown = probe(&TcpFactory::default(), host, json!({"port": port})).await;
        assert_eq!(shown.value("probe_success"), Some(1.0));
        assert_eq!(shown.value("probe_ip_protocol"), Some(family));
        assert!(shown.value("probe_tcp_connect_seconds").unwrap() < 1.0);
        assert_eq!(shown.label("probe_success", "probe"), format!("tcp:{port}"));
        drop(listener);
        let shown = probe(&TcpFactory::default(), host, json!({"port": port})).await;
        shown.failed("refused");
    }
}

#[tokio::test]
async fn the_label_is_the_name_that_is_set() {
    let own = json!({"port": 1, "name": "console"});
    let shown = probe(&TcpFactory::default(), "127.0.0.1", own).await;
    assert_eq!(shown.label("probe_success", "probe"), "console");
}
