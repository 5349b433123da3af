//! A device's own metrics, passed on.
//!
//! Each probe requests the page on a connection of its own, within bounds of bytes, series and time. What is done with a page is told in
//! [`pages`](crate::pages).

mod settings;

use std::sync::Arc;
use std::time::Duration;

use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use pe_scrape::{Metric, MetricDescriptor, ScraperSettings, SettingsError, Unit};

use crate::http::credentials::Credentials;
use crate::http::exchange::{Exchange, Limits};
use crate::http::place::Place;
use crate::http::{HttpVersion, PHASES};
pub use crate::pages::Identity;
use crate::pages::page::PageFormat;
use crate::pages::protobuf::PageError;
#[doc(hidden)]
pub use crate::pages::try_page;
use crate::pages::{PageMetrics, Passing};
use crate::tls::TlsClient;
use crate::{Asked, Failure, Phase, Probe, ProbeFactory, ProbeMetrics, Reason};
pub use settings::{ExpositionSettings, FormatChoice};

/// Makes the scrapers `exposition`.
pub type ExpositionFactory = ProbeFactory<ExpositionProbe>;

#[derive(Debug)]
struct ExpositionMetrics {
    status: Metric,
    packed: Metric,
    page: PageMetrics,
}

impl ExpositionMetrics {
    fn new(metrics: &mut ProbeMetrics) -> Self {
        Self {
            status: metrics.gauge("probe_http_status_code", "Status of the answer"),
            packed: metrics.add(
                MetricDescriptor::gauge(
                    "probe_exposition_transferred_bytes",
                    "Bytes of the device's page as they came",
                )
                .with_unit(Unit::Bytes),
            ),
            page: PageMetrics::new(metrics),
        }
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
        self.metrics.page.came(row, answer.unpacked_bytes);
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
        let target = asked.target.labels();
        let passed = self.passing.pass_on(target, answer.body, format).await?;
        let passed = passed.map_err(|error| page_failure(&error))?;
        self.metrics.page.pass(row, passed);
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

fn page_failure(error: &PageError) -> Failure {
    let reason = match error {
        PageError::Malformed(..) => Reason::Malformed,
        PageError::Utf8 => Reason::InvalidUtf8,
        PageError::TooManySeries(_) => Reason::TooManySeries,
    };
    Failure::new(reason, error.to_string())
}
