//! The open connections: how many there may be, and which one ends when another needs its place.
//!
//! A connection is *silent* until its first byte is there. It costs a descriptor and little else then, so that there may be
//! thousands: a client that opens a connection and is held up for some milliseconds keeps it, even while others open all they
//! can. Once it has spoken it needs one of fewer places, which have buffers: it is *busy* from the header of a request until its
//! response has been handed to the connection, else idle. Where no place is free, the connection that has been idle for longest
//! is closed. Busy ones keep theirs, and since fewer requests than places are answered at one time (health checks apart), an
//! idle one is always found. Nothing here does I/O; a connection that is to end is told through its [`Notify`].

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::WebMetrics;
use crate::metrics::{ALL_BUSY, DISPLACED};

/// Connections at one time, and those of them that have sent something, where the process may have as many descriptors open.
const MOST: Places = Places {
    open: 4096,
    spoken: 256,
};

/// Connections at one time at least.
const FEWEST: usize = 8;

/// The share of the process's descriptors that connections may take: the rest is for what it measures and sends.
const SHARE: u64 = 4;

/// How long a client may take to send the header of its first request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may wait for its next request. Longer than the usual intervals of scrapes.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);

/// How long a response may take, from the header of its request to the last byte handed over.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(120);

/// How many connections there may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Places {
    /// In all.
    pub(crate) open: usize,
    /// Those that have sent something.
    pub(crate) spoken: usize,
}

/// The open connections. Cloning is cheap.
#[derive(Debug, Clone)]
pub(crate) struct Connections {
    places: Places,
    table: Arc<Mutex<Table>>,
    metrics: Arc<WebMetrics>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    open: HashMap<u64, Entry>,
    /// Those that may be closed for others, the one that has been idle for longest first.
    silent: BTreeSet<(Instant, u64)>,
    idle: BTreeSet<(Instant, u64)>,
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
    /// Nothing has come yet.
    Silent,
    /// No whole request has come yet.
    Begun,
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

impl Places {
    /// As many as this process may have.
    pub(crate) fn of_process() -> Self {
        let limit = getrlimit(Resource::Nofile).current;
        let share = limit.map_or(MOST.open as u64, |limit| limit / SHARE);
        let open = share.clamp(FEWEST as u64, MOST.open as u64) as usize;
        Self {
            open,
            spoken: open.min(MOST.spoken),
        }
    }

    /// How many requests are answered at one time, health checks apart. The rest of the places is for those, and for
    /// connections that have not asked for anything yet.
    pub(crate) fn requests(self) -> usize {
        self.spoken * 3 / 4
    }
}

impl Connections {
    pub(crate) fn new(places: Places, metrics: Arc<WebMetrics>) -> Self {
        Self {
            places,
            table: Arc::default(),
            metrics,
        }
    }

    /// A place for a new connection. Where all are taken, the connection that has been idle for longest is told to close.
    pub(crate) fn open(&self, now: Instant) -> Option<Place> {
        let mut table = self.lock();
        if table.open.len() >= self.places.open && !self.displace(&mut table, Table::idlest) {
            self.metrics.connections.refused.of(ALL_BUSY).add(1);
            return None;
        }
        let id = table.next;
        table.next += 1;
        let close = Arc::new(Notify::new());
        let entry = Entry {
            since: now,
            phase: Phase::Silent,
            busy: 0,
            close: close.clone(),
        };
        table.open.insert(id, entry);
        table.silent.insert((now, id));
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
        self.displace(&mut self.lock(), Table::idlest)
    }

    /// Tells all connections to close whose time is over.
    pub(crate) fn close_overdue(&self, now: Instant) {
        for entry in self.lock().open.values() {
            let timeout = match entry.phase {
                Phase::Silent | Phase::Begun => HEADER_TIMEOUT,
                Phase::Idle => IDLE_TIMEOUT,
                Phase::Busy => RESPONSE_TIMEOUT,
                Phase::Endless => continue,
            };
            if now.saturating_duration_since(entry.since) >= timeout {
                entry.close.notify_one();
            }
        }
    }

    /// Tells the connection to close that `choose` finds, and frees its place at once; it ends a moment later.
    fn displace(&self, table: &mut Table, choose: fn(&Table) -> Option<u64>) -> bool {
        let Some(id) = choose(table) else {
            return false;
        };
        if let Some(entry) = table.remove(id) {
            entry.close.notify_one();
        }
        self.metrics.connections.refused.of(DISPLACED).add(1);
        true
    }

    fn note_open(&self, table: &Table) {
        self.metrics.connections.open.set(table.open.len() as f64);
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// The connection that has been idle for longest.
    fn idlest(&self) -> Option<u64> {
        let first = self.silent.first().into_iter().chain(self.idle.first());
        first.min().map(|(_, id)| *id)
    }

    /// The same among those that have spoken.
    fn idlest_spoken(&self) -> Option<u64> {
        self.idle.first().map(|(_, id)| *id)
    }

    fn set_phase(&mut self, id: u64, phase: Phase, since: Instant) {
        let Some(entry) = self.open.get_mut(&id) else {
            return;
        };
        let old = (entry.since, id);
        (entry.phase, entry.since) = (phase, since);
        self.silent.remove(&old);
        self.idle.remove(&old);
        match phase {
            Phase::Silent => self.silent.insert((since, id)),
            Phase::Begun | Phase::Idle => self.idle.insert((since, id)),
            Phase::Busy | Phase::Endless => false,
        };
    }

    fn remove(&mut self, id: u64) -> Option<Entry> {
        let entry = self.open.remove(&id)?;
        self.silent.remove(&(entry.since, id));
        self.idle.remove(&(entry.since, id));
        Some(entry)
    }
}

impl Place {
    /// Notes that the first byte has come, before anything is set up to read it. Where there is no place for one more that
    /// has spoken, the one of them that has been idle for longest is told to close. Returns whether the connection may go on.
    pub(crate) fn spoke(&self) -> bool {
        let Connections {
            places, metrics, ..
        } = &self.connections;
        let mut table = self.connections.lock();
        let Some(entry) = table.open.get(&self.id) else {
            return false;
        };
        let since = entry.since;
        let spoken = table.open.len() - table.silent.len();
        if spoken >= places.spoken && !self.connections.displace(&mut table, Table::idlest_spoken) {
            metrics.connections.refused.of(ALL_BUSY).add(1);
            return false;
        }
        table.set_phase(self.id, Phase::Begun, since);
        true
    }

    /// Notes that a request has come.
    pub(crate) fn request(&self, now: Instant) -> Responding {
        let mut table = self.connections.lock();
        if let Some(entry) = table.open.get_mut(&self.id) {
            entry.busy += 1;
        }
        table.set_phase(self.id, Phase::Busy, now);
        Responding {
            connections: self.connections.clone(),
            id: self.id,
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
                table.set_phase(self.id, Phase::Idle, Instant::now());
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.connections.lock();
        table.remove(self.id);
        self.connections.note_open(&table);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACES: usize = 16;

    /// Connections that have spoken may take all places.
    const SHARED: Places = Places {
        open: PLACES,
        spoken: PLACES,
    };

    fn connections() -> Connections {
        Connections::new(SHARED, Arc::default())
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
    async fn silent_connections_are_more_and_keep_theirs_beside_many_that_begin() {
        let places = Places {
            open: 4 * PLACES,
            spoken: PLACES,
        };
        let connections = Connections::new(places, Arc::default());
        let silent = connections.open(Instant::now()).unwrap();
        let mut begun = Vec::new();
        for _ in 0..3 * PLACES {
            tokio::time::advance(Duration::from_millis(1)).await;
            let place = connections.open(Instant::now()).unwrap();
            assert!(place.spoke());
            begun.push(place);
        }
        let mut closed = 0;
        for place in &begun {
            closed += usize::from(is_told(place).await);
        }
        assert_eq!(closed, 2 * PLACES);
        assert!(!begun[0].spoke(), "its place is gone");
        assert!(!is_told(&silent).await && silent.spoke());
        // Were all of them busy, it would have to end.
        let _busy: Vec<_> = begun
            .iter()
            .map(|place| place.request(Instant::now()))
            .collect();
        let _request = silent.request(Instant::now());
        assert!(!connections.open(Instant::now()).unwrap().spoke());
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
