//! Runs the engine against every scenario under `fixtures/scenarios`, on a simulated network of each
//! family, and compares what it reports with what the scenario says it must, and with what the simulator
//! really did.
//!
//! The member `run` of a scenario file is a [`Run`], `expect` an [`Expectation`]; what is not said in an
//! expectation must not happen.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use libtest_mimic::{Arguments, Trial};
use pe_ping::{Counters, EventKind, Pinger, ProbeError, ProbeEvent, Reason, Sweep, SweepResult};
use pe_testkit::{Capture, Family, GroupTruth, Need, Scenario, Simnet, Truth, in_namespace, wait};
use serde::Deserialize;
use serde_json::Value;

/// How the network is probed: every device of the scenario, by one sweep.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Run {
    count: u32,
    probe_interval_ms: f64,
    timeout_ms: u64,
    /// How long late replies and duplicates are still told after the sweep.
    linger_ms: u64,
    /// The scenario is run with each of these payload sizes.
    payloads: Vec<usize>,
    ttl: Option<u8>,
    /// No other scenario runs at the same time: it needs the machine for itself.
    alone: bool,
}

impl Default for Run {
    fn default() -> Self {
        Self {
            count: 1,
            probe_interval_ms: 10.0,
            timeout_ms: 500,
            linger_ms: 300,
            payloads: vec![56],
            ttl: None,
            alone: false,
        }
    }
}

/// What must be seen.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Expectation {
    /// One for each group of devices, the sum over its devices.
    groups: Vec<GroupExpectation>,
    /// The engine's counters beyond what follows from the groups; `unmatched` stands for the sum of
    /// `foreign` and `late`.
    counters: BTreeMap<String, Count>,
    /// No probe waited for its deadline.
    ends_before_timeout: bool,
    /// So many probes were in flight at one moment.
    in_flight_at_least: usize,
    /// So many packets of the storm came.
    storm_at_least: u64,
    /// The engine's socket may overflow where the machine is too busy: probes whose replies were dropped there end as
    /// `dropped_locally`, as many as that and no more.
    may_overflow: bool,
    /// The statistics of the only device, in nominal values.
    statistics: Option<Nominal>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct GroupExpectation {
    replies: Count,
    duplicates: Count,
    late: Count,
    truncated: Count,
    errors: BTreeMap<String, Count>,
    /// Kept replies that came; they are nobody's by then.
    stale: Count,
    /// Errors come from the router at this hop.
    from_hop: Option<u8>,
    /// The TTL of the replies.
    ttl: Option<u8>,
}

impl GroupExpectation {
    /// What is to be seen where the engine's socket dropped up to `overflowed` replies: as many fewer of them as probes
    /// are said to have ended for that.
    fn less_dropped(&self, seen: &GroupSeen, overflowed: u64, truth: &GroupTruth) -> Self {
        let reason = Reason::DroppedLocally.as_str();
        let told = seen.errors.get(reason).copied().unwrap_or(0);
        let dropped = told.min(overflowed);
        let mut wanted = self.clone();
        if dropped > 0 {
            let (least, most) = self.replies.bounds(truth);
            wanted.replies = Count::Range(least - dropped, most - dropped);
            wanted.errors.insert(reason.into(), Count::Exact(dropped));
        }
        wanted
    }
}

/// A number, a range of numbers, or what the simulator counted under this name.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Count {
    Exact(u64),
    Range(u64, u64),
    Truth(String),
}

impl Default for Count {
    fn default() -> Self {
        Self::Exact(0)
    }
}

impl Count {
    fn bounds(&self, truth: &GroupTruth) -> (u64, u64) {
        match self {
            Self::Exact(n) => (*n, *n),
            Self::Range(least, most) => (*least, *most),
            Self::Truth(name) => {
                let n = match name.as_str() {
                    "replies" => truth.replies,
                    "duplicates" => truth.duplicates,
                    "dropped" => truth.dropped,
                    other => panic!("the simulator does not count {other:?}"),
                };
                (n, n)
            }
        }
    }

    fn number(&self) -> (u64, u64) {
        match self {
            Self::Exact(n) => (*n, *n),
            Self::Range(least, most) => (*least, *most),
            Self::Truth(name) => panic!("{name:?} of which group?"),
        }
    }
}

/// The parameters of a link.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Nominal {
    loss_ratio: f64,
    duplicate_ratio: f64,
    mean_ms: f64,
    deviation_ms: f64,
}

fn main() {
    let arguments = Arguments::from_args();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/scenarios");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "json")
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no scenario in {}", directory.display());
    let mut trials = Vec::new();
    for file in files {
        let scenario = Arc::new(Scenario::read(&file));
        let stem = file.file_stem().unwrap().to_string_lossy().into_owned();
        for family in scenario.families.clone() {
            let name = format!("{stem}::{}", if family == Family::V4 { "v4" } else { "v6" });
            let scenario = Arc::clone(&scenario);
            trials.push(Trial::test(name.clone(), move || {
                if pe_testkit::require_needs(&format!("scenarios::{name}"), &[Need::Tun]) {
                    run(&scenario, family)?;
                }
                Ok(())
            }));
        }
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// The expectation for one family: its own member overrides the common one.
fn expectation(scenario: &Scenario, family: Family) -> Expectation {
    let mut common = scenario.expect.clone();
    let members = common.as_object_mut().unwrap();
    let (v4, v6) = (members.remove("v4"), members.remove("v6"));
    if let Some(Value::Object(own)) = if family == Family::V4 { v4 } else { v6 } {
        members.extend(own);
    }
    serde_json::from_value(common).unwrap()
}

fn run(scenario: &Scenario, family: Family) -> Result<(), String> {
    let plan: Run = match &scenario.run {
        Value::Null => Run::default(),
        run => serde_json::from_value(run.clone()).unwrap(),
    };
    let expectation = expectation(scenario, family);
    static MACHINE: RwLock<()> = RwLock::new(());
    let _alone = plan
        .alone
        .then(|| MACHINE.write().unwrap_or_else(PoisonError::into_inner));
    let _shared = (!plan.alone).then(|| MACHINE.read().unwrap_or_else(PoisonError::into_inner));
    for payload in &plan.payloads {
        in_namespace(|namespace| {
            let network = Simnet::start(namespace, scenario, family);
            let seen = probe(scenario, &network, &plan, *payload);
            // Duplicates and late replies may still be coming.
            let mut wrong = Vec::new();
            wait::within(Duration::from_secs(10), || {
                wrong = seen.compare(scenario, &network, &plan, &expectation);
                wrong.is_empty().then_some(())
            });
            if wrong.is_empty() {
                return Ok(());
            }
            Err(format!(
                "{}\nwith a payload of {payload} bytes:\n  {}\n{}\n{}",
                scenario.about,
                wrong.join("\n  "),
                describe(&network.truth()),
                seen.describe()
            ))
        })?;
    }
    Ok(())
}

fn describe(truth: &Truth) -> String {
    let mut truth = truth.clone();
    let mut text = String::from("What really happened, group by group:\n");
    for mut group in std::mem::take(&mut truth.groups) {
        group.delays.clear();
        text.push_str(&format!("  {group:?}\n"));
    }
    text + &format!("  {truth:?}")
}

/// All that the engine said.
struct Seen {
    pinger: Pinger,
    result: SweepResult,
    events: Arc<Mutex<Vec<ProbeEvent>>>,
    targets: Vec<IpAddr>,
    /// Group of each target.
    groups: Vec<usize>,
    /// Where there is one target: the RTT of each of its probes by the kernel's times at the device.
    captured: Vec<Option<Duration>>,
}

fn probe(scenario: &Scenario, network: &Simnet, plan: &Run, payload: usize) -> Seen {
    let timeout = Duration::from_millis(plan.timeout_ms);
    let mut builder = Pinger::builder()
        .unlimited_rate()
        .payload_size(payload)
        .timeout(timeout);
    if let Some(ttl) = plan.ttl {
        builder = builder.ttl(ttl);
    }
    let pinger = builder.build().unwrap();
    let (targets, groups): (Vec<IpAddr>, Vec<usize>) = scenario
        .devices
        .iter()
        .enumerate()
        .flat_map(|(group, devices)| devices.hosts.numbers().map(move |host| (host, group)))
        .map(|(host, group)| (network.address(host), group))
        .unzip();
    let sweep = Sweep::new(targets.clone())
        .count(plan.count)
        .probe_interval(Duration::from_secs_f64(plan.probe_interval_ms / 1e3))
        .linger(Duration::from_millis(plan.linger_ms));
    let capture = (targets.len() == 1).then(Capture::start);
    let events = Arc::new(Mutex::new(Vec::new()));
    let record = Arc::clone(&events);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let result = runtime
        .block_on(pinger.sweep_with(sweep, move |event| record.lock().unwrap().push(event)))
        .unwrap();
    Seen {
        pinger,
        result,
        events,
        targets,
        groups,
        captured: capture.map_or_else(Vec::new, Capture::round_trips),
    }
}

/// Sums over the devices of one group.
#[derive(Debug, Default)]
struct GroupSeen {
    sent: u64,
    replies: u64,
    truncated: u64,
    duplicates: u64,
    late: u64,
    errors: BTreeMap<&'static str, u64>,
}

/// Collects what is not as it must be.
struct Judge(Vec<String>);

impl Judge {
    fn within(&mut self, what: &str, seen: u64, (least, most): (u64, u64)) {
        if !(least..=most).contains(&seen) {
            let expected = if least == most {
                least.to_string()
            } else {
                format!("{least} to {most}")
            };
            self.0.push(format!("{what}: {seen}, expected {expected}"));
        }
    }

    fn near(&mut self, what: &str, seen: f64, expected: f64, tolerance: f64) {
        if (seen - expected).abs() > tolerance {
            self.0
                .push(format!("{what}: {seen}, expected {expected} ± {tolerance}"));
        }
    }

    fn demand(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.0.push(what());
        }
    }
}

impl Seen {
    /// What the engine said of the first few probes.
    fn describe(&self) -> String {
        let mut text = String::from("What the engine said:\n");
        for event in self.events.lock().unwrap().iter().take(40) {
            text.push_str(&format!("  {event:?}\n"));
        }
        text + &format!("  {:?}", self.pinger.counters())
    }

    fn compare(
        &self,
        scenario: &Scenario,
        network: &Simnet,
        plan: &Run,
        expectation: &Expectation,
    ) -> Vec<String> {
        let truth = network.truth();
        let events = self.events.lock().unwrap();
        let mut judge = Judge(Vec::new());
        let groups = self.group_sums(&mut judge, scenario.devices.len(), &events);
        let counters = self.pinger.counters();
        let overflowed = if expectation.may_overflow {
            counters.receive_drops
        } else {
            0
        };
        assert_eq!(
            groups.len(),
            expectation.groups.len(),
            "groups of the expectation"
        );
        let mut expected = Sums {
            receive_drops: overflowed,
            ..Sums::default()
        };
        for (at, seen) in groups.iter().enumerate() {
            let (wanted, truth) = (&expectation.groups[at], &truth.groups[at]);
            let wanted = &wanted.less_dropped(seen, overflowed, truth);
            expected.add(wanted, truth);
            compare_group(&mut judge, at, seen, wanted, truth);
            let sent = u64::from(truth.hosts.count()) * u64::from(plan.count);
            judge.within(&format!("group {at}: sent"), seen.sent, (sent, sent));
            judge.within(
                &format!("group {at}: requests"),
                truth.requests,
                (sent, sent),
            );
        }
        judge.within("malformed requests", truth.malformed_requests, (0, 0));
        judge.within("requests to nobody", truth.unanswered_requests, (0, 0));
        judge.within("packets refused by the kernel", truth.refused, (0, 0));
        judge.demand(truth.storm >= expectation.storm_at_least, || {
            format!("the storm had {} packets only", truth.storm)
        });
        compare_counters(&mut judge, &counters, &expected, &expectation.counters);
        for event in events.iter() {
            self.check_event(&mut judge, event, network, expectation);
        }
        if expectation.ends_before_timeout {
            let timeout = Duration::from_millis(plan.timeout_ms);
            judge.demand(self.result.elapsed < timeout, || "a probe waited".into());
        }
        if expectation.in_flight_at_least > 0 {
            let timeout = Duration::from_millis(plan.timeout_ms);
            let most = most_in_flight(&events, timeout);
            judge.demand(most >= expectation.in_flight_at_least, || {
                format!(
                    "{most} in flight at most, wanted {}",
                    expectation.in_flight_at_least
                )
            });
        }
        if self.targets.len() == 1 {
            self.compare_rtts(&mut judge, &truth.groups[0], &events);
        }
        if let Some(nominal) = &expectation.statistics {
            self.compare_statistics(&mut judge, nominal, &truth.groups[0], &events);
        }
        judge.0
    }

    fn group_sums(
        &self,
        judge: &mut Judge,
        groups: usize,
        events: &[ProbeEvent],
    ) -> Vec<GroupSeen> {
        let mut sums: Vec<GroupSeen> = (0..groups).map(|_| GroupSeen::default()).collect();
        for (stats, group) in self.result.stats.iter().zip(&self.groups) {
            let sum = &mut sums[*group];
            sum.sent += u64::from(stats.sent());
            sum.replies += u64::from(stats.replies());
            sum.truncated += u64::from(stats.truncated());
            for reason in Reason::ALL {
                let n = u64::from(stats.errors(reason));
                if n > 0 {
                    *sum.errors.entry(reason.as_str()).or_default() += n;
                }
            }
        }
        // The last ones of a sweep come after its result: the observer hears of all.
        let (mut replies, mut failures) = (vec![0; groups], vec![0; groups]);
        for event in events {
            let group = self.groups[event.target as usize];
            match event.kind {
                EventKind::Reply(_) => replies[group] += 1,
                EventKind::Failed(_) => failures[group] += 1,
                EventKind::Duplicate(_) => sums[group].duplicates += 1,
                EventKind::Late(_) => sums[group].late += 1,
                other => judge.0.push(format!("an unknown event: {other:?}")),
            }
        }
        for (at, sum) in sums.iter().enumerate() {
            let what = format!("group {at}: replies told to the observer");
            judge.within(&what, replies[at], (sum.replies, sum.replies));
            let errors = sum.errors.values().sum();
            let what = format!("group {at}: failures told to the observer");
            judge.within(&what, failures[at], (errors, errors));
        }
        sums
    }

    fn check_event(
        &self,
        judge: &mut Judge,
        event: &ProbeEvent,
        network: &Simnet,
        expectation: &Expectation,
    ) {
        let wanted = &expectation.groups[self.groups[event.target as usize]];
        match event.kind {
            EventKind::Reply(reply) => {
                if let Some(ttl) = wanted.ttl {
                    judge.demand(reply.ttl == Some(ttl), || format!("TTL {:?}", reply.ttl));
                }
            }
            EventKind::Failed(error) => {
                let from = match error {
                    ProbeError::Unreachable { from, .. }
                    | ProbeError::TimeExceeded { from }
                    | ProbeError::ParameterProblem { from, .. } => Some(from),
                    ProbeError::PacketTooBig { from, mtu } => {
                        judge.demand((1300..=1400).contains(&mtu), || format!("MTU {mtu}"));
                        from
                    }
                    _ => None,
                };
                if let Some(hop) = wanted.from_hop {
                    judge.demand(from == Some(network.router(hop)), || {
                        format!("target {}: {error:?} from {from:?}", event.target)
                    });
                }
            }
            _ => {}
        }
    }

    /// Nearly all RTTs are those that the kernel saw at the device, or for which the simulator held the reply back. Not all: a
    /// prober that is interrupted between a departure and its look at the clock cannot know. There are two witnesses, since a
    /// simulator that waits for a processor knows of no delay before, and a machine whose processors are taken away stamps late.
    fn compare_rtts(&self, judge: &mut Judge, truth: &GroupTruth, events: &[ProbeEvent]) {
        // What a call takes around the departure itself, on a busy machine.
        const SLACK: Duration = Duration::from_micros(200);
        let held: BTreeMap<usize, Duration> = truth
            .delays
            .iter()
            .map(|delay| (delay.request, delay.actual))
            .collect();
        let mut wrong = Vec::new();
        for event in events {
            if let EventKind::Reply(reply) = event.kind {
                let round = event.round as usize;
                let captured = self.captured.get(round).copied().flatten();
                let held = held.get(&round).copied();
                let is_true = |witness: &Duration| reply.rtt.abs_diff(*witness) <= SLACK;
                if ![captured, held].iter().flatten().any(is_true) {
                    wrong.push((reply.rtt, captured, held));
                }
            }
        }
        judge.demand(wrong.len() as u64 <= 2 + truth.replies / 10, || {
            let some = &wrong[..wrong.len().min(10)];
            format!(
                "{} RTTs are not true: (told, captured, held back) {some:?}",
                wrong.len()
            )
        });
    }

    fn compare_statistics(
        &self,
        judge: &mut Judge,
        nominal: &Nominal,
        truth: &GroupTruth,
        events: &[ProbeEvent],
    ) {
        /// How many standard errors an honest estimate may be off.
        const SIGMAS: f64 = 5.0;
        /// Seconds by which a result may differ from the same computed otherwise: it is in whole nanoseconds.
        const ROUNDING: f64 = 2e-9;
        let stats = &self.result.stats[0];
        let n = truth.requests as f64;
        let answered = truth.replies as f64;
        let sigma = nominal.deviation_ms / 1e3;

        let loss = stats.loss_ratio().unwrap();
        let error = (nominal.loss_ratio * (1.0 - nominal.loss_ratio) / n).sqrt();
        judge.near(
            "loss ratio, nominal",
            loss,
            nominal.loss_ratio,
            SIGMAS * error,
        );
        judge.near("loss ratio, injected", loss, truth.dropped as f64 / n, 1e-9);

        let duplicates = f64::from(stats.duplicates()) / answered;
        let error = (nominal.duplicate_ratio * (1.0 - nominal.duplicate_ratio) / answered).sqrt();
        let expected = nominal.duplicate_ratio;
        judge.near(
            "duplicate ratio, nominal",
            duplicates,
            expected,
            SIGMAS * error,
        );

        // How late the simulator is depends on the machine; what it wanted does not.
        let planned: Vec<f64> = truth
            .delays
            .iter()
            .map(|delay| delay.planned.as_secs_f64())
            .collect();
        let expected = nominal.mean_ms / 1e3;
        let error = sigma / answered.sqrt();
        judge.near("mean delay", average(&planned), expected, SIGMAS * error);
        let error = sigma / (2.0 * answered).sqrt();
        judge.near(
            "deviation of delays",
            deviation(&planned),
            sigma,
            SIGMAS * error,
        );

        // The RTTs themselves are compared with the kernel's.
        let rtts: Vec<f64> = events
            .iter()
            .filter_map(|event| match event.kind {
                EventKind::Reply(reply) => Some(reply.rtt.as_secs_f64()),
                _ => None,
            })
            .collect();
        for (what, told, expected) in [
            ("mean", stats.mean(), average(&rtts)),
            ("deviation", stats.std_deviation(), deviation(&rtts)),
            ("jitter", stats.jitter(), rfc_3550_jitter(&rtts)),
            (
                "best",
                stats.best(),
                rtts.iter().copied().fold(f64::MAX, f64::min),
            ),
            (
                "worst",
                stats.worst(),
                rtts.iter().copied().fold(0.0, f64::max),
            ),
        ] {
            judge.near(what, told.unwrap(), expected, ROUNDING);
        }
    }
}

fn average(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

fn deviation(values: &[f64]) -> f64 {
    let mean = average(values);
    (values
        .iter()
        .map(|value| (value - mean).powi(2))
        .sum::<f64>()
        / values.len() as f64)
        .sqrt()
}

/// RFC 3550, section 6.4.1, begun with the first difference.
fn rfc_3550_jitter(values: &[f64]) -> f64 {
    let mut differences = values.windows(2).map(|pair| (pair[1] - pair[0]).abs());
    let first = differences.next().unwrap_or(0.0);
    differences.fold(first, |jitter, difference| {
        jitter + (difference - jitter) / 16.0
    })
}

/// The most probes that were in flight at one moment.
fn most_in_flight(events: &[ProbeEvent], timeout: Duration) -> usize {
    let mut changes = Vec::with_capacity(2 * events.len());
    for event in events {
        let Some(sent) = event.sent else { continue };
        let lasted = match event.kind {
            EventKind::Reply(reply) => reply.rtt,
            EventKind::Failed(ProbeError::Timeout) => timeout,
            _ => continue,
        };
        changes.push((sent, 1));
        changes.push((sent + lasted, -1));
    }
    changes.sort_unstable();
    let (mut now, mut most) = (0i64, 0);
    for (_, change) in changes {
        now += change;
        most = most.max(now);
    }
    usize::try_from(most).unwrap()
}

/// What the counters of the engine must be, as far as it follows from the groups.
#[derive(Default)]
struct Sums {
    sent: u64,
    receive_drops: u64,
    replies: (u64, u64),
    duplicates: (u64, u64),
    late: (u64, u64),
    icmp_errors: (u64, u64),
}

fn add(sum: &mut (u64, u64), more: (u64, u64)) {
    sum.0 += more.0;
    sum.1 += more.1;
}

impl Sums {
    fn add(&mut self, wanted: &GroupExpectation, truth: &GroupTruth) {
        self.sent += truth.requests;
        add(&mut self.replies, wanted.replies.bounds(truth));
        add(&mut self.duplicates, wanted.duplicates.bounds(truth));
        add(&mut self.late, wanted.late.bounds(truth));
        for (reason, count) in &wanted.errors {
            let is_told = ![Reason::Timeout, Reason::DroppedLocally]
                .map(Reason::as_str)
                .contains(&&**reason);
            if is_told {
                add(&mut self.icmp_errors, count.bounds(truth));
            }
        }
    }
}

fn compare_group(
    judge: &mut Judge,
    at: usize,
    seen: &GroupSeen,
    wanted: &GroupExpectation,
    truth: &GroupTruth,
) {
    for (what, seen, wanted) in [
        ("replies", seen.replies, &wanted.replies),
        ("truncated replies", seen.truncated, &wanted.truncated),
        ("duplicates", seen.duplicates, &wanted.duplicates),
        ("late replies", seen.late, &wanted.late),
        ("stale replies injected", truth.stale, &wanted.stale),
    ] {
        judge.within(&format!("group {at}: {what}"), seen, wanted.bounds(truth));
    }
    for reason in Reason::ALL.map(Reason::as_str) {
        let wanted = wanted
            .errors
            .get(reason)
            .map_or((0, 0), |count| count.bounds(truth));
        let seen = seen.errors.get(reason).copied().unwrap_or(0);
        judge.within(
            &format!("group {at}: errors of reason {reason}"),
            seen,
            wanted,
        );
    }
    if let Some(unknown) = wanted
        .errors
        .keys()
        .find(|name| !Reason::ALL.iter().any(|r| r.as_str() == *name))
    {
        panic!("there is no reason {unknown:?}");
    }
}

fn compare_counters(
    judge: &mut Judge,
    counters: &Counters,
    expected: &Sums,
    further: &BTreeMap<String, Count>,
) {
    let mut wanted = BTreeMap::from([
        ("sent", (expected.sent, expected.sent)),
        ("received", expected.replies),
        ("duplicates", expected.duplicates),
        ("late", expected.late),
        ("icmp_errors", expected.icmp_errors),
        ("foreign", (0, 0)),
        ("wrong_source", (0, 0)),
        ("altered", (0, 0)),
        ("bad_checksum", (0, 0)),
        (
            "receive_drops",
            (expected.receive_drops, expected.receive_drops),
        ),
        ("send_errors", (0, 0)),
    ]);
    for (name, count) in further {
        match wanted.get_mut(name.as_str()) {
            Some(bounds) => add(bounds, count.number()),
            None if name == "unmatched" => {
                wanted.remove("foreign");
                wanted.remove("late");
                wanted.insert("unmatched", count.number());
            }
            None => panic!("there is no counter {name:?}"),
        }
    }
    for (name, bounds) in wanted {
        let seen = match name {
            "sent" => counters.sent,
            "received" => counters.received,
            "duplicates" => counters.duplicates,
            "late" => counters.late,
            "icmp_errors" => counters.icmp_errors,
            "foreign" => counters.foreign,
            "wrong_source" => counters.wrong_source,
            "altered" => counters.altered,
            "bad_checksum" => counters.bad_checksum,
            "receive_drops" => counters.receive_drops,
            "send_errors" => counters.send_errors,
            "unmatched" => counters.foreign + counters.late,
            _ => unreachable!(),
        };
        judge.within(&format!("counter {name}"), seen, bounds);
    }
}
