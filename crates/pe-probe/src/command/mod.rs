//! A device's check by a program of the site's own, in the conventions of monitoring plugins.
//!
//! [`plugin`] reads what a plugin writes, and [`pages`](crate::pages) what a program writes that has metrics; [`arguments`] fills in
//! what a program is called with. None of them does I/O. There is no shell. A
//! program may do what the process may, but can gain no rights; which programs may be run says the factory, and none unless it
//! does.

pub mod arguments;
mod perfdata;
pub mod plugin;
mod policy;
mod process;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pe_scrape::resolve::{Resolve, SystemResolver};
use pe_scrape::settings::{Problem, Problems, Step, Table};
use pe_scrape::{Metric, Scraper, ScraperFactory, ScraperSettings, SettingsError};

use crate::pages::page::PageFormat;
use crate::pages::protobuf::PageError;
use crate::pages::rules::Rules;
use crate::pages::{Identity, PageMetrics, Passing};
use crate::{
    Asked, CommonSettings, Failure, Phase, Probe, ProbeFactory, ProbeMetrics, ProbeSettings,
    Reason, socket_failure,
};
use arguments::{Argument, ArgumentError, Values};
use perfdata::Perfdata;
use plugin::{PluginOutput, State};
use policy::Policy;
use process::{Ended, Program, RunError};

/// Programs that run at once, over all scrapers of a factory.
const PARALLEL: usize = 32;

/// Characters of what a program says that are told in a log line.
const TOLD: usize = 200;

pe_scrape::settings! {
    /// Settings of `command`.
    pub struct CommandSettings("") {
        /// Absolute path of the program, and its arguments, each as a string of its own. `${device}`, `${ip}` (as configured),
        /// `${address}` (as resolved) and the names of the device's labels in such brackets stand for their values, `$$` for a
        /// dollar sign. There is no shell.
        argv: Vec<String>;
        /// Environment variables of the program. It has no others.
        environment: BTreeMap<String, String>;
        /// Bytes that the program may write to standard output.
        max_output: u32 = 65_536, range(1_024.0, 16_777_216.0);
        /// What the program writes to standard output: performance data, as plugins do, or a page of metrics, whose series are
        /// passed on.
        output: OutputChoice = OutputChoice::Nagios;
        /// Series of such a page that are read at most.
        max_series: u32 = 50_000, range(1.0, 10_000_000.0);
        /// Whether the state `WARNING` is a failure, as `CRITICAL` is.
        warning_is_down: bool = false;
        /// Value of the label `probe`, which tells the probes of one device apart.
        name: Option<String>, otherwise("kind and program, such as `command:check_http`");
        /// Whether the device counts as up when this probe succeeds, and as down when it fails. Where several metrics of a
        /// device say so, it is up when one of them succeeds.
        up: Option<bool>, otherwise("only if no other metric of the device says whether it is up, as `ping` does");
        /// How long the program may take, with the look-up of the device's name; below `interval`. It is killed then.
        timeout: Option<Duration>, otherwise("that of the device");
        /// Programs that run at once for this entry, at the most; 32 run at once for all of them.
        concurrency: u32 = 16, range(1.0, 1_000.0);
    }
}

pe_scrape::choices! {
    /// What a program writes.
    pub enum OutputChoice {
        /// A line for people, and performance data behind a bar.
        #[default]
        Nagios = "nagios",
        /// Metrics in the text format of Prometheus, or in OpenMetrics.
        Exposition = "exposition",
    }
}

// Not declared by `probe_settings!`, since it has another concurrency: a process costs more than a connection.
impl ProbeSettings for CommandSettings {
    fn common(&self) -> CommonSettings {
        CommonSettings::new(self.name.clone(), self.up, self.timeout, self.concurrency)
    }
}

impl CommandSettings {
    fn program(&self) -> &Path {
        Path::new(self.argv.first().map_or("", String::as_str))
    }

    fn arguments(&self, problems: &mut Problems) -> Vec<Argument> {
        problems.within("argv", |problems| {
            let program = self.program();
            if self.argv.is_empty() {
                problems.refuse("is empty: the first entry is the program");
            } else if !program.is_absolute() || self.argv[0].contains('$') {
                problems.within(0, |problems| {
                    problems
                        .refuse("expected the absolute path of a program, without placeholders");
                });
            }
            let texts = self.argv.iter().enumerate().skip(1);
            let parsed = texts.filter_map(|(index, text)| {
                let argument = Argument::parse(text);
                argument
                    .map_err(|error| problems.within(index, |problems| problems.refuse(error)))
                    .ok()
            });
            parsed.collect()
        })
    }

    fn check_environment(&self, problems: &mut Problems) {
        for (name, value) in &self.environment {
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                problems.within("environment", |problems| {
                    problems.within(name.as_str(), |problems| {
                        problems.refuse("not an environment variable");
                    });
                });
            }
        }
    }
}

/// Runs a program for a device.
pub struct CommandProbe {
    program: PathBuf,
    arguments: Vec<Argument>,
    environment: Vec<(String, String)>,
    max_output: usize,
    warning_is_down: bool,
    state: Metric,
    exit_code: Metric,
    output: Output,
}

/// How the output of a program is read, and where that is told.
enum Output {
    Nagios {
        invalid: Metric,
        perfdata: Perfdata,
    },
    Exposition {
        passing: Arc<Passing>,
        metrics: PageMetrics,
    },
}

impl Output {
    fn new(settings: &CommandSettings, metrics: &mut ProbeMetrics) -> Result<Self, SettingsError> {
        Ok(match settings.output {
            OutputChoice::Nagios => Self::Nagios {
                invalid: metrics.gauge(
                    "probe_command_perfdata_invalid",
                    "Pieces of performance data that could not be read",
                ),
                perfdata: Perfdata::new(metrics)?,
            },
            OutputChoice::Exposition => {
                let max_series = settings.max_series as usize;
                let passing = Passing::new(Rules::default(), Identity::default(), max_series);
                Self::Exposition {
                    passing: Arc::new(passing),
                    metrics: PageMetrics::new(metrics),
                }
            }
        })
    }

    /// Writes what the output holds; returns its line for people.
    async fn take(&self, asked: &Asked<'_>, output: Vec<u8>) -> Result<String, Failure> {
        match self {
            Self::Nagios { invalid, perfdata } => {
                let output = PluginOutput::parse(&output);
                asked.row.set(*invalid, output.invalid as f64);
                for frame in perfdata.frames(asked.target, &output.pieces) {
                    asked.row.add_frame(frame);
                }
                Ok(output.summary)
            }
            Self::Exposition { passing, metrics } => {
                metrics.came(asked.row, output.len());
                let format = text_format(&output);
                let passed = passing.pass_on(asked.target.labels(), output, format);
                let passed = passed.await?.map_err(|error| page_failure(&error))?;
                metrics.pass(asked.row, passed);
                Ok(String::new())
            }
        }
    }
}

/// The format of a page that nobody tells: the end is what only OpenMetrics has.
fn text_format(page: &[u8]) -> PageFormat {
    PageFormat::Text {
        open_metrics: page.trim_ascii_end().ends_with(b"\n# EOF"),
    }
}

fn page_failure(error: &PageError) -> Failure {
    let reason = match error {
        PageError::Malformed(..) | PageError::Utf8 => Reason::OutputMalformed,
        PageError::TooManySeries(_) => Reason::OutputTooLarge,
    };
    Failure::new(reason, error.to_string())
}

impl fmt::Debug for CommandProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Arguments and environment may hold secrets.
        f.debug_struct("CommandProbe")
            .field("program", &self.program)
            .finish_non_exhaustive()
    }
}

impl Probe for CommandProbe {
    type Settings = CommandSettings;

    fn name(settings: &CommandSettings) -> String {
        let program = settings.program();
        let name = program.file_name().unwrap_or(program.as_os_str());
        format!("command:{}", name.to_string_lossy())
    }

    fn new(
        settings: CommandSettings,
        _: &ScraperSettings,
        metrics: &mut ProbeMetrics,
    ) -> Result<Self, SettingsError> {
        let mut problems = Problems::default();
        let arguments = settings.arguments(&mut problems);
        settings.check_environment(&mut problems);
        if problems.has_errors() {
            return Err(problems.into());
        }
        let output = Output::new(&settings, metrics)?;
        Ok(Self {
            program: settings.program().to_owned(),
            arguments,
            max_output: settings.max_output as usize,
            warning_is_down: settings.warning_is_down,
            environment: settings.environment.into_iter().collect(),
            state: metrics.gauge(
                "probe_command_state",
                "State that the plugin told: 0 ok, 1 warning, 2 critical, 3 unknown",
            ),
            exit_code: metrics.gauge("probe_command_exit_code", "Exit code of the program"),
            output,
        })
    }

    async fn probe(&self, asked: &Asked<'_>) -> Result<(), Failure> {
        asked.enter(Phase::Answer);
        let program = self.filled(asked).map_err(|error| {
            Failure::new(Reason::NotStarted, format!("it is not started: {error}"))
        })?;
        let ended = process::run(program, self.max_output).await;
        self.take(asked, ended.map_err(failure)?).await
    }

    fn review(settings: &CommandSettings) -> Vec<Problem> {
        let program = settings.program();
        let here = |message: String| {
            let path = [Step::from("argv"), Step::from(0)];
            Problem::error(message).warning().at(path)
        };
        if let Some(defect) = policy::defect(program) {
            return vec![here(defect)];
        }
        let rights = policy::rights_of_file(program);
        let needs = rights.map(|rights| {
            let shown = program.display();
            let hint = "commands can gain no rights (no_new_privs); for check_icmp and check_ping there is the metric `ping`";
            here(format!("{shown} runs without {rights}, and will probably fail"))
                .hint(hint.to_owned())
        });
        needs.into_iter().collect()
    }
}

impl CommandProbe {
    fn filled(&self, asked: &Asked<'_>) -> Result<Program, ArgumentError> {
        let target = asked.target;
        let address = match asked.scope {
            0 => asked.address.to_string(),
            scope => format!("{}%{scope}", asked.address),
        };
        let values = Values {
            device: target.device(),
            ip: target.ip(),
            address: &address,
        };
        let label = |name: &str| target.labels().get(name);
        let arguments = self.arguments.iter();
        let arguments = arguments.map(|argument| argument.fill(&values, label).map(OsString::from));
        Ok(Program {
            path: self.program.clone(),
            arguments: arguments.collect::<Result<_, _>>()?,
            environment: self.environment.clone(),
        })
    }

    /// Writes what a program said, and whether that is good.
    async fn take(&self, asked: &Asked<'_>, ended: Ended) -> Result<(), Failure> {
        let row = asked.row;
        let said = |output: &[u8]| -> String {
            let text = String::from_utf8_lossy(output);
            let line = text.trim().lines().next().unwrap_or_default();
            line.chars().take(TOLD).collect()
        };
        let Some(code) = ended.status.code() else {
            let signal = ended.status.signal().unwrap_or_default();
            let message = format!("the program was ended by signal {signal}");
            return Err(Failure::new(Reason::Killed, message));
        };
        row.set(self.exit_code, code.into());
        let Some(state) = State::of(code) else {
            let message = format!(
                "the exit code {code} is no state of a plugin: {}",
                said(&ended.errors)
            );
            return Err(Failure::new(Reason::ExitCode, message));
        };
        row.set(self.state, code.into());
        let output = self.output.take(asked, ended.output).await;
        let reason = match state {
            State::Ok => return output.map(drop),
            State::Warning if !self.warning_is_down => return output.map(drop),
            State::Warning => Reason::Warning,
            State::Critical => Reason::Critical,
            State::Unknown => Reason::PluginUnknown,
        };
        // What is wrong with the device is told before what is wrong with the output.
        let text = match output {
            Ok(summary) if !summary.is_empty() => said(summary.as_bytes()),
            _ => said(&ended.errors),
        };
        Err(Failure::new(reason, text))
    }
}

fn failure(error: RunError) -> Failure {
    let reason = match &error {
        RunError::TooLarge(_) => Reason::OutputTooLarge,
        RunError::Start(source) | RunError::Watch(source) => {
            match socket_failure(source, true).reason {
                reason @ (Reason::NoDescriptors | Reason::NoBuffers) => reason,
                _ => Reason::NotStarted,
            }
        }
    };
    Failure::new(reason, pe_scrape::with_causes(&error))
}

/// Makes the scrapers `command`, which run no program unless [`allow`](Self::allow) says so.
#[derive(Debug, Clone)]
pub struct CommandFactory {
    probes: ProbeFactory<CommandProbe>,
    policy: Policy,
}

impl CommandFactory {
    /// A factory whose scrapers resolve host names with `resolver`.
    pub fn new(resolver: impl Resolve) -> Self {
        Self {
            probes: ProbeFactory::new(resolver).at_once(PARALLEL),
            policy: Policy::default(),
        }
    }

    /// Allows these programs, and those below these directories. Paths are absolute.
    #[must_use]
    pub fn allow(mut self, programs: impl IntoIterator<Item = PathBuf>) -> Self {
        self.policy.allowed.extend(programs);
        self
    }

    /// What a user can do where a program is not allowed; it ends the message.
    #[must_use]
    pub fn advice(mut self, advice: impl Into<String>) -> Self {
        self.policy.advice = advice.into();
        self
    }
}

impl Default for CommandFactory {
    fn default() -> Self {
        Self::new(SystemResolver)
    }
}

impl ScraperFactory for CommandFactory {
    fn create(&self, settings: &ScraperSettings) -> Result<Arc<dyn Scraper>, SettingsError> {
        let probe = self.probes.scraper(settings)?;
        let own: CommandSettings = settings.parse()?;
        if let Some(refusal) = self.policy.refuse(own.program()) {
            let mut problems = Problems::default();
            problems.within("argv", |problems| {
                problems.within(0, |problems| problems.refuse(refusal));
            });
            return Err(problems.into());
        }
        Ok(Arc::new(probe))
    }

    fn review(&self, settings: &ScraperSettings) -> Vec<Problem> {
        self.probes.review(settings)
    }

    fn table(&self) -> Option<&'static Table> {
        self.probes.table()
    }
}
