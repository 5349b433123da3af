//! Devices whose samples are known, and sinks for them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pe_push::{RemoteWriteFactory, RemoteWriteSettings, RemoteWriteSink};
use pe_scrape::{
    ABSENT, CycleReport, Frame, FrameBuilder, LabelSet, MetricDescriptor, Sink, SinkFactory,
    SinkSettings,
};
use pe_testkit::WrittenSample;
use serde_json::{Value, json};

/// A series: its name and the device's.
pub(crate) type Series = (String, String);
/// Samples of series: milliseconds and values.
pub(crate) type Samples = BTreeMap<Series, Vec<(i64, f64)>>;

/// Some devices, measured each second until a time.
#[derive(Clone)]
pub(crate) struct Fleet {
    pub(crate) group: &'static str,
    pub(crate) devices: Vec<String>,
    /// The time of cycle 0.
    pub(crate) start_ms: i64,
}

impl Fleet {
    /// Devices whose cycle `cycles` is about now.
    pub(crate) fn until_now(devices: usize, cycles: u64) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Self {
            group: "plant",
            devices: (0..devices)
                .map(|device| format!("device-{device}"))
                .collect(),
            start_ms: i64::try_from(now.as_millis()).unwrap() - 1000 * cycles as i64,
        }
    }

    pub(crate) fn time_ms(&self, cycle: u64) -> i64 {
        self.start_ms + 1000 * cycle as i64
    }

    /// The report of a cycle, in which some devices do not answer.
    pub(crate) fn report(&self, cycle: u64, silent: &[usize]) -> Arc<CycleReport> {
        let mut report = CycleReport::new(self.group, cycle, SystemTime::now());
        report.devices = vec![Arc::new(self.frame(cycle, silent))];
        Arc::new(report)
    }

    fn frame(&self, cycle: u64, silent: &[usize]) -> Frame {
        let columns = [
            MetricDescriptor::gauge("rtt", "Round-trip time"),
            MetricDescriptor::counter("sent_total", "Requests"),
        ];
        let devices = self.devices.iter().enumerate();
        let builder = FrameBuilder::new(&columns).unwrap();
        let time = UNIX_EPOCH + Duration::from_millis(self.time_ms(cycle).unsigned_abs());
        devices
            .fold(builder, |builder, (index, device)| {
                let labels = LabelSet::new([("device", &**device), ("ip", "127.0.0.1")]).unwrap();
                let rtt = if silent.contains(&index) {
                    ABSENT
                } else {
                    rtt(index, cycle)
                };
                builder.row(labels, &[rtt, cycle as f64])
            })
            .time(time)
            .build()
    }

    /// What a receiver has after these cycles, in which every device answered.
    pub(crate) fn expected(&self, cycles: impl Iterator<Item = u64> + Clone) -> Samples {
        let devices = self.devices.iter().enumerate();
        devices
            .flat_map(|(index, device)| {
                let rtts = cycles
                    .clone()
                    .map(|cycle| (self.time_ms(cycle), rtt(index, cycle)));
                let sent = cycles
                    .clone()
                    .map(|cycle| (self.time_ms(cycle), cycle as f64));
                [
                    (("rtt".to_owned(), device.clone()), rtts.collect()),
                    (("sent_total".to_owned(), device.clone()), sent.collect()),
                ]
            })
            .collect()
    }
}

fn rtt(device: usize, cycle: u64) -> f64 {
    device as f64 * 1000.0 + cycle as f64 + 0.125
}

/// A sink with these settings besides its URL.
pub(crate) fn sink(url: &str, further: Value) -> Arc<dyn Sink> {
    labelled_sink(url, further, &[])
}

pub(crate) fn labelled_sink(url: &str, further: Value, labels: &[(&str, &str)]) -> Arc<dyn Sink> {
    let mut own = json!({"url": url, "timeout": "2s"});
    for (key, value) in further.as_object().unwrap() {
        own[key] = value.clone();
    }
    let mut settings = SinkSettings::new("central", own);
    settings.external_labels = labels.iter().copied().collect();
    RemoteWriteFactory::new().create(&settings).unwrap()
}

/// A sink with the defaults.
pub(crate) fn plain_sink(url: &str) -> RemoteWriteSink {
    RemoteWriteSink::new("central", &RemoteWriteSettings::new(url)).unwrap()
}

/// Samples that were taken, without staleness markers, which are given apart.
pub(crate) fn by_series(samples: &[WrittenSample]) -> (Samples, BTreeSet<(Series, i64)>) {
    let (mut values, mut markers) = (Samples::new(), BTreeSet::new());
    for sample in samples {
        let label = |name: &str| {
            let found = sample.labels.iter().find(|(known, _)| known == name);
            found.map(|(_, value)| value.clone()).unwrap_or_default()
        };
        let series = (label("__name__"), label("device"));
        if pe_testkit::WrittenSeries::is_stale(sample.value) {
            markers.insert((series, sample.time));
        } else {
            values
                .entry(series)
                .or_default()
                .push((sample.time, sample.value));
        }
    }
    (values, markers)
}

/// The value of a metric of a sink, of the row with that label.
pub(crate) fn metric(sink: &dyn Sink, name: &str, label: Option<(&str, &str)>) -> f64 {
    let frames = sink.metrics();
    let rows = frames.iter().flat_map(|frame| {
        let rows = frame.rows().iter().enumerate();
        rows.map(move |(row, labels)| (frame, row, labels))
    });
    let mut values = rows
        .filter(|(_, _, labels)| label.is_none_or(|(name, value)| labels.get(name) == Some(value)))
        .filter_map(|(frame, row, _)| frame.value(row, name));
    values.next().unwrap_or(f64::NAN)
}

/// Samples of the sink that were not sent, for a reason.
pub(crate) fn lost(sink: &dyn Sink, reason: &str) -> f64 {
    let name = "pingexporter_remote_write_dropped_samples_total";
    metric(sink, name, Some(("reason", reason)))
}
