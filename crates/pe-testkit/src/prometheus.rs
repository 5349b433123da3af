//! Debian's Prometheus server and promtool.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::http::query_value;
use crate::spawn::command;
use crate::{Server, wait};

/// What a [`Prometheus`] scrapes and how it runs.
#[derive(Clone, Debug, Default)]
pub struct PrometheusOptions {
    /// The members of `scrape_configs`; see [`PrometheusOptions::scrape`]. JSON is YAML.
    pub scrape_configs: Vec<Value>,
    /// Whether native histograms are scraped (as protobuf) and stored.
    pub native_histograms: bool,
    /// Whether `POST /api/v1/write` takes remote-write requests.
    pub remote_write_receiver: bool,
    /// Further members of the configuration file, such as `rule_files`.
    pub further: serde_json::Map<String, Value>,
}

impl PrometheusOptions {
    /// Adds a target that is scraped each 200 ms at `/metrics`, with its own labels honoured.
    #[must_use]
    pub fn scrape(mut self, job: &str, target: SocketAddr) -> Self {
        self.scrape_configs.push(json!({
            "job_name": job,
            "honor_labels": true,
            "scrape_interval": "200ms",
            "scrape_timeout": "200ms",
            "static_configs": [{ "targets": [target.to_string()] }],
        }));
        self
    }

    /// With native histograms.
    #[must_use]
    pub fn native_histograms(mut self) -> Self {
        self.native_histograms = true;
        self
    }

    /// With the remote-write receiver.
    #[must_use]
    pub fn remote_write_receiver(mut self) -> Self {
        self.remote_write_receiver = true;
        self
    }
}

/// A real Prometheus on a free loopback port with a storage of its own; killed when dropped.
///
/// Needs `Program("prometheus")`.
#[derive(Debug)]
pub struct Prometheus(Server);

impl Prometheus {
    /// Starts one and waits until it is ready to answer queries.
    ///
    /// # Panics
    /// If it cannot be started; the message holds its log.
    pub fn start(options: PrometheusOptions) -> Self {
        let server = Server::start("prometheus", "/-/ready", move |address, directory| {
            let mut config = options.further.clone();
            config.insert(
                "scrape_configs".into(),
                options.scrape_configs.clone().into(),
            );
            let file = directory.join("prometheus.yml");
            std::fs::write(&file, serde_json::to_string_pretty(&config)?)?;
            let mut command = command("prometheus");
            command
                .arg(format!("--config.file={}", file.display()))
                .arg(format!(
                    "--storage.tsdb.path={}",
                    directory.join("data").display()
                ))
                .arg(format!("--web.listen-address={address}"))
                .arg("--web.enable-lifecycle");
            if options.native_histograms {
                command.arg("--enable-feature=native-histograms");
            }
            if options.remote_write_receiver {
                command.arg("--web.enable-remote-write-receiver");
            }
            Ok(command)
        });
        let prometheus = Self(server.unwrap_or_else(|error| panic!("no Prometheus: {error}")));
        wait::until_true("Prometheus to be ready", || {
            prometheus
                .0
                .get("/-/ready")
                .is_ok_and(|response| response.status == 200)
        });
        prometheus
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// Its base URL, without a slash at the end.
    pub fn url(&self) -> String {
        self.0.url()
    }

    /// The `data.result` of an instant query, now.
    ///
    /// # Panics
    /// If the query fails; the message holds the answer.
    pub fn query(&self, promql: &str) -> Value {
        self.api(&format!("/api/v1/query?query={}", query_value(promql)))
    }

    /// The `data.result` of a range query; times and step in seconds.
    ///
    /// # Panics
    /// If the query fails; the message holds the answer.
    pub fn query_range(&self, promql: &str, start: f64, end: f64, step: f64) -> Value {
        let query = query_value(promql);
        self.api(&format!(
            "/api/v1/query_range?query={query}&start={start}&end={end}&step={step}"
        ))
    }

    /// The value of the one series that `promql` gives; `None` while there is none.
    ///
    /// # Panics
    /// If the query fails or gives several series.
    pub fn value(&self, promql: &str) -> Option<f64> {
        let result = self.query(promql);
        let series = result.as_array()?;
        assert!(series.len() <= 1, "{promql} gives several series: {result}");
        series.first()?["value"][1].as_str()?.parse().ok()
    }

    /// Polls until `promql` gives exactly one series, and returns its value.
    ///
    /// # Panics
    /// As [`Prometheus::value`], and after [`wait::PATIENCE`].
    pub fn await_value(&self, promql: &str) -> f64 {
        wait::until(&format!("a value of {promql}"), || self.value(promql))
    }

    fn api(&self, path: &str) -> Value {
        let response = self
            .0
            .get(path)
            .unwrap_or_else(|error| panic!("the API of Prometheus: {error}"));
        let answer: Value = serde_json::from_slice(&response.body)
            .unwrap_or_else(|error| panic!("{path}: {error}: {}", response.text()));
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer["data"]["result"].clone()
    }

    /// All it has logged.
    pub fn log(&self) -> String {
        self.0.log()
    }

    /// The server, to kill, restart or ask it.
    pub fn server(&mut self) -> &mut Server {
        &mut self.0
    }
}

/// `promtool check metrics` on an exposition in the text format.
///
/// Needs `Program("promtool")`.
///
/// # Errors
/// What promtool finds wrong or bad style, or why it cannot be run.
pub fn promtool_check_metrics(text: &str) -> Result<(), String> {
    let run = || -> io::Result<_> {
        let mut child = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let stdin = child.stdin.take();
        std::thread::scope(|scope| {
            scope.spawn(move || stdin.map(|mut stdin| stdin.write_all(text.as_bytes())));
            child.wait_with_output()
        })
    };
    let output = run().map_err(|error| format!("cannot run promtool: {error}"))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    if output.status.success() && said.is_empty() {
        Ok(())
    } else {
        Err(said)
    }
}

/// Runs `promtool` with any arguments, for `check rules`, `test rules` and the like.
///
/// # Errors
/// What it printed, if it fails, or why it cannot be run.
pub fn promtool(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run promtool: {error}"))?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).trim().to_owned();
    if output.status.success() {
        Ok(said)
    } else {
        Err(said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Gateway, http};

    #[test]
    fn prometheus_scrapes_a_gateway_and_answers_queries() {
        crate::require!(Program("prometheus"), Program("prometheus-pushgateway"));
        let gateway = Gateway::start();
        let body = b"a_metric{x=\"1\"} 4\n";
        http::request(gateway.address(), "PUT", "/metrics/job/mine", &[], body).unwrap();
        let prometheus = Prometheus::start(
            PrometheusOptions::default()
                .native_histograms()
                .scrape("gate", gateway.address()),
        );
        assert_eq!(
            prometheus.await_value("a_metric{job=\"mine\",x=\"1\"}"),
            4.0
        );
        assert_eq!(prometheus.value("no_such_metric"), None);
    }

    #[test]
    fn promtool_tells_good_metrics_from_bad_ones() {
        crate::require!(Program("promtool"));
        let good = "# HELP a_ratio A ratio.\n# TYPE a_ratio gauge\na_ratio 0.5\n";
        assert_eq!(promtool_check_metrics(good), Ok(()));
        assert!(promtool_check_metrics("a_ratio{ 0.5\n").is_err());
        let no_help = "# TYPE a_ratio gauge\na_ratio 0.5\n";
        assert!(
            promtool_check_metrics(no_help)
                .unwrap_err()
                .contains("help")
        );
    }
}
