//! The Pushgateway: a client for its HTTP API, and the sink that keeps one up to date.
//!
//! [`GroupingKey`] is what a push group is known by, `push_groups` decides which series belong to which, `settings` and
//! `review` say what may be set and what is unwise. [`PushgatewaySink`] delivers.

mod client;
mod deliver;
mod encoding;
mod factory;
mod farewell;
mod key;
mod ledger;
mod push_groups;
mod review;
mod settings;
mod sink;

pub use client::{Compression, Pushgateway};
pub use factory::PushgatewayFactory;
pub use key::GroupingKey;
pub use settings::{Grouping, PushgatewaySettings};
pub use sink::PushgatewaySink;
