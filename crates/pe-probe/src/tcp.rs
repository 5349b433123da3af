//! Connections over TCP.

use pe_scrape::{Metric, ScraperSettings, SettingsError};

use crate::{Asked, Failure, Probe, ProbeFactory, ProbeMetrics, connect};

/// Makes the scrapers `tcp`.
pub type TcpFactory = ProbeFactory<TcpProbe>;

crate::probe_settings! {
    /// Settings of `tcp`.
    pub struct TcpSettings {
        /// Port to connect to.
        port: u16, range(1.0, 65_535.0);
    }
}

/// Connects to a port.
#[derive(Debug)]
pub struct TcpProbe {
    port: u16,
    connect: Metric,
}

impl Probe for TcpProbe {
    type Settings = TcpSettings;

    fn name(settings: &TcpSettings) -> String {
        format!("tcp:{}", settings.port)
    }

    fn new(
        settings: TcpSettings,
        _: &ScraperSettings,
        metrics: &mut ProbeMetrics,
    ) -> Result<Self, SettingsError> {
        Ok(Self {
            port: settings.port,
            connect: metrics.seconds(
                "probe_tcp_connect_seconds",
                "How long it took until the device had accepted the connection",
            ),
        })
    }

    async fn probe(&self, asked: &Asked<'_>) -> Result<(), Failure> {
        let connected = connect(asked.socket(self.port)).await?;
        asked.row.set(self.connect, connected.took.as_secs_f64());
        Ok(())
    }
}
