//! The offset of a device's clock.
