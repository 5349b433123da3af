//! The name servers of one configuration, asked by the rules of resolv.conf(5).

mod address;
mod server;
mod transport;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hickory_resolver::proto::rr::Name;
use pe_scrape::Family;
use resolv_conf::{Config, Network, ScopedIp};

use crate::entry::{Answer, Denial};
pub use address::{NameServer, NameServerError};
use server::{Reply, Server};

/// Bounds of the system: seconds of `timeout`, number of `attempts`, `ndots`.
const MAX_TIMEOUT: u32 = 30;
const MAX_ATTEMPTS: u32 = 5;
const MAX_NDOTS: u32 = 15;

/// Which name servers are asked, and how. The defaults are those of resolv.conf(5).
#[derive(Debug, Clone)]
pub(crate) struct DnsSettings {
    pub(crate) servers: Vec<NameServer>,
    /// Domains that are put behind a name with fewer dots than `ndots` before it is asked for as it is.
    pub(crate) search: Vec<String>,
    pub(crate) ndots: usize,
    /// How long one name server is waited for.
    pub(crate) timeout: Duration,
    /// How often the list of name servers is gone through.
    pub(crate) attempts: u32,
    /// Whether each question starts with another name server.
    pub(crate) rotate: bool,
    pub(crate) edns0: bool,
    pub(crate) tcp_only: bool,
    /// Names without a dot are asked for with a search domain only.
    pub(crate) no_top_level: bool,
    /// IPv6 addresses are not asked for.
    pub(crate) no_v6: bool,
    /// Networks whose addresses go first.
    pub(crate) sort: Vec<(Ipv4Addr, Ipv4Addr)>,
    /// Why the servers are not those of the system's file.
    pub(crate) problem: Option<String>,
}

impl Default for DnsSettings {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(5),
            attempts: 2,
            rotate: false,
            edns0: true,
            tcp_only: false,
            no_top_level: false,
            no_v6: false,
            sort: Vec::new(),
            problem: None,
        }
    }
}

impl From<&Config> for DnsSettings {
    fn from(config: &Config) -> Self {
        let servers = config.nameservers.iter().map(|server| {
            let mut address = NameServer::from(IpAddr::from(server));
            if let ScopedIp::V6(_, Some(zone)) = server {
                address.zone = Some(zone.as_str().into());
            }
            address
        });
        let search = config.get_last_search_or_domain();
        // systemd-resolved writes `.` or `--` where there is none.
        let search = search.filter(|domain| !matches!(domain.as_str(), "." | "--"));
        let sort = config.sortlist.iter().filter_map(|network| match network {
            Network::V4(address, mask) => Some((*address, *mask)),
            Network::V6(..) => None,
        });
        Self {
            servers: servers.collect(),
            search: search.cloned().collect(),
            ndots: config.ndots.min(MAX_NDOTS) as usize,
            timeout: Duration::from_secs(config.timeout.clamp(1, MAX_TIMEOUT).into()),
            attempts: config.attempts.clamp(1, MAX_ATTEMPTS),
            rotate: config.rotate,
            edns0: config.edns0,
            tcp_only: config.use_vc,
            no_top_level: config.no_tld_query,
            no_v6: config.no_aaaa,
            sort: sort.collect(),
            problem: None,
        }
    }
}

/// Name servers, and which of them is asked next.
pub(crate) struct Dns {
    settings: DnsSettings,
    servers: Vec<Server>,
    turn: AtomicUsize,
}

impl Dns {
    pub(crate) fn new(settings: DnsSettings) -> Self {
        let servers = settings.servers.iter().cloned();
        Self {
            servers: servers
                .map(|server| Server::new(server, &settings))
                .collect(),
            turn: AtomicUsize::new(0),
            settings,
        }
    }

    /// Why the system's file gives no name servers, where it does not.
    pub(crate) fn problem(&self) -> Option<&str> {
        self.settings.problem.as_deref()
    }

    /// The name servers, for messages.
    pub(crate) fn servers(&self) -> Vec<String> {
        let servers = self.settings.servers.iter();
        servers.map(ToString::to_string).collect()
    }

    /// Asks for the addresses of one family, with each search domain in turn.
    pub(crate) async fn look_up(&self, host: &str, family: Family) -> Answer {
        if family.is_v6() && self.settings.no_v6 {
            return Answer::Denied(Denial::NoAddress);
        }
        let names = candidates(host, &self.settings);
        if names.is_empty() {
            return Answer::Denied(Denial::NoName);
        }
        let mut denial = Denial::NoName;
        let mut refused = None;
        for name in names {
            match self.ask(&name, family).await {
                Reply::Found(mut addresses, ttl) => {
                    self.sort(&mut addresses);
                    return Answer::Found(addresses, ttl);
                }
                Reply::Denied(Denial::NoName) => {}
                Reply::Denied(Denial::NoAddress) => denial = Denial::NoAddress,
                Reply::Refused(words) => refused = Some(words),
                // Nobody answers; other names would only take as long.
                Reply::Silent(words) => {
                    return Answer::Failed(match self.problem() {
                        Some(problem) => format!("{problem}, and {words}"),
                        None => words,
                    });
                }
            }
        }
        match refused {
            Some(words) => Answer::Failed(words),
            None => Answer::Denied(denial),
        }
    }

    /// Asks the servers in turn until one of them can tell.
    async fn ask(&self, name: &Name, family: Family) -> Reply {
        let order = self.order();
        let mut last = Reply::Silent("there is no name server".to_owned());
        for _ in 0..self.settings.attempts {
            for server in &order {
                match server.ask(name, family).await {
                    reply @ (Reply::Found(..) | Reply::Denied(_)) => return reply,
                    reply @ Reply::Refused(_) => last = reply,
                    reply @ Reply::Silent(_) => {
                        if !matches!(last, Reply::Refused(_)) {
                            last = reply;
                        }
                    }
                }
            }
        }
        last
    }

    /// The servers in the order in which they are asked: as they are given, or each first in turn; those that were silent
    /// lately last.
    fn order(&self) -> Vec<&Server> {
        let mut order: Vec<&Server> = self.servers.iter().collect();
        if self.settings.rotate && !order.is_empty() {
            let first = self.turn.fetch_add(1, Ordering::Relaxed) % order.len();
            order.rotate_left(first);
        }
        let now = Instant::now();
        order.sort_by_key(|server| server.is_silent(now));
        order
    }

    /// Puts addresses of preferred networks first.
    fn sort(&self, addresses: &mut [IpAddr]) {
        let networks = &self.settings.sort;
        addresses.sort_by_key(|address| match address {
            IpAddr::V4(address) => networks
                .iter()
                .position(|(network, mask)| address.to_bits() & mask.to_bits() == network.to_bits())
                .unwrap_or(networks.len()),
            IpAddr::V6(_) => 0,
        });
    }
}

/// What is asked for, in this order: the name itself and the name within each search domain.
fn candidates(host: &str, settings: &DnsSettings) -> Vec<Name> {
    // Any character is allowed: names with an underscore within a label are common in private networks.
    let full = |text: &str| {
        let mut name = Name::from_ascii(text).ok()?;
        name.set_fqdn(true);
        Some(name)
    };
    if host.ends_with('.') {
        return full(host).into_iter().collect();
    }
    let dots = host.bytes().filter(|byte| *byte == b'.').count();
    let itself = (dots > 0 || !settings.no_top_level).then(|| host.to_owned());
    let search = settings
        .search
        .iter()
        .map(|domain| format!("{host}.{domain}"));
    let names: Vec<String> = match dots >= settings.ndots {
        true => itself.into_iter().chain(search).collect(),
        false => search.chain(itself).collect(),
    };
    names.iter().filter_map(|name| full(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> DnsSettings {
        DnsSettings::from(&Config::parse_with_errors(text.as_bytes()).0)
    }

    fn asked(host: &str, settings: &DnsSettings) -> Vec<String> {
        let names = candidates(host, settings);
        names.iter().map(Name::to_ascii).collect()
    }

    #[test]
    fn resolv_conf_says_how_servers_are_asked() {
        let dns = settings(
            "nameserver 127.0.0.1\nnameserver fe80::1%eth0\nsearch a.test b.test\n\
             options timeout:3 attempts:4 ndots:2 rotate edns0 use-vc no-aaaa no-tld-query trust-ad unheard-of:7\n\
             sortlist 127.1.0.0/255.255.0.0\n",
        );
        let servers: Vec<String> = dns.servers.iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["127.0.0.1", "fe80::1%eth0"]);
        assert_eq!(dns.search, ["a.test", "b.test"]);
        assert_eq!((dns.timeout, dns.attempts), (Duration::from_secs(3), 4));
        assert_eq!(dns.ndots, 2);
        assert!(dns.rotate && dns.edns0 && dns.tcp_only && dns.no_v6 && dns.no_top_level);
        let dns = Dns::new(dns);
        let mut addresses = ["127.2.0.1", "127.1.0.1"].map(|text| text.parse().unwrap());
        dns.sort(&mut addresses);
        assert_eq!(addresses[0].to_string(), "127.1.0.1");
    }

    #[test]
    fn numbers_have_the_bounds_of_the_system() {
        let dns = settings("options timeout:0 attempts:100 ndots:99");
        assert_eq!((dns.timeout, dns.attempts), (Duration::from_secs(1), 5));
        assert_eq!(dns.ndots, 15);
        let dns = settings("options timeout:3600 attempts:0");
        assert_eq!((dns.timeout, dns.attempts), (Duration::from_secs(30), 1));
    }

    #[test]
    fn search_domains_go_first_where_a_name_has_few_dots() {
        let one = settings("search a.test b.test");
        assert_eq!(asked("r", &one), ["r.a.test.", "r.b.test.", "r."]);
        assert_eq!(asked("r.x", &one), ["r.x.", "r.x.a.test.", "r.x.b.test."]);
        assert_eq!(asked("r.", &one), ["r."]);
        let two = settings("search a.test\noptions ndots:2");
        assert_eq!(asked("r.x", &two), ["r.x.a.test.", "r.x."]);
        let none = settings("search .\noptions no-tld-query");
        assert_eq!(asked("r", &none), [""; 0]);
    }

    #[test]
    fn an_underscore_within_a_label_is_asked_for() {
        let dns = settings("search my_site.test");
        assert_eq!(
            asked("dev_7.lab", &dns),
            ["dev_7.lab.", "dev_7.lab.my_site.test."]
        );
    }
}
