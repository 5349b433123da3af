//! The remote-write sink against real receivers, and against one that was written from the specifications and has faults.
#![cfg(feature = "remote-write")]
#![allow(clippy::unwrap_used)]

mod compliance;
mod faults;
mod fleet;
mod restarts;
mod secure;
mod servers;
mod shared;
