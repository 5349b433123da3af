//! Typed configuration of PingExporter.
