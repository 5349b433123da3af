//! The engine's own metrics.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use pe_scrape::{
    CycleReport, Frame, FrameBuilder, LabelSet, MetricDescriptor, Schema, SchemaError, Unit,
};
use prometheus_client::metrics::counter::Counter;

use crate::process;

/// What one configuration's cycle counts. Kept for as long as the configuration exists, over reloads.
#[derive(Debug, Default)]
pub(crate) struct CycleCounters {
    pub(crate) cycles: Counter,
    pub(crate) overruns: Counter,
    by_scraper: Mutex<BTreeMap<Arc<str>, (u64, u64)>>,
}

impl CycleCounters {
    /// Adds errors and panics of one scraper's batch.
    pub(crate) fn note(&self, scraper: &Arc<str>, errors: usize, panics: usize) {
        let mut by_scraper = self
            .by_scraper
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let counts = by_scraper.entry(scraper.clone()).or_default();
        counts.0 += errors as u64;
        counts.1 += panics as u64;
    }
}

fn fixed(schema: Result<Arc<Schema>, SchemaError>) -> Arc<Schema> {
    schema.expect("these descriptors never change and are covered by tests")
}

static EXPORTER: LazyLock<Arc<Schema>> = LazyLock::new(|| {
    fixed(Schema::new(&[
        // The help texts of the first two are a contract with what is on gateways already, spelling included.
        MetricDescriptor::gauge("exporter_duration", "Duration of all metrics exprot")
            .with_unit(Unit::Seconds),
        MetricDescriptor::gauge("exporter_jobs", "Number of jobs to export"),
        MetricDescriptor::gauge(
            "pingexporter_cycle_start_timestamp_seconds",
            "When the latest finished cycle started",
        )
        .with_unit(Unit::Seconds),
        MetricDescriptor::counter("pingexporter_cycles_total", "Cycles that were started"),
        MetricDescriptor::counter(
            "pingexporter_cycle_overruns_total",
            "Ticks that brought no full measurement because an earlier cycle was still running",
        ),
    ]))
});

static BY_SCRAPER: LazyLock<Arc<Schema>> = LazyLock::new(|| {
    fixed(Schema::new(&[
        MetricDescriptor::counter(
            "pingexporter_scrape_errors_total",
            "Measurements that failed without a result",
        ),
        MetricDescriptor::counter(
            "pingexporter_scrape_panics_total",
            "Measurements in which the scraper panicked",
        ),
    ]))
});

/// `exporter_duration`, `exporter_jobs` and the counters of the cycle, as they go with its report.
pub(crate) fn exporter_frames(report: &CycleReport, counters: &CycleCounters) -> Vec<Frame> {
    let values = [
        report.duration.as_secs_f64(),
        report.jobs as f64,
        unix_seconds(report.started),
        counters.cycles.get() as f64,
        counters.overruns.get() as f64,
    ];
    let exporter = FrameBuilder::with_schema(EXPORTER.clone())
        .row(LabelSet::empty(), &values)
        .build();
    let mut by_scraper = FrameBuilder::with_schema(BY_SCRAPER.clone());
    for (scraper, (errors, panics)) in &*counters
        .by_scraper
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
    {
        let labels = LabelSet::new([("scraper", scraper.clone())]).unwrap_or_default();
        by_scraper = by_scraper.row(labels, &[*errors as f64, *panics as f64]);
    }
    vec![exporter, by_scraper.build()]
}

/// How the latest reload went. The configuration that the engine starts with counts as one.
#[derive(Debug)]
pub(crate) struct ReloadState(Mutex<(bool, SystemTime)>);

impl Default for ReloadState {
    fn default() -> Self {
        Self(Mutex::new((true, SystemTime::now())))
    }
}

impl ReloadState {
    pub(crate) fn note(&self, success: bool) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let succeeded_at = if success { SystemTime::now() } else { state.1 };
        *state = (success, succeeded_at);
    }
}

static ENGINE: LazyLock<Arc<Schema>> = LazyLock::new(|| {
    fixed(Schema::new(&[
        MetricDescriptor::gauge("pingexporter_build_info", "1, labelled with the version")
            .with_label("version", env!("CARGO_PKG_VERSION")),
        MetricDescriptor::gauge(
            "pingexporter_config_last_reload_successful",
            "Whether the latest attempt to load the configuration succeeded",
        ),
        MetricDescriptor::gauge(
            "pingexporter_config_last_reload_success_timestamp_seconds",
            "When a configuration was last loaded successfully",
        )
        .with_unit(Unit::Seconds),
    ]))
});

/// Metrics of the engine as a whole.
pub(crate) fn engine_frames(reloads: &ReloadState) -> Vec<Frame> {
    let (successful, succeeded_at) = *reloads.0.lock().unwrap_or_else(PoisonError::into_inner);
    let values = [
        1.0,
        f64::from(u8::from(successful)),
        unix_seconds(succeeded_at),
    ];
    let engine = FrameBuilder::with_schema(ENGINE.clone())
        .row(LabelSet::empty(), &values)
        .build();
    std::iter::once(engine).chain(process::frame()).collect()
}

fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs_f64()
}
