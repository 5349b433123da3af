//! Requests over a real socket, as a scraper and a browser send them.
#![allow(clippy::unwrap_used)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pe_engine::{Engine, Group, ScraperRegistry};
use pe_scrape::{
    Columns, Metric, MetricDescriptor, Row, ScrapeError, Scraper, ScraperSettings, Target,
    async_trait,
};
use pe_web::Server;
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

fn engine() -> Engine {
    let mut registry = ScraperRegistry::new();
    let make = |_: &ScraperSettings| {
        let mut columns = Columns::builder();
        let up = MetricDescriptor::gauge("ping_up", "Whether the device answered");
        let up = columns.add(up.up());
        Ok(Arc::new(Up(columns.build()?, up)) as Arc<dyn Scraper>)
    };
    registry.register("up", make).unwrap();
    let group = Group::builder("Plant <1>", Duration::from_secs(3600))
        .scraper("up", serde_json::Value::Null)
        .device("works", "127.0.0.1")
        .device("broken", "127.0.0.1");
    let engine = Engine::builder(registry).group(group.build().unwrap());
    engine.build().unwrap()
}

async fn request(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("{request}\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await.unwrap();
    String::from_utf8_lossy(&response).into_owned()
}

#[tokio::test]
async fn a_scraper_and_a_browser_get_what_they_ask_for() {
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = server.local_addr();
    let engine = engine();
    let mut finished = engine.results().subscribe();
    tokio::spawn(server.serve(engine.handle(), std::future::pending()));

    let response = request(address, "GET /-/ready HTTP/1.1").await;
    assert!(response.starts_with("HTTP/1.1 503"), "{response}");
    assert!(
        request(address, "GET / HTTP/1.1")
            .await
            .contains("No group has finished")
    );

    tokio::spawn(engine.run(std::future::pending()));
    finished.next().await.unwrap();
    assert!(
        request(address, "GET /-/ready HTTP/1.1")
            .await
            .starts_with("HTTP/1.1 200")
    );
    assert!(
        request(address, "GET /-/healthy HTTP/1.1")
            .await
            .ends_with("healthy\n")
    );

    let page = request(address, "GET / HTTP/1.1").await;
    assert!(
        page.contains(
            "<td>Plant &lt;1&gt;</td><td class=\"number\">2</td><td class=\"number down\">1</td>"
        ),
        "{page}"
    );

    let text = request(address, "GET /metrics HTTP/1.1").await;
    assert!(
        text.contains("content-type: text/plain; version=0.0.4"),
        "{text}"
    );
    assert!(text.contains("ping_up{exporter=\"Plant <1>\",device=\"works\",ip=\"127.0.0.1\"} 1\n"));
    let accept = "GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text";
    assert!(request(address, accept).await.ends_with("# EOF\n"));

    assert!(
        request(address, "GET /nothing HTTP/1.1")
            .await
            .starts_with("HTTP/1.1 404")
    );
    assert!(
        request(address, "POST /metrics HTTP/1.1\r\nContent-Length: 0")
            .await
            .starts_with("HTTP/1.1 405")
    );
}

#[tokio::test]
async fn an_address_in_use_is_told() {
    let first = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let error = Server::bind(first.local_addr()).await.unwrap_err();
    let address = first.local_addr();
    assert_eq!(error.to_string(), format!("cannot listen on {address}"));
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("in use"), "{cause}");
}
