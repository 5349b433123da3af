//! HTTP requests: phases, status, what the page says, redirects, HTTP/1.1 and 2.
//!
//! Each probe has a connection of its own, for one request, so that what it measures is what a new visitor meets. Nothing is spawned:
//! dropping a probe closes its connection. Bodies are read within a number of bytes, and kept only where something is to be found in
//! them.

mod checks;
mod connection;
pub(crate) mod credentials;
pub(crate) mod exchange;
pub(crate) mod place;
pub(crate) mod proxy;
mod settings;
mod trial;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hyper::header::{HOST, HeaderMap, HeaderValue, LAST_MODIFIED, LOCATION};
use hyper::{Method, StatusCode, Version};
use pe_scrape::{Metric, MetricDescriptor, ScraperSettings, SettingsError, Unit};

use crate::tls::TlsClient;
use crate::{Asked, Failure, Phase, Probe, ProbeFactory, ProbeMetrics, Reason};
use checks::Checks;
pub use checks::StatusChoice;
use credentials::Credentials;
use exchange::{Answer, Exchange, Limits};
use place::Place;
use proxy::Proxy;
pub use settings::{HttpSettings, HttpVersion};
#[doc(hidden)]
pub use trial::try_answer;

/// Makes the scrapers `http`.
pub type HttpFactory = ProbeFactory<HttpProbe>;

/// The phases of a request, in order.
pub(crate) const PHASES: [&str; 5] = ["resolve", "connect", "tls", "processing", "transfer"];

#[derive(Debug)]
struct HttpMetrics {
    phases: [Metric; PHASES.len()],
    status: Metric,
    version: Metric,
    redirects: Metric,
    ssl: Metric,
    length: Metric,
    uncompressed: Metric,
    last_modified: Metric,
    failed_regex: Metric,
    /// In the order of the checks.
    values: Vec<Metric>,
}

impl HttpMetrics {
    fn new(metrics: &mut ProbeMetrics, checks: &Checks) -> Self {
        let bytes = |metrics: &mut ProbeMetrics, name: &'static str, help: &'static str| {
            metrics.add(MetricDescriptor::gauge(name, help).with_unit(Unit::Bytes))
        };
        Self {
            phases: PHASES.map(|phase| {
                let duration = MetricDescriptor::gauge(
                    "probe_http_duration_seconds",
                    "How long each phase of the request took, over all redirects",
                );
                let duration = duration.with_unit(Unit::Seconds);
                metrics.add(duration.with_label("phase", phase))
            }),
            status: metrics.gauge("probe_http_status_code", "Status of the answer"),
            version: metrics.gauge("probe_http_version", "Version of HTTP of the answer"),
            redirects: metrics.gauge("probe_http_redirects", "Redirects that were followed"),
            ssl: metrics.gauge("probe_http_ssl", "Whether the answer came over TLS"),
            length: bytes(
                metrics,
                "probe_http_content_length",
                "Bytes of the answer's body as they came",
            ),
            uncompressed: bytes(
                metrics,
                "probe_http_uncompressed_body_length",
                "Bytes of the answer's body when unpacked",
            ),
            last_modified: metrics.gauge(
                "probe_http_last_modified_timestamp_seconds",
                "When the page was modified last, as it says, in seconds since the epoch",
            ),
            failed_regex: metrics.gauge(
                "probe_failed_due_to_regex",
                "Whether the probe failed since the answer does not say what it should",
            ),
            values: checks
                .pointers()
                .map(|pointer| {
                    let value = MetricDescriptor::gauge(
                        "probe_http_json_value",
                        "Number or truth value at a place of the body",
                    );
                    metrics.add(value.with_label("pointer", pointer.to_owned()))
                })
                .collect(),
        }
    }
}

/// Requests a page.
#[derive(Debug)]
pub struct HttpProbe {
    settings: HttpSettings,
    port: u16,
    is_https: bool,
    method: Method,
    headers: HeaderMap,
    tls: TlsClient,
    checks: Checks,
    credentials: Credentials,
    proxy: Option<Proxy>,
    metrics: HttpMetrics,
}

impl Probe for HttpProbe {
    type Settings = HttpSettings;

    fn name(settings: &HttpSettings) -> String {
        let scheme = if settings.tls.settings().is_some() {
            "https"
        } else {
            "http"
        };
        format!("{scheme}:{}", settings.port_in_use())
    }

    fn new(
        settings: HttpSettings,
        _: &ScraperSettings,
        metrics: &mut ProbeMetrics,
    ) -> Result<Self, SettingsError> {
        let (method, headers) = settings.head()?;
        let checks = Checks::new(&settings)?;
        let alpn: &[&str] = match settings.version {
            HttpVersion::Any => &["h2", "http/1.1"],
            HttpVersion::One => &["http/1.1"],
            HttpVersion::Two => &["h2"],
        };
        // Redirects may lead to TLS.
        let tls = settings.tls.settings().unwrap_or_default();
        Ok(Self {
            port: settings.port_in_use(),
            is_https: settings.tls.settings().is_some(),
            tls: TlsClient::new(tls, alpn, metrics)?,
            credentials: Credentials::new(
                settings.username.as_ref(),
                settings.password.as_ref(),
                settings.password_file.as_ref(),
                settings.bearer_token_file.as_ref(),
            )?,
            proxy: settings.proxy.as_deref().map(Proxy::new).transpose()?,
            metrics: HttpMetrics::new(metrics, &checks),
            method,
            headers,
            checks,
            settings,
        })
    }

    async fn probe(&self, asked: &Asked<'_>) -> Result<(), Failure> {
        // No status is 0: the device was asked and did not answer. Absent only where nothing could be asked.
        asked.row.set(self.metrics.status, 0.0);
        let asking = self.follow(asked).await;
        if let Err(failure) = &asking
            && failure.reason.is_unknown()
        {
            asked.row.set(self.metrics.status, pe_scrape::ABSENT);
        }
        asking
    }
}

impl HttpProbe {
    /// Requests, and more requests where redirects lead.
    async fn follow(&self, asked: &Asked<'_>) -> Result<(), Failure> {
        let row = asked.row;
        let host = self.settings.host.clone().unwrap_or_else(|| asked.host());
        let mut place = Place {
            is_https: self.is_https,
            host,
            port: self.port,
            path: self.settings.path.clone(),
        };
        let first = place.clone();
        let mut method = self.method.clone();
        let mut redirects = 0;
        let mut took = [Duration::ZERO; PHASES.len()];
        took[0] = asked.start.elapsed();
        row.set(self.metrics.failed_regex, 0.0);
        loop {
            let answer = self.ask(asked, &first, &place, &method, &mut took).await;
            for (metric, took) in self.metrics.phases.iter().zip(took) {
                row.set(*metric, took.as_secs_f64());
            }
            row.set(self.metrics.redirects, f64::from(redirects));
            row.set(self.metrics.ssl, f64::from(u8::from(place.is_https)));
            let answer = answer?;
            self.show(asked, &answer);
            let next = answer.headers.get(LOCATION).filter(|_| {
                answer.status.is_redirection()
                    && self.settings.redirects > 0
                    && !self.checks.expects_redirection()
            });
            let Some(next) = next else {
                return self.check(asked, &answer);
            };
            if redirects >= self.settings.redirects {
                return Err(Failure::new(
                    Reason::TooManyRedirects,
                    format!("there were more than {redirects} redirects"),
                ));
            }
            place = next
                .to_str()
                .ok()
                .and_then(|next| place.follow(next))
                .ok_or_else(|| Failure::new(Reason::Protocol, "the redirect leads nowhere"))?;
            // As browsers do, and as RFC 9110, sections 15.4.2 to 15.4.4, has it.
            if answer.status == StatusCode::SEE_OTHER
                || (method == Method::POST && matches!(answer.status.as_u16(), 301 | 302))
            {
                method = Method::GET;
            }
            redirects += 1;
        }
    }

    /// One request and its answer.
    async fn ask(
        &self,
        asked: &Asked<'_>,
        first: &Place,
        place: &Place,
        method: &Method,
        took: &mut [Duration; PHASES.len()],
    ) -> Result<Answer, Failure> {
        let is_own = place.is_at(first, asked.address);
        let address = match &self.proxy {
            Some(proxy) => proxy.address(asked).await?,
            None if is_own => asked.socket(place.port),
            None => self.elsewhere(asked, place, &mut took[0]).await?,
        };
        let mut headers = self.headers.clone();
        if !headers.contains_key(HOST) {
            let host = HeaderValue::try_from(place.authority())
                .map_err(|_| Failure::new(Reason::Protocol, "the host is no name"))?;
            headers.insert(HOST, host);
        }
        // Passwords are for the device, as it was asked first.
        if is_own && place.port == first.port && place.is_https == first.is_https {
            self.credentials.add(&mut headers).await?;
        }
        let body = match *method == self.method {
            true => self.settings.request_body.clone().unwrap_or_default(),
            false => String::new(),
        };
        let exchange = Exchange {
            asked,
            address,
            place,
            tls: &self.tls,
            proxy: self.proxy.as_ref(),
            version: self.settings.version,
            method: method.clone(),
            headers,
            body,
            limits: Limits {
                max_bytes: self.settings.max_bytes as usize,
                keeps_body: self.checks.needs_body(),
            },
        };
        exchange.run(took).await
    }

    /// The address of another host that a redirect leads to.
    async fn elsewhere(
        &self,
        asked: &Asked<'_>,
        place: &Place,
        took: &mut Duration,
    ) -> Result<SocketAddr, Failure> {
        if !self.settings.redirect_elsewhere {
            return Err(Failure::new(
                Reason::RedirectElsewhere,
                format!("the redirect leads to another host, {}", place.host),
            ));
        }
        let start = std::time::Instant::now();
        asked.enter(Phase::Resolve);
        let ip = lookup(asked, &place.host).await?;
        asked.enter(Phase::Connect);
        *took += start.elapsed();
        Ok(SocketAddr::new(ip, place.port))
    }

    fn show(&self, asked: &Asked<'_>, answer: &Answer) {
        let (row, metrics) = (asked.row, &self.metrics);
        row.set(metrics.status, f64::from(answer.status.as_u16()));
        row.set(
            metrics.version,
            match answer.version {
                Version::HTTP_10 => 1.0,
                Version::HTTP_2 => 2.0,
                _ => 1.1,
            },
        );
        row.set(metrics.length, answer.bytes as f64);
        row.set(metrics.uncompressed, answer.unpacked_bytes as f64);
        if let Some(modified) = last_modified(&answer.headers) {
            row.set(metrics.last_modified, modified);
        }
    }

    fn check(&self, asked: &Asked<'_>, answer: &Answer) -> Result<(), Failure> {
        let (values, checked) = self.checks.run(answer);
        for (metric, value) in self.metrics.values.iter().zip(values) {
            if let Some(value) = value {
                asked.row.set(*metric, value);
            }
        }
        if checked
            .as_ref()
            .is_err_and(|failure| failure.reason == Reason::Mismatch)
        {
            asked.row.set(self.metrics.failed_regex, 1.0);
        }
        checked
    }
}

/// When a page was modified last, in seconds since the epoch.
fn last_modified(headers: &HeaderMap) -> Option<f64> {
    let text = headers.get(LAST_MODIFIED)?.to_str().ok()?;
    let modified = httpdate::parse_http_date(text).ok()?;
    Some(pe_scrape::unix_seconds(modified))
}

/// The address of a host that is not the device.
async fn lookup(asked: &Asked<'_>, host: &str) -> Result<IpAddr, Failure> {
    let resolved = match host.parse() {
        Ok(ip) => Ok(ip),
        Err(_) => asked.resolver().resolve(host, None).await,
    };
    let ip = resolved.map_err(|error| {
        let reason = if error.is_denied {
            Reason::Dns
        } else {
            Reason::DnsUnanswered
        };
        Failure::new(reason, error.to_string())
    })?;
    asked.target.check_address(ip).map_err(|why| {
        Failure::new(
            Reason::RedirectElsewhere,
            format!("{host} has the address {ip}, which is not asked: it is {why}"),
        )
    })
}
