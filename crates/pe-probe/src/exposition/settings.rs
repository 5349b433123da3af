//! What may be set for `exposition`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hyper::Uri;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, HeaderMap, HeaderValue, USER_AGENT};
use pe_scrape::settings::{Port, Problems};
use pe_scrape::{Filter, Secret, SettingsError};

use crate::pages::Identity;
use crate::pages::rules::{Rename, Rules};
use crate::tls::TlsChoice;

crate::probe_settings! {
    /// Settings of `exposition`.
    pub struct ExpositionSettings {
        /// Port to connect to.
        port: Port;
        /// Path and query to request.
        path: String = "/metrics".to_owned();
        /// Uses TLS: `true`, or an object.
        tls: TlsChoice = TlsChoice::Off;
        /// Where the device's name goes: into the label `device`, or into `instance`, which leaves `device` to the device's own
        /// series, as those of node_exporter have it.
        identity: Identity = Identity::Device;
        /// Keeps the labels of the device's series where they clash with those that they get here. Else they are renamed to
        /// `exported_` and their name.
        honour_labels: bool = false;
        /// Series to pass on, by the names and labels that the device gives: patterns such as `node_*` or `node_*{device=sd*}`.
        keep: Vec<String>, otherwise("all");
        /// Series not to pass on, by the same.
        drop: Vec<String>;
        /// New names for metrics, by their names or by patterns with a star, which the new name may have too:
        /// `{"node_*": "site_node_*"}`.
        rename: BTreeMap<String, String>;
        /// User for basic authentication.
        username: Option<String>;
        /// Password for basic authentication.
        password: Option<Secret>;
        /// File with the password, which is read again when it changes.
        password_file: Option<PathBuf>;
        /// File with a bearer token, which is read again when it changes.
        bearer_token_file: Option<PathBuf>;
        /// Format to ask for.
        format: FormatChoice = FormatChoice::Any;
        /// Takes pages that are packed with gzip.
        compression: bool = true;
        /// Bytes of the page that are read at most, packed or not.
        max_bytes: u32 = 16_777_216, range(1.0, 1_073_741_824.0);
        /// Series of the page that are read at most.
        max_series: u32 = 50_000, range(1.0, 10_000_000.0);
    }
}

pe_scrape::choices! {
    /// A format to ask for.
    pub enum FormatChoice {
        /// Whichever the device has: OpenMetrics before text before protobuf, as Prometheus does.
        #[default]
        Any = "any",
        /// The Prometheus text format.
        Text = "text",
        /// OpenMetrics text.
        OpenMetrics = "openmetrics",
        /// Length-delimited messages.
        Protobuf = "protobuf",
    }
}

impl FormatChoice {
    /// The header `Accept`.
    fn accept(self) -> &'static str {
        match self {
            Self::Any => {
                "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.75,\
                 application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.5,*/*;q=0.1"
            }
            Self::Text => "text/plain;version=0.0.4",
            Self::OpenMetrics => "application/openmetrics-text;version=1.0.0",
            Self::Protobuf => {
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
            }
        }
    }
}

impl ExpositionSettings {
    /// The headers of the request, checked, and what is to be done with the series.
    pub(super) fn parts(
        &self,
        timeout: std::time::Duration,
    ) -> Result<(HeaderMap, Rules), SettingsError> {
        let mut problems = Problems::default();
        let path = format!("http://host{}", self.path);
        if !self.path.starts_with('/') || path.parse::<Uri>().is_err() {
            problems.within("path", |problems| {
                problems.refuse("must start with `/` and have no blanks");
            });
        }
        let filter = Filter::new(&self.keep, &self.drop, &mut problems);
        let mut rename = Vec::new();
        problems.within("rename", |problems| {
            for (from, to) in &self.rename {
                match Rename::new(from, to) {
                    Some(found) => rename.push(found),
                    None => problems.error_at_key(
                        from,
                        format!("`{to}` cannot be the new name of `{from}`"),
                        Some("such as `{\"node_*\": \"site_node_*\"}`".to_owned()),
                    ),
                }
            }
        });
        if problems.has_errors() {
            return Err(problems.into());
        }
        let mut headers = HeaderMap::new();
        let own = concat!("pingexporter/", env!("CARGO_PKG_VERSION"));
        headers.insert(USER_AGENT, HeaderValue::from_static(own));
        headers.insert(ACCEPT, HeaderValue::from_static(self.format.accept()));
        if self.compression {
            headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
        }
        // As Prometheus tells it: a device may give up by then.
        if let Ok(seconds) = HeaderValue::try_from(timeout.as_secs_f64().to_string()) {
            headers.insert("x-prometheus-scrape-timeout-seconds", seconds);
        }
        let rules = Rules {
            filter,
            rename,
            honour_labels: self.honour_labels,
        };
        Ok((headers, rules))
    }
}
