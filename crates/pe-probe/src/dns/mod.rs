//! DNS queries with the device as server: how long it takes to answer, and whether the answer is right.
//!
//! [`message`] reads and writes messages, [`expected`] compares; neither does I/O. Over UDP, what is no response to the query is
//! ignored, since anybody can send it; if no response follows, that is the reason of the failure.

pub mod expected;
pub mod message;
mod transport;

use std::time::Duration;

use pe_scrape::settings::{Port, Problems};
use pe_scrape::{Metric, MetricDescriptor, Row, ScraperSettings, SettingsError, Unit};
use regex::Regex;

use crate::tls::{TlsClient, TlsSettings};
use crate::{
    Asked, CommonSettings, Failure, Probe, ProbeFactory, ProbeMetrics, ProbeSettings, Reason,
};
use expected::{Expected, Flag, Unexpected, WantedFlag, parse_rcode};
use message::{Question, QuestionError, Response};
use transport::{Answered, Query};

/// The port of DNS, and that of DNS over TLS.
const PORT: u16 = 53;
const TLS_PORT: u16 = 853;

/// What DNS over TLS is called in the handshake (RFC 7858, registry of IANA).
const ALPN: &str = "dot";

/// Makes the scrapers `dns`.
pub type DnsFactory = ProbeFactory<DnsProbe>;

pe_scrape::choices! {
    /// How a query gets to the server.
    pub enum DnsTransport {
        /// Datagrams.
        #[default]
        Udp = "udp",
        /// A connection.
        Tcp = "tcp",
        /// A connection with TLS.
        Tls = "tls",
    }
}

pe_scrape::choices! {
    /// The class of a query.
    pub enum DnsClass {
        /// The Internet.
        #[default]
        In = "in",
        /// Chaos: servers tell of themselves.
        Ch = "ch",
    }
}

pe_scrape::settings! {
    /// Settings of `dns`.
    pub struct DnsSettings("") {
        /// Name to ask the device for.
        name: String;
        /// Type of the records to ask for, such as `A`, `AAAA`, `MX`, `NS`, `PTR`, `SOA` or `TXT`.
        record_type: String = "A".to_owned(), named("type");
        /// Class of the records to ask for; `ch` is for names such as `version.bind`.
        class: DnsClass = DnsClass::In;
        /// How to ask.
        transport: DnsTransport = DnsTransport::Udp;
        /// Port of the server.
        port: Option<Port>, otherwise("853 for `tls`, else 53");
        /// Whom the probe trusts, and what it shows; for the transport `tls` only.
        tls: Option<TlsSettings>;
        /// Whether the server is asked to ask others for what it does not know.
        recursion: bool = true;
        /// Whether DNSSEC signatures are asked for.
        dnssec: bool = false;
        /// Whether the query tells what the client can take (EDNS), which a few old servers do not understand.
        edns: bool = true;
        /// Whether a truncated response over UDP is followed by a query over TCP. If not, it is a failure.
        retry_over_tcp: bool = true;
        /// Response codes that are right, by name or number.
        rcodes: Vec<String> = vec!["NOERROR".to_owned()];
        /// Flags that the response must have: `aa`, `ra` or `ad`, or `!aa` for one that it must not have.
        flags: Vec<String>;
        /// Regular expressions, each of which at least one answer has to match. Answers are compared as text such as
        /// `router.test. 300 IN A 192.0.2.1`.
        answer: Vec<String>;
        /// Regular expressions that all answers have to match, of which there must be one.
        every_answer: Vec<String>;
        /// Regular expressions that no answer may match.
        no_answer: Vec<String>;
        /// Value of the label `probe`, which tells the probes of one device apart.
        probe_name: Option<String>, otherwise("kind and port, such as `dns:53`");
        /// Whether the device counts as up when this probe succeeds, and as down when it fails. Where several metrics of a
        /// device say so, it is up when one of them succeeds.
        up: Option<bool>, otherwise("only if no other metric of the device says whether it is up, as `ping` does");
        /// How long the probe may take in all, from the look-up of the device's name on; below `interval`.
        timeout: Option<Duration>, otherwise("that of the device");
        /// Devices that are asked at once, at the most.
        concurrency: u32 = 256, range(1.0, 10_000.0);
    }
}

// Not declared by `probe_settings!`: `name` is the name that is asked for.
impl ProbeSettings for DnsSettings {
    fn common(&self) -> CommonSettings {
        CommonSettings::new(
            self.probe_name.clone(),
            self.up,
            self.timeout,
            self.concurrency,
        )
    }
}

impl DnsSettings {
    fn port(&self) -> u16 {
        match (self.port, self.transport) {
            (Some(Port(port)), _) => port,
            (None, DnsTransport::Tls) => TLS_PORT,
            (None, _) => PORT,
        }
    }

    /// The settings of TLS, where that is used.
    fn tls(&self, problems: &mut Problems) -> Option<TlsSettings> {
        if self.transport == DnsTransport::Tls {
            return Some(self.tls.clone().unwrap_or_default());
        }
        if self.tls.is_some() {
            problems.within("tls", |problems| {
                problems.refuse("has no effect: `transport` is not `tls`");
            });
        }
        None
    }

    fn question(&self, problems: &mut Problems) -> Option<Question> {
        let mut question = match Question::new(&self.name, &self.record_type) {
            Ok(question) => question,
            Err(error) => {
                let key = match error {
                    QuestionError::Name(_) => "name",
                    QuestionError::Type(_) => "type",
                };
                problems.within(key, |problems| problems.refuse(error));
                return None;
            }
        };
        if self.class == DnsClass::Ch {
            question = question.chaos();
        }
        question.recursion = self.recursion;
        question.edns = self.edns;
        question.dnssec = self.dnssec;
        Some(question)
    }

    fn expected(&self, problems: &mut Problems) -> Expected {
        let no_rcode = "expected a response code, such as `NOERROR` or `NXDOMAIN`, or its number";
        let no_flag = "expected `aa`, `ra` or `ad`, or one of them with `!` in front";
        Expected {
            rcodes: each(&self.rcodes, "rcodes", problems, |text| {
                parse_rcode(text).ok_or_else(|| no_rcode.to_owned())
            }),
            flags: each(&self.flags, "flags", problems, |text| {
                WantedFlag::parse(text).ok_or_else(|| no_flag.to_owned())
            }),
            some: each(&self.answer, "answer", problems, pattern),
            every: each(&self.every_answer, "every_answer", problems, pattern),
            none: each(&self.no_answer, "no_answer", problems, pattern),
        }
    }
}

fn pattern(text: &str) -> Result<Regex, String> {
    Regex::new(text).map_err(|error| format!("not a regular expression: {error}"))
}

/// Reads each entry of the list at `key`, and reports those that cannot be read.
fn each<T>(
    texts: &[String],
    key: &str,
    problems: &mut Problems,
    read: impl Fn(&str) -> Result<T, String>,
) -> Vec<T> {
    problems.within(key, |problems| {
        let entries = texts.iter().enumerate();
        let read = entries.filter_map(|(index, text)| {
            let entry = read(text);
            entry
                .map_err(|reason| problems.within(index, |problems| problems.refuse(reason)))
                .ok()
        });
        read.collect()
    })
}

/// Asks a DNS server.
#[derive(Debug)]
pub struct DnsProbe {
    port: u16,
    transport: DnsTransport,
    tls: Option<TlsClient>,
    retry_over_tcp: bool,
    question: Question,
    expected: Expected,
    metrics: DnsMetrics,
}

#[derive(Debug)]
struct DnsMetrics {
    resolve: Metric,
    connect: Metric,
    tls: Metric,
    request: Metric,
    succeeded: Metric,
    rcode: Metric,
    truncated: Metric,
    answers: Metric,
    authorities: Metric,
    additionals: Metric,
    serial: Metric,
    flags: [Metric; Flag::ALL.len()],
}

impl DnsMetrics {
    fn new(all: &mut ProbeMetrics) -> Self {
        let mut phase = |phase| {
            let seconds = MetricDescriptor::gauge(
                "probe_dns_duration_seconds",
                "How long the phases of the query took",
            );
            all.add(seconds.with_unit(Unit::Seconds).with_label("phase", phase))
        };
        Self {
            resolve: phase("resolve"),
            connect: phase("connect"),
            tls: phase("tls"),
            request: phase("request"),
            succeeded: all.gauge(
                "probe_dns_query_succeeded",
                "Whether the server answered the query, whatever it answered",
            ),
            rcode: all.gauge("probe_dns_rcode", "Code of the response; 0 is NOERROR"),
            truncated: all.gauge(
                "probe_dns_truncated",
                "Whether the response over UDP was truncated",
            ),
            answers: all.gauge("probe_dns_answer_rrs", "Records in the answer section"),
            authorities: all.gauge(
                "probe_dns_authority_rrs",
                "Records in the authority section",
            ),
            additionals: all.gauge(
                "probe_dns_additional_rrs",
                "Records in the additional section",
            ),
            serial: all.gauge("probe_dns_serial", "Serial number of the zone's SOA record"),
            flags: Flag::ALL.map(|flag| {
                let set =
                    MetricDescriptor::gauge("probe_dns_flag", "Whether the response has the flag");
                all.add(set.with_label("flag", flag.as_str()))
            }),
        }
    }

    fn times(&self, row: Row<'_>, answered: &Answered) {
        for (metric, took) in [
            (self.connect, answered.connect),
            (self.tls, answered.tls),
            (self.request, Some(answered.request)),
        ] {
            if let Some(took) = took {
                row.set(metric, took.as_secs_f64());
            }
        }
    }

    fn response(&self, row: Row<'_>, response: &Response) {
        let number = |set| f64::from(u8::from(set));
        row.set(self.rcode, response.rcode.into());
        row.set(self.answers, response.answers.len() as f64);
        row.set(self.authorities, response.authorities as f64);
        row.set(self.additionals, response.additionals as f64);
        if let Some(serial) = response.serial {
            row.set(self.serial, serial.into());
        }
        for (flag, metric) in Flag::ALL.into_iter().zip(self.flags) {
            row.set(metric, number(flag.is_set(response.flags)));
        }
    }
}

impl DnsProbe {
    async fn ask(&self, asked: &Asked<'_>) -> Result<Answered, Failure> {
        let query = Query {
            asked,
            server: asked.socket(self.port),
            question: &self.question,
        };
        let answered = match (self.transport, &self.tls) {
            (DnsTransport::Udp, _) => query.over_udp().await?,
            (_, None) => query.over_tcp().await?,
            (_, Some(client)) => query.over_tls(client).await?,
        };
        if self.transport != DnsTransport::Udp {
            return Ok(answered);
        }
        let is_truncated = answered.response.flags.truncated;
        let number = f64::from(u8::from(is_truncated));
        asked.row.set(self.metrics.truncated, number);
        match (is_truncated, self.retry_over_tcp) {
            (false, _) => Ok(answered),
            (true, true) => query.over_tcp().await,
            (true, false) => {
                self.metrics.times(asked.row, &answered);
                self.metrics.response(asked.row, &answered.response);
                asked.row.set(self.metrics.succeeded, 1.0);
                Err(Failure::new(
                    Reason::DnsTruncated,
                    "the response over UDP is truncated",
                ))
            }
        }
    }
}

impl Probe for DnsProbe {
    type Settings = DnsSettings;

    fn name(settings: &DnsSettings) -> String {
        format!("dns:{}", settings.port())
    }

    fn new(
        settings: DnsSettings,
        _: &ScraperSettings,
        metrics: &mut ProbeMetrics,
    ) -> Result<Self, SettingsError> {
        let mut problems = Problems::default();
        let expected = settings.expected(&mut problems);
        let question = settings.question(&mut problems);
        let tls = settings.tls(&mut problems);
        let question = question.filter(|_| !problems.has_errors());
        let question = question.ok_or(problems)?;
        let tls = tls.map(|tls| TlsClient::new(tls, &[ALPN], metrics));
        Ok(Self {
            tls: tls.transpose()?,
            port: settings.port(),
            transport: settings.transport,
            retry_over_tcp: settings.retry_over_tcp,
            question,
            expected,
            metrics: DnsMetrics::new(metrics),
        })
    }

    async fn probe(&self, asked: &Asked<'_>) -> Result<(), Failure> {
        let row = asked.row;
        // Absent only where nothing could be asked.
        row.set(self.metrics.succeeded, 0.0);
        row.set(self.metrics.resolve, asked.start.elapsed().as_secs_f64());
        let answered = self.ask(asked).await;
        if let Err(failure) = &answered
            && failure.reason.is_unknown()
        {
            row.set(self.metrics.succeeded, pe_scrape::ABSENT);
        }
        let answered = answered?;
        row.set(self.metrics.succeeded, 1.0);
        self.metrics.times(row, &answered);
        self.metrics.response(row, &answered.response);
        let checked = self.expected.check(&answered.response);
        checked.map_err(|wrong| Failure::new(reason(&wrong), wrong.to_string()))
    }
}

fn reason(wrong: &Unexpected) -> Reason {
    match wrong {
        Unexpected::Rcode(_) => Reason::DnsRcode,
        Unexpected::Flag(_) => Reason::DnsFlags,
        _ => Reason::DnsAnswer,
    }
}
