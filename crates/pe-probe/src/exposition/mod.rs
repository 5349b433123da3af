//! A device's own metrics, passed on.
//!
//! [`page`] reads what a device says in one of three formats ([`text`], [`protobuf`]), and [`layout`] makes frames of it: labels and
//! names as they go out, no series twice. [`dictionary`] settles what a metric is where devices disagree.

pub mod dictionary;
pub mod layout;
pub mod page;
pub mod protobuf;
pub mod text;

#[doc(hidden)]
pub use layout::try_page;
