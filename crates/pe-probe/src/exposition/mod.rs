//! A device's own metrics, passed on.
//!
//! Each probe requests the page on a connection of its own, within bounds of bytes, series and time. [`page`] reads what a device says
//! in one of three formats ([`text`], [`protobuf`]), and [`layout`] makes frames of it: labels and names as they go out, no series
//! twice. [`dictionary`] settles what a metric is where devices disagree.
//!
//! Samples get the time of the cycle. Time stamps of the device are read and left out: its clock may be wrong, and a cycle has one time.

pub mod dictionary;
pub mod layout;
pub mod page;
mod passing;
pub mod protobuf;
mod settings;
pub mod text;

use std::sync::Arc;
use std::time::Duration;

use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use pe_scrape::{Metric, MetricDescriptor, ScraperSettings, SettingsError, Unit};

use crate::http::credentials::Credentials;
use crate::http::exchange::{Exchange, Limits};
use crate::http::place::Place;
use crate::http::{HttpVersion, PHASES};
use crate::tls::TlsClient;
use crate::{Asked, Failure, Phase, Probe, ProbeFactory, ProbeMetrics, Reason};
#[doc(hidden)]
pub use layout::try_page;
use page::PageFormat;
use passing::{Passed, Passing};
use protobuf::PageError;
pub use settings::{ExpositionSettings, FormatChoice, Identity};

/// Makes the scrapers `exposition`.
pub type ExpositionFactory = ProbeFactory<ExpositionProbe>;

/// Pages above this many bytes are read on a thread of the blocking pool.
const LARGE: usize = 512 << 10;

/// Why series of a page are not passed on, in the order of [`ExpositionMetrics::dropped`].
const DROPPED: [&str; 5] = [
    "filter",
    "invalid",
    "duplicate",
    "conflict",
    "native_histogram",
];

#[derive(Debug)]
struct ExpositionMetrics {
    status: Metric,
    bytes: Metric,
    packed: Metric,
    series: Metric,
    dropped: [Metric; DROPPED.len()],
    settled: Metric,
    with_time: Metric,
}

impl ExpositionMetrics {
    fn new(metrics: &mut ProbeMetrics) -> Self {
        let bytes = |metrics: &mut ProbeMetrics, name: &'static str, help: &'static str| {
            metrics.add(MetricDescriptor::gauge(name, help).with_unit(Unit::Bytes))
        };
        Self {
            status: metrics.gauge("probe_http_status_code", "Status of the answer"),
            bytes: bytes(
                metrics,
                "probe_exposition_page_bytes",
                "Bytes of the device's page, unpacked",
            ),
            packed: bytes(
                metrics,
                "probe_exposition_transferred_bytes",
                "Bytes of the device's page as they came",
            ),
            series: metrics.gauge(
                "probe_exposition_series",
                "Series of the device that are passed on",
            ),
            dropped: DROPPED.map(|reason| {
                let dropped = MetricDescriptor::gauge(
                    "probe_exposition_dropped_series",
                    "Series of the device that are not passed on, by reason",
                );
                metrics.add(dropped.with_label("reason", reason))
            }),
            settled: metrics.gauge(
                "probe_exposition_settled_series",
                "Series of the device with the type or help text that another device has told",
            ),
            with_time: metrics.gauge(
                "probe_exposition_timestamped_series",
                "Series of the device that came with a time stamp, which is left out",
            ),
        }
    }

    fn show(&self, asked: &Asked<'_>, passed: &Passed) {
        let (row, counts) = (asked.row, &passed.counts);
        row.set(self.series, counts.series as f64);
        let dropped = [
            counts.filtered,
            counts.invalid,
            counts.duplicate,
            counts.conflict,
            counts.native,
        ];
        for (metric, count) in self.dropped.iter().zip(dropped) {
            row.set(*metric, count as f64);
        }
        row.set(self.settled, counts.settled as f64);
        row.set(self.with_time, passed.with_time as f64);
    }
}

/// Requests a device's page of metrics and passes its series on.
#[derive(Debug)]
pub struct ExpositionProbe {
    port: u16,
    path: String,
    is_https: bool,
    max_bytes: usize,
    headers: HeaderMap,
    tls: TlsClient,
    credentials: Credentials,
    passing: Arc<Passing>,
    metrics: ExpositionMetrics,
}

impl Probe for ExpositionProbe {
    type Settings = ExpositionSettings;

    fn name(settings: &ExpositionSettings) -> String {
        format!("exposition:{}", settings.port.0)
    }

    fn new(
        settings: ExpositionSettings,
        common: &ScraperSettings,
        metrics: &mut ProbeMetrics,
    ) -> Result<Self, SettingsError> {
        let (headers, rules) = settings.parts(settings.timeout.unwrap_or(common.timeout))?;
        let credentials = Credentials::new(
            settings.username.as_ref(),
            settings.password.as_ref(),
            settings.password_file.as_ref(),
            settings.bearer_token_file.as_ref(),
        )?;
        let passing = Passing::new(rules, settings.identity, settings.max_series as usize);
        Ok(Self {
            port: settings.port.0,
            path: settings.path,
            is_https: settings.tls.settings().is_some(),
            max_bytes: settings.max_bytes as usize,
            headers,
            tls: TlsClient::new(
                settings.tls.settings().unwrap_or_default(),
                &["http/1.1"],
                metrics,
            )?,
            credentials,
            passing: Arc::new(passing),
            metrics: ExpositionMetrics::new(metrics),
        })
    }

    async fn probe(&self, asked: &Asked<'_>) -> Result<(), Failure> {
        let place = Place {
            is_https: self.is_https,
            host: asked.host(),
            port: self.port,
            path: self.path.clone(),
        };
        let mut headers = self.headers.clone();
        let host = HeaderValue::try_from(place.authority())
            .map_err(|_| Failure::new(Reason::Protocol, "the host is no name"))?;
        headers.insert(HOST, host);
        self.credentials.add(&mut headers).await?;
        let exchange = Exchange {
            asked,
            address: asked.socket(self.port),
            place: &place,
            tls: &self.tls,
            proxy: None,
            version: HttpVersion::One,
            method: Method::GET,
            headers,
            body: String::new(),
            limits: Limits {
                max_bytes: self.max_bytes,
                keeps_body: true,
            },
        };
        let mut took = [Duration::ZERO; PHASES.len()];
        let answer = exchange.run(&mut took).await?;
        let row = asked.row;
        row.set(self.metrics.status, f64::from(answer.status.as_u16()));
        row.set(self.metrics.packed, answer.bytes as f64);
        row.set(self.metrics.bytes, answer.unpacked_bytes as f64);
        if answer.status.is_redirection() {
            return Err(Failure::new(
                Reason::TooManyRedirects,
                "the device sends this request elsewhere, which is not followed",
            ));
        }
        if answer.status != StatusCode::OK {
            let message = format!("the status is {}, expected 200", answer.status.as_u16());
            return Err(Failure::new(Reason::HttpStatus, message));
        }
        let format = page_format(answer.headers.get(CONTENT_TYPE));
        asked.enter(Phase::Transfer);
        let (passing, target) = (self.passing.clone(), asked.target.labels().clone());
        let body = answer.body;
        let passed = if body.len() > LARGE {
            let work = move || passing.pass(&target, &body, format);
            let done = tokio::task::spawn_blocking(work).await;
            done.map_err(|error| Failure::new(Reason::Local, error.to_string()))?
        } else {
            passing.pass(&target, &body, format)
        };
        let passed = passed.map_err(|error| page_failure(error, self.passing.max_series()))?;
        self.metrics.show(asked, &passed);
        for frame in passed.frames {
            row.add_frame(frame);
        }
        Ok(())
    }
}

/// The format that an answer says to have.
fn page_format(content_type: Option<&HeaderValue>) -> PageFormat {
    let text = content_type.and_then(|value| value.to_str().ok());
    let text = text.unwrap_or_default().to_ascii_lowercase();
    let kind = text.split(';').next().unwrap_or_default().trim();
    match kind {
        "application/openmetrics-text" => PageFormat::Text { open_metrics: true },
        "application/vnd.google.protobuf" => PageFormat::Protobuf,
        _ => PageFormat::Text {
            open_metrics: false,
        },
    }
}

fn page_failure(error: PageError, max_series: usize) -> Failure {
    match error {
        PageError::Malformed(place, why) => Failure::new(
            Reason::Malformed,
            format!("line {place} of the page cannot be read: {why}"),
        ),
        PageError::Utf8 => Failure::new(Reason::InvalidUtf8, "the page is no UTF-8"),
        PageError::TooManySeries => Failure::new(
            Reason::TooManySeries,
            format!("the page has more than {max_series} series"),
        ),
    }
}
