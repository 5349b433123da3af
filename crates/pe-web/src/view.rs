//! What the page and the API show: the state of the agent, lists of devices, and one device.
//!
//! Everything is put together from the engine and the history when it is asked for, as values that serialize to the JSON of
//! the API. Times are seconds since 1970, durations and round-trip times seconds.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use pe_engine::EngineHandle;
use pe_scrape::{
    Config, Group, LabelSet, Severity, SinkStatus, UpStates, rtt_of_code, unix_seconds,
};
use serde::Serialize;

use crate::history::{
    COUNT_SECONDS, CountSlot, Cycle, GroupHistory, History, Kind, Now, Slot, State, device_id,
};
use crate::query::{DeviceQuery, Sort};

/// An interval's cycle that takes more of it than this is told.
const LONG_CYCLE: f64 = 0.9;

/// Seconds by which a clock may differ from a receiver's, which tells its own to a second.
const CLOCK_OFF: f64 = 2.0;

/// Group names and the like that are listed in `reasons` for a state.
const REASONS: usize = 6;

/// Cycles whose loss and round-trip time a row of the list draws.
const TRACE: usize = 30;

/// Where views come from.
pub(crate) struct Source {
    pub(crate) engine: EngineHandle,
    pub(crate) history: Option<Arc<History>>,
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) watched: Option<String>,
    pub(crate) example_command: Option<String>,
    pub(crate) started: SystemTime,
}

#[derive(Serialize)]
pub(crate) struct StatusView {
    pub(crate) site: String,
    /// `starting`, `measuring` or `stale`.
    pub(crate) state: &'static str,
    pub(crate) problems: Vec<Problem>,
    pub(crate) now: f64,
    pub(crate) started: f64,
    pub(crate) newest_result: Option<f64>,
    pub(crate) devices: DeviceCounts,
    pub(crate) groups: Vec<GroupView>,
    pub(crate) sinks: Vec<SinkView>,
    pub(crate) reload: ReloadView,
    pub(crate) clock: ClockView,
    pub(crate) sockets: SocketsView,
    pub(crate) build: BuildView,
    pub(crate) process: ProcessView,
    pub(crate) listen: Vec<String>,
    /// The directory from which groups are read.
    pub(crate) watched: Option<String>,
    #[serde(skip)]
    pub(crate) example_command: Option<String>,
}

/// Something that somebody should look at.
#[derive(Serialize)]
pub(crate) struct Problem {
    /// `reload`, `group`, `sink` or `clock`.
    pub(crate) about: &'static str,
    pub(crate) text: String,
}

#[derive(Serialize, Default)]
pub(crate) struct DeviceCounts {
    pub(crate) total: usize,
    pub(crate) up: usize,
    pub(crate) losing: usize,
    pub(crate) down: usize,
    pub(crate) unknown: usize,
    pub(crate) waiting: usize,
    /// By state, then by reason, the most frequent first.
    pub(crate) reasons: BTreeMap<&'static str, Vec<(String, usize)>>,
    /// Devices that lose up to 5 %, up to 20 %, and more.
    pub(crate) loss_bands: [usize; 3],
    pub(crate) history: Vec<CountView>,
}

#[derive(Serialize)]
pub(crate) struct CountView {
    pub(crate) start: u64,
    pub(crate) down: u32,
    pub(crate) unknown: u32,
    pub(crate) losing: u32,
}

#[derive(Serialize)]
pub(crate) struct GroupView {
    pub(crate) name: String,
    pub(crate) file: Option<String>,
    pub(crate) devices: usize,
    pub(crate) states: BTreeMap<&'static str, usize>,
    pub(crate) interval: f64,
    pub(crate) cycle: Option<f64>,
    /// Ticks of the latest hour that brought no full measurement, because an earlier cycle was still running.
    pub(crate) overruns_1h: u64,
    pub(crate) finished: Option<f64>,
    pub(crate) is_stale: bool,
}

impl GroupView {
    pub(crate) fn is_long(&self) -> bool {
        self.cycle
            .is_some_and(|cycle| cycle > LONG_CYCLE * self.interval)
    }
}

#[derive(Serialize)]
pub(crate) struct SinkView {
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) target: String,
    /// `delivering`, `waiting` or `failing`.
    pub(crate) state: &'static str,
    pub(crate) last_success: Option<f64>,
    pub(crate) since: Option<f64>,
    pub(crate) error: Option<String>,
    /// In the past while a try is under way.
    pub(crate) next_try: Option<f64>,
    pub(crate) queue: Option<QueueView>,
    pub(crate) dropped: Vec<DroppedView>,
}

/// What a sink will never hand on, for one reason.
#[derive(Serialize)]
pub(crate) struct DroppedView {
    pub(crate) what: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) count: u64,
}

#[derive(Serialize)]
pub(crate) struct QueueView {
    pub(crate) samples: u64,
    pub(crate) bytes: u64,
    pub(crate) oldest: Option<f64>,
}

#[derive(Serialize)]
pub(crate) struct ReloadView {
    pub(crate) successful: bool,
    pub(crate) attempted: f64,
    pub(crate) diagnostics: Vec<DiagnosticView>,
}

#[derive(Serialize)]
pub(crate) struct DiagnosticView {
    pub(crate) severity: &'static str,
    /// `FILE:LINE:COL`, or the name of what is in no file.
    pub(crate) location: String,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

/// What is known of the machine's clock, where a sink needs it.
#[derive(Serialize, Default)]
pub(crate) struct ClockView {
    pub(crate) synchronized: Option<bool>,
    /// Seconds by which it is ahead of a receiver's, the most of all.
    pub(crate) ahead_of_receiver: Option<f64>,
}

impl ClockView {
    /// What is wrong with it.
    fn problem(&self) -> Option<String> {
        match (self.ahead_of_receiver, self.synchronized) {
            (Some(ahead), _) if ahead.abs() >= CLOCK_OFF => {
                let side = if ahead > 0.0 { "ahead of" } else { "behind" };
                let seconds = ahead.abs().round();
                Some(format!("the clock is {seconds} s {side} a receiver's"))
            }
            (_, Some(false)) => Some("the clock is not synchronised".to_owned()),
            _ => None,
        }
    }
}

/// What the ICMP sockets have counted since the start; `null` where nothing is pinged.
#[derive(Serialize)]
pub(crate) struct SocketsView {
    pub(crate) requests_sent: Option<f64>,
    pub(crate) replies_received: Option<f64>,
    /// Packets that this machine dropped, since the sockets' buffers were full.
    pub(crate) receive_drops: Option<f64>,
    pub(crate) send_errors: Option<f64>,
}

#[derive(Serialize)]
pub(crate) struct BuildView {
    pub(crate) version: &'static str,
}

#[derive(Serialize)]
pub(crate) struct ProcessView {
    pub(crate) resident_bytes: Option<u64>,
}

#[derive(Serialize)]
pub(crate) struct DevicesView {
    /// Devices that match.
    pub(crate) total: usize,
    pub(crate) offset: usize,
    pub(crate) limit: usize,
    /// Devices by state that match all filters but that of the state.
    pub(crate) states: BTreeMap<&'static str, usize>,
    pub(crate) devices: Vec<DeviceRow>,
}

#[derive(Serialize)]
pub(crate) struct DeviceRow {
    pub(crate) id: String,
    pub(crate) device: String,
    pub(crate) ip: String,
    /// The address in use of a device with a host name.
    pub(crate) address: Option<String>,
    pub(crate) group: String,
    pub(crate) state: &'static str,
    pub(crate) reason: Option<String>,
    pub(crate) since: Option<u32>,
    pub(crate) rtt: Option<f64>,
    pub(crate) jitter: Option<f64>,
    pub(crate) loss_recent: Option<f64>,
    /// The latest cycles, oldest first.
    pub(crate) trace: Vec<TracePoint>,
}

#[derive(Serialize)]
pub(crate) struct TracePoint {
    pub(crate) state: &'static str,
    pub(crate) rtt: Option<f64>,
    pub(crate) loss: Option<f64>,
}

#[derive(Serialize)]
pub(crate) struct DeviceView {
    #[serde(flatten)]
    pub(crate) row: DeviceRow,
    /// Its place in its group, from 1, how many devices that has, and those before and after it there.
    pub(crate) number: usize,
    pub(crate) of: usize,
    pub(crate) previous: Option<NeighbourView>,
    pub(crate) next: Option<NeighbourView>,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) interval: f64,
    /// The latest values of all its metrics.
    pub(crate) latest: Vec<ValueView>,
    pub(crate) measured: Option<f64>,
    pub(crate) changes: Vec<ChangeView>,
    pub(crate) errors: Vec<ErrorView>,
    pub(crate) history: HistoryView,
}

#[derive(Serialize)]
pub(crate) struct NeighbourView {
    pub(crate) id: String,
    pub(crate) device: String,
}

#[derive(Serialize)]
pub(crate) struct ValueView {
    pub(crate) name: String,
    pub(crate) help: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

#[derive(Serialize)]
pub(crate) struct ChangeView {
    pub(crate) at: u32,
    pub(crate) state: &'static str,
    pub(crate) reason: Option<String>,
}

#[derive(Serialize)]
pub(crate) struct ErrorView {
    pub(crate) reason: String,
    pub(crate) total: f64,
    pub(crate) latest: f64,
    pub(crate) at: u32,
}

#[derive(Serialize)]
pub(crate) struct HistoryView {
    pub(crate) span: &'static str,
    /// `probes`: quantiles are those of the probes' own round-trip times.
    pub(crate) basis: &'static str,
    /// How many slots the span has, once all are there.
    #[serde(skip)]
    pub(crate) length: usize,
    pub(crate) slots: Vec<SlotView>,
}

#[derive(Serialize, Clone)]
pub(crate) struct SlotView {
    pub(crate) start: f64,
    pub(crate) seconds: f64,
    pub(crate) state: &'static str,
    /// The share of lost requests.
    pub(crate) loss: f64,
    pub(crate) median: Option<f64>,
    /// 2 (or best), 10, 25, 75, 90 and 98 % (or worst), as far as the number of replies says something.
    pub(crate) quantiles: [Option<f64>; 6],
    /// Whether the outermost are best and worst.
    pub(crate) is_best_to_worst: bool,
}

/// A span of a device's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Span {
    Cycles,
    Hours,
    Day,
}

impl Span {
    pub(crate) const ALL: [Self; 3] = [Self::Cycles, Self::Hours, Self::Day];

    pub(crate) fn parse(text: &str) -> Self {
        let mut all = Self::ALL.into_iter();
        all.find(|span| span.as_str() == text)
            .unwrap_or(Self::Hours)
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Cycles => "cycles",
            Self::Hours => "3h",
            Self::Day => "1d",
        }
    }
}

/// What stands for a device while it is filtered and sorted.
struct Key {
    group: u32,
    device: u32,
    now: Now,
}

impl Source {
    pub(crate) fn status(&self) -> StatusView {
        let config = self.engine.config();
        let now = SystemTime::now();
        let groups: Vec<GroupView> = config
            .groups
            .iter()
            .map(|group| self.group(group, now))
            .collect();
        let sinks: Vec<SinkView> = self.sinks();
        let reload = self.reload();
        let mut problems = Vec::new();
        if !reload.successful {
            problems.push(problem("reload", "the latest configuration was refused"));
        }
        for sink in sinks.iter().filter(|sink| sink.state == "failing") {
            problems.push(problem("sink", format!("{} fails", sink.name)));
        }
        for group in groups.iter().filter(|group| group.is_stale) {
            problems.push(problem(
                "group",
                format!("{} has no recent result", group.name),
            ));
        }
        let clock = self.clock();
        problems.extend(clock.problem().map(|text| problem("clock", text)));
        let is_stale = groups.iter().any(|group| group.is_stale);
        let newest = groups
            .iter()
            .filter_map(|group| group.finished)
            .reduce(f64::max);
        StatusView {
            site: site(&config),
            state: match () {
                () if !self.engine.is_ready() => "starting",
                () if is_stale => "stale",
                () => "measuring",
            },
            problems,
            now: unix_seconds(now),
            started: unix_seconds(self.started),
            newest_result: newest,
            devices: self.counts(&config, now),
            groups,
            sinks,
            reload,
            clock,
            sockets: self.sockets_view(),
            build: BuildView {
                version: env!("CARGO_PKG_VERSION"),
            },
            process: ProcessView {
                resident_bytes: resident_bytes(),
            },
            listen: self.addresses.iter().map(ToString::to_string).collect(),
            watched: self.watched.clone(),
            example_command: self.example_command.clone(),
        }
    }

    fn group(&self, group: &Group, now: SystemTime) -> GroupView {
        let latest = self.engine.results().get(group.name());
        let finished = latest
            .as_ref()
            .map(|report| report.started + report.duration);
        let age = finished.and_then(|finished| now.duration_since(finished).ok());
        let is_stale = latest.as_ref().is_some_and(|report| report.is_stale)
            || age.is_some_and(|age| age > stale_after(group));
        let counts = self.states(group, is_stale);
        GroupView {
            name: group.name().to_owned(),
            file: group.file.as_ref().map(|file| file.display().to_string()),
            devices: group.devices.len(),
            states: by_name(counts),
            interval: group.interval().as_secs_f64(),
            overruns_1h: self.history.as_ref().map_or(0, |history| {
                let overruns = history.read(group.name(), |known| known.overruns(now));
                overruns.unwrap_or_default()
            }),
            cycle: latest.map(|report| report.duration.as_secs_f64()),
            finished: finished.map(unix_seconds),
            is_stale,
        }
    }

    /// Devices by kind.
    fn states(&self, group: &Group, is_stale: bool) -> [usize; 5] {
        let mut counts = [0; 5];
        let history = self.history.as_ref();
        let known = history.and_then(|history| history.read(group.name(), GroupHistory::counts));
        if is_stale {
            counts[Kind::Unknown as usize] = group.devices.len();
            return counts;
        }
        match known {
            Some(known) => {
                for (count, known) in counts.iter_mut().zip(known) {
                    *count = known as usize;
                }
            }
            None => {
                if let Some(report) = self.engine.results().get(group.name()) {
                    counts[Kind::Up as usize] = report.states.up;
                    counts[Kind::Down as usize] = report.states.down;
                    counts[Kind::Unknown as usize] = report.states.unknown;
                }
            }
        }
        let counted: usize = counts.iter().sum();
        counts[Kind::Waiting as usize] += group.devices.len().saturating_sub(counted);
        counts
    }

    fn counts(&self, config: &Config, now: SystemTime) -> DeviceCounts {
        let mut counts = DeviceCounts {
            total: config.device_count(),
            ..DeviceCounts::default()
        };
        let mut kinds = [0; 5];
        let mut reasons: HashMap<(Kind, u8), usize> = HashMap::new();
        let mut stale = 0;
        for group in &config.groups {
            let is_stale = self.is_stale(group, now);
            for (sum, count) in kinds.iter_mut().zip(self.states(group, is_stale)) {
                *sum += count;
            }
            if is_stale {
                stale += group.devices.len();
                continue;
            }
            let Some(history) = &self.history else {
                continue;
            };
            history.read(group.name(), |group| {
                for now in &group.now {
                    let (kind, reason) = (now.state.kind(), now.state.reason());
                    match kind {
                        Kind::Losing => {
                            let band = [0.05, 0.2]
                                .iter()
                                .filter(|edge| f64::from(now.loss) > **edge);
                            counts.loss_bands[band.count()] += 1;
                        }
                        Kind::Down | Kind::Unknown => {
                            *reasons.entry((kind, reason)).or_default() += 1;
                        }
                        Kind::Up | Kind::Waiting => {}
                    }
                }
            });
        }
        for ((kind, reason), count) in reasons {
            let word = self
                .reason(reason)
                .unwrap_or_else(|| "no result".to_owned());
            counts
                .reasons
                .entry(kind.as_str())
                .or_default()
                .push((word, count));
        }
        if stale > 0 {
            let words = counts.reasons.entry(Kind::Unknown.as_str()).or_default();
            words.push(("stale".to_owned(), stale));
        }
        for words in counts.reasons.values_mut() {
            words.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
            words.truncate(REASONS);
        }
        let of = |kind: Kind| kinds[kind as usize];
        counts.up = of(Kind::Up);
        counts.losing = of(Kind::Losing);
        counts.down = of(Kind::Down);
        counts.unknown = of(Kind::Unknown);
        counts.waiting = of(Kind::Waiting);
        let history = self.history.as_ref().map(|history| history.counts());
        counts.history = history.into_iter().flatten().map(count_view).collect();
        counts
    }

    fn is_stale(&self, group: &Group, now: SystemTime) -> bool {
        let latest = self.engine.results().get(group.name());
        latest.is_some_and(|report| {
            let age = now.duration_since(report.started + report.duration);
            report.is_stale || age.is_ok_and(|age| age > stale_after(group))
        })
    }

    fn sinks(&self) -> Vec<SinkView> {
        let sinks = self.engine.sinks();
        let configured = sinks.into_iter().filter(|(_, kind, _)| kind.is_some());
        configured
            .map(|(name, kind, status)| {
                sink_view(&name, kind.as_deref().unwrap_or_default(), status)
            })
            .collect()
    }

    /// A value of the agent's latest own metrics.
    fn own_value(&self, name: &str) -> Option<f64> {
        self.history.as_ref()?.own_value(name)
    }

    fn clock(&self) -> ClockView {
        let is_synchronized = self.own_value("pingexporter_clock_synchronized");
        ClockView {
            synchronized: is_synchronized.map(|value| value > 0.0),
            ahead_of_receiver: self.own_value("pingexporter_clock_ahead_of_receiver_seconds"),
        }
    }

    fn sockets_view(&self) -> SocketsView {
        let count = |name: &str| self.own_value(&format!("pingexporter_icmp_{name}_total"));
        SocketsView {
            requests_sent: count("requests_sent"),
            replies_received: count("replies_received"),
            receive_drops: count("receive_drops"),
            send_errors: count("send_errors"),
        }
    }

    fn reload(&self) -> ReloadView {
        let last = self.engine.last_reload();
        let found = last.diagnostics.iter();
        let unwise = found.filter(|diagnostic| diagnostic.severity != Severity::Note);
        let diagnostics = unwise.map(|diagnostic| {
            let mut location = diagnostic.file.display().to_string();
            if diagnostic.line > 0 {
                location.push_str(&format!(":{}:{}", diagnostic.line, diagnostic.col));
            }
            DiagnosticView {
                severity: if diagnostic.is_error() {
                    "error"
                } else {
                    "warning"
                },
                location,
                message: diagnostic.message.clone(),
                hint: diagnostic.hint.clone(),
            }
        });
        ReloadView {
            successful: last.successful,
            attempted: unix_seconds(last.at),
            diagnostics: diagnostics.collect(),
        }
    }

    fn reason(&self, number: u8) -> Option<String> {
        self.history.as_ref()?.reason(number)
    }

    /// The devices that match, in the order that is asked for: `limit` of them from `offset` on.
    pub(crate) fn devices(&self, query: &DeviceQuery) -> DevicesView {
        let config = self.engine.config();
        let now = SystemTime::now();
        let needle = query.filter.as_ref().map(|text| text.to_lowercase());
        let mut counts = [0_usize; 5];
        let mut keys: Vec<Key> = Vec::new();
        let mut reason_words: HashMap<u8, Option<String>> = HashMap::new();
        for (number, group) in config.groups.iter().enumerate() {
            if query
                .group
                .as_ref()
                .is_some_and(|wanted| wanted != group.name())
            {
                continue;
            }
            let is_stale = self.is_stale(group, now);
            let states: Vec<Now> = self.now(group);
            for (device, mut state) in states.into_iter().enumerate() {
                let labels = group.devices[device].target.labels();
                if needle
                    .as_ref()
                    .is_some_and(|needle| !matches(labels, needle))
                {
                    continue;
                }
                if let Some((name, value)) = &query.label
                    && labels.get(name) != Some(value)
                {
                    continue;
                }
                if is_stale {
                    state = Now {
                        state: State::new(Kind::Unknown, 0),
                        ..Now::default()
                    };
                }
                let kind = state.state.kind();
                if let Some(wanted) = &query.reason {
                    let reason = state.state.reason();
                    let word = reason_words
                        .entry(reason)
                        .or_insert_with(|| self.reason(reason));
                    if word.as_ref() != Some(wanted) {
                        continue;
                    }
                }
                counts[kind as usize] += 1;
                if query.state.is_some_and(|wanted| wanted != kind) {
                    continue;
                }
                keys.push(Key {
                    group: number as u32,
                    device: device as u32,
                    now: state,
                });
            }
        }
        self.sort(&mut keys, &config, query);
        let limit = query.limit;
        let page = keys.iter().skip(query.offset).take(limit);
        let mut devices: Vec<DeviceRow> = page
            .map(|key| {
                let group = &config.groups[key.group as usize];
                self.row(
                    group,
                    group.devices[key.device as usize].target.labels(),
                    key.now,
                )
            })
            .collect();
        self.add_addresses(&mut devices);
        DevicesView {
            total: keys.len(),
            offset: query.offset,
            limit,
            states: by_name(counts),
            devices,
        }
    }

    /// What each device of a group is, in the order of the configuration.
    fn now(&self, group: &Group) -> Vec<Now> {
        let labels = group.devices.iter().map(|device| device.target.labels());
        let found = self.history.as_ref().and_then(|history| {
            history.read(group.name(), |known| {
                // Mostly they are the same, in the same order.
                let in_order = |(place, labels): (usize, &LabelSet)| {
                    let device = match known.labels.get(place) {
                        Some(other) if other == labels => Some(place),
                        _ => known.device(device_id(group.name(), labels)),
                    };
                    device.map_or_else(Now::default, |device| known.now[device])
                };
                labels.clone().enumerate().map(in_order).collect()
            })
        });
        found.unwrap_or_else(|| self.latest_states(group))
    }

    /// The same by the latest results alone, where there is no history.
    fn latest_states(&self, group: &Group) -> Vec<Now> {
        let labels = group.devices.iter().map(|device| device.target.labels());
        let places: HashMap<&LabelSet, usize> = labels.zip(0..).collect();
        let mut states = UpStates::new(group.devices.len());
        let mut found = vec![Now::default(); group.devices.len()];
        let report = self.engine.results().get(group.name());
        for frame in report.iter().flat_map(|report| report.frames()) {
            let columns = frame.columns();
            let Some(up) = columns.up() else { continue };
            let mut metrics = columns.metrics();
            let rtt =
                metrics.find(|(descriptor, _)| descriptor.name().ends_with("_rtt_mean_seconds"));
            for (row, labels) in frame.rows().iter().enumerate() {
                let Some(&place) = places.get(labels) else {
                    continue;
                };
                if !states.note_value(place, columns, frame.get(row, up)) {
                    continue;
                }
                let rtt = rtt.and_then(|(_, metric)| frame.get(row, metric));
                found[place] = Now {
                    state: State::new(states.get(place).into(), 0),
                    rtt: rtt.map_or(f32::NAN, |rtt| rtt as f32),
                    ..Now::default()
                };
            }
        }
        found
    }

    fn sort(&self, keys: &mut [Key], config: &Config, query: &DeviceQuery) {
        let labels = |key: &Key| {
            let group = &config.groups[key.group as usize];
            group.devices[key.device as usize].target.labels()
        };
        let name = |key: &Key| labels(key).get("device").unwrap_or_default();
        // Empty values come last in both directions.
        let number = |value: f32| if value.is_nan() { None } else { Some(value) };
        let ordered = |a: Option<f32>, b: Option<f32>| match (a, b) {
            (Some(a), Some(b)) if query.descending => b.total_cmp(&a),
            (Some(a), Some(b)) => a.total_cmp(&b),
            (a, b) => b.is_some().cmp(&a.is_some()),
        };
        let flip = |order: std::cmp::Ordering| {
            if query.descending {
                order.reverse()
            } else {
                order
            }
        };
        keys.sort_by(|a, b| {
            let (x, y) = (&a.now, &b.now);
            match query.sort {
                Sort::Worst => flip(rank(x).cmp(&rank(y)).then_with(|| match x.state.kind() {
                    Kind::Losing => y.loss.total_cmp(&x.loss),
                    _ => y.since.cmp(&x.since),
                })),
                Sort::Name => flip(name(a).cmp(name(b))),
                Sort::Address => flip(address(labels(a)).cmp(&address(labels(b)))),
                Sort::Group => flip(a.group.cmp(&b.group)),
                Sort::Rtt => ordered(number(x.rtt), number(y.rtt)),
                Sort::Jitter => ordered(number(x.jitter), number(y.jitter)),
                Sort::Loss => ordered(number(x.loss), number(y.loss)),
                Sort::Change => flip(y.since.cmp(&x.since)),
            }
        });
    }

    fn row(&self, group: &Group, labels: &LabelSet, now: Now) -> DeviceRow {
        let id = device_id(group.name(), labels);
        let history = self.history.as_ref();
        let trace = history.and_then(|history| {
            history.read(group.name(), |known| {
                let device = known.device(id)?;
                let cycles = known.cycles(device).map(|(_, cycle)| trace_point(cycle));
                let cycles: Vec<TracePoint> = cycles.collect();
                let extra = cycles.len().saturating_sub(TRACE);
                Some(cycles.into_iter().skip(extra).collect())
            })
        });
        let number = |value: f32| (!value.is_nan()).then_some(f64::from(value));
        let text = |name| labels.get(name).unwrap_or_default().to_owned();
        DeviceRow {
            id: format!("{id:016x}"),
            device: text("device"),
            ip: text("ip"),
            address: None,
            group: group.name().to_owned(),
            state: now.state.kind().as_str(),
            reason: self.reason(now.state.reason()),
            since: (now.since > 0).then_some(now.since),
            rtt: number(now.rtt),
            jitter: number(now.jitter),
            loss_recent: number(now.loss),
            trace: trace.flatten().unwrap_or_default(),
        }
    }

    /// Notes the addresses in use of those devices that have host names.
    fn add_addresses(&self, rows: &mut [DeviceRow]) {
        let mut named: HashMap<String, Vec<&mut DeviceRow>> = HashMap::new();
        for row in rows {
            if row.ip.parse::<IpAddr>().is_err() {
                named.entry(row.group.clone()).or_default().push(row);
            }
        }
        for (group, mut rows) in named {
            let Some(report) = self.engine.results().get(&group) else {
                continue;
            };
            for (labels, address) in addresses_in_use(&report) {
                let is_of = |row: &&mut &mut DeviceRow| {
                    labels.get("device") == Some(&row.device) && labels.get("ip") == Some(&row.ip)
                };
                for row in rows.iter_mut().filter(is_of) {
                    row.address = Some(address.to_owned());
                }
            }
        }
    }

    /// One device, if there is one with this id.
    pub(crate) fn device(&self, id: &str, span: Span) -> Option<DeviceView> {
        let id = u64::from_str_radix(id, 16)
            .ok()
            .filter(|_| id.len() == 16)?;
        let config = self.engine.config();
        let (group, place) = config.groups.iter().find_map(|group| {
            let mut devices = group.devices.iter();
            let found =
                devices.position(|device| device_id(group.name(), device.target.labels()) == id);
            Some((group, found?))
        })?;
        let labels = group.devices[place].target.labels();
        let neighbour = |place: Option<usize>| {
            let labels = group.devices.get(place?)?.target.labels();
            Some(NeighbourView {
                id: format!("{:016x}", device_id(group.name(), labels)),
                device: labels.get("device").unwrap_or_default().to_owned(),
            })
        };
        let (mut changes, mut errors, mut slots) = (Vec::new(), Vec::new(), Vec::new());
        let mut now = None;
        let mut length = 0;
        if let Some(history) = &self.history {
            history.read(group.name(), |known| {
                let Some(device) = known.device(id) else {
                    return;
                };
                length = match span {
                    Span::Cycles => known.spans.cycles,
                    Span::Hours => known.spans.short.0,
                    Span::Day => known.spans.long.0,
                };
                now = Some(known.now[device]);
                changes.extend(known.changes(device).rev());
                errors.extend_from_slice(known.errors(device));
                slots = match span {
                    Span::Cycles => {
                        let cycles = known.cycles(device);
                        let seconds = group.interval().as_secs_f64();
                        cycles
                            .map(|(at, cycle)| cycle_slot(at, seconds, cycle))
                            .collect()
                    }
                    Span::Hours => slot_views(known.short_slots(device), known.spans.short.1),
                    Span::Day => slot_views(known.long_slots(device), known.spans.long.1),
                };
            });
        }
        let mut now = now.unwrap_or_else(|| self.latest_states(group)[place]);
        if self.is_stale(group, SystemTime::now()) {
            now = Now {
                state: State::new(Kind::Unknown, 0),
                ..Now::default()
            };
        }
        let changes = changes.into_iter().map(|change| ChangeView {
            at: change.at,
            state: change.state.kind().as_str(),
            reason: self.reason(change.state.reason()),
        });
        let errors = errors.into_iter().map(|count| ErrorView {
            reason: self.reason(count.reason).unwrap_or_default(),
            total: count.total,
            latest: count.latest,
            at: count.at,
        });
        let report = self.engine.results().get(group.name());
        let mut row = self.row(group, labels, now);
        self.add_addresses(std::slice::from_mut(&mut row));
        Some(DeviceView {
            row,
            number: place + 1,
            of: group.devices.len(),
            previous: neighbour(place.checked_sub(1)),
            next: neighbour(Some(place + 1)),
            labels: labels
                .iter()
                .map(|label| (label.name().to_owned(), label.value().to_owned()))
                .collect(),
            interval: group.interval().as_secs_f64(),
            latest: report
                .as_ref()
                .map(|report| latest(report, labels))
                .unwrap_or_default(),
            measured: report.map(|report| unix_seconds(report.started)),
            changes: changes.collect(),
            errors: errors.collect(),
            history: HistoryView {
                span: span.as_str(),
                basis: "probes",
                length,
                slots,
            },
        })
    }
}

/// The addresses in use of devices with host names, with their labels.
fn addresses_in_use(report: &pe_scrape::CycleReport) -> impl Iterator<Item = (&LabelSet, &str)> {
    let told = report.frames().filter(|frame| {
        let mut metrics = frame.columns().metrics();
        metrics.any(|(descriptor, _)| descriptor.name().ends_with("_address_info"))
    });
    told.flat_map(|frame| frame.rows().iter())
        .filter_map(|labels| Some((labels, labels.get("address")?)))
}

/// The latest values of all gauges and counters of a device.
fn latest(report: &pe_scrape::CycleReport, labels: &LabelSet) -> Vec<ValueView> {
    let mut values = Vec::new();
    for frame in report.frames() {
        let Some(row) = frame.rows().iter().position(|row| row == labels) else {
            continue;
        };
        for (descriptor, metric) in frame.columns().metrics() {
            let Some(value) = frame.get(row, metric).filter(|_| !descriptor.is_hidden()) else {
                continue;
            };
            values.push(ValueView {
                name: descriptor.name().to_owned(),
                help: descriptor.help().to_owned(),
                labels: descriptor
                    .labels()
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .collect(),
                value,
            });
        }
    }
    values
}

fn problem(about: &'static str, text: impl Into<String>) -> Problem {
    Problem {
        about,
        text: text.into(),
    }
}

fn stale_after(group: &Group) -> Duration {
    3 * group.interval()
}

fn by_name(counts: [usize; 5]) -> BTreeMap<&'static str, usize> {
    Kind::ALL
        .into_iter()
        .map(|kind| (kind.as_str(), counts[kind as usize]))
        .collect()
}

fn count_view(slot: CountSlot) -> CountView {
    CountView {
        start: slot.number * COUNT_SECONDS,
        down: slot.down,
        unknown: slot.unknown,
        losing: slot.losing,
    }
}

fn sink_view(name: &str, kind: &str, status: SinkStatus) -> SinkView {
    let state = match (&status.outage, status.last_success) {
        (Some(_), _) => "failing",
        (None, Some(_)) => "delivering",
        (None, None) => "waiting",
    };
    let (since, next_try, error) = match status.outage {
        Some(outage) => (Some(outage.since), outage.next_try, Some(outage.error)),
        None => (None, None, None),
    };
    SinkView {
        name: name.to_owned(),
        kind: kind.to_owned(),
        target: status.destination,
        state,
        last_success: status.last_success.map(unix_seconds),
        since: since.map(unix_seconds),
        error,
        next_try: next_try.map(unix_seconds),
        queue: status.backlog.map(|backlog| QueueView {
            samples: backlog.samples,
            bytes: backlog.bytes,
            oldest: backlog.oldest.map(unix_seconds),
        }),
        dropped: status
            .dropped
            .into_iter()
            .map(|dropped| DroppedView {
                what: dropped.what,
                reason: dropped.reason,
                count: dropped.count,
            })
            .collect(),
    }
}

/// Down first.
fn rank(now: &Now) -> u8 {
    match now.state.kind() {
        Kind::Down => 0,
        Kind::Unknown => 1,
        Kind::Losing => 2,
        Kind::Up => 3,
        Kind::Waiting => 4,
    }
}

/// Addresses sort as numbers, before names.
fn address(labels: &LabelSet) -> (bool, Option<IpAddr>, &str) {
    let text = labels.get("ip").unwrap_or_default();
    let address = text.parse().ok();
    (address.is_none(), address, text)
}

/// Whether a label's value contains `needle`, which is lower case.
fn matches(labels: &LabelSet, needle: &str) -> bool {
    labels.iter().any(|label| {
        let value = label.value();
        if value.len() < needle.len() {
            return false;
        }
        if value.is_ascii() {
            let (value, needle) = (value.as_bytes(), needle.as_bytes());
            return needle.is_empty()
                || value
                    .windows(needle.len())
                    .any(|part| part.eq_ignore_ascii_case(needle));
        }
        value.to_lowercase().contains(needle)
    })
}

fn trace_point(cycle: Cycle) -> TracePoint {
    let kind = cycle.state.kind();
    let is_asked = matches!(kind, Kind::Up | Kind::Down);
    TracePoint {
        state: kind.as_str(),
        rtt: (cycle.middle > 0).then(|| rtt_of_code(cycle.middle.into())),
        loss: is_asked.then(|| cycle.loss()),
    }
}

fn cycle_slot(at: SystemTime, seconds: f64, cycle: Cycle) -> SlotView {
    let code = |code: u8| (code > 0).then(|| rtt_of_code(code.into()));
    SlotView {
        start: unix_seconds(at),
        seconds,
        state: cycle.state.kind().as_str(),
        loss: cycle.loss(),
        median: code(cycle.middle),
        quantiles: [code(cycle.best), None, None, None, None, code(cycle.worst)],
        is_best_to_worst: true,
    }
}

fn slot_views(slots: Vec<(u64, Slot)>, seconds: u64) -> Vec<SlotView> {
    slots
        .into_iter()
        .map(|(start, slot)| {
            let all = slot.quantiles();
            let depth = slot.depth();
            let told = |place: usize, from: u8| all.filter(|_| depth >= from).map(|all| all[place]);
            SlotView {
                start: start as f64,
                seconds: seconds as f64,
                state: slot.state.kind().as_str(),
                loss: slot.loss(),
                median: slot.median(),
                quantiles: [
                    told(0, 0),
                    told(1, 2),
                    told(2, 1),
                    told(3, 1),
                    told(4, 2),
                    told(5, 0),
                ],
                is_best_to_worst: depth < 3,
            }
        })
        .collect()
}

/// The external label `site`, else the name of this machine.
fn site(config: &Config) -> String {
    let mut sinks = config.sinks.iter();
    if let Some(site) = sinks.find_map(|sink| sink.settings.external_labels.get("site")) {
        return site.to_owned();
    }
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() {
        "this machine".to_owned()
    } else {
        name.to_owned()
    }
}

fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}
