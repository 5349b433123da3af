//! What is, or may be, on gateways: by the gateway's URL and the path of a push group, never with credentials.
//!
//! It outlives the sinks, which a reload replaces when a setting changes, and with a state directory the program too. A push group is noted
//! before it is sent for the first time, and crossed out when its deletion was answered, so that one that was taken and never
//! answered for counts as there. Each sink holds a [`Lease`] on its gateway and declares which push groups it wants; what no lease
//! of the gateway wants is to be deleted, once all of them have declared.
//!
//! The file `pushgateways` of the state directory:
//!
//! ```text
//! pingexporter pushgateways 1
//! gateway http://127.0.0.1:9091
//! /metrics/job/router
//! ```
//!
//! While the directory cannot be used, everything is kept in memory, and it is tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pe_scrape::with_causes;
use tokio::sync::Notify;
use tracing::{info, warn};

use super::farewell::Farewells;
use crate::state::{StateDir, StateError};

/// The file's name.
const FILE: &str = "pushgateways";
/// The file's first line.
const HEAD: &str = "pingexporter pushgateways 1";
/// What stands before a URL.
const GATEWAY: &str = "gateway ";
/// Time between two tries to open the state directory.
const PAUSE: Duration = Duration::from_secs(5);

/// Paths of push groups.
pub(super) type Paths = BTreeSet<Arc<str>>;

/// What may be on gateways. Shared by all sinks of a factory.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    state: Mutex<State>,
    store: Option<Store>,
    /// Told when a gateway may have been left alone.
    pub(super) left: Notify,
    /// Held by the sink that clears gateways that are left alone.
    pub(super) farewells: tokio::sync::Mutex<Farewells>,
}

#[derive(Debug, Default)]
struct State {
    gateways: BTreeMap<Arc<str>, Gateway>,
    /// Counts changes of the paths.
    generation: u64,
    next_lease: u64,
}

#[derive(Debug, Default)]
struct Gateway {
    paths: Paths,
    /// The sinks that have a part in it.
    parts: BTreeMap<u64, Part>,
}

#[derive(Debug, Default)]
struct Part {
    /// What the sink wants; `None` while it does not know yet.
    wanted: Option<Paths>,
    /// Told when another part has changed.
    changed: Arc<Notify>,
}

impl Gateway {
    /// Tells all sinks but the one of `id`.
    fn tell_others(&self, id: u64) {
        let others = self.parts.iter().filter(|(other, _)| **other != id);
        others.for_each(|(_, part)| part.changed.notify_one());
    }
}

/// Where it is kept.
#[derive(Debug)]
struct Store {
    path: PathBuf,
    access: tokio::sync::Mutex<Access>,
}

#[derive(Debug, Default)]
struct Access {
    directory: Option<StateDir>,
    tried: Option<Instant>,
    /// What was told of it.
    trouble: Option<String>,
    /// The generation that is in the file.
    written: u64,
}

/// A sink's part in a gateway, given up when it is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    ledger: Arc<Ledger>,
    url: Arc<str>,
    id: u64,
    changed: Arc<Notify>,
}

impl Ledger {
    /// A ledger that is kept in a state directory, once that can be opened.
    pub(super) fn in_directory(path: PathBuf) -> Self {
        Self {
            store: Some(Store {
                path,
                access: tokio::sync::Mutex::default(),
            }),
            ..Self::default()
        }
    }

    /// A part in the gateway at `url`.
    pub(super) fn lease(self: &Arc<Self>, url: &str) -> Lease {
        let mut state = self.state();
        state.next_lease += 1;
        let (id, url) = (state.next_lease, Arc::from(url));
        let gateway = state.gateways.entry(Arc::clone(&url)).or_default();
        let part = Part::default();
        let changed = part.changed.clone();
        gateway.parts.insert(id, part);
        drop(state);
        Lease {
            ledger: self.clone(),
            url,
            id,
            changed,
        }
    }

    /// Gateways that no sink has a part in, with what may be there.
    pub(super) fn left_alone(&self) -> Vec<(Arc<str>, Paths)> {
        let state = self.state();
        let alone = state.gateways.iter().filter(|(_, it)| it.parts.is_empty());
        let with_paths = alone.filter(|(_, it)| !it.paths.is_empty());
        with_paths
            .map(|(url, it)| (url.clone(), it.paths.clone()))
            .collect()
    }

    /// Whether no sink has a part in a gateway.
    pub(super) fn is_left_alone(&self, url: &str) -> bool {
        let state = self.state();
        let gateway = state.gateways.get(url);
        gateway.is_none_or(|it| it.parts.is_empty())
    }

    /// Crosses out push groups that are gone from a gateway.
    pub(super) async fn cross_out_of(&self, url: &str, paths: &Paths) {
        {
            let mut state = self.state();
            let Some(gateway) = state.gateways.get_mut(url) else {
                return;
            };
            gateway.paths.retain(|path| !paths.contains(path));
            if gateway.parts.is_empty() && gateway.paths.is_empty() {
                state.gateways.remove(url);
            }
            state.generation += 1;
        }
        self.save().await;
    }

    /// Forgets a gateway that no sink has a part in.
    pub(super) async fn forget(&self, url: &str) {
        {
            let mut state = self.state();
            if state
                .gateways
                .get(url)
                .is_some_and(|it| it.parts.is_empty())
            {
                state.gateways.remove(url);
                state.generation += 1;
            }
        }
        self.save().await;
    }

    /// Opens the state directory if that is due, and writes what has changed. What fails is told once, and kept in memory.
    pub(super) async fn save(&self) {
        let Some(store) = &self.store else {
            return;
        };
        let mut access = store.access.lock().await;
        let result = self.save_to(store, &mut access).await;
        let trouble = result.err();
        if trouble == access.trouble {
            return;
        }
        let directory = store.path.display();
        match &trouble {
            Some(error) => warn!(
                error,
                "what is on gateways is kept in memory only, until the state directory can be used"
            ),
            None => info!(%directory, "what is on gateways is kept in the state directory"),
        }
        access.trouble = trouble;
    }

    async fn save_to(&self, store: &Store, access: &mut Access) -> Result<(), String> {
        let directory = match &access.directory {
            Some(directory) => directory.clone(),
            None => {
                let is_due = access.tried.is_none_or(|tried| tried.elapsed() >= PAUSE);
                if !is_due {
                    return access.trouble.clone().map_or(Ok(()), Err);
                }
                access.tried = Some(Instant::now());
                let path = store.path.clone();
                let (directory, content) = blocking(move || {
                    let directory = StateDir::open(&path)?;
                    let content = directory.read(FILE)?;
                    Ok((directory, content))
                })
                .await?;
                if let Some(content) = content {
                    self.merge(&content)?;
                    self.left.notify_one();
                }
                access.directory = Some(directory.clone());
                directory
            }
        };
        let (generation, text) = {
            let state = self.state();
            if state.generation == access.written {
                return Ok(());
            }
            (state.generation, state.text())
        };
        blocking(move || directory.write(FILE, text.as_bytes())).await?;
        access.written = generation;
        Ok(())
    }

    /// Takes up what the file says.
    fn merge(&self, content: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(content);
        let mut lines = text.lines();
        if lines.next() != Some(HEAD) {
            return Err(format!(
                "the file {FILE} of the state directory does not begin with {HEAD:?}; remove it to go on without"
            ));
        }
        let mut state = self.state();
        let mut url: Option<Arc<str>> = None;
        for line in lines {
            if let Some(named) = line.strip_prefix(GATEWAY) {
                url = Some(named.into());
            } else if let Some(url) = &url
                && line.starts_with('/')
            {
                let gateway = state.gateways.entry(url.clone()).or_default();
                gateway.paths.insert(line.into());
            }
        }
        state.generation += 1;
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn text(&self) -> String {
        let mut text = format!("{HEAD}\n");
        for (url, gateway) in self.gateways.iter().filter(|(_, it)| !it.paths.is_empty()) {
            text.push_str(GATEWAY);
            text.push_str(url);
            text.push('\n');
            for path in &gateway.paths {
                text.push_str(path);
                text.push('\n');
            }
        }
        text
    }
}

async fn blocking<T: Send + 'static>(
    run: impl FnOnce() -> Result<T, StateError> + Send + 'static,
) -> Result<T, String> {
    match tokio::task::spawn_blocking(run).await {
        Ok(result) => result.map_err(|error| with_causes(&error)),
        Err(_) => Err("the runtime is shutting down".to_owned()),
    }
}

impl Lease {
    /// Says which push groups the sink wants; `None` while it does not know.
    pub(super) fn declare(&self, wanted: Option<Paths>) {
        let mut state = self.ledger.state();
        let Some(gateway) = state.gateways.get_mut(&self.url) else {
            return;
        };
        let Some(part) = gateway.parts.get_mut(&self.id) else {
            return;
        };
        let former = std::mem::replace(&mut part.wanted, wanted);
        if former.is_none() && part.wanted.is_some() {
            gateway.tell_others(self.id);
        }
    }

    /// What may be on the gateway and no sink wants; nothing until all of them have declared.
    pub(super) fn unwanted(&self) -> Paths {
        let state = self.ledger.state();
        let Some(gateway) = state.gateways.get(&self.url) else {
            return Paths::new();
        };
        let parts = gateway.parts.values();
        let wanted: Option<Vec<&Paths>> = parts.map(|part| part.wanted.as_ref()).collect();
        let Some(wanted) = wanted else {
            return Paths::new();
        };
        let paths = gateway.paths.iter();
        let unwanted = paths.filter(|path| wanted.iter().all(|it| !it.contains(*path)));
        unwanted.cloned().collect()
    }

    /// Whether another sink of the gateway wants a push group, or may want it.
    pub(super) fn is_wanted_elsewhere(&self, path: &str) -> bool {
        let state = self.ledger.state();
        let gateway = state.gateways.get(&self.url);
        gateway.is_some_and(|gateway| {
            let mut others = gateway.parts.iter().filter(|(id, _)| **id != self.id);
            others.any(|(_, it)| it.wanted.as_ref().is_none_or(|it| it.contains(path)))
        })
    }

    /// What may be on the gateway, if no other sink has a part in it.
    pub(super) fn alone(&self) -> Option<Paths> {
        let state = self.ledger.state();
        let gateway = state.gateways.get(&self.url)?;
        (gateway.parts.len() == 1).then(|| gateway.paths.clone())
    }

    /// How many push groups may be on the gateway.
    pub(super) fn count(&self) -> usize {
        let state = self.ledger.state();
        state.gateways.get(&self.url).map_or(0, |it| it.paths.len())
    }

    /// Notes push groups that are about to be sent.
    pub(super) async fn note(&self, paths: impl IntoIterator<Item = Arc<str>>) {
        self.change(|known| {
            let before = known.len();
            known.extend(paths);
            known.len() > before
        })
        .await;
    }

    /// Crosses out push groups that are gone.
    pub(super) async fn cross_out(&self, paths: &Paths) {
        self.change(|known| {
            let before = known.len();
            known.retain(|path| !paths.contains(path));
            known.len() < before
        })
        .await;
    }

    async fn change(&self, change: impl FnOnce(&mut Paths) -> bool) {
        {
            let mut state = self.ledger.state();
            let gateway = state.gateways.entry(self.url.clone()).or_default();
            if change(&mut gateway.paths) {
                state.generation += 1;
            }
        }
        self.ledger.save().await;
    }

    /// The ledger.
    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Waits until another sink of the gateway has come, gone or declared.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut state = self.ledger.state();
        if let Some(gateway) = state.gateways.get_mut(&self.url) {
            gateway.parts.remove(&self.id);
            gateway.tell_others(self.id);
            if gateway.parts.is_empty() && gateway.paths.is_empty() {
                state.gateways.remove(&self.url);
            }
        }
        drop(state);
        self.ledger.left.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const URL: &str = "http://g:9091";

    fn paths(paths: &[&str]) -> Paths {
        paths.iter().map(|path| Arc::from(*path)).collect()
    }

    #[tokio::test]
    async fn what_no_sink_of_a_gateway_wants_is_unwanted_once_all_have_declared() {
        let ledger = Arc::new(Ledger::default());
        let (first, second) = (ledger.lease(URL), ledger.lease(URL));
        let elsewhere = ledger.lease("http://other");
        first.note(paths(&["/a", "/b", "/c"])).await;
        first.declare(Some(paths(&["/a"])));
        assert!(first.unwanted().is_empty() && first.is_wanted_elsewhere("/b"));
        second.declare(Some(paths(&["/b"])));
        assert_eq!(first.unwanted(), paths(&["/c"]));
        assert!(first.is_wanted_elsewhere("/b") && !first.is_wanted_elsewhere("/c"));
        assert!(elsewhere.unwanted().is_empty() && first.alone().is_none());
        drop(second);
        assert_eq!(first.unwanted(), paths(&["/b", "/c"]));
        first.cross_out(&paths(&["/b", "/c"])).await;
        assert_eq!(first.alone(), Some(paths(&["/a"])));
        // A sink that is replaced leaves word of what it had pushed.
        drop(first);
        assert_eq!(ledger.left_alone(), [(URL.into(), paths(&["/a"]))]);
        let heir = ledger.lease(URL);
        heir.declare(Some(Paths::new()));
        assert_eq!(heir.unwanted(), paths(&["/a"]));
        assert!(ledger.left_alone().is_empty());
    }

    #[tokio::test]
    async fn what_was_noted_is_found_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let start = || Arc::new(Ledger::in_directory(directory.path().to_owned()));
        {
            let ledger = start();
            let lease = ledger.lease(URL);
            lease
                .note(paths(&["/metrics/job/a", "/metrics/job/b/site/x"]))
                .await;
            lease.cross_out(&paths(&["/metrics/job/a"])).await;
        }
        let ledger = start();
        let lease = ledger.lease(URL);
        lease.declare(Some(Paths::new()));
        ledger.save().await;
        assert_eq!(lease.unwanted(), paths(&["/metrics/job/b/site/x"]));
    }

    #[tokio::test]
    async fn a_file_that_is_not_ours_is_left_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join(FILE);
        std::fs::write(&file, "something else\n").unwrap();
        let ledger = Arc::new(Ledger::in_directory(directory.path().to_owned()));
        let lease = ledger.lease(URL);
        lease.note(paths(&["/a"])).await;
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "something else\n");
        assert_eq!(lease.count(), 1);
    }
}
