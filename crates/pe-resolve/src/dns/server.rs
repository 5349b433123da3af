//! One name server, asked over hickory: packets, retransmissions, TCP where an answer is cut short, and aliases.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_resolver::Resolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use pe_scrape::Family;

use super::DnsSettings;
use super::address::NameServer;
use super::transport::Transport;
use crate::entry::Denial;

/// How long a name server that did not answer is asked after the others.
const SILENCE: Duration = Duration::from_secs(30);

/// Questions to one name server over one TCP connection at a time.
const CONCURRENT: usize = 64;

/// A name server, and whether it answers.
pub(super) struct Server {
    address: NameServer,
    timeout: Duration,
    resolver: Result<Resolver<Transport>, NetError>,
    /// Until when it counts as silent.
    silent: Mutex<Option<Instant>>,
}

/// What came of a question.
pub(super) enum Reply {
    Found(Vec<std::net::IpAddr>, Duration),
    Denied(Denial),
    /// The server answered that it cannot tell.
    Refused(String),
    /// There was no answer.
    Silent(String),
}

impl Server {
    pub(super) fn new(address: NameServer, settings: &DnsSettings) -> Self {
        let mut tcp = ConnectionConfig::tcp();
        let mut udp = ConnectionConfig::udp();
        (tcp.port, udp.port) = (address.port, address.port);
        let connections = match settings.tcp_only {
            true => vec![tcp],
            false => vec![udp, tcp],
        };
        let server = NameServerConfig::new(address.ip, true, connections);
        let config = ResolverConfig::from_name_servers(vec![server]);
        let transport = Transport::new(address.clone());
        let mut builder = Resolver::builder_with_config(config, transport);
        let options = builder.options_mut();
        options.timeout = settings.timeout;
        options.edns0 = settings.edns0;
        options.max_active_requests = CONCURRENT;
        // Attempts, the hosts file and caching are ours.
        options.attempts = 0;
        options.use_hosts_file = ResolveHosts::Never;
        options.cache_size = 0;
        Self {
            address,
            timeout: settings.timeout,
            resolver: builder.build(),
            silent: Mutex::default(),
        }
    }

    /// Asks for the addresses of `name`.
    pub(super) async fn ask(&self, name: &Name, family: Family) -> Reply {
        let kind = match family {
            Family::V4 => RecordType::A,
            Family::V6 => RecordType::AAAA,
        };
        let resolver = match &self.resolver {
            Ok(resolver) => resolver,
            Err(error) => return Reply::Silent(format!("{}: {error}", self.address)),
        };
        // Time for an answer over UDP that is cut short, and for the same over TCP.
        let asked = tokio::time::timeout(self.timeout * 2, resolver.lookup(name.clone(), kind));
        let reply = match asked.await {
            Ok(Ok(found)) => {
                let ttl = found
                    .valid_until()
                    .saturating_duration_since(Instant::now());
                let addresses = found.answers().iter().filter_map(|record| {
                    let address = match &record.data {
                        RData::A(address) => address.0.into(),
                        RData::AAAA(address) => address.0.into(),
                        _ => return None,
                    };
                    (Family::of(address) == family).then_some(address)
                });
                let addresses: Vec<_> = addresses.collect();
                match addresses.is_empty() {
                    true => Reply::Denied(Denial::NoAddress),
                    false => Reply::Found(addresses, ttl),
                }
            }
            Ok(Err(error)) => self.classify(&error),
            Err(_) => Reply::Silent(format!("{} did not answer in time", self.address)),
        };
        let is_silent = matches!(reply, Reply::Silent(_));
        *self.silence() = is_silent.then(|| Instant::now() + SILENCE);
        reply
    }

    /// Whether it did not answer lately.
    pub(super) fn is_silent(&self, now: Instant) -> bool {
        self.silence().is_some_and(|until| now < until)
    }

    fn silence(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.silent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the name server denied the name, could not tell, or did not answer. A malformed answer is no denial.
    fn classify(&self, error: &NetError) -> Reply {
        let server = &self.address;
        match error {
            NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
                ResponseCode::NXDomain => Reply::Denied(Denial::NoName),
                ResponseCode::NoError => Reply::Denied(Denial::NoAddress),
                code => Reply::Refused(format!("{server} says: {code}")),
            },
            NetError::Dns(DnsError::ResponseCode(code)) => {
                Reply::Refused(format!("{server} says: {code}"))
            }
            NetError::Timeout => Reply::Silent(format!("{server} did not answer in time")),
            NetError::Io(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                Reply::Silent(format!("{server} did not answer in time"))
            }
            error => Reply::Silent(format!("{server} cannot be asked: {error}")),
        }
    }
}
