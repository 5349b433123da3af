//! Agents with scrapers that do what the bundled ones never do. This program starts itself again as such an agent.
#![allow(clippy::unwrap_used)]

use std::env::{args, current_exe, var};
use std::error::Error;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::sync::Arc;

use libtest_mimic::{Arguments, Trial};
use pe_agent::Agent;
use pe_scrape::{
    Columns, CycleReport, Metric, Row, ScrapeError, Scraper, ScraperFactory, ScraperSettings,
    SettingsError, Sink, SinkFactory, SinkSettings, SinkStatus, Target, async_trait,
};
use pe_testkit::{http, wait};
use serde_json::json;
use tempfile::TempDir;

/// Which agent to be, in a process that is one.
const ROLE: &str = "TEST_AGENT";
/// A directory for the files by which agent and test wait for each other.
const MEETING: &str = "TEST_MEETING";

fn main() -> ExitCode {
    if let Ok(role) = var(ROLE) {
        return agent(&role).main();
    }
    if args().nth(1).as_deref() == Some("__open-sockets") {
        return agent("slow-load").main();
    }
    let trials: [(&str, fn()); 10] = [
        (
            "a_name_that_is_registered_twice_is_refused",
            registered_twice,
        ),
        ("a_name_that_is_no_name_is_refused", no_name),
        ("a_hangup_during_the_start_is_a_reload", hangup_during_start),
        ("a_stop_during_the_start_ends_it", stop_during_start),
        ("a_change_during_a_load_is_seen", change_during_load),
        ("a_second_signal_ends_it_at_once", second_signal),
        (
            "health_is_answered_while_all_threads_that_measure_are_held",
            health_beside_hogs,
        ),
        (
            "a_sink_that_keeps_state_has_a_directory_while_it_runs",
            state_directory,
        ),
        (
            "check_asks_the_peers_of_all_sinks_and_fails_with_one",
            check_connects,
        ),
        (
            "a_scraper_that_panics_is_refused_at_start_check_and_reload",
            panics,
        ),
    ];
    let trials = trials.map(|(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    });
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit_code()
}

fn agent(role: &str) -> Agent {
    let agent = Agent::new("test-agent", "1.2.3");
    match role {
        "twice" => agent.scraper("one", Slow).scraper("one", Slow),
        "no-name" => agent.scraper("no-name", Slow),
        "slow-start" => agent.scraper_with("one", |_| {
            meet();
            Slow
        }),
        "slow-load" | "stuck" | "hog" => agent.scraper("one", Slow),
        "wild" => agent.scraper("one", wild),
        "peers" => agent.scraper("one", Slow).sink("peer", peer),
        "state" => agent
            .scraper("one", Slow)
            .sink_with("keeper", |context| Keeper(context.state_dir())),
        other => panic!("{other}"),
    }
}

fn has_role(role: &str) -> bool {
    var(ROLE).is_ok_and(|own| own == role)
}

fn meeting() -> PathBuf {
    var(MEETING).unwrap().into()
}

/// Says that it is here, and waits for the test.
fn meet() {
    fs::write(meeting().join("reached"), "").unwrap();
    wait::until_true("the test", || meeting().join("go").exists());
}

/// Makes scrapers whose every target is up. Depending on the role, checking their settings waits for the test, or measuring
/// takes for ever, or holds its thread until the test goes on.
struct Slow;

struct Up {
    columns: Arc<Columns>,
    up: Metric,
}

impl ScraperFactory for Slow {
    fn create(&self, _: &ScraperSettings) -> Result<Arc<dyn Scraper>, SettingsError> {
        let mut columns = Columns::builder();
        let up = columns.gauge("test_up", "Always 1");
        let columns = columns.build()?;
        Ok(Arc::new(Up { columns, up }))
    }

    fn describe(&self, settings: &ScraperSettings) -> Result<Arc<Columns>, SettingsError> {
        if has_role("slow-load") {
            meet();
        }
        Ok(self.create(settings)?.columns().clone())
    }
}

/// Makes a scraper, or panics where the settings say.
fn wild(settings: &ScraperSettings) -> Result<Arc<dyn Scraper>, SettingsError> {
    match settings.own["panic"].as_str() {
        Some("factory") => panic!("no scraper today"),
        Some(_) => Ok(Arc::new(Shy)),
        None => Slow.create(settings),
    }
}

/// Panics when it is asked for its columns.
struct Shy;

#[async_trait]
impl Scraper for Shy {
    fn columns(&self) -> &Arc<Columns> {
        panic!("no columns today")
    }

    async fn scrape(&self, _: &Target, _: Row<'_>) -> Result<(), ScrapeError> {
        Ok(())
    }
}

#[async_trait]
impl Scraper for Up {
    fn columns(&self) -> &Arc<Columns> {
        &self.columns
    }

    async fn scrape(&self, target: &Target, row: Row<'_>) -> Result<(), ScrapeError> {
        if has_role("stuck") {
            fs::write(meeting().join("reached"), "").unwrap();
            std::future::pending::<()>().await;
        }
        if has_role("hog") {
            fs::write(meeting().join(target.device()), "").unwrap();
            wait::until_true("the test", || meeting().join("go").exists());
        }
        row.set(self.up, 1.0);
        Ok(())
    }
}

/// Refuses to make sinks that keep state, in words that say where that is.
struct Keeper(Option<PathBuf>);

impl SinkFactory for Keeper {
    fn create(&self, _: &SinkSettings) -> Result<Arc<dyn Sink>, SettingsError> {
        Err(SettingsError::new(format!("state in {:?}", self.0)))
    }

    fn keeps_state() -> bool {
        true
    }
}

/// A sink whose peer answers as the settings say.
struct Peer(String);

fn peer(settings: &SinkSettings) -> Result<Arc<dyn Sink>, SettingsError> {
    let answer = settings.own["answer"].as_str().unwrap_or_default();
    Ok(Arc::new(Peer(answer.to_owned())))
}

#[async_trait]
impl Sink for Peer {
    fn publish(&self, _: Arc<CycleReport>) {}

    fn status(&self) -> SinkStatus {
        let mut status = SinkStatus::default();
        status.destination = "http://peer.test".to_owned();
        status
    }

    async fn check_peer(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        match self.0.as_str() {
            "yes" => Ok(()),
            "panic" => panic!("as the settings say"),
            no => Err(no.into()),
        }
    }
}

/// An agent, and the directory of its files. Killed with the value.
struct Running {
    child: Child,
    files: TempDir,
    address: SocketAddr,
}

impl Running {
    fn start(role: &str) -> Self {
        let files = tempfile::tempdir().unwrap();
        fs::create_dir(files.path().join("configs")).unwrap();
        write_group(files.path(), "before");
        if role == "hog" {
            // A group for each of the threads that measure.
            write_group_of(files.path(), "q", "second", &json!("one"));
        }
        let address = pe_testkit::free_port().unwrap();
        let mut command = pe_testkit::command(current_exe().unwrap().to_str().unwrap());
        command
            .arg("--configs")
            .arg(files.path().join("configs"))
            .args(["--listen", &address.to_string()])
            .env(ROLE, role)
            .env(MEETING, files.path())
            // A service may write nowhere else.
            .arg("--state-dir")
            .arg(files.path())
            .stderr(File::create(files.path().join("log")).unwrap());
        let child = pe_testkit::start(command).unwrap();
        Self {
            child,
            files,
            address,
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.files.path().join("log")).unwrap()
    }

    fn await_log(&self, text: &str) {
        wait::until_true(&format!("{text:?} in the log"), || {
            self.log().contains(text)
        });
    }

    /// Waits until the agent waits for the test.
    fn meet(&self) {
        wait::until_true("the agent", || self.files.path().join("reached").exists());
    }

    /// Lets the agent go on.
    fn go(&self) {
        fs::write(self.files.path().join("go"), "").unwrap();
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        let kill = Command::new("kill").args(["-s", signal, &pid]).status();
        assert!(kill.unwrap().success());
    }

    fn ended(mut self) -> ExitStatus {
        wait::until("the end", || self.child.try_wait().unwrap())
    }

    fn shows(&self, text: &str) -> bool {
        http::get(self.address, "/metrics").is_ok_and(|response| response.text().contains(text))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the agent's log:\n{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write_group(files: &Path, device: &str) {
    write_group_of(files, "p", device, &json!("one"));
}

fn write_group_of(files: &Path, group: &str, device: &str, metric: &serde_json::Value) {
    let content = json!({
        "conf": {"prom_id": group, "interval": "1s"},
        "jobs": [{"job": device, "ip": "127.0.0.1", "metrics": [metric]}],
    });
    let file = files.join(format!("configs/{group}.json"));
    fs::write(file, content.to_string()).unwrap();
}

fn registered_twice() {
    let agent = Running::start("twice");
    agent.await_log("test-agent: a scraper named \"one\" is registered already");
    assert_eq!(agent.ended().code(), Some(1));
}

fn no_name() {
    let agent = Running::start("no-name");
    agent.await_log("test-agent: scraper name \"no-name\" is not allowed");
    assert_eq!(agent.ended().code(), Some(1));
}

fn hangup_during_start() {
    let agent = Running::start("slow-start");
    agent.meet();
    agent.signal("HUP");
    agent.go();
    agent.await_log("started");
    agent.await_log("SIGHUP");
    agent.signal("TERM");
    assert!(agent.ended().success());
}

fn stop_during_start() {
    let agent = Running::start("slow-load");
    agent.meet();
    agent.signal("TERM");
    agent.await_log("stopped before the start was complete");
    assert!(agent.ended().success());
}

fn change_during_load() {
    let agent = Running::start("slow-load");
    agent.meet();
    write_group(agent.files.path(), "after");
    agent.go();
    wait::until_true("the device that the file has now", || {
        agent.shows("device=\"after\"")
    });
    assert!(!agent.shows("device=\"before\""));
    agent.signal("TERM");
    assert!(agent.ended().success());
}

fn second_signal() {
    let agent = Running::start("stuck");
    agent.meet();
    agent.signal("TERM");
    agent.await_log("stopping");
    agent.signal("INT");
    agent.await_log("second signal");
    assert!(agent.ended().success());
}

fn health_beside_hogs() {
    let agent = Running::start("hog");
    let path = agent.files.path();
    wait::until_true("both threads", || {
        path.join("before").exists() && path.join("second").exists()
    });
    let health = http::get(agent.address, "/-/healthy").unwrap();
    assert_eq!(health.status, 200);
    agent.go();
    agent.signal("TERM");
    assert!(agent.ended().success());
}

fn state_directory() {
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name);
    fs::create_dir(path("configs")).unwrap();
    write_group(files.path(), "before");
    fs::write(path("push.json"), r#"{"sinks": [{"keeper": {}}]}"#).unwrap();
    let state_of = |arguments: &[&str], variables: &[(&str, &str)]| {
        let output = Command::new(current_exe().unwrap())
            .args(arguments)
            .arg("--configs")
            .arg(path("configs"))
            .arg("--push-config")
            .arg(path("push.json"))
            .env(ROLE, "state")
            .envs(variables.iter().copied())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let told = String::from_utf8(output.stderr).unwrap();
        let (_, state) = told.split_once("state in ").unwrap();
        state.trim_end().to_owned()
    };
    let run = ["run", "--listen", "none"];
    assert_eq!(state_of(&run, &[]), r#"Some("pingexporter-data")"#);
    let systemd = [("STATE_DIRECTORY", "/var/lib/a:/var/lib/b")];
    assert_eq!(state_of(&run, &systemd), r#"Some("/var/lib/a")"#);
    let given = [run.as_slice(), &["--state-dir", "here"]].concat();
    assert_eq!(state_of(&given, &systemd), r#"Some("here")"#);
    let variables = [("PINGEXPORTER_STATE_DIR", "there"), systemd[0]];
    assert_eq!(state_of(&run, &variables), r#"Some("there")"#);
    for command in ["check", "once"] {
        assert_eq!(state_of(&[command], &variables), "None", "{command}");
    }
}

fn panics() {
    let agent = Running::start("wild");
    wait::until_true("the first results", || agent.shows("device=\"before\""));
    for (panic, told) in [
        ("factory", "metric `one`: it panicked: no scraper today"),
        ("columns", "metric `one`: it panicked: no columns today"),
    ] {
        let files = agent.files.path();
        write_group_of(files, "p", "after", &json!({"one": {"panic": panic}}));
        agent.await_log(told);
        assert!(agent.shows("device=\"before\"") && !agent.shows("device=\"after\""));
        for command in ["check", "once", "run"] {
            let mut again = Command::new(current_exe().unwrap());
            again
                .arg(command)
                .arg("--configs")
                .arg(files.join("configs"));
            let output = again.env(ROLE, "wild").output().unwrap();
            let words = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(1), "{command}: {words}");
            assert!(words.contains(told), "{command}: {words}");
        }
    }
    write_group(agent.files.path(), "after");
    wait::until_true("the reload", || agent.shows("device=\"after\""));
    agent.signal("TERM");
    assert!(agent.ended().success());
}

fn check_connects() {
    let files = tempfile::tempdir().unwrap();
    let path = |name: &str| files.path().join(name);
    fs::create_dir(path("configs")).unwrap();
    write_group(files.path(), "before");
    let check = |sinks: &[&str], further: &[&str]| {
        let sinks = sinks
            .iter()
            .map(|answer| json!({"peer": {"answer": answer}}));
        let push = json!({"sinks": sinks.collect::<Vec<_>>()});
        fs::write(path("push.json"), push.to_string()).unwrap();
        let output = Command::new(current_exe().unwrap())
            .arg("check")
            .args(further)
            .arg("--configs")
            .arg(path("configs"))
            .arg("--push-config")
            .arg(path("push.json"))
            .env(ROLE, "peers")
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let order = "the configuration is in order: 1 device in 1 file, 0 warnings\n";
    let (code, told) = check(&["no"], &[]);
    assert_eq!((code, told.as_str()), (Some(0), order));
    let yes = "results would arrive at http://peer.test";
    let (code, told) = check(&["yes", "yes"], &["--connect"]);
    let expected = format!("{order}sink peer: {yes}\nsink peer-2: {yes}\n");
    assert_eq!((code, told), (Some(0), expected));
    let (code, told) = check(&["no\u{1b}", "yes", "panic"], &["--connect"]);
    assert_eq!(code, Some(1), "{told}");
    for expected in [
        "sink peer: results would not arrive at http://peer.test: no\\u{1b}\n",
        "sink peer-2: results would arrive at http://peer.test\n",
        "sink peer-3: it panicked",
    ] {
        assert!(told.contains(expected), "no {expected} in {told}");
    }
}
