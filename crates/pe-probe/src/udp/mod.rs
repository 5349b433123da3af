//! A datagram and its answer: whether a device answers at all, how soon, and whether the answer is right.
//!
//! [`bytes`] reads what is configured and compares; it does no I/O.

pub mod bytes;

use pe_scrape::settings::{Port, Problems};
use pe_scrape::{Metric, MetricDescriptor, ScraperSettings, SettingsError, Unit};
use regex::bytes::Regex;

use crate::datagram::{Datagrams, last_word};
use crate::{Asked, Failure, Phase, Probe, ProbeFactory, ProbeMetrics, Reason};
use bytes::{Expected, HexPattern, MAX_DATAGRAM, parse_hex};

/// Makes the scrapers `udp`.
pub type UdpFactory = ProbeFactory<UdpProbe>;

crate::probe_settings! {
    /// Settings of `udp`.
    pub struct UdpSettings {
        /// Port to send to.
        port: Port;
        /// Text to send; an empty datagram where neither this nor `send_hex` is given.
        send: Option<String>;
        /// Bytes to send, in hexadecimal such as `01 03 00 ff`.
        send_hex: Option<String>;
        /// Regular expression that the answer has to match. Any answer is right where nothing is expected.
        expect: Option<String>;
        /// Bytes that the answer has to begin with, in hexadecimal; `??` is any byte.
        expect_hex: Option<String>;
    }
}

impl UdpSettings {
    fn datagram(&self, problems: &mut Problems) -> Vec<u8> {
        match (&self.send, &self.send_hex) {
            (Some(_), Some(_)) => {
                problems.within("send_hex", |problems| {
                    problems.refuse("`send` says already what is sent: leave one of the two out");
                });
                Vec::new()
            }
            (Some(text), None) => {
                if text.len() > MAX_DATAGRAM {
                    problems.within("send", |problems| {
                        problems.refuse(format_args!("longer than {MAX_DATAGRAM} bytes"));
                    });
                }
                text.clone().into_bytes()
            }
            (None, Some(hex)) => parse_hex(hex).unwrap_or_else(|| {
                problems.within("send_hex", |problems| {
                    problems.refuse(format_args!(
                        "expected 1 to {MAX_DATAGRAM} bytes in hexadecimal, such as `01 03 00 ff`"
                    ));
                });
                Vec::new()
            }),
            (None, None) => Vec::new(),
        }
    }

    fn expected(&self, problems: &mut Problems) -> Expected {
        let pattern = self.expect.as_deref().map(Regex::new);
        let pattern = pattern.transpose().unwrap_or_else(|error| {
            problems.within("expect", |problems| {
                problems.refuse(format_args!("not a regular expression: {error}"));
            });
            None
        });
        let start = self.expect_hex.as_deref().and_then(|text| {
            let start = HexPattern::parse(text);
            if start.is_none() {
                problems.within("expect_hex", |problems| {
                    problems.refuse(
                        "expected bytes in hexadecimal, such as `01 ?? ff` with `??` for any byte",
                    );
                });
            }
            start
        });
        Expected { pattern, start }
    }
}

/// Sends a datagram and waits for its answer.
#[derive(Debug)]
pub struct UdpProbe {
    port: u16,
    datagram: Vec<u8>,
    expected: Expected,
    reply_seconds: Metric,
    reply_bytes: Metric,
}

impl Probe for UdpProbe {
    type Settings = UdpSettings;

    fn name(settings: &UdpSettings) -> String {
        format!("udp:{}", settings.port.0)
    }

    fn new(
        settings: UdpSettings,
        _: &ScraperSettings,
        metrics: &mut ProbeMetrics,
    ) -> Result<Self, SettingsError> {
        let mut problems = Problems::default();
        let datagram = settings.datagram(&mut problems);
        let expected = settings.expected(&mut problems);
        if problems.has_errors() {
            return Err(problems.into());
        }
        let reply_bytes = MetricDescriptor::gauge("probe_udp_reply_bytes", "Bytes of the answer");
        Ok(Self {
            port: settings.port.0,
            datagram,
            expected,
            reply_seconds: metrics.seconds(
                "probe_udp_reply_seconds",
                "Time from the datagram to its answer, by the kernel's clock of arrival",
            ),
            reply_bytes: metrics.add(reply_bytes.with_unit(Unit::Bytes)),
        })
    }

    async fn probe(&self, asked: &Asked<'_>) -> Result<(), Failure> {
        asked.enter(Phase::Answer);
        let datagrams = Datagrams::new(asked.socket(self.port)).await?;
        let sent = datagrams.send(&self.datagram).await?;
        let mut other = None;
        // What does not match may be of another kind, such as a greeting: the right answer may follow.
        let wait = async {
            loop {
                let received = datagrams.receive().await?;
                let matches = self.expected.matches(&received.bytes);
                if matches || other.is_none() {
                    let took = received.since(sent).as_secs_f64();
                    asked.row.set(self.reply_seconds, took);
                    let bytes = received.bytes.len() as f64;
                    asked.row.set(self.reply_bytes, bytes);
                }
                if matches {
                    return Ok(());
                }
                other.get_or_insert(received.bytes);
            }
        };
        let answered = tokio::time::timeout_at(last_word(asked.deadline), wait).await;
        answered.unwrap_or_else(|_| {
            Err(match other {
                Some(bytes) => Failure::new(
                    Reason::Mismatch,
                    format!(
                        "the answer of {} bytes is not what is expected",
                        bytes.len()
                    ),
                ),
                None => Phase::Answer.timeout(),
            })
        })
    }
}
