//! A simulated network behind a TUN device, driven by scenario files.

mod driver;
mod network;
mod packet;
mod scenario;
mod truth;

pub use driver::Simnet;
pub use scenario::{
    Action, Delay, DeviceGroup, ErrorKind, ErrorMessage, Family, Fault, Forgery, Hosts,
    Identifiers, Noise, Scenario, Storm, When,
};
pub use truth::{GroupTruth, InjectedDelay, Truth};
