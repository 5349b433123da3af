//! Devices from Prometheus `file_sd` files.

/// Targets files as they were when they were last in order.
#[derive(Debug, Clone, Default)]
pub struct TargetFiles {}
