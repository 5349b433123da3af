//! The command line.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Measures what Prometheus cannot reach, and pushes the results.
///
/// Without a command it runs until it is stopped, as `run` does.
#[derive(Debug, Parser)]
#[command(name = "pingexporter", version, max_term_width = 100)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) run: Option<RunArgs>,
    #[command(flatten)]
    pub(crate) logging: LoggingArgs,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measure all devices at their intervals and push the results, until stopped
    Run(RunArgs),
    /// Validate the configuration and print every problem
    Check(FileArgs),
    /// Measure all devices once; print the results, or push them with --push-config
    Once(FileArgs),
    /// Ping hosts, addresses or subnets now
    Ping(PingArgs),
    /// Print the JSON Schema of the configuration files, for editors
    Schema(SchemaArgs),
}

/// Which files to read.
#[derive(Debug, Clone, Args)]
pub(crate) struct FileArgs {
    /// Directory with one JSON file for each group of devices
    #[arg(long, value_name = "DIR", env = "PINGEXPORTER_CONFIGS")]
    pub(crate) configs: PathBuf,
    /// JSON file that says which Pushgateway to push to
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
}

/// The address of a name server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NameServer(pub(crate) SocketAddr);

impl FromStr for NameServer {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let full = text.parse::<SocketAddr>().ok();
        let full = full.or_else(|| Some(SocketAddr::new(text.parse::<IpAddr>().ok()?, 53)));
        full.map(Self).ok_or_else(|| {
            "not an address such as 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:5353".to_owned()
        })
    }
}

#[derive(Debug, Clone, Args)]
pub(crate) struct RunArgs {
    // Not flattened from FileArgs: clap then could not tell whether they were given.
    /// Directory with one JSON file for each group of devices
    #[arg(long, value_name = "DIR", env = "PINGEXPORTER_CONFIGS")]
    configs: PathBuf,
    /// JSON file that says which Pushgateway to push to
    #[arg(long, value_name = "FILE", env = "PINGEXPORTER_PUSH_CONFIG")]
    push_config: Option<PathBuf>,
    /// Name servers to ask instead of the system's, as addresses with or without a port
    #[arg(
        long,
        value_name = "ADDR",
        env = "PINGEXPORTER_DNS_SERVERS",
        value_delimiter = ','
    )]
    dns_servers: Vec<NameServer>,
    /// Address to serve /metrics and the status page on, or "none"
    #[arg(
        long,
        value_name = "ADDR|none",
        env = "PINGEXPORTER_LISTEN",
        default_value = "127.0.0.1:9516"
    )]
    pub(crate) listen: Listen,
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

impl RunArgs {
    pub(crate) fn files(&self) -> FileArgs {
        FileArgs {
            configs: self.configs.clone(),
            push_config: self.push_config.clone(),
            dns_servers: self.dns_servers.clone(),
        }
    }
}

#[derive(Debug, Clone, Args)]
pub(crate) struct PingArgs {
    /// Host name, address or subnet (192.0.2.0/24); with more than 32 targets only a summary is printed
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
    /// IPv4 only
    #[arg(short = '4', conflicts_with = "v6")]
    pub(crate) v4: bool,
    /// IPv6 only
    #[arg(short = '6')]
    pub(crate) v6: bool,
    /// Bytes of payload
    #[arg(short, long, value_name = "BYTES", default_value = "56")]
    pub(crate) size: usize,
    /// TTL or hop limit of the requests
    #[arg(short, long, value_name = "HOPS")]
    pub(crate) ttl: Option<u8>,
    /// Source address, or interface to send through
    #[arg(short = 'I', long = "from", value_name = "ADDR|IFACE")]
    pub(crate) from: Option<String>,
    /// Requests a second over all targets; 0 for as fast as possible [default: 10000]
    #[arg(long, value_name = "N")]
    pub(crate) rate: Option<f64>,
    /// Differentiated Services code point, 0 to 63
    #[arg(long, value_name = "DSCP")]
    pub(crate) dscp: Option<u8>,
    /// Forbid fragmentation
    #[arg(long)]
    pub(crate) dont_fragment: bool,
    /// Firewall mark
    #[arg(long, value_name = "MARK")]
    pub(crate) mark: Option<u32>,
}

/// A time on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) Duration);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let seconds = text.parse::<f64>().ok().map(Duration::try_from_secs_f64);
        let time = match seconds {
            Some(seconds) => seconds.ok(),
            None => humantime::parse_duration(text).ok(),
        };
        time.filter(|time| *time <= Duration::from_secs(86_400))
            .map(Self)
            .ok_or_else(|| {
                "not a number of seconds such as 0.5, and not a time such as 250ms, up to a day"
                    .to_owned()
            })
    }
}

#[derive(Debug, Clone, Args)]
pub(crate) struct LoggingArgs {
    /// Log what happens in detail
    #[arg(long, global = true)]
    pub(crate) debug: bool,
    /// How log lines look; they go to standard error
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        env = "PINGEXPORTER_LOG_FORMAT",
        default_value = "text",
        hide_possible_values = false
    )]
    pub(crate) log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object a line
    Json,
}

/// Where to serve HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Listen {
    None,
    On(SocketAddr),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "none" {
            return Ok(Self::None);
        }
        // A port alone, as `:9516`, means this machine only.
        let full = text
            .strip_prefix(':')
            .map(|port| format!("127.0.0.1:{port}"));
        let address = full.as_deref().unwrap_or(text);
        address.parse().map(Self::On).map_err(|_| {
            "not an address with a port, such as 127.0.0.1:9516 or [::1]:9516, and not \"none\""
                .to_owned()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_originals_command_line_runs() {
        let arguments = [
            "pingexporter",
            "--push-config",
            "p.json",
            "--configs",
            "dir",
            "--debug",
        ];
        let cli = Cli::try_parse_from(arguments).unwrap();
        assert!(cli.command.is_none() && cli.logging.debug);
        let run = cli.run.unwrap();
        assert_eq!(run.configs, PathBuf::from("dir"));
        assert_eq!(run.listen, Listen::On("127.0.0.1:9516".parse().unwrap()));
    }

    #[test]
    fn a_command_needs_only_its_own_arguments() {
        let cli = Cli::try_parse_from(["pingexporter", "ping", "127.0.0.1"]).unwrap();
        assert!(matches!(cli.command, Some(Command::Ping(_))));
        let cli = Cli::try_parse_from(["pingexporter", "check", "--configs", "dir"]).unwrap();
        assert!(matches!(cli.command, Some(Command::Check(_))));
        let missing = Cli::try_parse_from(["pingexporter"]).unwrap_err();
        assert_eq!(missing.exit_code(), 2);
    }

    #[test]
    fn name_servers_may_have_a_port() {
        assert_eq!("::1".parse(), Ok(NameServer("[::1]:53".parse().unwrap())));
        assert_eq!(
            "127.0.0.1:5353".parse(),
            Ok(NameServer("127.0.0.1:5353".parse().unwrap()))
        );
        assert!("ns.example".parse::<NameServer>().is_err());
    }

    #[test]
    fn times_are_seconds_or_have_a_unit() {
        assert_eq!("0.5".parse(), Ok(Time(Duration::from_millis(500))));
        assert_eq!("250ms".parse(), Ok(Time(Duration::from_millis(250))));
        for bad in ["", "-1", "nan", "inf", "1 parsec", "1e9"] {
            assert!(bad.parse::<Time>().is_err(), "{bad}");
        }
    }

    #[test]
    fn listening_addresses() {
        assert_eq!("none".parse(), Ok(Listen::None));
        assert_eq!(
            ":80".parse(),
            Ok(Listen::On("127.0.0.1:80".parse().unwrap()))
        );
        assert!("9516".parse::<Listen>().is_err());
    }
}
