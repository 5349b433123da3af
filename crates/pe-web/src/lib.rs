//! The HTTP face of an engine: `/metrics` for Prometheus to scrape, health checks, and a status page.
//!
//! ```no_run
//! # async fn example(engine: pe_engine::Engine) -> Result<(), Box<dyn std::error::Error>> {
//! let server = pe_web::Server::bind("127.0.0.1:9516".parse()?).await?;
//! println!("http://{}/metrics", server.local_addr());
//! let handle = engine.handle();
//! tokio::spawn(server.serve(handle, std::future::pending()));
//! engine.run(std::future::pending()).await?;
//! # Ok(())
//! # }
//! ```
//!
//! The server has no authentication; it serves at most 256 connections at one time.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /` | a status page |
//! | `GET /metrics` | all latest results, as text, OpenMetrics or protobuf by the `Accept` header |
//! | `GET /-/healthy` | 200 while the program runs |
//! | `GET /-/ready` | 200 once every group has finished a cycle, 503 before |

mod page;
mod routes;
mod server;

pub use server::{Server, WebError};
