//! What happened lately, in memory: for the page and the API.
//!
//! For each device there are the latest cycles one by one; quantiles of all its probes' round-trip times in slots of some
//! minutes, for the latest hours, and in slots of some ten minutes, for about a day; its state and how that changed. A
//! device costs at most about 1 KB, and all together [`History::DEFAULT_BYTES`]: with many devices there are fewer cycles
//! and slots. Quantiles come from the probes themselves, by a small sketch for each device and slot; never from means.
//!
//! Nothing is on disk: a restart begins anew.

mod group;
mod ring;
mod sketch;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use pe_scrape::{CycleReport, LabelSet, Sink, async_trait};
use tokio::sync::broadcast;

pub(crate) use group::{Cycle, GroupHistory, Now, Slot, Spans, device_id};

/// Events that a slow listener may be behind.
const EVENTS: usize = 64;

/// Changes of state that one event names; the others are counted only.
const NAMED_CHANGES: usize = 50;

/// What a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(crate) enum Kind {
    /// No cycle yet.
    Waiting = 0,
    Up = 1,
    Down = 2,
    Unknown = 3,
    /// Up, and lost some of the requests of the latest cycles.
    Losing = 4,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [
        Self::Down,
        Self::Unknown,
        Self::Losing,
        Self::Up,
        Self::Waiting,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Up => "up",
            Self::Down => "down",
            Self::Unknown => "unknown",
            Self::Losing => "losing",
        }
    }
}

impl From<Option<bool>> for Kind {
    /// What it is for its scrapers.
    fn from(is_up: Option<bool>) -> Self {
        match is_up {
            Some(true) => Self::Up,
            Some(false) => Self::Down,
            None => Self::Unknown,
        }
    }
}

/// A kind and a reason in one byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct State(u8);

impl State {
    pub(crate) fn new(kind: Kind, reason: u8) -> Self {
        Self(kind as u8 | reason.min(31) << 3)
    }

    pub(crate) fn kind(self) -> Kind {
        match self.0 & 7 {
            1 => Kind::Up,
            2 => Kind::Down,
            3 => Kind::Unknown,
            4 => Kind::Losing,
            _ => Kind::Waiting,
        }
    }

    /// The number of the reason, 0 for none.
    pub(crate) fn reason(self) -> u8 {
        self.0 >> 3
    }
}

/// The words for reasons, numbered from 1 in the order in which they are met.
#[derive(Debug, Default)]
pub(crate) struct Reasons(Vec<String>);

impl Reasons {
    pub(crate) fn number(&mut self, word: &str) -> u8 {
        if let Some(known) = self.0.iter().position(|known| known == word) {
            return known as u8 + 1;
        }
        if self.0.len() < 31 {
            self.0.push(word.to_owned());
        }
        self.0.len() as u8
    }

    pub(crate) fn word(&self, number: u8) -> Option<&str> {
        let index = usize::from(number).checked_sub(1)?;
        self.0.get(index).map(String::as_str)
    }
}

/// A sink that keeps what the page shows.
///
/// It is given to the engine and to the server:
///
/// ```no_run
/// # async fn example(scrapers: pe_scrape::ScraperRegistry) -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
///
/// let history = Arc::new(pe_web::History::default());
/// let engine = pe_engine::Engine::builder(scrapers).sink("history", history.clone()).build()?;
/// let address: std::net::SocketAddr = "127.0.0.1:9516".parse()?;
/// let mut settings = pe_web::WebSettings::from(address);
/// settings.history = Some(history);
/// let server = pe_web::Server::bind(settings).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct History {
    bytes: usize,
    groups: RwLock<BTreeMap<Arc<str>, Arc<Mutex<GroupHistory>>>>,
    reasons: Arc<Mutex<Reasons>>,
    events: broadcast::Sender<Arc<str>>,
    counts: Mutex<Vec<CountSlot>>,
    /// The agent's latest metrics of its own.
    own: Mutex<Option<Arc<CycleReport>>>,
}

/// The most devices that were down, unknown or losing at one time within a slot of five minutes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct CountSlot {
    pub(crate) number: u64,
    pub(crate) down: u32,
    pub(crate) unknown: u32,
    pub(crate) losing: u32,
}

/// Seconds of a [`CountSlot`], and how many there are: three hours.
pub(crate) const COUNT_SECONDS: u64 = 300;
pub(crate) const COUNT_SLOTS: usize = 36;

impl Default for History {
    fn default() -> Self {
        Self::with_bytes(Self::DEFAULT_BYTES)
    }
}

impl History {
    /// The memory for all devices together, unless set: 80 MB.
    pub const DEFAULT_BYTES: usize = 80_000_000;

    /// A history that takes about so many bytes at most, and 252 for each device at least. With 0 bytes nothing is kept, and
    /// finished cycles are told as they come, without the changes of state in them.
    #[must_use]
    pub fn with_bytes(bytes: usize) -> Self {
        Self {
            bytes,
            groups: RwLock::default(),
            reasons: Arc::default(),
            events: broadcast::channel(EVENTS).0,
            counts: Mutex::default(),
            own: Mutex::default(),
        }
    }

    /// Finished cycles and changes of state from now on, as JSON objects.
    pub(crate) fn events(&self) -> broadcast::Receiver<Arc<str>> {
        self.events.subscribe()
    }

    /// Reads what is known of a group. Its next cycle waits meanwhile, which delays no measurement.
    pub(crate) fn read<T>(&self, group: &str, read: impl FnOnce(&GroupHistory) -> T) -> Option<T> {
        let found = self.all().get(group).cloned();
        let group = found?;
        let group = group.lock().unwrap_or_else(PoisonError::into_inner);
        Some(read(&group))
    }

    pub(crate) fn reason(&self, number: u8) -> Option<String> {
        let reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
        reasons.word(number).map(str::to_owned)
    }

    /// A value of the agent's own metrics, the largest by amount where there are several.
    pub(crate) fn own_value(&self, name: &str) -> Option<f64> {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let frames = own.iter().flat_map(|report| &report.exporter);
        let values = frames
            .flat_map(|frame| (0..frame.rows().len()).filter_map(|row| frame.value(row, name)));
        values.reduce(|a, b| if b.abs() > a.abs() { b } else { a })
    }

    /// The counts of the latest three hours, oldest first.
    pub(crate) fn counts(&self) -> Vec<CountSlot> {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.clone()
    }

    fn all(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<Arc<str>, Arc<Mutex<GroupHistory>>>> {
        self.groups.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn group(&self, name: &Arc<str>) -> Arc<Mutex<GroupHistory>> {
        if let Some(group) = self.all().get(name) {
            return group.clone();
        }
        let mut groups = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        groups.entry(name.clone()).or_default().clone()
    }

    /// What each device may take, with those of all groups and of `report`.
    fn spans(&self, report: &CycleReport) -> Spans {
        let groups: Vec<_> = self
            .all()
            .iter()
            .filter(|(name, _)| **name != report.group)
            .map(|(_, group)| group.clone())
            .collect();
        let others: usize = groups
            .iter()
            .map(|group| group.lock().unwrap_or_else(PoisonError::into_inner).len())
            .sum();
        Spans::for_devices(others + report.device_count, self.bytes)
    }

    fn note_counts(&self, now: SystemTime) {
        let mut slot = CountSlot {
            number: seconds(now) / COUNT_SECONDS,
            ..CountSlot::default()
        };
        let groups: Vec<_> = self.all().values().cloned().collect();
        for group in groups {
            let group = group.lock().unwrap_or_else(PoisonError::into_inner);
            let counts = group.counts();
            slot.down += counts[Kind::Down as usize];
            slot.unknown += counts[Kind::Unknown as usize];
            slot.losing += counts[Kind::Losing as usize];
        }
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.last_mut() {
            Some(last) if last.number >= slot.number => {
                last.down = last.down.max(slot.down);
                last.unknown = last.unknown.max(slot.unknown);
                last.losing = last.losing.max(slot.losing);
            }
            _ => counts.push(slot),
        }
        if counts.len() > COUNT_SLOTS {
            counts.remove(0);
        }
    }

    fn tell(&self, report: &CycleReport, changes: &[(u64, LabelSet, State)]) {
        if self.events.receiver_count() == 0 {
            return;
        }
        let named: Vec<_> = changes
            .iter()
            .take(NAMED_CHANGES)
            .map(|(id, labels, state)| {
                serde_json::json!({
                    "id": format!("{id:016x}"),
                    "device": labels.get("device"),
                    "state": state.kind().as_str(),
                    "reason": self.reason(state.reason()),
                })
            })
            .collect();
        let event = serde_json::json!({
            "group": &*report.group,
            "cycle": report.tick,
            "started": pe_scrape::unix_seconds(report.started),
            "up": report.states.up,
            "down": report.states.down,
            "unknown": report.states.unknown,
            "changed": changes.len(),
            "changes": named,
        });
        // Nobody may listen any more.
        let _ = self.events.send(event.to_string().into());
    }
}

/// Whole seconds since 1970.
pub(crate) fn seconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

#[async_trait]
impl Sink for History {
    fn publish(&self, report: Arc<CycleReport>) {
        if report.is_agent {
            *self.own.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
            return;
        }
        if self.bytes == 0 {
            self.tell(&report, &[]);
            return;
        }
        let spans = self.spans(&report);
        let group = self.group(&report.group);
        let changes = {
            let mut reasons = self.reasons.lock().unwrap_or_else(PoisonError::into_inner);
            let mut group = group.lock().unwrap_or_else(PoisonError::into_inner);
            group.note(&report, spans, &mut reasons)
        };
        self.note_counts(report.started);
        self.tell(&report, &changes);
    }

    fn retain(&self, groups: &[Arc<str>]) {
        let mut all = self.groups.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|name, _| groups.contains(name));
    }
}
