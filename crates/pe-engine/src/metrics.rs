//! The engine's own metrics. Names, HELP texts and units are a contract.

use std::sync::Arc;

use pe_scrape::{CycleReport, DeviceStates, Frame, unix_seconds};

pe_scrape::metrics! {
    /// What a finished cycle tells of itself. The help texts of the first two are what the Python original pushed,
    /// spelling included, and stand on gateways.
    pub(crate) struct CycleMetrics {
        /// From the start of the cycle to its last result.
        duration: gauge("exporter_duration", "Duration of all metrics exprot", Seconds),
        /// Devices.
        jobs: gauge("exporter_jobs", "Number of jobs to export"),
        /// Devices by state.
        devices: gauges["state"]("pingexporter_devices", "Devices by their state in the latest results"),
        /// 0 or 1.
        stale: gauge("pingexporter_results_stale", "Whether results are withheld since nothing was measured for too long"),
        /// Start.
        started: gauge("pingexporter_cycle_start_timestamp_seconds", "When the latest finished cycle started", Seconds),
    }
}

pe_scrape::metrics! {
    /// What a group counts, over reloads, for as long as it exists.
    pub(crate) struct GroupMetrics {
        /// Cycles.
        cycles: counter("pingexporter_cycles_total", "Cycles that were started"),
        /// Ticks at which a scraper could not be started, or that passed unused.
        overruns: counter("pingexporter_cycle_overruns_total", "Ticks that brought no full measurement because an earlier cycle was still running"),
        /// Failures.
        errors: counters["scraper"]("pingexporter_scrape_errors_total", "Measurements that failed without a result"),
        /// Panics.
        panics: counters["scraper"]("pingexporter_scrape_panics_total", "Measurements in which the scraper panicked"),
    }
}

pe_scrape::metrics! {
    /// What the engine as a whole tells.
    pub(crate) struct EngineMetrics {
        /// Always 1.
        build_info: gauges["version"]("pingexporter_build_info", "1, labelled with the version"),
        /// 0 or 1.
        reload_successful: gauge("pingexporter_config_last_reload_successful", "Whether the latest attempt to load the configuration succeeded"),
        /// Time.
        reloaded: gauge("pingexporter_config_last_reload_success_timestamp_seconds", "When a configuration was last loaded successfully", Seconds),
        /// Restarts by kind of task.
        restarts: counters["task"]("pingexporter_task_restarts_total", "Tasks that were started again after a panic"),
    }
}

impl GroupMetrics {
    /// `exporter_duration`, `exporter_jobs`, the devices by state and the counters of the group, as they go with a report; no duration where that is
    /// stale. Their time is now: unlike
    /// the devices' values they are of the cycle's end.
    pub(crate) fn of_report(&self, report: &CycleReport) -> Vec<Frame> {
        let cycle = CycleMetrics::default();
        if !report.is_stale {
            cycle.duration.set(report.duration.as_secs_f64());
        }
        cycle.jobs.set(report.device_count as f64);
        let DeviceStates {
            up, down, unknown, ..
        } = report.states;
        for (state, devices) in [("up", up), ("down", down), ("unknown", unknown)] {
            cycle.devices.of(state).set(devices as f64);
        }
        cycle.stale.set(f64::from(u8::from(report.is_stale)));
        cycle.started.set(unix_seconds(report.started));
        let mut frames = cycle.frames();
        frames.extend(self.frames());
        frames
    }

    /// What stands in the place of a report that has gone stale.
    pub(crate) fn stale(&self, report: &CycleReport) -> CycleReport {
        let mut stale = CycleReport::new(report.group.clone(), report.tick, report.started);
        stale.is_stale = true;
        stale.duration = report.duration;
        stale.device_count = report.device_count;
        let DeviceStates {
            up, down, unknown, ..
        } = report.states;
        stale.states = DeviceStates::count(std::iter::repeat_n(None, up + down + unknown));
        stale.exporter = self.of_report(&stale);
        stale
    }

    /// Adds errors and panics of a scraper's batch.
    pub(crate) fn count(&self, scraper: &Arc<str>, errors: u64, panics: u64) {
        self.errors.of(scraper).add(errors);
        self.panics.of(scraper).add(panics);
    }
}
