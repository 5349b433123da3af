//! The scheduler of PingExporter.
