//! Debian's VictoriaMetrics.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::process::Command;

use serde_json::Value;

use crate::http::query_value;
use crate::{Server, command};

/// Until when samples are exported, in seconds: later than any sample. Without an end, those since the latest whole second are left
/// out.
const EXPORT_END: u64 = 9_999_999_999;

/// The samples of a series: milliseconds and values.
pub type ExportedSamples = Vec<(i64, f64)>;

/// A real VictoriaMetrics on a free loopback port with a storage of its own; killed when dropped.
///
/// It takes remote write at `/api/v1/write`, in any order, and keeps what comes twice twice. Needs
/// `Program("victoria-metrics")`.
#[derive(Debug)]
pub struct VictoriaMetrics(Server);

impl VictoriaMetrics {
    /// Starts one and waits until it is ready.
    ///
    /// # Panics
    /// If it cannot be started; the message holds its log.
    pub fn start() -> Self {
        let server = Server::start("victoria-metrics", "/health", |address, directory| {
            let mut command = command("victoria-metrics");
            command
                .arg(format!("-httpListenAddr={address}"))
                .arg(format!(
                    "-storageDataPath={}",
                    directory.join("data").display()
                ))
                .arg("-search.disableCache");
            Ok(command)
        });
        Self(server.unwrap_or_else(|error| panic!("no VictoriaMetrics: {error}")))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// Its base URL, without a slash at the end.
    pub fn url(&self) -> String {
        self.0.url()
    }

    /// All samples of the series that `selector` names, as they are stored: in order of time, and twice where they came twice.
    /// Staleness markers are left out. The key is the series' labels.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn export(&self, selector: &str) -> BTreeMap<BTreeMap<String, String>, ExportedSamples> {
        let get = |path: &str| {
            let response = self.0.get(path);
            response.unwrap_or_else(|error| panic!("VictoriaMetrics at {path}: {error}"))
        };
        get("/internal/force_flush");
        let selector = query_value(selector);
        let path = format!("/api/v1/export?end={EXPORT_END}&match[]={selector}");
        let text = get(&path).text();
        let mut all = BTreeMap::new();
        for line in text.lines() {
            let series: Value = serde_json::from_str(line)
                .unwrap_or_else(|error| panic!("an exported series: {error}: {line}"));
            let labels = series["metric"].as_object().into_iter().flatten();
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let labels = labels.map(|(name, value)| (name.clone(), text(value)));
            let list = |key: &str| series[key].as_array().cloned().unwrap_or_default();
            let samples = list("timestamps").into_iter().zip(list("values"));
            let samples =
                samples.filter_map(|(time, value)| Some((time.as_i64()?, value.as_f64()?)));
            // A series is told in pieces, one for each file that has some of it.
            let known: &mut ExportedSamples = all.entry(labels.collect()).or_default();
            known.extend(samples);
        }
        for samples in all.values_mut() {
            samples.sort_by_key(|(time, _)| *time);
        }
        all
    }

    /// Ends it in order, so that it keeps what it has taken, and waits for its end. [`Server::restart`] starts it again.
    ///
    /// # Errors
    /// When it cannot be told to end.
    pub fn stop(&mut self) -> io::Result<()> {
        if let Some(pid) = self.0.pid() {
            let status = Command::new("kill")
                .args(["-s", "TERM", &pid.to_string()])
                .status()?;
            if !status.success() {
                return Err(io::Error::other(format!("kill -s TERM {pid}: {status}")));
            }
            self.0.await_end()?;
        }
        Ok(())
    }

    /// The server, to kill, restart or ask it.
    pub fn server(&mut self) -> &mut Server {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use std::time::{SystemTime, UNIX_EPOCH};

    use super::*;
    use crate::{http, require};

    #[test]
    #[allow(clippy::unwrap_used)]
    fn samples_of_this_moment_and_of_a_clock_that_is_ahead_are_exported() {
        require!(Program("victoria-metrics"));
        let server = VictoriaMetrics::start();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let now = i64::try_from(now.as_millis()).unwrap();
        let times = [now - 5_000, now, now + 60_000];
        let series = serde_json::json!({
            "metric": {"__name__": "up"}, "values": [1, 2, 3], "timestamps": times,
        });
        let body = series.to_string();
        http::request(
            server.address(),
            "POST",
            "/api/v1/import",
            &[],
            body.as_bytes(),
        )
        .unwrap();
        let all = server.export("up");
        let samples = all.values().next().unwrap();
        assert_eq!(
            *samples,
            [(times[0], 1.0), (times[1], 2.0), (times[2], 3.0)]
        );
    }
}
