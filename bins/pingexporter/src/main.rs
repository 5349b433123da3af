//! The PingExporter agent: `pe-agent` with the scrapers and sinks that ship.

use std::process::ExitCode;

use pe_agent::Agent;
use pe_ping::PingScraperFactory;
use pe_probe::{
    CommandFactory, DnsFactory, ExpositionFactory, HttpFactory, SntpFactory, TcpFactory, UdpFactory,
};
use pe_push::{PushgatewayFactory, RemoteWriteFactory};

fn main() -> ExitCode {
    Agent::new("pingexporter", env!("CARGO_PKG_VERSION"))
        .scraper_with("ping", |context| {
            PingScraperFactory::new(context.resolver()).opener(context.socket_opener())
        })
        .scraper_with("command", |context| {
            CommandFactory::new(context.resolver())
                .allow(context.allowed_commands())
                .advice("--allow-commands says which programs may be run")
        })
        .scraper_with("dns", |context| DnsFactory::new(context.resolver()))
        .scraper_with("sntp", |context| SntpFactory::new(context.resolver()))
        .scraper_with("exposition", |context| {
            ExpositionFactory::new(context.resolver())
        })
        .scraper_with("http", |context| HttpFactory::new(context.resolver()))
        .scraper_with("tcp", |context| TcpFactory::new(context.resolver()))
        .scraper_with("udp", |context| UdpFactory::new(context.resolver()))
        .sink_with("pushgateway", |context| {
            PushgatewayFactory::new()
                .resolver(context.resolver())
                .state_dir(context.state_dir())
        })
        .sink_with("remote_write", |context| {
            RemoteWriteFactory::new()
                .resolver(context.resolver())
                .state_dir(context.state_dir())
                .clock(pe_ping::clock_is_synchronized)
        })
        .main()
}
