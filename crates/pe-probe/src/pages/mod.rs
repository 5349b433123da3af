//! Pages of metrics, passed on: those that a device or a program has of its own.
//!
//! [`page`] reads what is said in one of three formats ([`text`], [`protobuf`]), and [`layout`] makes frames of it: labels and names
//! as they go out, no series twice. [`dictionary`] settles what a metric is where devices disagree. No I/O; whoever passes a page on
//! bounds its bytes.
//!
//! Samples get the time of the cycle. Time stamps of the page are read and left out: the clock of a device may be wrong, and a cycle
//! has one time.

mod builder;
pub mod dictionary;
pub mod layout;
mod metrics;
pub mod page;
mod passing;
pub mod protobuf;
pub mod rules;
pub mod text;
mod trial;

pub(crate) use metrics::PageMetrics;
pub use passing::Identity;
pub(crate) use passing::Passing;
#[doc(hidden)]
pub use trial::try_page;
