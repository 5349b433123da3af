//! A device's own metrics, passed on.
