//! The words that all PingExporter crates share.
