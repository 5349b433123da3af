//! The caching resolver: a thin driver of entries over hosts file, name servers and the C library.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pe_scrape::resolve::{Resolve, ResolveError, SystemResolver};
use pe_scrape::{Family, Frame};
use tokio::sync::futures::OwnedNotified;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tracing::{debug, info, warn};

use crate::dns::NameServer;
use crate::entry::{Answer, Bounds, Denial, Entry, View};
use crate::route::{has_route, preferred};
use crate::system::{Source, System, SystemFiles, variable};

/// Lookups under way at one time.
const CONCURRENT: usize = 64;

/// Calls of the C library under way at one time. Each takes a thread, for as long as the library waits.
const CONCURRENT_CALLS: usize = 16;

/// How long addresses of the second family are waited for when those of the first are there.
const SECOND_FAMILY: Duration = Duration::from_millis(500);

/// How a [`CachingResolver`] works.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ResolverSettings {
    /// Name servers to ask instead of the system's. The hosts file is read all the same.
    pub servers: Vec<NameServer>,
    /// Addresses are asked for again no sooner than this, even where their TTL is shorter. 30 seconds by default.
    pub min_ttl: Duration,
    /// Addresses are asked for again after this, even where their TTL is longer. An hour by default.
    pub max_ttl: Duration,
    /// How soon a lookup that failed, or that found no address, is tried again. 5 seconds by default.
    pub retry: Duration,
    /// How long one name server is waited for; each is asked at least twice. By default 2 seconds for
    /// [`servers`](Self::servers), and what resolv.conf(5) says for those of the system.
    pub timeout: Option<Duration>,
    /// The system's files.
    pub files: SystemFiles,
    /// Domains to search, separated by blanks, in place of those of resolv.conf(5). By default the environment's
    /// `LOCALDOMAIN`.
    pub local_domain: Option<String>,
    /// Options of resolv.conf(5), separated by blanks, that go over those of the file. By default the environment's
    /// `RES_OPTIONS`.
    pub options: Option<String>,
}

impl Default for ResolverSettings {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            min_ttl: Duration::from_secs(30),
            max_ttl: Duration::from_secs(3600),
            retry: Duration::from_secs(5),
            timeout: None,
            files: SystemFiles::default(),
            local_domain: variable("LOCALDOMAIN"),
            options: variable("RES_OPTIONS"),
        }
    }
}

/// Resolves names as the system does, and keeps what it learned.
///
/// The hosts file and resolv.conf(5) are read again when they change. Where nsswitch.conf(5) names other sources than
/// `files` and `dns`, the C library is asked in a program that is linked with the GNU C library.
///
/// A name that is in use is asked for again in the background when its TTL is nearly over. Where no name server answers, the
/// last address is used on; where one says that there is no such name or address, that is the result. Of several addresses
/// the one in use is kept while it is among them; one that this machine has a route to goes first.
///
/// Must be used within a tokio runtime. Cloning is cheap, and clones share what is known.
#[derive(Clone)]
pub struct CachingResolver {
    shared: Arc<Shared>,
    /// Ends with the last clone.
    refresher: Arc<OnceLock<Refresher>>,
}

struct Refresher(JoinHandle<()>);

impl Drop for Refresher {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Shared {
    settings: ResolverSettings,
    bounds: Bounds,
    system: Mutex<Arc<System>>,
    /// Tells lookups that are under way that `system` is another.
    changed: Notify,
    names: Mutex<HashMap<Box<str>, Name>>,
    permits: Semaphore,
    calls: Arc<Semaphore>,
    metrics: ResolverMetrics,
}

/// What is known of a name.
struct Name {
    /// For IPv4 and IPv6.
    families: [Entry; 2],
    /// The addresses that are used for IPv4, IPv6 and either.
    in_use: [Option<InUse>; 3],
    answered: Arc<Notify>,
}

/// An address that was chosen, and when its route was last looked for.
#[derive(Clone, Copy)]
struct InUse {
    address: IpAddr,
    since: Instant,
}

pe_scrape::metrics! {
    /// What all clones of a resolver count together.
    struct ResolverMetrics {
        /// Lookups by result.
        lookups: counters["result"]("pingexporter_dns_lookups_total", "DNS lookups by result"),
        /// Names in the cache.
        entries: gauge("pingexporter_dns_cache_entries", "Host names that are known"),
        /// Uses of an address past its TTL.
        stale: counter(
            "pingexporter_dns_stale_answers_total",
            "Uses of an address past its TTL because no name server answered"
        ),
    }
}

impl CachingResolver {
    /// A resolver with these settings. The system's files are read; nothing is asked yet. A file that is missing or empty is
    /// no error: it is read when it appears.
    #[must_use]
    pub fn new(settings: ResolverSettings) -> Self {
        let bounds = Bounds {
            min_ttl: settings.min_ttl,
            max_ttl: settings.max_ttl.max(settings.min_ttl),
            retry: settings.retry,
        };
        let metrics = ResolverMetrics::default();
        // All results are shown from the start.
        for result in ["found", "absent", "failed"] {
            metrics.lookups.of(result);
        }
        let system = System::read(&settings);
        let shared = Shared {
            system: Mutex::new(Arc::new(system)),
            changed: Notify::new(),
            settings,
            bounds,
            names: Mutex::default(),
            permits: Semaphore::new(CONCURRENT),
            calls: Arc::new(Semaphore::new(CONCURRENT_CALLS)),
            metrics,
        };
        Self {
            shared: Arc::new(shared),
            refresher: Arc::default(),
        }
    }

    /// Lookups by result, names that are known, and how often an address past its TTL was used:
    /// `pingexporter_dns_…`.
    #[must_use]
    pub fn metrics(&self) -> Vec<Frame> {
        let shared = &self.shared;
        shared.metrics.entries.set(shared.names().len() as f64);
        shared.metrics.frames()
    }

    /// Starts the task that keeps names fresh, with the first name.
    fn start_refreshing(&self) {
        let shared = &self.shared;
        self.refresher.get_or_init(|| {
            shared.system().tell();
            let period = (shared.bounds.min_ttl / 4).min(shared.bounds.retry);
            let period = period.clamp(Duration::from_millis(20), Duration::from_secs(1));
            Refresher(tokio::spawn(refresh(Arc::downgrade(shared), period)))
        });
    }
}

/// What is told of a name without waiting.
enum Told {
    One(IpAddr),
    Error(ResolveError),
    /// The lookup is under way; what it waits for is in order before anybody can answer.
    Wait(OwnedNotified),
}

#[async_trait]
impl Resolve for CachingResolver {
    async fn resolve(&self, host: &str, family: Option<Family>) -> Result<IpAddr, ResolveError> {
        if let Ok(address) = host.parse::<IpAddr>() {
            return match family.is_none_or(|family| Family::of(address) == family) {
                true => Ok(address),
                false => Err(ResolveError::denied(
                    host,
                    "the address is of another family",
                )),
            };
        }
        self.start_refreshing();
        loop {
            match self.shared.tell(host, family) {
                Told::One(address) => return Ok(address),
                Told::Error(error) => return Err(error),
                Told::Wait(answered) => answered.await,
            }
        }
    }

    async fn resolve_all(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let first = self.resolve(host, None).await;
        if host.parse::<IpAddr>().is_ok() {
            return Ok(vec![first?]);
        }
        // The first family may have answered alone.
        let both = async {
            while let Some(answered) = self.shared.wait_for_both(host) {
                answered.await;
            }
        };
        let _ = tokio::time::timeout(SECOND_FAMILY, both).await;
        // Whatever came meanwhile counts.
        let first = self.resolve(host, None).await.or(first)?;
        let mut all = vec![first];
        let mut others = self.shared.addresses(host);
        others.retain(|address| *address != first);
        let (routed, unrouted): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|address| has_route(*address));
        all.extend(routed.into_iter().chain(unrouted));
        Ok(all)
    }
}

impl Name {
    fn new(now: Instant) -> Self {
        Self {
            families: [Entry::new(now), Entry::new(now)],
            in_use: [None; 3],
            answered: Arc::default(),
        }
    }

    /// Registered before the lock is released, so that no answer is missed.
    fn wait(&self) -> OwnedNotified {
        self.answered.clone().notified_owned()
    }
}

impl Shared {
    fn names(&self) -> MutexGuard<'_, HashMap<Box<str>, Name>> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn system(&self) -> Arc<System> {
        let system = self.system.lock();
        system.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is known of a name, for one family or either. Lookups that are due are begun.
    ///
    /// For either, IPv6 is looked at only where IPv4 gives no address with a route, or an IPv6 address is in use.
    fn tell(self: &Arc<Self>, host: &str, family: Option<Family>) -> Told {
        let mut due = Vec::new();
        let told = self.known(host, family, &mut due);
        for family in due {
            self.start_lookup(host.into(), family);
        }
        told
    }

    /// What is known of a name. Families whose lookup is due are put into `due`: the caller has to begin it, without the
    /// lock.
    fn known(&self, host: &str, family: Option<Family>, due: &mut Vec<Family>) -> Told {
        let now = Instant::now();
        let mut names = self.names();
        if !names.contains_key(host) {
            names.insert(host.into(), Name::new(now));
        }
        let Some(name) = names.get_mut(host) else {
            // It was put in just now.
            return Told::Error(ResolveError::new(host, "it cannot be remembered"));
        };
        let slot = family.map_or(2, |family| family as usize);
        let in_use = name.in_use[slot];
        let recheck = self.bounds.retry;
        let routed = |address: IpAddr| match in_use {
            // One name is asked for often, and a route seldom changes.
            Some(known) if known.address == address && now < known.since + recheck => true,
            _ => has_route(address),
        };
        let wanted: &[Family] = match family {
            Some(Family::V4) => &[Family::V4],
            Some(Family::V6) => &[Family::V6],
            None => &Family::ALL,
        };
        let mut found: Vec<IpAddr> = Vec::new();
        let (mut unknown, mut stale) = (false, false);
        let (mut denial, mut failure) = (None, None);
        for family in wanted {
            let entry = &mut name.families[*family as usize];
            entry.touch(now);
            if entry.begin_lookup(now) {
                due.push(*family);
            }
            let view = entry.view(now);
            found.extend(view.addresses());
            match view {
                View::Fresh(_) => {}
                View::Stale(_) => stale = true,
                View::Denied(words) => denial = denial.or(Some(words)),
                View::Failed(words) => failure = failure.or(Some(words.to_owned())),
                View::Unknown => unknown = true,
            }
            let is_used = in_use.is_none_or(|in_use| Family::of(in_use.address) == *family);
            let is_enough = is_used && found.iter().any(|address| routed(*address));
            // What is unknown comes first; a name that does not exist has no other family either.
            if is_enough || view_ends(denial) {
                break;
            }
            if unknown {
                return Told::Wait(name.wait());
            }
        }
        let chosen = preferred(in_use.map(|known| known.address), &found, routed);
        let Some(address) = chosen else {
            return Told::Error(match (failure, denial) {
                (Some(words), _) => ResolveError::new(host, words),
                (None, denial) => {
                    let denial = denial.unwrap_or(Denial::NoAddress);
                    ResolveError::denied(host, denial.to_string())
                }
            });
        };
        let is_known = |known: &InUse| known.address == address && now < known.since + recheck;
        if !in_use.as_ref().is_some_and(is_known) {
            if in_use.is_some_and(|known| known.address != address) {
                debug!(%host, %address, "another address is used");
            }
            name.in_use[slot] = Some(InUse {
                address,
                since: now,
            });
        }
        if stale {
            self.metrics.stale.add(1);
        }
        Told::One(address)
    }

    /// Begins what is due for both families, and gives what to wait for while one is not known.
    fn wait_for_both(self: &Arc<Self>, host: &str) -> Option<OwnedNotified> {
        let now = Instant::now();
        let mut names = self.names();
        let name = names.get_mut(host)?;
        let (mut unknown, mut due) = (false, Vec::new());
        for family in Family::ALL {
            let entry = &mut name.families[family as usize];
            entry.touch(now);
            if entry.begin_lookup(now) {
                due.push(family);
            }
            unknown |= entry.view(now) == View::Unknown;
        }
        let answered = unknown.then(|| name.wait());
        drop(names);
        for family in due {
            self.start_lookup(host.into(), family);
        }
        answered
    }

    /// All addresses that are known, IPv4 first.
    fn addresses(&self, host: &str) -> Vec<IpAddr> {
        let now = Instant::now();
        let names = self.names();
        let entries = names.get(host).into_iter().flat_map(|name| &name.families);
        entries
            .flat_map(|entry| entry.view(now).addresses())
            .copied()
            .collect()
    }

    /// Begins a lookup, which its entry knows to be under way. Not with the lock held: a runtime that ends drops the lookup
    /// at once.
    fn start_lookup(self: &Arc<Self>, host: Box<str>, family: Family) {
        let lookup = Lookup {
            shared: self.clone(),
            host,
            family,
            answer: Answer::Failed("the lookup broke off".to_owned()),
        };
        tokio::spawn(async move {
            let shared = lookup.shared.clone();
            let _permit = shared.permits.acquire().await;
            let answer = shared.ask(&lookup.host, family).await;
            lookup.end(answer);
        });
    }

    /// Asks the system as it is now; once more where that changes meanwhile, since who was asked may never answer.
    async fn ask(&self, host: &str, family: Family) -> Answer {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            let system = self.system();
            tokio::select! {
                biased;
                answer = self.ask_of(&system, host, family) => return answer,
                () = changed => {}
            }
        }
    }

    async fn ask_of(&self, system: &System, host: &str, family: Family) -> Answer {
        if system.asks_library {
            return self.ask_library(host, family).await;
        }
        let mut last = Answer::Denied(Denial::NoName);
        for source in &system.sources.own {
            match source {
                Source::Files => {
                    let addresses = system.hosts.addresses(host, family);
                    if !addresses.is_empty() {
                        return Answer::Found(addresses, self.bounds.max_ttl);
                    }
                }
                Source::Dns => match system.dns.look_up(host, family).await {
                    found @ Answer::Found(..) => return found,
                    other => last = other,
                },
            }
        }
        last
    }

    /// Asks the C library, on a thread of the runtime for blocking calls. Its answers have no TTL.
    async fn ask_library(&self, host: &str, family: Family) -> Answer {
        let Ok(permit) = self.calls.clone().acquire_owned().await else {
            return Answer::Failed("the resolver has ended".to_owned());
        };
        let name = host.to_owned();
        let found = tokio::task::spawn_blocking(move || {
            // Kept until the library returns, whoever still waits for it.
            let _permit = permit;
            SystemResolver.resolve_blocking(&name)
        });
        match found.await {
            Ok(Ok(mut all)) => {
                all.retain(|address| Family::of(*address) == family);
                match all.is_empty() {
                    true => Answer::Denied(Denial::NoAddress),
                    false => Answer::Found(all, self.bounds.min_ttl),
                }
            }
            Ok(Err(error)) if error.is_denied => Answer::Denied(Denial::NoName),
            Ok(Err(error)) => Answer::Failed(error.message),
            Err(error) => Answer::Failed(error.to_string()),
        }
    }

    /// Reads the system's files again if one of them has changed.
    async fn follow_files(self: &Arc<Self>) {
        let shared = self.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let before = shared.system();
            if shared.settings.files.fingerprints() == before.read_at {
                return;
            }
            let system = Arc::new(System::read(&shared.settings));
            debug!(servers = ?system.dns.servers(), "the system's name resolution has changed");
            system.tell_changes(&before);
            *shared.system.lock().unwrap_or_else(PoisonError::into_inner) = system;
            shared.changed.notify_waiters();
            let now = Instant::now();
            for name in shared.names().values_mut() {
                name.families.iter_mut().for_each(|entry| entry.expire(now));
            }
        });
        // It does not panic; if it did, the files would be looked at again in a moment.
        let _ = looked.await;
    }
}

/// A lookup under way. Its end is noted however it ends: one that panicked, or whose runtime has ended, has failed, and is
/// tried again by whoever asks next.
struct Lookup {
    shared: Arc<Shared>,
    host: Box<str>,
    family: Family,
    answer: Answer,
}

impl Lookup {
    fn end(mut self, answer: Answer) {
        self.answer = answer;
    }
}

impl Drop for Lookup {
    fn drop(&mut self) {
        let (shared, host, family) = (&self.shared, &self.host, self.family);
        let nothing = Answer::Failed(String::new());
        let answer = std::mem::replace(&mut self.answer, nothing);
        let result = match &answer {
            Answer::Found(..) => "found",
            Answer::Denied(_) => "absent",
            Answer::Failed(_) => "failed",
        };
        shared.metrics.lookups.of(result).add(1);
        debug!(%host, %family, ?answer, "looked up");
        let mut names = shared.names();
        if let Some(name) = names.get_mut(host) {
            let entry = &mut name.families[family as usize];
            entry.take(answer, Instant::now(), &shared.bounds);
            name.answered.notify_waiters();
        }
    }
}

/// Whether nothing else need be asked for.
fn view_ends(denial: Option<Denial>) -> bool {
    denial == Some(Denial::NoName)
}

impl System {
    /// Says what keeps names from being resolved, or what is not asked.
    fn tell(&self) {
        if let Some(problem) = self.dns.problem() {
            warn!(
                problem,
                "no name server is known; names are unknown until there is one"
            );
        }
        if !self.asks_library && !self.sources.others.is_empty() {
            warn!(
                sources = self.sources.others.join(" "),
                "this build asks the hosts file and name servers only; nsswitch.conf names other sources too"
            );
        }
    }

    /// The same where it was otherwise `before`.
    fn tell_changes(&self, before: &Self) {
        let is_new = self.dns.problem() != before.dns.problem() || self.sources != before.sources;
        if is_new {
            self.tell();
        }
        if before.dns.problem().is_some() && self.dns.problem().is_none() {
            info!(servers = ?self.dns.servers(), "name servers are known again");
        }
    }
}

/// Keeps names that are in use fresh, and follows the system's files, for as long as the resolver lives.
async fn refresh(shared: Weak<Shared>, period: Duration) {
    loop {
        tokio::time::sleep(period).await;
        let Some(shared) = shared.upgrade() else {
            return;
        };
        shared.follow_files().await;
        let now = Instant::now();
        let mut due = Vec::new();
        let mut names = shared.names();
        names.retain(|host, name| {
            for family in Family::ALL {
                if name.families[family as usize].begin_lookup(now) {
                    due.push((host.clone(), family));
                }
            }
            !name.families.iter().all(|entry| entry.is_forgotten(now))
        });
        drop(names);
        for (host, family) in due {
            shared.start_lookup(host, family);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_whose_lookup_broke_off_is_asked_for_again() {
        let settings = ResolverSettings {
            // Nobody listens there; the first lookup ends before it is told so.
            servers: vec![std::net::SocketAddr::from(([127, 0, 0, 1], 9)).into()],
            retry: Duration::ZERO,
            ..ResolverSettings::default()
        };
        let resolver = CachingResolver::new(settings);
        let runtime = || {
            let mut builder = tokio::runtime::Builder::new_current_thread();
            builder.enable_all().build().unwrap()
        };
        let first = runtime();
        {
            let _in_runtime = first.enter();
            assert!(matches!(
                resolver.shared.tell("a.test", None),
                Told::Wait(_)
            ));
            assert!(matches!(
                resolver.shared.tell("a.test", None),
                Told::Wait(_)
            ));
        }
        drop(first);
        let told = resolver.shared.metrics.lookups.of("failed").get();
        assert_eq!(told, 1);
        let failed = runtime().block_on(resolver.resolve("a.test", Some(Family::V4)));
        let message = failed.unwrap_err().message;
        assert!(message.contains("broke off"), "{message}");
        // It was asked for once more, and fails by itself now.
        let second = runtime();
        let asked = second.block_on(async {
            loop {
                let error = resolver
                    .resolve("a.test", Some(Family::V4))
                    .await
                    .unwrap_err();
                if !error.message.contains("broke off") {
                    return error.message;
                }
                tokio::task::yield_now().await;
            }
        });
        assert!(asked.contains("127.0.0.1"), "{asked}");
    }
}
