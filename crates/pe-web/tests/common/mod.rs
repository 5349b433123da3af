//! An engine whose devices answer by their names, and requests to a server in front of it.
#![allow(dead_code, clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pe_engine::{Engine, Group, ScraperRegistry};
use pe_scrape::{
    Columns, Metric, MetricDescriptor, Row, ScrapeError, Scraper, ScraperSettings, Target,
    async_trait,
};
use pe_web::{Server, WebSettings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

struct Up(Arc<Columns>, Metric);

#[async_trait]
impl Scraper for Up {
    fn columns(&self) -> &Arc<Columns> {
        &self.0
    }
    async fn scrape(&self, target: &Target, row: Row<'_>) -> Result<(), ScrapeError> {
        row.set(self.1, f64::from(u8::from(target.device() != "broken")));
        Ok(())
    }
}

struct Succeeds(Arc<Columns>, Metric);

#[async_trait]
impl Scraper for Succeeds {
    fn columns(&self) -> &Arc<Columns> {
        &self.0
    }
    async fn scrape(&self, _: &Target, row: Row<'_>) -> Result<(), ScrapeError> {
        row.set(self.1, 1.0);
        Ok(())
    }
}

pub(crate) fn registry() -> ScraperRegistry {
    let mut registry = ScraperRegistry::new();
    let make = |_: &ScraperSettings| {
        let mut columns = Columns::builder();
        let up = MetricDescriptor::gauge("ping_up", "Whether the device answered");
        let up = columns.add(up.up());
        Ok(Arc::new(Up(columns.build()?, up)) as Arc<dyn Scraper>)
    };
    registry.register("up", make).unwrap();
    // Answers wherever it is asked, which counts only where `up` is not.
    let make = |_: &ScraperSettings| {
        let mut columns = Columns::builder();
        let success = MetricDescriptor::gauge("probe_success", "Whether the probe succeeded");
        let success = columns.add(success.up_unless_told());
        Ok(Arc::new(Succeeds(columns.build()?, success)) as Arc<dyn Scraper>)
    };
    registry.register("succeeds", make).unwrap();
    registry
}

/// An engine with the group `Plant <1>`: `works`, `broken`, and devices at these addresses.
pub(crate) fn engine(more: &str) -> Engine {
    let mut group = Group::builder("Plant <1>", Duration::from_secs(3600))
        .scraper("up", serde_json::Value::Null)
        .device("works", "127.0.0.1")
        .device("broken", "127.0.0.1");
    if !more.is_empty() {
        group = group.device("more-{ip}", more);
    }
    let engine = Engine::builder(registry()).group(group.build().unwrap());
    engine.build().unwrap()
}

/// A server in front of an engine that has finished its first cycle.
pub(crate) async fn serve(more: &str, change: impl FnOnce(&mut WebSettings)) -> SocketAddr {
    let mut settings = WebSettings::from("127.0.0.1:0".parse::<SocketAddr>().unwrap());
    change(&mut settings);
    let server = Server::bind(settings).await.unwrap();
    let address = server.local_addr();
    let engine = engine(more);
    let mut finished = engine.results().subscribe();
    tokio::spawn(server.serve(engine.handle(), std::future::pending()));
    tokio::spawn(engine.run(std::future::pending()));
    finished.next().await.unwrap();
    address
}

/// The response to a request, whose first line and further headers are given.
pub(crate) async fn request(address: SocketAddr, request: &str) -> String {
    String::from_utf8_lossy(&request_bytes(address, request).await).into_owned()
}

pub(crate) async fn request_bytes(address: SocketAddr, request: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{request}\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await.unwrap();
    response
}
