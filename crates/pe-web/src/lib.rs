//! The HTTP face of an engine: `/metrics` for Prometheus to scrape, health checks, and a status page.
//!
//! ```no_run
//! # async fn example(engine: pe_engine::Engine) -> Result<(), Box<dyn std::error::Error>> {
//! let address: std::net::SocketAddr = "127.0.0.1:9516".parse()?;
//! let server = pe_web::Server::bind(address).await?;
//! println!("http://{}/metrics", server.local_addr());
//! let handle = engine.handle();
//! tokio::spawn(server.serve(handle, std::future::pending()));
//! engine.run(std::future::pending()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /`, `GET /device/{id}` | the status page, and that of a device |
//! | `GET /api/v1/status`, `devices`, `devices/{id}` | the same as JSON |
//! | `GET /api/v1/events` | finished cycles and changes of state as they happen |
//! | `GET /metrics` | all latest results, as text, OpenMetrics or protobuf by the `Accept` header |
//! | `GET /-/healthy` | 200 while the program runs |
//! | `GET /-/ready` | 200 once every group has finished a cycle, 503 before |
//! | `POST /-/reload` | loads the configuration again, where [`WebSettings::reload`] is set |
//!
//! # Permissions
//!
//! None, but for a port below 1024 (`CAP_NET_BIND_SERVICE`). Whoever reaches the address sees all results:
//! [`WebSettings::config_file`] asks for TLS and passwords, in the format of Prometheus' exporters.
//!
//! # Runtime
//!
//! tokio, with time and I/O, of either flavour. A connection is a task. Expositions are written, and lists of devices made,
//! on threads for blocking calls.
//!
//! # Defaults and limits
//!
//! The path of the metrics is `/metrics`; nothing is asked for, and `/-/reload` is not there, unless set. [`History`] takes
//! about 1 KB a device, 80 MB in all.
//!
//! Memory and time are bounded whatever clients do: 256 connections that have sent something, of which an idle one gives its
//! place to a new one, and 4096 in all, or a quarter of the descriptors that the process may have; 192 requests and 8
//! expositions at one time, further ones get 503; timeouts for headers, reading, idle connections and whole responses, of the
//! metrics 30 seconds. Health checks are answered beside all that.

mod app;
mod connections;
mod events;
mod exposition;
mod history;
mod listen;
mod metrics;
mod page;
mod query;
mod respond;
mod secure;
mod server;
mod settings;
mod stream;
mod view;

pub use history::History;
pub use listen::{ListenAddress, WebError};
pub use metrics::WebMetrics;
pub use server::Server;
pub use settings::{ReloadRequests, WebSettings};
