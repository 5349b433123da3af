//! PingExporter as a library: an agent of one's own is a list of scrapers and sinks.
//!
//! [`Agent`] has everything that the program `pingexporter` has: its options, `check`, `once`, `ping`, `init` and `schema`, reload
//! on SIGHUP and when files change, `/metrics` and the status page, signals, logs and exit codes. What it can measure,
//! and where results can go, is registered:
//!
//! ```no_run
//! use std::process::ExitCode;
//!
//! use pe_agent::Agent;
//! use pe_ping::PingScraperFactory;
//! use pe_push::PushgatewayFactory;
//!
//! fn main() -> ExitCode {
//!     Agent::new("my-agent", env!("CARGO_PKG_VERSION"))
//!         .scraper_with("ping", |context| PingScraperFactory::new(context.resolver()).opener(context.socket_opener()))
//!         .sink("pushgateway", PushgatewayFactory::default())
//!         .main()
//! }
//! ```
//!
//! A configuration then says `"metrics": ["ping"]` in its group files and `pushgateway` among its sinks. How to write a
//! scraper is told by the crate `pe-scrape`.
//!
//! # Permissions and runtime
//!
//! Raw ICMP sockets need root or `CAP_NET_RAW`; datagram ICMP sockets, which are used without, need a group within
//! `net.ipv4.ping_group_range`. The agent runs its own multi-threaded tokio runtime, and takes over the process: signal
//! handlers, the panic hook, and the global subscriber of `tracing`. A program that wants to keep these uses `pe-engine`.
//!
//! # Defaults and limits
//!
//! Results are served on `127.0.0.1:9516`, and `/-/reload` is not there, unless flags say otherwise. Changed files are loaded
//! when nothing has changed for 0.3 seconds, at the latest after 2; where the system does not tell of changes, files are
//! looked at every 30 seconds. `ping` takes up to 1,048,576 targets. Of log lines that cannot be written, 1 MiB waits, and
//! further ones are dropped and counted. The rest is that of the crates beneath.
//!
//! | exit code | meaning |
//! | --- | --- |
//! | 0 | done |
//! | 1 | a problem with the configuration or at run time; for `ping`, no answer at all, or something that is no target |
//! | 2 | wrong usage |

mod agent;
mod check;
mod cli;
mod device_log;
mod failure;
mod healthcheck;
mod init;
mod load;
mod logging;
mod metrics;
mod once;
mod output;
mod pages;
mod ping;
mod privileges;
mod queue;
mod reload;
mod run;
mod schema;
mod service_manager;
mod signals;
mod start_line;
mod state_dir;
mod supervise;
mod watch;
mod web;

pub use agent::{Agent, Context};
