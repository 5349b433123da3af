//! The command line: what can be written there, and what it means.
//!
//! `run` stands for no command at all, see [`arguments`]. Each command has its own options, and reads the environment
//! variables of these alone. Those of options that all commands have are set for the service: one that is of no use to it is
//! an error of `run`, and nothing to others.

mod arguments;
mod values;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::builder::Resettable;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use pe_resolve::NameServer;
pub(crate) use values::{Assignment, Bytes, Listen, Rate, Time};
use values::{absolute_path, telemetry_path};

use crate::privileges::{UserName, Wanted};
use crate::state_dir;

/// What the program is called, and what it says about itself.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) about: &'static str,
}

#[derive(Debug, Parser)]
#[command(max_term_width = 100, subcommand_value_name = "COMMAND")]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    #[command(flatten)]
    pub(crate) logging: LoggingArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measure all devices at their intervals and push the results, until stopped (the default)
    Run(RunArgs),
    /// Validate the configuration and print every problem
    Check(CheckArgs),
    /// Measure all devices once; print the results, or push them with --push-config
    Once(FileArgs),
    /// Ping hosts, addresses, subnets or ranges now
    Ping(PingArgs),
    /// Write example files to start from, and say what to do next
    Init(InitArgs),
    /// Look at what waits for the receivers of remote write, check it, or drop it
    Queue(QueueArgs),
    /// Print the JSON Schema of the configuration files, for editors
    Schema(SchemaArgs),
    /// Print what makes a shell complete commands and options
    Completions(CompletionsArgs),
    /// Print the manual page, for man(1)
    Man,
    /// Ask a running program whether it is healthy; for containers
    Healthcheck(HealthcheckArgs),
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct CompletionsArgs {
    /// Which shell
    pub(crate) shell: clap_complete::Shell,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct QueueArgs {
    /// What to do
    pub(crate) action: QueueAction,
    /// Only what waits for the sink of this name
    #[arg(long, value_name = "NAME")]
    pub(crate) sink: Option<String>,
    /// The agent's state directory [default: the first path of $STATE_DIRECTORY, else pingexporter-data]
    #[arg(long, value_name = "DIR", env = "PINGEXPORTER_STATE_DIR")]
    pub(crate) state_dir: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum QueueAction {
    /// Tell how much waits since when, and in which files
    Inspect,
    /// Read everything; exit code 1 if some of it is damaged
    Verify,
    /// Drop everything, for good; not while an agent uses the directory
    Drop,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct HealthcheckArgs {
    /// Address that the program serves on
    #[arg(
        long,
        value_name = "ADDR",
        env = "PINGEXPORTER_LISTEN",
        value_delimiter = ',',
        default_value = "127.0.0.1:9516"
    )]
    pub(crate) listen: Vec<Listen>,
}

/// Which configuration to read.
#[derive(Debug, Clone, Args)]
pub(crate) struct FileArgs {
    /// Directory with one JSON file for each group of devices
    #[arg(long, value_name = "DIR", env = "PINGEXPORTER_CONFIGS")]
    pub(crate) configs: PathBuf,
    /// JSON file that says where to push results: a Pushgateway, other sinks
    #[arg(long, value_name = "FILE", env = "PINGEXPORTER_PUSH_CONFIG")]
    pub(crate) push_config: Option<PathBuf>,
    /// Name servers to ask instead of the system's, as addresses with or without a port
    #[arg(
        long,
        value_name = "ADDR",
        env = "PINGEXPORTER_DNS_SERVERS",
        value_delimiter = ','
    )]
    pub(crate) dns_servers: Vec<NameServer>,
    /// Program, or directory of programs, that the metric "command" may run; none unless given. May be repeated
    #[arg(
        long = "allow-commands",
        value_name = "PATH",
        env = "PINGEXPORTER_ALLOW_COMMANDS",
        value_delimiter = ',',
        value_parser = absolute_path
    )]
    pub(crate) allow_commands: Vec<PathBuf>,
    /// Set a key over all files and the environment, such as conf.interval=10s or push.grouping=config
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<Assignment>,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    pub(crate) files: FileArgs,
    /// Also ask each sink's peer whether results would arrive; nothing is measured or stored there
    #[arg(long)]
    pub(crate) connect: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) files: FileArgs,
    /// Directory for what must survive a restart [default: the first path of $STATE_DIRECTORY]
    #[arg(long, value_name = "DIR", env = "PINGEXPORTER_STATE_DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) web: WebArgs,
    /// User to become, with :GROUP if it is not the user's own, before any file is read; needs root
    #[arg(long, value_name = "USER", env = "PINGEXPORTER_USER")]
    pub(crate) user: Option<UserName>,
}

impl RunArgs {
    /// What the service does with its rights.
    pub(crate) fn privileges(&self) -> Wanted {
        Wanted {
            user: self.user.clone(),
            // Whether one is needed is not known before files are read.
            writable: state_dir::choose_from_environment(self.state_dir.clone(), || true)
                .into_iter()
                .collect(),
            executable: self.files.allow_commands.clone(),
        }
    }
}

/// What to serve, and where.
#[derive(Debug, Clone, Args)]
pub(crate) struct WebArgs {
    /// Address to serve /metrics and the status page on, or "none"; ":PORT" is all interfaces. May be repeated
    #[arg(
        long,
        visible_alias = "web.listen-address",
        value_name = "ADDR|none",
        env = "PINGEXPORTER_LISTEN",
        value_delimiter = ',',
        default_value = "127.0.0.1:9516"
    )]
    pub(crate) listen: Vec<Listen>,
    /// File with TLS and passwords for what is listened on, in the format of Prometheus' exporters
    #[arg(
        long = "web.config.file",
        value_name = "FILE",
        env = "PINGEXPORTER_WEB_CONFIG_FILE"
    )]
    pub(crate) config_file: Option<PathBuf>,
    /// Path of the metrics
    #[arg(
        long = "web.telemetry-path",
        value_name = "PATH",
        env = "PINGEXPORTER_WEB_TELEMETRY_PATH",
        default_value = "/metrics",
        value_parser = telemetry_path
    )]
    pub(crate) telemetry_path: String,
    /// Memory for what the pages show of the past; fewer cycles with more devices, and none of it with 0
    #[arg(
        long = "web.history",
        value_name = "BYTES",
        env = "PINGEXPORTER_WEB_HISTORY",
        default_value = "80MB"
    )]
    pub(crate) history: Bytes,
    /// Load the configuration again on POST /-/reload
    #[arg(long = "web.enable-lifecycle")]
    pub(crate) enable_lifecycle: bool,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct InitArgs {
    /// Directory to write to, made if it is not there; no file in it is overwritten
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct SchemaArgs {
    /// Which kind of file
    #[arg(default_value = "group")]
    pub(crate) kind: SchemaKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchemaKind {
    /// A group of devices
    Group,
    /// The push configuration
    Push,
    /// A targets file (file_sd)
    Targets,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct PingArgs {
    /// Host name, address, subnet (192.0.2.0/24) or range (192.0.2.10-192.0.2.50)
    ///
    /// With up to 32 targets, each reply is a line; with more, only the targets that answer are listed, and how many did not.
    #[arg(required = true, value_name = "TARGET")]
    pub(crate) targets: Vec<String>,
    /// Probes for each target [default: until interrupted for one target, else 1]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) count: Option<u32>,
    /// Time between two probes of one target, in seconds or as "250ms"
    #[arg(short, long, value_name = "TIME", default_value = "1")]
    pub(crate) interval: Time,
    /// How long to wait for a reply, in seconds or as "250ms"
    #[arg(short = 'W', long, value_name = "TIME", default_value = "1")]
    pub(crate) timeout: Time,
    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
    /// Write the targets that answer to a file for `targets_files` of a configuration, in place of what it holds
    #[arg(long, value_name = "FILE")]
    pub(crate) write_targets: Option<PathBuf>,
    /// IPv4 only
    #[arg(short = '4', conflicts_with = "v6")]
    pub(crate) v4: bool,
    /// IPv6 only
    #[arg(short = '6')]
    pub(crate) v6: bool,
    /// Bytes of payload
    #[arg(short, long, value_name = "BYTES", default_value = "56", value_parser = clap::value_parser!(u16).range(..=65_507))]
    pub(crate) size: u16,
    /// TTL or hop limit of the requests
    #[arg(short, long, value_name = "HOPS", value_parser = clap::value_parser!(u8).range(1..))]
    pub(crate) ttl: Option<u8>,
    /// Source address, or interface to send through
    #[arg(short = 'I', long = "from", value_name = "ADDR|IFACE")]
    pub(crate) from: Option<String>,
    /// Requests a second over all targets; 0 for as fast as possible [default: 10000]
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<Rate>,
    /// Differentiated Services code point, 0 to 63
    #[arg(long, value_name = "DSCP", value_parser = clap::value_parser!(u8).range(..=63))]
    pub(crate) dscp: Option<u8>,
    /// Forbid fragmentation
    #[arg(long)]
    pub(crate) dont_fragment: bool,
    /// Firewall mark
    #[arg(long, value_name = "MARK")]
    pub(crate) mark: Option<u32>,
    /// Name servers to ask instead of the system's, as addresses with or without a port
    #[arg(
        long,
        value_name = "ADDR",
        env = "PINGEXPORTER_DNS_SERVERS",
        value_delimiter = ','
    )]
    pub(crate) dns_servers: Vec<NameServer>,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct LoggingArgs {
    /// Log what happens in detail: the same as --log.level debug
    #[arg(long, global = true, display_order = 900)]
    pub(crate) debug: bool,
    /// The least urgent lines to log
    #[arg(
        long = "log.level",
        global = true,
        display_order = 901,
        value_name = "LEVEL",
        default_value = "info"
    )]
    log_level: LogLevel,
    /// How log lines look; they go to standard error
    #[arg(
        long,
        visible_alias = "log.format",
        global = true,
        display_order = 902,
        value_name = "FORMAT",
        env = "PINGEXPORTER_LOG_FORMAT",
        default_value = "text",
        hide_possible_values = false
    )]
    pub(crate) log_format: LogFormat,
}

impl LoggingArgs {
    pub(crate) fn level(&self) -> LogLevel {
        match self.debug {
            true => LogLevel::Debug,
            false => self.log_level,
        }
    }
}

/// Those of Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people
    #[value(alias = "logfmt")]
    Text,
    /// One JSON object a line
    Json,
}

/// What the command line asks for.
///
/// # Errors
/// What to print instead, and where: help and version are errors too, in clap's words.
pub(crate) fn parse(identity: Identity, arguments: Vec<OsString>) -> Result<Cli, clap::Error> {
    let command = command(identity);
    let (arguments, at) = arguments::with_command(&command, arguments);
    let is_service = arguments.get(at).is_some_and(|word| word == "run");
    let mut command = match is_service {
        true => command,
        false => command.mut_args(without_bad_variable),
    };
    let secrets = arguments::after_settings(&arguments);
    let parsed = command
        .try_get_matches_from_mut(arguments)
        .and_then(|matches| Cli::from_arg_matches(&matches));
    parsed.map_err(|error| without_secrets(better(error, &command), &secrets))
}

/// Names of the environment variables that options fall back on.
pub(crate) fn variables() -> Vec<String> {
    let command = Cli::command();
    let arguments = |command: &clap::Command| -> Vec<String> {
        let variables = command.get_arguments().filter_map(clap::Arg::get_env);
        variables
            .map(|name| name.to_string_lossy().into_owned())
            .collect()
    };
    let mut names = arguments(&command);
    names.extend(command.get_subcommands().flat_map(arguments));
    names.sort();
    names.dedup();
    names
}

/// All commands and options.
pub(crate) fn command(identity: Identity) -> clap::Command {
    let Identity {
        name,
        version,
        about,
    } = identity;
    let usage =
        format!("{name} [run] [OPTIONS] --configs <DIR>\n       {name} [OPTIONS] <COMMAND>");
    let hint = format!("Without a command it runs; `{name} run --help` lists the options of that.");
    Cli::command()
        .name(name)
        .bin_name(name)
        .version(version)
        .about(about)
        .override_usage(usage)
        .after_help(hint)
        .mut_args(without_empty_variable)
        .mut_subcommands(|command| command.mut_args(without_empty_variable))
}

/// An environment variable that is empty counts as not set.
fn without_empty_variable(argument: clap::Arg) -> clap::Arg {
    let is_empty = |name: &OsStr| std::env::var_os(name).is_some_and(|value| value.is_empty());
    match argument.get_env().is_some_and(is_empty) {
        true => argument.env(Resettable::Reset),
        false => argument,
    }
}

/// An option for all commands without its environment variable, if that has no value that the option may have.
fn without_bad_variable(argument: clap::Arg) -> clap::Arg {
    let is_bad = |name: &OsStr| {
        let allowed = argument.get_possible_values();
        let value = std::env::var_os(name);
        !allowed.is_empty()
            && value.is_some_and(|value| {
                let value = value.to_str();
                !allowed
                    .iter()
                    .any(|known| value.is_some_and(|value| known.matches(value, false)))
            })
    };
    match argument.get_env().is_some_and(is_bad) {
        true => argument.env(Resettable::Reset),
        false => argument,
    }
}

/// The error with what a reader can do about it, where clap does not know.
fn better(mut error: clap::Error, command: &clap::Command) -> clap::Error {
    let name = command.get_name();
    let words = words(&error, ContextKind::InvalidArg);
    let tip = match error.kind() {
        ErrorKind::MissingRequiredArgument
            if words.iter().any(|arg| arg.starts_with("--configs")) =>
        {
            Some(beginning(name))
        }
        ErrorKind::UnknownArgument => words
            .first()
            .filter(|word| command.find_subcommand(word).is_some())
            .map(|word| format!("write the command first: {name} {word} …")),
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let value = self::words(&error, ContextKind::InvalidValue);
            variable_with(command, words.first(), value.first())
                .map(|variable| format!("the environment variable {variable} says so"))
        }
        _ => None,
    };
    if let Some(tip) = tip {
        let tips = ContextValue::StyledStrs(vec![tip.into()]);
        error.insert(ContextKind::Suggested, tips);
    }
    error
}

/// The error without what may be a password: the value of `--set`, or what follows it where that lacks its quotes.
fn without_secrets(mut error: clap::Error, secrets: &[String]) -> clap::Error {
    let argument = words(&error, ContextKind::InvalidArg);
    let argument = argument.first().map(String::as_str).unwrap_or_default();
    let hidden = || ContextValue::String("…".to_owned());
    if error.kind() == ErrorKind::ValueValidation && argument.starts_with("--set ") {
        error.insert(ContextKind::InvalidValue, hidden());
    } else if secrets.iter().any(|secret| secret == argument) {
        error.insert(ContextKind::InvalidArg, hidden());
        let tip = "write the value of --set in quotes if it has spaces".to_owned();
        error.insert(
            ContextKind::Suggested,
            ContextValue::StyledStrs(vec![tip.into()]),
        );
    }
    error
}

fn words(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(word)) => vec![word.clone()],
        Some(ContextValue::Strings(words)) => words.clone(),
        _ => Vec::new(),
    }
}

/// The environment variable of an option, if it has this value, or one that holds it in a list.
fn variable_with(
    command: &clap::Command,
    option: Option<&String>,
    value: Option<&String>,
) -> Option<String> {
    let (option, value) = (option?, value?);
    // An argument can be shown only once its command is built, and clap builds the one that is used.
    let mut command = command.clone();
    command.build();
    let commands = std::iter::once(&command).chain(command.get_subcommands());
    let mut options = commands.flat_map(clap::Command::get_arguments);
    let option = options.find(|known| known.to_string() == *option)?;
    let variable = option.get_env()?.to_str()?;
    let text = std::env::var(variable).ok()?;
    let is_there = text.split(',').any(|part| part == value) || text == *value;
    is_there.then(|| variable.to_owned())
}

/// How to begin, for those who have no configuration yet.
fn beginning(name: &str) -> String {
    format!(
        "to begin, `{name} init DIR` writes files to start from and says what to do next; \
         `{name} ping TARGET` measures now and needs none"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTITY: Identity = Identity {
        name: "agent",
        version: "1.2.3",
        about: "An agent for tests.",
    };

    fn parse_words(words: &[&str]) -> Result<Cli, clap::Error> {
        let words = std::iter::once("agent").chain(words.iter().copied());
        parse(IDENTITY, words.map(Into::into).collect())
    }

    fn run_args(words: &[&str]) -> RunArgs {
        match parse_words(words).unwrap().command {
            Command::Run(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        command(IDENTITY).debug_assert();
    }

    #[test]
    fn the_originals_command_line_runs() {
        let words = ["--push-config", "p.json", "--configs", "dir", "--debug"];
        let args = run_args(&words);
        assert_eq!(args.files.configs, PathBuf::from("dir"));
        assert_eq!(args.files.push_config, Some(PathBuf::from("p.json")));
        let address: std::net::SocketAddr = "127.0.0.1:9516".parse().unwrap();
        assert_eq!(args.web.listen, [Listen::On(address.into())]);
        assert!(parse_words(&words).unwrap().logging.debug);
    }

    #[test]
    fn options_for_all_commands_stand_before_or_behind_a_command() {
        for words in [
            &["--debug", "--log-format", "json", "check", "--configs", "d"][..],
            &["check", "--log-format=json", "--configs", "d", "--debug"],
        ] {
            let cli = parse_words(words).unwrap();
            assert!(matches!(cli.command, Command::Check(_)));
            assert!(cli.logging.debug && cli.logging.log_format == LogFormat::Json);
        }
        let cli = parse_words(&[
            "--log.format",
            "json",
            "--log.level",
            "warn",
            "check",
            "--configs",
            "d",
        ]);
        let cli = cli.unwrap();
        assert!(matches!(cli.command, Command::Check(_)));
        assert_eq!(
            (cli.logging.level(), cli.logging.log_format),
            (LogLevel::Warn, LogFormat::Json)
        );
        let cli = parse_words(&["--log.level=error", "--debug", "--configs", "d"]).unwrap();
        assert_eq!(cli.logging.level(), LogLevel::Debug);
        let cli = parse_words(&["--log-format", "json", "--configs", "d"]).unwrap();
        assert_eq!(cli.logging.level(), LogLevel::Info);
        assert!(matches!(cli.command, Command::Run(_)));
        assert_eq!(cli.logging.log_format, LogFormat::Json);
    }

    #[test]
    fn a_command_needs_only_its_own_arguments() {
        assert!(matches!(
            parse_words(&["ping", "127.0.0.1"]).unwrap().command,
            Command::Ping(_)
        ));
        assert!(matches!(
            parse_words(&["init", "d"]).unwrap().command,
            Command::Init(_)
        ));
        assert!(matches!(
            parse_words(&["schema"]).unwrap().command,
            Command::Schema(_)
        ));
        let error = parse_words(&["check", "--listen", "none", "--configs", "d"]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnknownArgument);
    }

    #[test]
    fn help_and_version_are_printed_wherever_they_are_asked_for() {
        for words in [
            &["--help"][..],
            &["-h"],
            &["help"],
            &["help", "--help"],
            &["help", "-h"],
            &["help", "help"],
            &["help", "run"],
            &["run", "--help"],
            &["--configs", "d", "--help"],
            &["--debug", "--help"],
        ] {
            let error = parse_words(words).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DisplayHelp, "{words:?}: {error}");
            assert_eq!(error.exit_code(), 0);
        }
        for words in [&["--version"][..], &["-V"]] {
            let error = parse_words(words).unwrap_err();
            assert_eq!(error.to_string(), "agent 1.2.3\n");
        }
    }

    #[test]
    fn help_says_that_running_is_the_default() {
        let help = parse_words(&["--help"]).unwrap_err().to_string();
        for expected in [
            "agent [run] [OPTIONS] --configs <DIR>",
            "Without a command it runs",
        ] {
            assert!(help.contains(expected), "no {expected} in {help}");
        }
    }

    #[test]
    fn who_gives_nothing_is_told_how_to_begin() {
        for words in [&[][..], &["--debug"], &["run"], &["check"]] {
            let error = parse_words(words).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            let text = error.to_string();
            assert!(
                [
                    "--configs <DIR>",
                    "to begin",
                    "agent init DIR",
                    "agent ping"
                ]
                .iter()
                .all(|word| text.contains(word)),
                "{text}"
            );
        }
        let text = parse_words(&["ping"]).unwrap_err().to_string();
        assert!(!text.contains("to begin"), "{text}");
    }

    #[test]
    fn misplaced_and_misspelt_commands_are_told() {
        let text = parse_words(&["--configs", "d", "check"])
            .unwrap_err()
            .to_string();
        assert!(text.contains("write the command first"), "{text}");
        let text = parse_words(&["chek", "--configs", "d"])
            .unwrap_err()
            .to_string();
        assert!(text.contains("'check'"), "{text}");
    }

    #[test]
    fn settings_are_given_again_and_again() {
        let args = run_args(&[
            "--configs",
            "d",
            "--set",
            "conf.interval=10s",
            "--set",
            "push.grouping=a=b",
        ]);
        let set: Vec<(&str, &str)> = args
            .files
            .set
            .iter()
            .map(|set| (&*set.key, &*set.value))
            .collect();
        assert_eq!(set, [("conf.interval", "10s"), ("push.grouping", "a=b")]);
        for bad in ["conf.interval", "=10s"] {
            let error = parse_words(&["--configs", "d", "--set", bad]).unwrap_err();
            assert_eq!(error.exit_code(), 2);
        }
    }

    #[test]
    fn what_may_be_a_password_is_not_shown() {
        for words in [
            &["--set", "push.pass_pushgateway:hunter2"][..],
            &["--set", "=hunter2"],
            &["--set==hunter2"],
            &["--set", "push.pass_pushgateway=a", "hunter2"],
            &["--set=push.pass_pushgateway=a", "hunter2"],
            &["--set", "push.pass_pushgateway=a", "b", "hunter2"],
            &["--set", "push.pass_pushgateway=a", "--hunter2"],
        ] {
            let words = [&["--configs", "d"], words].concat();
            let text = parse_words(&words).unwrap_err().to_string();
            assert!(!text.contains("hunter2"), "{text}");
            assert!(text.contains("--set"), "{text}");
        }
        let text = parse_words(&["--configs", "d", "hunter2"]).unwrap_err();
        assert!(text.to_string().contains("hunter2"));
    }

    #[test]
    fn all_variables_of_the_command_line_are_known() {
        assert_eq!(
            variables(),
            [
                "PINGEXPORTER_ALLOW_COMMANDS",
                "PINGEXPORTER_CONFIGS",
                "PINGEXPORTER_DNS_SERVERS",
                "PINGEXPORTER_LISTEN",
                "PINGEXPORTER_LOG_FORMAT",
                "PINGEXPORTER_PUSH_CONFIG",
                "PINGEXPORTER_STATE_DIR",
                "PINGEXPORTER_USER",
                "PINGEXPORTER_WEB_CONFIG_FILE",
                "PINGEXPORTER_WEB_HISTORY",
                "PINGEXPORTER_WEB_TELEMETRY_PATH",
            ]
        );
    }
}
