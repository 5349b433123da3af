//! System calls, and the memory that the kernel reads and writes: the only module with `unsafe` code.
//!
//! Its functions are safe with any argument.
#![allow(unsafe_code)]
// The C types have other widths on other machines.
#![allow(clippy::unnecessary_cast)]

mod batch;
mod clock;
mod descriptors;
mod links;
mod memory;
mod socket;
mod wake;

pub(crate) use batch::{Layout, Outgoing, ReceiveBatch, Received, SendBatch};
pub(crate) use clock::{clock_pair, is_synchronized, monotonic};
pub(crate) use descriptors::keep_descriptors;
pub(crate) use links::Links;
pub(crate) use memory::keep_less_memory;
pub(crate) use socket::{Absent, Socket, SocketOptions, interface_index, is_broadcast};
pub(crate) use wake::{MOST_READABLE, Wake, wait};
