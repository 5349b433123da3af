//! A scraper of one's own: how long a TCP service (SSH, SMTP, FTP, …) takes to greet.
//!
//! The library needs nothing but `pe-scrape`. `main.rs` registers the scraper beside `ping`; a configuration then uses it
//! as `"metrics": ["ping", {"greeting": {"port": 22}}]`.

use std::sync::Arc;
use std::time::Instant;

use pe_scrape::{
    Address, MetricDescriptor, Row, ScrapeError, Scraper, ScraperSettings, SettingsError, Target,
    Unit, async_trait,
};
use serde::Deserialize;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Measures the time from connecting to the first byte of the greeting.
pub struct Greeting {
    descriptors: [MetricDescriptor; 2],
    port: u16,
    timeout: std::time::Duration,
}

// Positions in `descriptors`.
const UP: usize = 0;
const SECONDS: usize = 1;

/// What a configuration may say: `{"greeting": {"port": 25}}`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    port: u16,
}

impl Default for Settings {
    fn default() -> Self {
        Self { port: 22 }
    }
}

/// Makes the scraper; to be given to `ScraperRegistry::register`.
///
/// # Errors
/// When the settings hold something else than a port.
pub fn factory(settings: &ScraperSettings) -> Result<Arc<dyn Scraper>, SettingsError> {
    let own: Settings = settings.parse()?;
    if own.port == 0 {
        return Err(SettingsError::at("port", "port 0 cannot be connected to"));
    }
    Ok(Arc::new(Greeting {
        descriptors: [
            MetricDescriptor::gauge("greeting_up", "Whether the service greeted in time"),
            MetricDescriptor::gauge("greeting_seconds", "Time until the service greeted")
                .with_unit(Unit::Seconds),
        ],
        port: own.port,
        timeout: settings.timeout,
    }))
}

#[async_trait]
impl Scraper for Greeting {
    fn descriptors(&self) -> &[MetricDescriptor] {
        &self.descriptors
    }

    async fn scrape(&self, target: &Target, row: Row<'_>) -> Result<(), ScrapeError> {
        let started = Instant::now();
        let greet = async {
            let mut stream = match target.address() {
                Address::Ip(ip) => TcpStream::connect((*ip, self.port)).await?,
                Address::Name { host, .. } => TcpStream::connect((&**host, self.port)).await?,
            };
            stream.read_u8().await
        };
        // A device that is down is a result, not an error.
        let greeted = matches!(timeout(self.timeout, greet).await, Ok(Ok(_)));
        row.set(UP, f64::from(u8::from(greeted)));
        if greeted {
            row.set(SECONDS, started.elapsed().as_secs_f64());
        }
        Ok(())
    }
}
