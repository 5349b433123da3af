//! `cargo xtask delivery`: what the queue and remote write cost beside vmagent, which scrapes the same devices.
//!
//! Three agents measure the same loopback devices: one is scraped by vmagent, one has a sink, and one has neither. The second less
//! the third is what delivery costs. Both receivers are away at first, then come back. At last 100,000 devices are sent
//! from a backlog.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::load::client::get;
use crate::program::{
    self, Bench, Process, free_address, machine, number, output, write, write_group,
};

/// Devices beside vmagent, unless told.
const DEVICES: u32 = 10_000;

/// Devices of the last part, for each one of the first.
const MANY: u32 = 10;

/// Between two cycles.
const INTERVAL: Duration = Duration::from_secs(5);

/// Before anything is counted, while the receivers are away, and at most until all has arrived.
const WARM_UP: Duration = Duration::from_secs(11);
const OUTAGE: Duration = Duration::from_secs(40);
const RECOVERY: Duration = Duration::from_secs(40);

/// A line of a report: what, ours, another's, and the most that ours may be.
pub(crate) struct Row(
    pub(crate) String,
    pub(crate) f64,
    pub(crate) Option<f64>,
    pub(crate) Option<f64>,
);

impl Row {
    fn is_missed(&self) -> bool {
        self.3.is_some_and(|goal| self.1 > goal)
    }
}

/// Measures, prints a table, and fails if a goal was missed.
pub(crate) fn delivery(devices: Option<&str>) -> Result<(), String> {
    let devices = program::count(devices, DEVICES, 50_000, "devices")?;
    program::build()?;
    let here = Delivery(Bench::new("delivery")?);
    println!(
        "{devices} loopback devices each {INTERVAL:?}; {}",
        machine(&["victoria-metrics"])
    );
    let rows = here.measure(devices)?;
    report("vmagent", &rows)
}

/// Prints a table beside `other`, and fails if a goal was missed.
pub(crate) fn report(other: &str, rows: &[Row]) -> Result<(), String> {
    println!("| what | ours | {other} | goal |\n| --- | ---: | ---: | ---: |");
    for row in rows {
        let show = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value:.3}"));
        let missed = if row.is_missed() { " MISSED" } else { "" };
        let (other, goal) = (show(row.2), show(row.3));
        println!("| {} | {:.3} | {other} | {goal}{missed} |", row.0, row.1);
    }
    match rows.iter().filter(|row| row.is_missed()).count() {
        0 => Ok(()),
        missed => Err(format!("{missed} goals are missed")),
    }
}

/// What the program is started with to queue and send.
struct Sender {
    state: String,
    push: String,
}

impl Sender {
    /// For the directory `here` and the receiver at this address.
    fn new(here: &Path, receiver: SocketAddr) -> Result<Self, String> {
        Ok(Self {
            state: here.join("state").display().to_string(),
            push: write_push(here, receiver)?,
        })
    }

    fn arguments(&self) -> [&str; 6] {
        let Self { state, push } = self;
        [
            "--listen",
            "none",
            "--state-dir",
            state,
            "--push-config",
            push,
        ]
    }
}

struct Delivery(Bench);

impl Delivery {
    fn measure(&self, devices: u32) -> Result<Vec<Row>, String> {
        let mut rows = Vec::new();
        for count in [1, 5] {
            println!("… beside vmagent, `count` {count}");
            self.beside_vmagent(devices, count, &mut rows)?;
        }
        println!("… {} devices from a backlog", devices * MANY);
        self.backlog(devices * MANY, &mut rows)?;
        Ok(rows)
    }

    fn beside_vmagent(&self, devices: u32, count: u32, rows: &mut Vec<Row>) -> Result<(), String> {
        let here = self.0.directory.join(format!("count-{count}"));
        let (ours, theirs) = (free_address()?, free_address()?);
        let (scraped, port) = (free_address()?, free_address()?);
        let configs = group(&here, devices, count)?;
        let sender = Sender::new(&here, ours)?;
        let scraped_agent = self.agent(
            &here,
            "scraped",
            &configs,
            &["--listen", &scraped.to_string()],
        )?;
        let plain = self.agent(&here, "plain", &configs, &["--listen", "none"])?;
        let queue = here.join("state/queue");
        let state = sender.state.clone();
        let sender = self.agent(&here, "sender", &configs, &sender.arguments())?;
        let scrape = json!({"scrape_configs": [{
            "job_name": "plant", "honor_labels": true, "scrape_timeout": "4s",
            "scrape_interval": format!("{}s", INTERVAL.as_secs()),
            "static_configs": [{"targets": [scraped.to_string()]}],
        }]});
        let file = here.join("scrape.yml");
        write(&file, &scrape.to_string())?;
        let data = here.join("vmagent");
        let vmagent = Process::start(
            Path::new("vmagent"),
            &here.join("vmagent.log"),
            &[
                &format!("-httpListenAddr={port}"),
                &format!("-promscrape.config={}", file.display()),
                &format!("-remoteWrite.tmpDataPath={}", data.display()),
                &format!("-remoteWrite.url=http://{theirs}/api/v1/write"),
                "-promscrape.maxScrapeSize=1GB",
            ],
        )?;
        sleep(WARM_UP);
        let all = [&sender, &plain, &vmagent];
        let cpu = || all.map(Process::cpu_seconds);
        let start = cpu();
        let (queued, scraped) = (self.waiting(&state)?, number(port, SCRAPED)?);
        let sizes = [size(&queue), size(&data)];
        sleep(OUTAGE);
        let outage = cpu();
        let queued = self.waiting(&state)? - queued;
        let scraped = number(port, SCRAPED)? - scraped;
        let sizes = [size(&queue) - sizes[0], size(&data) - sizes[1]];

        let receivers = [(ours, "ours"), (theirs, "theirs")];
        let receivers = receivers.map(|(address, name)| receiver(&here, address, name));
        let [ours_up, theirs_up] = receivers;
        let (ours_up, theirs_up) = (ours_up?, theirs_up?);
        let began = Instant::now();
        let mut arrived = [None, None];
        while began.elapsed() < RECOVERY && arrived.iter().any(Option::is_none) {
            sleep(Duration::from_millis(500));
            let pending = number(port, "vmagent_remotewrite_pending_data_bytes").unwrap_or(1.0);
            let empty = [self.waiting(&state)? == 0.0, pending == 0.0];
            for (at, empty) in arrived.iter_mut().zip(empty) {
                if empty {
                    at.get_or_insert(began.elapsed().as_secs_f64());
                }
            }
        }
        let end = cpu();
        let wire = [ours, theirs].map(|address| {
            let bytes = number(address, "vm_tcplistener_read_bytes_total")?;
            Ok::<f64, String>(
                bytes / number(address, "vm_rows_inserted_total{type=\"promremotewrite\"}")?,
            )
        });
        let [wire, their_wire] = wire;
        let (wire, their_wire) = (wire?, their_wire?);
        let taken = |address| number(address, "vm_rows_inserted_total{type=\"promremotewrite\"}");
        let (sent, their_sent) = (taken(ours)?, taken(theirs)?);

        let micros = 1e6;
        let spent =
            |from: [f64; 3], to: [f64; 3]| [to[0] - from[0] - (to[1] - from[1]), to[2] - from[2]];
        let [our_queueing, their_queueing] = spent(start, outage);
        let [our_sending, their_sending] = spent(outage, end);
        let name = |what: &str| format!("{what}, `count` {count}");
        let goal = if count == 1 { 1.0 } else { 1.5 };
        let mut row = |what: &str, ours: f64, theirs: f64, goal: Option<f64>| {
            rows.push(Row(name(what), ours, Some(theirs), goal));
        };
        row(
            "bytes on disk a sample",
            sizes[0] / queued,
            sizes[1] / scraped,
            Some(goal),
        );
        let (queueing, theirs) = (
            our_queueing / queued * micros,
            their_queueing / scraped * micros,
        );
        row(
            "CPU µs a sample queued, receiver down",
            queueing,
            theirs,
            Some(theirs / 4.0),
        );
        let (sending, theirs) = (
            our_sending / sent * micros,
            their_sending / their_sent * micros,
        );
        row(
            "CPU µs a sample sent, receiver up",
            sending,
            theirs,
            Some(theirs / 4.0),
        );
        let (peak, theirs) = (sender.peak_megabytes(), vmagent.peak_megabytes());
        row("peak MB, the whole program", peak, theirs, None);
        let more = (peak - plain.peak_megabytes()).max(0.0);
        row(
            "peak MB, more than without a sink",
            more,
            theirs,
            Some(theirs / 4.0),
        );
        row(
            "bytes on the wire a sample",
            wire,
            their_wire,
            Some(their_wire),
        );
        let seconds = arrived.map(|at| at.unwrap_or(f64::NAN));
        row("seconds until nothing waited", seconds[0], seconds[1], None);
        drop((scraped_agent, ours_up, theirs_up));
        Ok(())
    }

    /// From a backlog on disk to a receiver, as fast as that takes it.
    fn backlog(&self, devices: u32, rows: &mut Vec<Row>) -> Result<(), String> {
        let here = self.0.directory.join("many");
        let address = free_address()?;
        let configs = group(&here, devices, 1)?;
        let sender = Sender::new(&here, address)?;
        let (state, arguments) = (&sender.state, sender.arguments());
        let mut agent = self.agent(&here, "many", &configs, &arguments)?;
        sleep(OUTAGE);
        agent.stop();
        let waiting = self.waiting(state)?;
        let _receiver = receiver(&here, address, "many")?;
        let taken =
            || number(address, "vm_rows_inserted_total{type=\"promremotewrite\"}").unwrap_or(0.0);
        let agent = self.agent(&here, "many-again", &configs, &arguments)?;
        let began = Instant::now();
        while taken() < waiting && began.elapsed() < 2 * RECOVERY {
            sleep(Duration::from_millis(100));
        }
        let (samples, seconds) = (taken(), began.elapsed().as_secs_f64());
        rows.push(Row(
            format!("samples a second, {devices} devices"),
            samples / seconds,
            None,
            None,
        ));
        let cpu = agent.cpu_seconds() / samples * 1e6;
        rows.push(Row(
            "CPU µs a sample of it, measuring included".to_owned(),
            cpu,
            None,
            None,
        ));
        rows.push(Row(
            "peak MB of it".to_owned(),
            agent.peak_megabytes(),
            None,
            None,
        ));
        Ok(())
    }

    fn agent(
        &self,
        here: &Path,
        name: &str,
        configs: &str,
        further: &[&str],
    ) -> Result<Process, String> {
        let log = here.join(format!("{name}.log"));
        Process::start(
            &self.0.program,
            &log,
            &[&["--configs", configs], further].concat(),
        )
    }

    /// Samples that wait in the queue.
    fn waiting(&self, state: &str) -> Result<f64, String> {
        let text = output(&self.0.program, &["queue", "inspect", "--state-dir", state])?;
        let count = text
            .split_once(": ")
            .and_then(|(_, rest)| rest.split(' ').next());
        count
            .and_then(|count| count.parse().ok())
            .ok_or(format!("no number of samples in {text:?}"))
    }
}

/// Samples that vmagent scraped.
const SCRAPED: &str = "vm_promscrape_scraped_samples_sum";

/// Writes the group of all devices, and says where.
fn group(here: &Path, devices: u32, count: u32) -> Result<String, String> {
    let metrics = json!({"ping": {"count": count, "probe_interval": 0.2}});
    write_group(here, devices, INTERVAL, &metrics)
}

pub(crate) fn write_push(here: &Path, receiver: SocketAddr) -> Result<String, String> {
    let url = format!("http://{receiver}/api/v1/write");
    let file = here.join("push.json");
    write(
        &file,
        &json!({"sinks": [{"remote_write": {"url": url}}]}).to_string(),
    )?;
    Ok(file.display().to_string())
}

/// Starts victoria-metrics at an address, and waits until it answers.
pub(crate) fn receiver(here: &Path, address: SocketAddr, name: &str) -> Result<Process, String> {
    let data = here.join(format!("victoria-{name}"));
    let receiver = Process::start(
        Path::new("victoria-metrics"),
        &here.join(format!("victoria-{name}.log")),
        &[
            &format!("-httpListenAddr={address}"),
            &format!("-storageDataPath={}", data.display()),
        ],
    )?;
    let start = Instant::now();
    while !get(address, "/health").is_ok_and(|answer| answer.status == 200) {
        if start.elapsed() > Duration::from_secs(30) {
            return Err("VictoriaMetrics does not answer".to_owned());
        }
        sleep(Duration::from_millis(50));
    }
    Ok(receiver)
}

/// Bytes of all files below a directory.
fn size(directory: &Path) -> f64 {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len() as f64,
        Err(_) => 0.0,
    });
    sizes.sum()
}
