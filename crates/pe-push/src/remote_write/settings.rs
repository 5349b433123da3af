//! What may be set for a remote-write sink, and what is refused. No I/O but reading certificates.

use std::sync::Arc;
use std::time::Duration;

use pe_scrape::SettingsError;
use pe_scrape::resolve::Resolve;
use pe_scrape::settings::{Bounds, Problems, Setting, decode};

use super::wire::Protocol;
use crate::http::{HttpClient, sink_settings};
use crate::queue::Order;
use pe_scrape::Filter;

/// How long samples wait for a clock that is in doubt, unless something else is said.
const DEFAULT_CLOCK_WAIT: Duration = Duration::from_secs(120);

/// How long one request may take a metered link.
const LINK_TIME: Duration = Duration::from_secs(2);

/// Bytes before compression for each one after it, about.
const COMPRESSION: f64 = 5.0;

/// Below this a request is not made smaller.
pub(super) const SMALLEST_REQUEST: usize = 4 << 10;

pe_scrape::choices! {
    /// In which order samples are sent.
    pub enum SendOrder {
        /// Each series in order of time, as the specification demands.
        #[default]
        Strict = "strict",
        /// What is new before what waits, for receivers that take samples out of order.
        FreshFirst = "fresh_first",
    }
}

impl From<SendOrder> for Order {
    fn from(order: SendOrder) -> Self {
        match order {
            SendOrder::Strict => Self::Strict,
            SendOrder::FreshFirst => Self::FreshFirst,
        }
    }
}

sink_settings! {
    /// A receiver of Prometheus remote write that gets every sample, also those of a time when it was out of reach.
    pub struct RemoteWriteSettings {
        url {
            /// URL that takes remote write, with its path and without user and password, such as
            /// `http://prometheus.example:9090/api/v1/write`.
            url: String;
        }
        own {
            /// In which order samples are sent: `strict` keeps each series in order of time, `fresh_first` sends what is new
            /// before what waits, for receivers that take samples out of order.
            order: SendOrder = SendOrder::Strict;
            /// Version of remote write: `1.0`, or `2.0` with a fall back to `1.0` where the receiver does not speak it.
            protocol: Protocol = Protocol::V1;
            /// Age above which samples are dropped instead of sent, for receivers that refuse old ones.
            max_age: Option<Duration>, otherwise("no limit");
            /// Sends native histograms too, to receivers that take them: `ping_rtt_seconds` with `"native": true` in the group's
            /// `histogram`.
            native_histograms: bool = false;
            /// How long samples wait, at most, for a clock that is in doubt after a start.
            clock_wait: Duration = DEFAULT_CLOCK_WAIT;
        }
    }
}

impl RemoteWriteSettings {
    /// The defaults, for the receiver at `url`.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        let written = pe_scrape::Value::from_iter([("url", "http://localhost")]);
        let mut settings: Self = decode(&written).expect("one key is required, and it is there");
        settings.url = url.into();
        settings
    }

    /// Most bytes of a request before compression: what a metered link takes in [`LINK_TIME`], so that what is new does not wait
    /// long behind what is under way.
    pub(super) fn most_bytes(&self) -> usize {
        self.max_bytes_per_second.map_or(usize::MAX, |rate| {
            let bytes = rate * LINK_TIME.as_secs_f64() * COMPRESSION;
            (bytes as usize).max(SMALLEST_REQUEST)
        })
    }

    /// Checks everything, and makes the client and the filter that these settings describe.
    ///
    /// # Errors
    /// [`SettingsError`] with every problem, each at its key.
    pub(super) fn prepare(
        &self,
        resolver: Arc<dyn Resolve>,
    ) -> Result<(HttpClient, Filter), SettingsError> {
        let mut problems = Problems::default();
        self.check(&Bounds::NONE, &mut problems);
        let common = self.common();
        let client = common.client(resolver, &mut problems);
        let filter = common.filter(&mut problems);
        match client {
            Some(client) if !problems.has_errors() => Ok((client, filter)),
            _ => Err(problems.into()),
        }
    }
}
