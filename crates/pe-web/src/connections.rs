//! The open connections: how many there may be, and which one ends when another needs its place.
//!
//! A connection is *busy* from the header of a request until its response has been handed to the connection, else idle. A
//! new connection always gets a place: where none is free, the one that has been idle for longest is closed. Busy ones keep
//! theirs, and since fewer requests than places are answered at one time (health checks apart), an idle one is always found.
//! Nothing here does I/O; a connection that is to end is told through its [`Notify`].

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::WebMetrics;
use crate::metrics::DISPLACED;

/// Connections at one time, where the process may have as many descriptors open.
const MOST_PLACES: usize = 256;

/// Connections at one time at least.
const FEWEST_PLACES: usize = 8;

/// The share of the process's descriptors that connections may take: the rest is for what it measures and sends.
const SHARE: u64 = 4;

/// How long a client may take to send the header of its first request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may wait for its next request. Longer than the usual intervals of scrapes.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// How long a response may take, from the header of its request to the last byte handed over.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(120);

/// The open connections. Cloning is cheap.
#[derive(Debug, Clone)]
pub(crate) struct Connections {
    places: usize,
    table: Arc<Mutex<Table>>,
    metrics: Arc<WebMetrics>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    open: HashMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    since: Instant,
    phase: Phase,
    /// Responses being sent. More than one only for a moment, between two requests.
    busy: usize,
    close: Arc<Notify>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No request has come yet.
    New,
    /// Waits for a request.
    Idle,
    /// A response is being sent, which has to end in time.
    Busy,
    /// A response without an end is being sent, such as a stream of events.
    Endless,
}

/// A place of a connection; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    connections: Connections,
    id: u64,
    close: Arc<Notify>,
}

/// A response on its way. The connection is idle again when it is dropped.
#[derive(Debug)]
pub(crate) struct Responding {
    connections: Connections,
    id: u64,
}

/// How many connections there may be in this process.
pub(crate) fn places() -> usize {
    let limit = getrlimit(Resource::Nofile).current;
    let share = limit.map_or(MOST_PLACES as u64, |limit| limit / SHARE);
    share.clamp(FEWEST_PLACES as u64, MOST_PLACES as u64) as usize
}

/// How many requests are answered at one time where there are so many places, health checks apart. The rest of the places is
/// for those, and for connections that have not asked for anything yet.
pub(crate) fn requests(places: usize) -> usize {
    places * 3 / 4
}

impl Connections {
    pub(crate) fn new(places: usize, metrics: Arc<WebMetrics>) -> Self {
        Self {
            places,
            table: Arc::default(),
            metrics,
        }
    }

    /// A place for a new connection. Where all are taken, the connection that has been idle for longest is told to close.
    pub(crate) fn open(&self, now: Instant) -> Option<Place> {
        let mut table = self.lock();
        if table.open.len() >= self.places {
            if !table.close_idlest() {
                return None;
            }
            self.metrics.connections.refused.of(DISPLACED).add(1);
        }
        let id = table.next;
        table.next += 1;
        let close = Arc::new(Notify::new());
        let entry = Entry {
            since: now,
            phase: Phase::New,
            busy: 0,
            close: close.clone(),
        };
        table.open.insert(id, entry);
        self.note_open(&table);
        Some(Place {
            connections: self.clone(),
            id,
            close,
        })
    }

    /// Tells the connection that has been idle for longest to close, for one whose descriptor is needed. Returns whether there
    /// was one.
    pub(crate) fn make_room(&self) -> bool {
        let made = self.lock().close_idlest();
        if made {
            self.metrics.connections.refused.of(DISPLACED).add(1);
        }
        made
    }

    /// Tells all connections to close whose time is over.
    pub(crate) fn close_overdue(&self, now: Instant) {
        for entry in self.lock().open.values() {
            let timeout = match entry.phase {
                Phase::New => HEADER_TIMEOUT,
                Phase::Idle => IDLE_TIMEOUT,
                Phase::Busy => RESPONSE_TIMEOUT,
                Phase::Endless => continue,
            };
            if now.saturating_duration_since(entry.since) >= timeout {
                entry.close.notify_one();
            }
        }
    }

    fn note_open(&self, table: &Table) {
        self.metrics.connections.open.set(table.open.len() as f64);
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Frees the place at once; the connection itself ends a moment later.
    fn close_idlest(&mut self) -> bool {
        let idle = self
            .open
            .iter()
            .filter(|(_, entry)| matches!(entry.phase, Phase::New | Phase::Idle));
        let Some(id) = idle.min_by_key(|(id, entry)| (entry.since, **id)) else {
            return false;
        };
        let id = *id.0;
        if let Some(entry) = self.open.remove(&id) {
            entry.close.notify_one();
        }
        true
    }
}

impl Place {
    /// Notes that a request has come.
    pub(crate) fn request(&self, now: Instant) -> Responding {
        self.enter(now, Phase::Busy);
        Responding {
            connections: self.connections.clone(),
            id: self.id,
        }
    }

    fn enter(&self, now: Instant, phase: Phase) {
        if let Some(entry) = self.connections.lock().open.get_mut(&self.id) {
            entry.busy += 1;
            entry.phase = phase;
            entry.since = now;
        }
    }

    /// Waits until the connection is to end.
    pub(crate) async fn closed(&self) {
        self.close.notified().await;
    }
}

impl Responding {
    /// The response has no end, so that no timeout applies to it as a whole.
    pub(crate) fn endless(&self) {
        if let Some(entry) = self.connections.lock().open.get_mut(&self.id) {
            entry.phase = Phase::Endless;
        }
    }
}

impl Drop for Responding {
    fn drop(&mut self) {
        let mut table = self.connections.lock();
        if let Some(entry) = table.open.get_mut(&self.id) {
            entry.busy -= 1;
            if entry.busy == 0 {
                entry.phase = Phase::Idle;
                entry.since = Instant::now();
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.connections.lock();
        table.open.remove(&self.id);
        self.connections.note_open(&table);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: usize = 16;

    fn connections() -> Connections {
        Connections::new(PLACES, Arc::default())
    }

    async fn is_told(place: &Place) -> bool {
        tokio::time::timeout(Duration::ZERO, place.closed())
            .await
            .is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_connection_gives_its_place_to_a_new_one() {
        let connections = connections();
        let mut places = Vec::new();
        for _ in 0..PLACES {
            places.push(connections.open(Instant::now()).unwrap());
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        let busy = places[0].request(Instant::now());
        let newest = connections.open(Instant::now()).unwrap();
        assert!(!is_told(&places[0]).await && is_told(&places[1]).await);
        drop(busy);
        assert!(connections.make_room());
        assert!(is_told(&places[2]).await && !is_told(&places[0]).await);
        assert!(!is_told(&newest).await);
    }

    #[tokio::test(start_paused = true)]
    async fn no_place_is_taken_from_a_busy_connection() {
        let connections = connections();
        let places: Vec<_> = (0..PLACES)
            .map(|_| connections.open(Instant::now()).unwrap())
            .collect();
        let busy: Vec<_> = places
            .iter()
            .map(|place| place.request(Instant::now()))
            .collect();
        assert!(connections.open(Instant::now()).is_none() && !connections.make_room());
        drop(busy);
        assert!(connections.open(Instant::now()).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn headers_idle_connections_and_responses_have_their_timeouts() {
        let connections = connections();
        let open = || connections.open(Instant::now()).unwrap();
        let (silent, idle, slow, events) = (open(), open(), open(), open());
        drop(idle.request(Instant::now()));
        let _slow = slow.request(Instant::now());
        let endless = events.request(Instant::now());
        endless.endless();
        let mut told = Vec::new();
        for seconds in 1..=200 {
            tokio::time::advance(Duration::from_secs(1)).await;
            connections.close_overdue(Instant::now());
            for (name, place) in [
                ("silent", &silent),
                ("idle", &idle),
                ("slow", &slow),
                ("events", &events),
            ] {
                if is_told(place).await && !told.iter().any(|(known, _)| *known == name) {
                    told.push((name, seconds));
                }
            }
        }
        assert_eq!(told, [("silent", 10), ("idle", 75), ("slow", 120)]);
    }
}
