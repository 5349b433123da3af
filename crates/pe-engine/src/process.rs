//! The standard `process_*` metrics, read from `/proc/self`.
//!
//! Names and meanings: <https://prometheus.io/docs/instrumenting/writing_clientlibs/#process-metrics>.
//! Their HELP texts are byte for byte those of Prometheus' client for Go, which a Pushgateway shows for itself: it logs every family
//! whose texts differ, at each scrape.

use std::sync::{Arc, LazyLock};

use pe_scrape::{Columns, Frame, FrameBuilder, LabelSet, MetricDescriptor, Unit};
use procfs::process::{LimitValue, Process};

static COLUMNS: LazyLock<Option<Arc<Columns>>> = LazyLock::new(|| {
    Columns::new(&[
        MetricDescriptor::counter(
            "process_cpu_seconds_total",
            "Total user and system CPU time spent in seconds.",
        )
        .with_unit(Unit::Seconds),
        MetricDescriptor::gauge(
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
        )
        .with_unit(Unit::Bytes),
        MetricDescriptor::gauge(
            "process_virtual_memory_bytes",
            "Virtual memory size in bytes.",
        )
        .with_unit(Unit::Bytes),
        MetricDescriptor::gauge(
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds.",
        )
        .with_unit(Unit::Seconds),
        MetricDescriptor::gauge("process_open_fds", "Number of open file descriptors."),
        MetricDescriptor::gauge(
            "process_max_fds",
            "Maximum number of open file descriptors.",
        ),
        MetricDescriptor::gauge("process_threads", "Number of OS threads in the process"),
    ])
    .ok()
});

/// The metrics of this process, or nothing where `/proc` cannot be read.
pub(crate) fn frame() -> Option<Frame> {
    let columns = COLUMNS.clone()?;
    let process = Process::myself().ok()?;
    let stat = process.stat().ok()?;
    let ticks = procfs::ticks_per_second() as f64;
    let booted = procfs::boot_time_secs().ok()? as f64;
    let max_fds = match process.limits().ok()?.max_open_files.soft_limit {
        LimitValue::Value(limit) => limit as f64,
        LimitValue::Unlimited => f64::INFINITY,
    };
    let values = [
        (stat.utime + stat.stime) as f64 / ticks,
        (stat.rss * procfs::page_size()) as f64,
        stat.vsize as f64,
        booted + stat.starttime as f64 / ticks,
        process.fd_count().ok()? as f64,
        max_fds,
        stat.num_threads as f64,
    ];
    Some(
        FrameBuilder::with_columns(columns)
            .row(LabelSet::empty(), &values)
            .build(),
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_has_used_memory_and_files() {
        let frame = super::frame().unwrap();
        for name in [
            "process_resident_memory_bytes",
            "process_open_fds",
            "process_start_time_seconds",
        ] {
            assert!(frame.value(0, name).unwrap() > 0.0, "{name}");
        }
    }
}
