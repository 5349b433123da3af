//! What all probes measure, and the label that tells the probes of a device apart.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use pe_scrape::{
    Columns, ColumnsBuilder, ColumnsError, Frame, FrameBuilder, LabelSet, Metric, MetricDescriptor,
    Row, Target, Unit,
};

use crate::{Failure, Reason};

/// The label that every series of a probe carries.
const LABEL: &str = "probe";

/// Puts the metrics of a probe together. Each gets the label `probe`.
#[derive(Debug)]
pub struct ProbeMetrics {
    columns: ColumnsBuilder,
    /// Those whose series are learned while the probe runs.
    learned: Vec<MetricDescriptor>,
    name: Arc<str>,
}

impl ProbeMetrics {
    pub(crate) fn new(name: &str) -> Self {
        Self {
            columns: Columns::builder(),
            learned: Vec::new(),
            name: name.into(),
        }
    }

    /// The value of the label `probe`.
    #[must_use]
    pub fn probe_name(&self) -> &Arc<str> {
        &self.name
    }

    /// Adds a metric.
    pub fn add(&mut self, descriptor: MetricDescriptor) -> Metric {
        self.columns
            .add(descriptor.with_label(LABEL, self.name.to_string()))
    }

    /// Adds a gauge without a unit.
    pub fn gauge(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        help: impl Into<Cow<'static, str>>,
    ) -> Metric {
        self.add(MetricDescriptor::gauge(name, help))
    }

    /// Adds a gauge of seconds.
    pub fn seconds(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        help: impl Into<Cow<'static, str>>,
    ) -> Metric {
        self.add(MetricDescriptor::gauge(name, help).with_unit(Unit::Seconds))
    }

    /// A metric whose labels are learned while the probe runs.
    ///
    /// # Errors
    /// [`ColumnsError`] when the name is not allowed.
    pub fn info(
        &mut self,
        name: impl Into<Cow<'static, str>>,
        help: impl Into<Cow<'static, str>>,
    ) -> Result<InfoMetric, ColumnsError> {
        let info = InfoMetric::new(MetricDescriptor::gauge(name, help), self.name.clone())?;
        self.learn(&info.columns);
        Ok(info)
    }

    /// Tells of metrics whose series the probe adds to a row by frames of its own.
    pub fn learn(&mut self, columns: &Columns) {
        self.learned.extend_from_slice(columns.descriptors());
    }

    /// The columns, and what is learned beside them.
    pub(crate) fn build(self) -> Result<(Arc<Columns>, Vec<MetricDescriptor>), ColumnsError> {
        Ok((self.columns.build()?, self.learned))
    }
}

/// The metrics that every probe has.
#[derive(Debug)]
pub(crate) struct CommonMetrics {
    success: Metric,
    duration: Metric,
    lookup: Metric,
    protocol: Metric,
    address: Metric,
    /// In the order of [`Reason::ALL`].
    errors: Vec<Metric>,
}

impl CommonMetrics {
    pub(crate) fn new(metrics: &mut ProbeMetrics, up: Option<bool>) -> Self {
        let success =
            MetricDescriptor::gauge("probe_success", "Whether the latest probe succeeded");
        Self {
            success: metrics.add(match up {
                Some(false) => success,
                Some(true) => success.up(),
                None => success.up_unless_told(),
            }),
            duration: metrics.seconds(
                "probe_duration_seconds",
                "How long the latest probe took in all",
            ),
            lookup: metrics.seconds(
                "probe_dns_lookup_time_seconds",
                "How long the look-up of the device's name took",
            ),
            protocol: metrics.gauge(
                "probe_ip_protocol",
                "Version of the Internet protocol of the device's address, 4 or 6",
            ),
            address: metrics.gauge(
                "probe_ip_addr_hash",
                "Number made of the address that the device's name has, which changes with it",
            ),
            errors: Reason::ALL
                .iter()
                .map(|reason| {
                    let errors = MetricDescriptor::counter(
                        "probe_errors_total",
                        "Probes that failed, by reason",
                    );
                    metrics.add(errors.with_label("reason", reason.as_str()).sparse())
                })
                .collect(),
        }
    }

    pub(crate) fn resolved(&self, row: Row<'_>, address: IpAddr, lookup: Option<Duration>) {
        row.set(self.protocol, if address.is_ipv4() { 4.0 } else { 6.0 });
        if let Some(lookup) = lookup {
            row.set(self.lookup, lookup.as_secs_f64());
            row.set(self.address, address_hash(address));
        }
    }

    /// Writes how a probe ended that took `took`. `unknown_is_down`: what could not be asked counts as down.
    pub(crate) fn ended(
        &self,
        row: Row<'_>,
        result: &Result<(), Failure>,
        took: Duration,
        unknown_is_down: bool,
    ) {
        row.set(self.duration, took.as_secs_f64());
        match result {
            Ok(()) => row.set(self.success, 1.0),
            Err(failure) => {
                if !failure.reason.is_unknown() || unknown_is_down {
                    row.set(self.success, 0.0);
                }
                row.add(self.errors[failure.reason as usize], 1.0);
            }
        }
    }
}

/// The number that blackbox_exporter makes of an address: FNV-1a with 32 bits, of its bytes.
fn address_hash(address: IpAddr) -> f64 {
    let hash = |bytes: &[u8]| {
        let bytes = bytes.iter();
        bytes.fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
        })
    };
    f64::from(match address {
        IpAddr::V4(ip) => hash(&ip.octets()),
        IpAddr::V6(ip) => hash(&ip.octets()),
    })
}

/// How long what was learned of a device that is no longer measured is remembered.
const KEPT: Duration = Duration::from_secs(3600);

/// Devices that are remembered before any of them is forgotten.
const FEW: usize = 1024;

/// A metric with the value 1 whose labels are learned while a probe runs, such as the subject of a certificate. Its frames are made
/// when the labels change, not at each cycle.
#[derive(Debug)]
pub struct InfoMetric {
    columns: Arc<Columns>,
    name: Arc<str>,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    frames: HashMap<LabelSet, Shown>,
    /// How many there may be until old ones are looked for.
    limit: usize,
}

#[derive(Debug)]
struct Shown {
    labels: Vec<(Cow<'static, str>, String)>,
    frame: Frame,
    used: Instant,
}

impl InfoMetric {
    fn new(descriptor: MetricDescriptor, name: Arc<str>) -> Result<Self, ColumnsError> {
        Ok(Self {
            columns: Columns::new(&[descriptor])?,
            name,
            known: Mutex::new(Known {
                frames: HashMap::new(),
                limit: FEW,
            }),
        })
    }

    /// Adds the series of a device to its row. Labels that the device has already are left out.
    pub fn show<N: Into<Cow<'static, str>>>(
        &self,
        row: Row<'_>,
        target: &Target,
        labels: impl IntoIterator<Item = (N, String)>,
    ) {
        let labels = labels.into_iter();
        let labels: Vec<_> = labels.map(|(name, value)| (name.into(), value)).collect();
        let now = Instant::now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shown) = known.frames.get_mut(target.labels())
            && shown.labels == labels
        {
            shown.used = now;
            row.add_frame(shown.frame.clone());
            return;
        }
        let own = target.labels().iter();
        let own = own.map(|label| (Arc::from(label.name()), Arc::from(label.value())));
        let learned = labels
            .iter()
            .filter(|(name, _)| target.labels().get(name).is_none())
            .map(|(name, value)| (Arc::from(&**name), Arc::from(value.as_str())));
        let probe = [(Arc::from(LABEL), self.name.clone())];
        let Ok(all) = LabelSet::new(own.chain(probe).chain(learned)) else {
            return;
        };
        let frame = FrameBuilder::with_columns(self.columns.clone())
            .row(all, &[1.0])
            .build();
        if known.frames.len() >= known.limit {
            known.frames.retain(|_, shown| now < shown.used + KEPT);
            known.limit = FEW.max(known.frames.len() * 2);
        }
        let shown = Shown {
            labels,
            frame: frame.clone(),
            used: now,
        };
        known.frames.insert(target.labels().clone(), shown);
        row.add_frame(frame);
    }
}
