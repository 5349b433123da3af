//! What the web server counts about itself.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use axum::http::StatusCode;
use pe_scrape::{Columns, Frame, HistogramSpec, LabelSet, Metric, MetricDescriptor, Table, Unit};

/// What requests are for, as their paths are documented; the last one is everything else.
const HANDLERS: [&str; 11] = [
    "/",
    "/device/{id}",
    "/api/v1/status",
    "/api/v1/devices",
    "/api/v1/devices/{id}",
    "/api/v1/events",
    "/metrics",
    "/-/healthy",
    "/-/ready",
    "/-/reload",
    "other",
];
const METRICS: usize = 6;
const OTHER: usize = HANDLERS.len() - 1;

/// Codes of answers, which are all that this server gives; the last one stands for any other.
const CODES: [&str; 11] = [
    "200", "400", "401", "403", "404", "405", "413", "500", "503", "408", "other",
];

/// Why a connection is refused: none could be accepted, all others were busy, or a new one needed its place.
pub(crate) const ACCEPT_FAILED: &str = "accept_failed";
pub(crate) const ALL_BUSY: &str = "all_busy";
pub(crate) const DISPLACED: &str = "displaced";
const REFUSALS: [&str; 3] = [ACCEPT_FAILED, ALL_BUSY, DISPLACED];

/// Seconds. A page takes some milliseconds, and with 100,000 devices some ten.
const BOUNDS: [f64; 5] = [0.005, 0.05, 0.3, 1.0, 10.0];

/// What a request was for: the row of its handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Handler(usize);

impl Handler {
    pub(crate) fn of(path: &str, telemetry_path: &str) -> Self {
        if path == telemetry_path {
            return Self(METRICS);
        }
        let name = match path {
            _ if path.starts_with("/device/") => "/device/{id}",
            _ if path.starts_with("/api/v1/devices/") => "/api/v1/devices/{id}",
            "/metrics" => "other",
            path => path,
        };
        let known = HANDLERS.iter().position(|handler| *handler == name);
        Self(known.unwrap_or(OTHER))
    }
}

pe_scrape::metrics! {
    /// Connections of a web server.
    pub(crate) struct ConnectionMetrics {
        /// Those that are open.
        open: gauge("pingexporter_web_connections", "Connections of the web server that are open"),
        /// All there were.
        accepted: counter("pingexporter_web_connections_total", "Connections that the web server accepted"),
        /// Those that had to go, or never came in.
        refused: counters["reason"]("pingexporter_web_connections_refused_total", "Connections that the web server did not accept, or closed for others"),
    }
}

/// Requests by handler.
struct Columned {
    columns: Arc<Columns>,
    codes: [Metric; CODES.len()],
    duration: Metric,
    rows: Arc<[LabelSet]>,
}

static COLUMNS: LazyLock<Columned> = LazyLock::new(|| {
    let mut columns = Columns::builder();
    let codes = CODES.map(|code| {
        let requests = MetricDescriptor::counter(
            "pingexporter_web_requests_total",
            "Requests that the web server answered, by what they were for and the answer's code",
        );
        columns.add(requests.with_label("code", code).sparse())
    });
    let duration = MetricDescriptor::histogram(
        "pingexporter_web_request_duration_seconds",
        "How long requests took, until their answer began",
        HistogramSpec::classic(BOUNDS),
    );
    let duration = columns.add(duration.with_unit(Unit::Seconds));
    let row = |handler| LabelSet::new([("handler", handler)]).expect("the name is a literal");
    Columned {
        columns: columns
            .build()
            .expect("names are literals, and a test builds them"),
        codes,
        duration,
        rows: HANDLERS.iter().map(|handler| row(*handler)).collect(),
    }
});

/// What a [`Server`](crate::Server) counts about itself, for the metrics of the engine whose results it serves.
///
/// ```
/// use std::sync::Arc;
///
/// let metrics = Arc::new(pe_web::WebMetrics::default());
/// let address: std::net::SocketAddr = "127.0.0.1:9516".parse()?;
/// let mut settings = pe_web::WebSettings::from(address);
/// settings.metrics = metrics.clone();
/// // Then: Engine::builder(scrapers).metrics(move || metrics.frames())
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Debug)]
pub struct WebMetrics {
    requests: Table,
    pub(crate) connections: ConnectionMetrics,
}

impl Default for WebMetrics {
    fn default() -> Self {
        let metrics = Self {
            requests: Table::new(COLUMNS.columns.clone(), HANDLERS.len()),
            connections: ConnectionMetrics::default(),
        };
        metrics.connections.open.set(0.0);
        for reason in REFUSALS {
            metrics.connections.refused.of(reason);
        }
        metrics
    }
}

impl WebMetrics {
    /// The values, as frames. Handlers that were not asked for are not there.
    #[must_use]
    pub fn frames(&self) -> Vec<Frame> {
        let time = SystemTime::now();
        let frame = Frame::freeze(&self.requests, COLUMNS.rows.clone(), time);
        let is_used = |row: usize| {
            let row = self.requests.row(row);
            let mut counts = COLUMNS.codes.iter().filter_map(|code| row.get(*code));
            counts.any(|count| count > 0.0)
        };
        let mut frames = vec![frame.only_rows(is_used)];
        frames.extend(self.connections.frames());
        frames
    }

    /// Counts a request whose answer begins.
    pub(crate) fn answered(&self, handler: Handler, status: StatusCode, took: Duration) {
        let row = self.requests.row(handler.0);
        let code = CODES.iter().position(|code| *code == status.as_str());
        row.add(COLUMNS.codes[code.unwrap_or(CODES.len() - 1)], 1.0);
        row.observe(COLUMNS.duration, took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use pe_scrape::exposition::{Block, Format, encode};

    use super::*;

    #[test]
    fn requests_are_counted_by_handler_and_code() {
        let metrics = WebMetrics::default();
        let ask = |path: &str, status: StatusCode, milliseconds| {
            let handler = Handler::of(path, "/other/metrics");
            metrics.answered(handler, status, Duration::from_millis(milliseconds));
        };
        ask("/other/metrics", StatusCode::OK, 1);
        ask("/other/metrics", StatusCode::SERVICE_UNAVAILABLE, 100);
        ask("/device/1234", StatusCode::OK, 1);
        ask("/metrics", StatusCode::NOT_FOUND, 1);
        ask("/teapot", StatusCode::IM_A_TEAPOT, 1);
        let frames = metrics.frames();
        let blocks: Vec<_> = frames.iter().map(Block::new).collect();
        let text = String::from_utf8(encode(&blocks, Format::Text)).unwrap();
        for line in [
            "pingexporter_web_requests_total{handler=\"/metrics\",code=\"200\"} 1",
            "pingexporter_web_requests_total{handler=\"/metrics\",code=\"503\"} 1",
            "pingexporter_web_requests_total{handler=\"/device/{id}\",code=\"200\"} 1",
            "pingexporter_web_requests_total{handler=\"other\",code=\"404\"} 1",
            "pingexporter_web_requests_total{handler=\"other\",code=\"other\"} 1",
            "pingexporter_web_request_duration_seconds_bucket{handler=\"/metrics\",le=\"0.05\"} 1",
            "pingexporter_web_request_duration_seconds_count{handler=\"/metrics\"} 2",
            "pingexporter_web_connections 0",
        ] {
            assert!(text.contains(line), "no {line} in {text}");
        }
        assert!(!text.contains("/-/reload"), "{text}");
    }
}
