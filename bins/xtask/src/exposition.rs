//! `cargo xtask exposition`: what passing on many node_exporter pages costs beside vmagent, and beside Prometheus as an agent.
//!
//! One node_exporter answers at as many loopback addresses as there are devices. Each of the three fetches all of them every ten
//! seconds and sends what they say to a receiver of its own, one after the other.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::delivery::{Row, receiver, report, write_push};
use crate::load::client::get;
use crate::program::{self, Bench, Process, free_address, machine, number, write};

/// Pages, unless told.
const PAGES: u32 = 500;

/// Between two cycles.
const INTERVAL: Duration = Duration::from_secs(10);

/// Before anything is counted, and for how long it is.
const WARM_UP: Duration = Duration::from_secs(15);
const MEASURED: Duration = Duration::from_secs(60);

/// What one of the three took.
struct Cost {
    /// Per cent of a core.
    cpu: f64,
    peak_megabytes: f64,
    /// Samples a second that the receiver got.
    samples: f64,
}

/// Measures, prints a table, and fails if a goal was missed.
pub(crate) fn exposition(pages: Option<&str>) -> Result<(), String> {
    let pages = program::count(pages, PAGES, 10_000, "pages")?;
    program::build()?;
    let bench = Bench::new("exposition")?;
    let here = Exposition::start(&bench, pages)?;
    println!(
        "{pages} pages of {} series each {INTERVAL:?}; {}",
        here.series,
        machine(&["victoria-metrics", "prometheus"])
    );
    let ours = here.cost("ours", |receiver| here.ours(receiver))?;
    let a_second = f64::from(pages) / INTERVAL.as_secs_f64();
    let mut rows = vec![Row(
        "CPU µs a page".into(),
        ours.cpu * 1e4 / a_second,
        None,
        None,
    )];
    let vmagent = here.cost("vmagent", |receiver| here.vmagent(receiver))?;
    let agent = here.cost("prometheus", |receiver| here.prometheus(receiver))?;
    for (name, theirs) in [("vmagent", vmagent), ("Prometheus as an agent", agent)] {
        let mut row = |what: &str, ours: f64, theirs: f64, goal: Option<f64>| {
            rows.push(Row(format!("{what}, {name}"), ours, Some(theirs), goal));
        };
        row("samples a second", ours.samples, theirs.samples, None);
        row(
            "CPU, % of a core",
            ours.cpu,
            theirs.cpu,
            Some(theirs.cpu / 2.0),
        );
        let (peak, their_peak) = (ours.peak_megabytes, theirs.peak_megabytes);
        row("peak MB", peak, their_peak, Some(their_peak / 2.0));
    }
    report("theirs", &rows)
}

struct Exposition<'b> {
    bench: &'b Bench,
    node: SocketAddr,
    _node_exporter: Process,
    targets: Vec<String>,
    /// On a page.
    series: usize,
}

impl<'b> Exposition<'b> {
    /// Starts the node_exporter.
    fn start(bench: &'b Bench, pages: u32) -> Result<Self, String> {
        let node = free_address()?;
        fs::create_dir_all(&bench.directory)
            .map_err(|error| format!("cannot make {}: {error}", bench.directory.display()))?;
        let node_exporter = Process::start(
            Path::new("prometheus-node-exporter"),
            &bench.directory.join("node.log"),
            &[&format!("--web.listen-address=:{}", node.port())],
        )?;
        let start = Instant::now();
        let page = loop {
            match get(node, "/metrics") {
                Ok(answer) if answer.status == 200 => break answer.body,
                _ if start.elapsed() > Duration::from_secs(10) => {
                    return Err("prometheus-node-exporter does not answer".to_owned());
                }
                _ => sleep(Duration::from_millis(50)),
            }
        };
        let page = String::from_utf8_lossy(&page).into_owned();
        let is_series = |line: &&str| !line.is_empty() && !line.starts_with('#');
        let series = page.lines().filter(is_series).count();
        let targets = (0..pages).map(|page| {
            let address = Ipv4Addr::from(0x7f01_0001 + page);
            format!("{address}:{}", node.port())
        });
        Ok(Self {
            bench,
            node,
            _node_exporter: node_exporter,
            targets: targets.collect(),
            series,
        })
    }

    /// Starts one of the three with a receiver, and says what it took.
    fn cost(
        &self,
        name: &str,
        start: impl FnOnce(SocketAddr) -> Result<Process, String>,
    ) -> Result<Cost, String> {
        println!("… {name}");
        let address = free_address()?;
        let _receiver = receiver(&self.bench.directory, address, name)?;
        let mut process = start(address)?;
        sleep(WARM_UP);
        process.expect_running(name)?;
        let taken = || number(address, "vm_rows_inserted_total{type=\"promremotewrite\"}");
        let (cpu, samples, began) = (process.cpu_seconds(), taken()?, Instant::now());
        sleep(MEASURED);
        process.expect_running(name)?;
        let seconds = began.elapsed().as_secs_f64();
        let cost = Cost {
            cpu: (process.cpu_seconds() - cpu) / seconds * 100.0,
            peak_megabytes: process.peak_megabytes(),
            samples: (taken()? - samples) / seconds,
        };
        let expected = (self.targets.len() * self.series) as f64 / INTERVAL.as_secs_f64();
        if cost.samples < 0.98 * expected {
            let got = cost.samples;
            return Err(format!(
                "{name}: {got:.0} samples a second of {expected:.0} arrived"
            ));
        }
        Ok(cost)
    }

    fn ours(&self, receiver: SocketAddr) -> Result<Process, String> {
        let here = self.bench.directory.join("ours");
        let settings = json!({"exposition": {"port": self.node.port(), "identity": "instance"}});
        let last = self.targets.len() as u32;
        let last = Ipv4Addr::from(0x7f01_0000 + last);
        let group = json!({
            "conf": {"prom_id": "nodes", "interval": INTERVAL.as_secs(), "timeout": 5},
            "jobs": [{"job": "{ip}", "ip": format!("127.1.0.1-{last}"), "metrics": [settings]}],
        });
        write(&here.join("configs/nodes.json"), &group.to_string())?;
        let push = write_push(&here, receiver)?;
        let [configs, state] = ["configs", "state"].map(|name| text(&here.join(name)));
        let arguments = ["--configs", &configs, "--push-config", &push];
        let further = ["--state-dir", &state, "--listen", "none"];
        self.process(&self.bench.program, &[arguments, further].concat())
    }

    fn vmagent(&self, receiver: SocketAddr) -> Result<Process, String> {
        let here = self.bench.directory.join("vmagent");
        let file = here.join("scrape.yml");
        write(&file, &self.scrape().to_string())?;
        let arguments = [
            format!("-httpListenAddr={}", free_address()?),
            format!("-promscrape.config={}", file.display()),
            format!("-remoteWrite.tmpDataPath={}", here.join("data").display()),
            format!("-remoteWrite.url=http://{receiver}/api/v1/write"),
        ];
        self.process(Path::new("vmagent"), &arguments.each_ref().map(|it| &**it))
    }

    fn prometheus(&self, receiver: SocketAddr) -> Result<Process, String> {
        let here = self.bench.directory.join("prometheus");
        let file = here.join("prometheus.yml");
        let mut configuration = self.scrape();
        configuration["remote_write"] = json!([{"url": format!("http://{receiver}/api/v1/write")}]);
        write(&file, &configuration.to_string())?;
        let arguments = [
            "--enable-feature=agent".to_owned(),
            format!("--config.file={}", file.display()),
            format!("--storage.agent.path={}", here.join("data").display()),
            format!("--web.listen-address={}", free_address()?),
        ];
        self.process(
            Path::new("prometheus"),
            &arguments.each_ref().map(|it| &**it),
        )
    }

    fn process(&self, program: &Path, arguments: &[&str]) -> Result<Process, String> {
        let name = program.file_name().unwrap_or_default();
        let log = PathBuf::from(name).with_extension("log");
        Process::start(program, &self.bench.directory.join(log), arguments)
    }

    /// What the others scrape.
    fn scrape(&self) -> serde_json::Value {
        json!({
            "global": {"scrape_interval": format!("{}s", INTERVAL.as_secs()), "scrape_timeout": "5s"},
            "scrape_configs": [{"job_name": "nodes", "static_configs": [{"targets": self.targets}]}],
        })
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
