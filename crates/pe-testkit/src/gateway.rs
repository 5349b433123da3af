//! Debian's Pushgateway.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use crate::Server;
use crate::spawn::command;

/// A real Pushgateway on a free loopback port, without persistence; killed when dropped.
///
/// Needs `Program("prometheus-pushgateway")`.
#[derive(Debug)]
pub struct Gateway(Server);

impl Gateway {
    /// Starts one and waits until it is ready.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts one with further flags, such as `--push.disable-consistency-check` or
    /// `--web.route-prefix=/gate`.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn start_with(flags: &'static [&'static str]) -> Self {
        let server = Server::start("prometheus-pushgateway", "/", move |address, _| {
            let mut command = command("prometheus-pushgateway");
            command
                .arg(format!("--web.listen-address={address}"))
                .arg("--persistence.file=");
            command.args(flags);
            Ok(command)
        });
        Self(server.unwrap_or_else(|error| panic!("no Pushgateway: {error}")))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// Its base URL, without a slash at the end.
    pub fn url(&self) -> String {
        self.0.url()
    }

    /// The text of its `/metrics`: all groups, and its own metrics.
    ///
    /// # Panics
    /// If it does not answer with status 200.
    pub fn metrics(&self) -> String {
        let response = self
            .0
            .get("/metrics")
            .unwrap_or_else(|error| panic!("the Pushgateway's /metrics: {error}"));
        assert_eq!(
            response.status,
            200,
            "the Pushgateway's /metrics: {}",
            response.text()
        );
        response.text()
    }

    /// Waits until its metrics are so; a gateway answers a DELETE before it carries it out.
    ///
    /// # Panics
    /// If they do not become so, with what they are.
    pub fn until_metrics(&self, is_so: impl Fn(&str) -> bool) {
        let seen = || is_so(&self.metrics()).then_some(());
        crate::wait::within(Duration::from_secs(20), seen)
            .unwrap_or_else(|| panic!("the Pushgateway has {}", self.metrics()));
    }

    /// The groups as its API tells them (`GET /api/v1/metrics`, its `data` member).
    ///
    /// # Panics
    /// If it does not answer with JSON.
    pub fn groups(&self) -> Vec<serde_json::Value> {
        let answer: serde_json::Value = self
            .0
            .get("/api/v1/metrics")
            .and_then(|response| Ok(serde_json::from_slice(&response.body)?))
            .unwrap_or_else(|error| panic!("the Pushgateway's API: {error}"));
        answer["data"].as_array().cloned().unwrap_or_default()
    }

    /// The grouping keys, sorted: the job, then the other labels as `/name=value`.
    ///
    /// # Panics
    /// If it does not answer with JSON.
    pub fn keys(&self) -> Vec<String> {
        let shown = |group: &serde_json::Value| {
            let labels = group["labels"].as_object().into_iter().flatten();
            let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
            let others = labels.clone().filter(|(name, _)| *name != "job");
            let others = others.map(|(name, value)| format!("/{name}={}", text(value)));
            let others: String = others.collect();
            format!("{}{others}", text(&group["labels"]["job"]))
        };
        let mut keys: Vec<String> = self.groups().iter().map(shown).collect();
        keys.sort();
        keys
    }

    /// Waits until the grouping keys are these (see [`keys`](Self::keys)): a `DELETE` is accepted at once and carried out a moment
    /// later.
    ///
    /// # Panics
    /// If they do not become so.
    pub fn until_keys<S: AsRef<str>>(&self, expected: &[S]) {
        let expected: Vec<&str> = expected.iter().map(AsRef::as_ref).collect();
        let is_so = || (self.keys() == expected).then_some(());
        crate::wait::within(Duration::from_secs(20), is_so).unwrap_or_else(|| {
            panic!(
                "the Pushgateway has {:?}, expected {expected:?}",
                self.keys()
            )
        });
    }

    /// All it has logged.
    pub fn log(&self) -> String {
        self.0.log()
    }

    /// Kills it; the port stays reserved.
    pub fn kill(&mut self) {
        self.0.kill();
    }

    /// Starts it again on the same port, empty, and waits until it is ready.
    ///
    /// # Errors
    /// It cannot be started; the error holds its log.
    pub fn restart(&mut self) -> io::Result<()> {
        self.0.restart()
    }

    /// The server, for requests of one's own.
    pub fn server(&self) -> &Server {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http;

    #[test]
    fn a_gateway_takes_a_push_and_loses_it_when_restarted() {
        crate::require!(Program("prometheus-pushgateway"));
        let mut gateway = Gateway::start();
        let body = b"# HELP a_metric Help\n# TYPE a_metric gauge\na_metric 4\n";
        let put = |gateway: &Gateway| {
            http::request(gateway.address(), "PUT", "/metrics/job/x", &[], body)
                .unwrap()
                .status
        };
        assert_eq!(put(&gateway), 200);
        assert!(
            gateway
                .metrics()
                .contains("a_metric{instance=\"\",job=\"x\"} 4")
        );
        assert_eq!(gateway.groups().len(), 1);

        gateway.kill();
        assert!(http::get(gateway.address(), "/").is_err());
        gateway.restart().unwrap();
        assert!(!gateway.metrics().contains("a_metric"));
        assert_eq!(gateway.log().matches("starting pushgateway").count(), 2);
        assert_eq!(put(&gateway), 200);
    }

    #[test]
    fn gateways_side_by_side_have_their_own_ports() {
        crate::require!(Program("prometheus-pushgateway"));
        let gateways: Vec<_> = (0..4).map(|_| Gateway::start()).collect();
        for (index, gateway) in gateways.iter().enumerate() {
            let path = format!("/metrics/job/j{index}");
            let response = http::request(gateway.address(), "PUT", &path, &[], b"m 1\n").unwrap();
            assert_eq!(response.status, 200);
        }
        for gateway in &gateways {
            assert_eq!(gateway.groups().len(), 1);
        }
    }
}
