//! What the system's files say of host names, as it is now.

mod hosts;
mod sources;
mod watch;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use resolv_conf::Config;

use crate::caching::ResolverSettings;
use crate::dns::{Dns, DnsSettings, NameServer};
pub(crate) use hosts::Hosts;
pub(crate) use sources::{Source, Sources};
use watch::{Fingerprint, fingerprint, read};

/// The files that say where host names are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SystemFiles {
    /// Name servers, search domains and options: resolv.conf(5). `/etc/resolv.conf` by default.
    pub resolv_conf: PathBuf,
    /// Names with their addresses: hosts(5). `/etc/hosts` by default.
    pub hosts: PathBuf,
    /// Where the system looks for names, and in which order: nsswitch.conf(5). `/etc/nsswitch.conf` by default.
    pub nsswitch: PathBuf,
}

impl Default for SystemFiles {
    fn default() -> Self {
        Self {
            resolv_conf: "/etc/resolv.conf".into(),
            hosts: "/etc/hosts".into(),
            nsswitch: "/etc/nsswitch.conf".into(),
        }
    }
}

/// Fingerprints of the files, in the order in which [`SystemFiles`] declares them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fingerprints([Fingerprint; 3]);

impl SystemFiles {
    /// What the files are now.
    pub(crate) fn fingerprints(&self) -> Fingerprints {
        Fingerprints([&self.resolv_conf, &self.hosts, &self.nsswitch].map(|path| fingerprint(path)))
    }
}

/// Where names are looked for: settings and files, as they were at one moment.
pub(crate) struct System {
    pub(crate) sources: Sources,
    pub(crate) hosts: Hosts,
    pub(crate) dns: Arc<Dns>,
    /// Whether all names are left to the C library: it can ask sources that this crate does not know.
    pub(crate) asks_library: bool,
    /// What the files were before they were read, so that a change meanwhile is seen.
    pub(crate) read_at: Fingerprints,
}

impl System {
    /// Reads the files. One that cannot be read counts as empty.
    pub(crate) fn read(settings: &ResolverSettings) -> Self {
        let files = &settings.files;
        let read_at = files.fingerprints();
        let text = |path| read(path).unwrap_or_default();
        let hosts = Hosts::parse(&text(&files.hosts));
        let (sources, dns) = if settings.servers.is_empty() {
            let sources = Sources::parse(&text(&files.nsswitch));
            (sources, resolv_conf(settings, read(&files.resolv_conf)))
        } else {
            (Sources::default(), own_servers(settings))
        };
        Self {
            // The GNU C library finds its modules where it runs; a static build has none.
            asks_library: cfg!(target_env = "gnu") && !sources.others.is_empty(),
            sources,
            hosts,
            dns: Arc::new(Dns::new(dns)),
            read_at,
        }
    }
}

/// Name servers that were given, in place of the system's.
fn own_servers(settings: &ResolverSettings) -> DnsSettings {
    DnsSettings {
        servers: settings.servers.clone(),
        timeout: settings.timeout.unwrap_or(Duration::from_secs(2)),
        attempts: 2,
        ..DnsSettings::default()
    }
}

/// What resolv.conf says, and over it the variables that its manual names. Without a name server in it, one on this machine is
/// asked, as the system does.
fn resolv_conf(settings: &ResolverSettings, text: io::Result<Vec<u8>>) -> DnsSettings {
    let path = settings.files.resolv_conf.display();
    let (mut text, problem) = match text {
        Ok(text) => (text, format!("{path} names no name server")),
        Err(error) => (Vec::new(), format!("{path} cannot be read ({error})")),
    };
    if let Some(options) = &settings.options {
        text.extend(format!("\noptions {}\n", first_line(options)).bytes());
    }
    let (config, _) = Config::parse_with_errors(&text);
    let mut dns = DnsSettings::from(&config);
    if let Some(domains) = &settings.local_domain {
        let domains = first_line(domains).split_whitespace();
        dns.search = domains.map(str::to_owned).collect();
    }
    if let Some(timeout) = settings.timeout {
        dns.timeout = timeout;
    }
    let is_said =
        settings.local_domain.is_some() || config.get_last_search_or_domain().next().is_some();
    if dns.search.is_empty() && !is_said {
        dns.search.extend(own_domain());
    }
    if dns.servers.is_empty() {
        dns.servers.push(NameServer::LOCAL);
        dns.problem = Some(problem);
    }
    dns
}

/// A variable of the environment.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

/// The domain of this machine, where its host name has one.
fn own_domain() -> Option<String> {
    let name = nix::unistd::gethostname().ok()?.into_string().ok()?;
    let (_, domain) = name.split_once('.')?;
    (!domain.is_empty()).then(|| domain.to_owned())
}
