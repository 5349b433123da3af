//! A scraper of one's own, in a crate that needs `pe-scrape` alone: how long a TCP service (SSH, SMTP, FTP, …) takes to
//! greet.
//!
//! A program registers [`factory`] under a name; a configuration then uses it as
//! `"metrics": ["ping", {"greeting": {"port": 22}}]`. `examples/custom-agent` is such a program.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pe_scrape::{
    Columns, Metric, MetricDescriptor, Row, ScrapeError, Scraper, ScraperFactory, Target, Unit,
    async_trait, scraper_factory,
};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

pe_scrape::settings! {
    /// Settings of `greeting`.
    pub struct Settings("") {
        /// TCP port of the service.
        port: u16 = 22, range(1.0, 65_535.0);
    }
}

/// Measures the time from connecting to the first byte of the greeting.
pub struct Greeting {
    port: u16,
    timeout: Duration,
    columns: Arc<Columns>,
    up: Metric,
    seconds: Metric,
}

/// Makes the scrapers.
pub fn factory() -> impl ScraperFactory {
    scraper_factory(|settings: Settings, common| {
        let up = MetricDescriptor::gauge("greeting_up", "Whether the service greeted in time").up();
        let seconds = MetricDescriptor::gauge("greeting_seconds", "Time until the service greeted")
            .with_unit(Unit::Seconds);
        let mut columns = Columns::builder();
        Ok(Greeting {
            port: settings.port,
            timeout: common.timeout,
            up: columns.add(up),
            seconds: columns.add(seconds),
            columns: columns.build()?,
        })
    })
}

#[async_trait]
impl Scraper for Greeting {
    fn columns(&self) -> &Arc<Columns> {
        &self.columns
    }

    async fn scrape(&self, target: &Target, row: Row<'_>) -> Result<(), ScrapeError> {
        let started = Instant::now();
        let greet = async {
            // A name, an address, or one with a zone such as `fe80::1%eth0`.
            let host = target.address().to_string();
            let mut stream = TcpStream::connect((host, self.port)).await?;
            stream.read_u8().await
        };
        // A device that is down is a result, not an error.
        let greeted = matches!(timeout(self.timeout, greet).await, Ok(Ok(_)));
        row.set(self.up, f64::from(u8::from(greeted)));
        if greeted {
            row.set(self.seconds, started.elapsed().as_secs_f64());
        }
        Ok(())
    }
}
