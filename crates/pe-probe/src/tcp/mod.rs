//! Connections over TCP: whether a port is open, what TLS on it is like, and whether its service says what it should.

mod dialogue;
mod settings;
mod starttls;
mod trial;

use std::time::{Duration, Instant};

use pe_scrape::{Metric, ScraperSettings, SettingsError};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::tls::TlsClient;
use crate::{
    Asked, Failure, InfoMetric, Phase, Probe, ProbeFactory, ProbeMetrics, Reason, connect,
};
use dialogue::{Conversation, Found, Script};
pub use settings::{Starttls, StepSettings, TcpSettings};
#[doc(hidden)]
pub use trial::try_dialogue;

/// Makes the scrapers `tcp`.
pub type TcpFactory = ProbeFactory<TcpProbe>;

/// Connects to a port, and perhaps talks to what listens there.
#[derive(Debug)]
pub struct TcpProbe {
    port: u16,
    starttls: Option<Starttls>,
    tls: Option<(TlsClient, Metric)>,
    script: Script,
    max_bytes: usize,
    connect: Metric,
    answer: Metric,
    failed_regex: Metric,
    captures: Option<InfoMetric>,
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
        let script = settings.script()?;
        let connect = metrics.seconds(
            "probe_tcp_connect_seconds",
            "How long it took until the device had accepted the connection",
        );
        let answer = metrics.seconds(
            "probe_tcp_dialogue_seconds",
            "How long the dialogue took, from the first message to the last expected answer",
        );
        let failed_regex = metrics.gauge(
            "probe_failed_due_to_regex",
            "Whether the probe failed since the answer does not say what it should",
        );
        let tls = settings.tls_settings().map(|tls| {
            let handshake = metrics.seconds(
                "probe_tls_handshake_seconds",
                "How long the TLS handshake took",
            );
            TlsClient::new(tls, &[], metrics).map(|client| (client, handshake))
        });
        let captures = script.has_names().then(|| {
            metrics.info(
                "probe_expect_info",
                "1, labelled with the named groups of what was expected",
            )
        });
        Ok(Self {
            port: settings.port,
            starttls: settings.starttls,
            tls: tls.transpose()?,
            script,
            max_bytes: settings.max_bytes as usize,
            connect,
            answer,
            failed_regex,
            captures: captures.transpose()?,
        })
    }

    async fn probe(&self, asked: &Asked<'_>) -> Result<(), Failure> {
        asked.row.set(self.failed_regex, 0.0);
        let connected = connect(asked.socket(self.port)).await?;
        asked.row.set(self.connect, connected.took.as_secs_f64());
        let Some((client, handshake)) = &self.tls else {
            return self.talk(asked, connected.stream, false).await;
        };
        let mut stream = connected.stream;
        if let Some(protocol) = self.starttls {
            starttls::begin(asked.phase_handle(), &mut stream, protocol).await?;
        }
        let secured = client.secure(asked, stream, &asked.host()).await?;
        asked.row.set(*handshake, secured.took.as_secs_f64());
        if self.script.is_empty() {
            return secured.end().await;
        }
        self.talk(asked, secured.stream, secured.lacks_certificate)
            .await
    }
}

impl TcpProbe {
    async fn talk(
        &self,
        asked: &Asked<'_>,
        stream: impl AsyncRead + AsyncWrite + Unpin,
        lacks_certificate: bool,
    ) -> Result<(), Failure> {
        if self.script.is_empty() {
            return Ok(());
        }
        let start = Instant::now();
        let mut conversation = Conversation::new(
            stream,
            asked.phase_handle(),
            self.max_bytes,
            lacks_certificate,
        );
        let mut found = Found::new();
        for step in self.script.steps() {
            let spoken = conversation.step(step, &mut found).await;
            let is_other = |failure: &Failure| failure.reason == Reason::Mismatch;
            if spoken.as_ref().is_err_and(is_other) {
                asked.row.set(self.failed_regex, 1.0);
            }
            spoken?;
        }
        let took: Duration = conversation.heard_at().unwrap_or_else(Instant::now) - start;
        asked.row.set(self.answer, took.as_secs_f64());
        asked.enter(Phase::Answer);
        if let Some(captures) = &self.captures {
            let labels = self.script.names().filter_map(|name| {
                let value = found.get(name)?;
                Some((name.to_owned(), value.clone()))
            });
            captures.show(asked.row, asked.target, labels);
        }
        Ok(())
    }
}
