//! What an agent counts about itself, beside what engine, scrapers, sinks and resolver count.

pe_scrape::metrics! {
    /// What an agent counts about itself.
    pub(crate) struct AgentMetrics {
        /// Lines that were too many, or that could not be written.
        log_lines_dropped: counter("pingexporter_log_lines_dropped_total", "Log lines that could not be written"),
        /// Restarts by task. Under the same name the engine counts those of its own tasks.
        restarts: counters["task"]("pingexporter_task_restarts_total", "Tasks that were started again after a panic"),
    }
}
