//! The clock of a device against ours: its offset, and what its server says of itself (RFC 5905, client mode).
//!
//! [`packet`] reads and writes packets and computes; it does no I/O. The time of arrival is the kernel's. What is no reply to our
//! request is ignored, since anybody can send it; if no reply follows, that is the reason of the failure.

pub mod packet;

use std::time::Duration;

use pe_scrape::settings::Port;
use pe_scrape::{Metric, ScraperSettings, SettingsError};

use crate::datagram::{Datagrams, Received, Sent, last_word};
use crate::{Asked, Failure, InfoMetric, Phase, Probe, ProbeFactory, ProbeMetrics, Reason};
use packet::{NoTime, Reply, request};

/// The port of NTP.
const PORT: u16 = 123;

/// Makes the scrapers `sntp`.
pub type SntpFactory = ProbeFactory<SntpProbe>;

crate::probe_settings! {
    /// Settings of `sntp`.
    pub struct SntpSettings {
        /// Port of the server.
        port: Port = Port(PORT);
        /// Version of the protocol to ask in; old devices may know 3 only.
        version: u8 = 4, range(1.0, 4.0);
        /// How far the device's clock may be from ours for the probe to succeed.
        max_offset: Option<Duration>;
        /// The greatest stratum with which the probe succeeds.
        max_stratum: u8 = 15, range(1.0, 15.0);
    }
}

/// Asks a device for its time.
#[derive(Debug)]
pub struct SntpProbe {
    settings: SntpSettings,
    metrics: SntpMetrics,
}

#[derive(Debug)]
struct SntpMetrics {
    offset: Metric,
    delay: Metric,
    stratum: Metric,
    leap: Metric,
    root_delay: Metric,
    root_dispersion: Metric,
    precision: Metric,
    reference_time: Metric,
    reference: InfoMetric,
}

impl SntpMetrics {
    fn new(all: &mut ProbeMetrics) -> Result<Self, SettingsError> {
        Ok(Self {
            offset: all.seconds(
                "probe_sntp_offset_seconds",
                "How far the device's clock is ahead of the agent's; negative if it is behind",
            ),
            delay: all.seconds(
                "probe_sntp_delay_seconds",
                "Time that request and reply took on their way",
            ),
            stratum: all.gauge(
                "probe_sntp_stratum",
                "Servers between the device and a reference clock, itself included",
            ),
            leap: all.gauge(
                "probe_sntp_leap",
                "Leap indicator: 0 none, 1 a second more, 2 a second less, 3 not synchronised",
            ),
            root_delay: all.seconds(
                "probe_sntp_root_delay_seconds",
                "Time that packets take from the device to the reference clock and back",
            ),
            root_dispersion: all.seconds(
                "probe_sntp_root_dispersion_seconds",
                "What the device's clock may be wrong by against the reference clock",
            ),
            precision: all.seconds(
                "probe_sntp_precision_seconds",
                "Precision of the device's clock",
            ),
            reference_time: all.seconds(
                "probe_sntp_reference_timestamp_seconds",
                "When the device's clock was last set or corrected, in seconds since 1970",
            ),
            reference: all.info(
                "probe_sntp_reference_info",
                "Whom the device has its time of: 1, with the reference identifier as a label",
            )?,
        })
    }

    /// Writes what a server says of itself, whether it knows the time or not.
    fn server(&self, asked: &Asked<'_>, reply: &Reply, sent: Sent) {
        let row = asked.row;
        row.set(self.stratum, reply.stratum.into());
        row.set(self.leap, reply.leap.into());
        row.set(self.root_delay, reply.root_delay);
        row.set(self.root_dispersion, reply.root_dispersion);
        row.set(self.precision, 2_f64.powi(reply.precision.into()));
        if !reply.reference.is_unknown() {
            let reference = reply.reference.unix_seconds(sent.time);
            row.set(self.reference_time, reference);
        }
        let labels = vec![("reference", reply.reference_name())];
        self.reference.show(row, asked.target, labels);
    }
}

impl SntpProbe {
    /// Writes what a reply says, and whether that is as it should be.
    fn take(
        &self,
        asked: &Asked<'_>,
        reply: &Reply,
        sent: Sent,
        received: &Received,
    ) -> Result<(), Failure> {
        self.metrics.server(asked, reply, sent);
        let (offset, delay) = reply.offset_and_delay(sent.time, received.since(sent));
        asked.row.set(self.metrics.offset, offset);
        asked.row.set(self.metrics.delay, delay);
        if reply.stratum > self.settings.max_stratum {
            let message = format!(
                "the stratum is {}, above {}",
                reply.stratum, self.settings.max_stratum
            );
            return Err(Failure::new(Reason::Stratum, message));
        }
        if let Some(max) = self.settings.max_offset
            && offset.abs() > max.as_secs_f64()
        {
            let message = format!(
                "the clock is {offset:+.6} s from ours, more than {} s",
                max.as_secs_f64()
            );
            return Err(Failure::new(Reason::ClockOffset, message));
        }
        Ok(())
    }
}

impl Probe for SntpProbe {
    type Settings = SntpSettings;

    fn name(settings: &SntpSettings) -> String {
        format!("sntp:{}", settings.port.0)
    }

    fn new(
        settings: SntpSettings,
        _: &ScraperSettings,
        metrics: &mut ProbeMetrics,
    ) -> Result<Self, SettingsError> {
        Ok(Self {
            metrics: SntpMetrics::new(metrics)?,
            settings,
        })
    }

    async fn probe(&self, asked: &Asked<'_>) -> Result<(), Failure> {
        asked.enter(Phase::Answer);
        let cookie = fastrand::u64(1..);
        let datagrams = Datagrams::new(asked.socket(self.settings.port.0)).await?;
        let sent = datagrams
            .send(&request(self.settings.version, cookie))
            .await?;
        let mut ignored = None;
        let wait = async {
            loop {
                let received = datagrams.receive().await?;
                match Reply::read(&received.bytes, cookie) {
                    Ok(reply) => return self.take(asked, &reply, sent, &received),
                    Err((no_time @ (NoTime::Malformed | NoTime::Origin), _)) => {
                        ignored = Some(no_time);
                    }
                    Err((no_time, reply)) => {
                        if let Some(reply) = reply {
                            self.metrics.server(asked, &reply, sent);
                        }
                        return Err(failure(&no_time));
                    }
                }
            }
        };
        let told = tokio::time::timeout_at(last_word(asked.deadline), wait).await;
        told.unwrap_or_else(|_| {
            Err(match ignored {
                Some(no_time) => failure(&no_time),
                None => Phase::Answer.timeout(),
            })
        })
    }
}

fn failure(no_time: &NoTime) -> Failure {
    let reason = match no_time {
        NoTime::Malformed => Reason::Protocol,
        NoTime::Origin => Reason::WrongOrigin,
        NoTime::Kiss(_) => Reason::KissOfDeath,
        NoTime::Unsynchronised { .. } => Reason::Unsynchronised,
    };
    Failure::new(reason, no_time.to_string())
}
