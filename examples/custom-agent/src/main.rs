//! An agent of one's own: what `pingexporter` does, with a scraper from another crate.
//!
//! `cargo run -p example-custom-agent -- once --configs examples/custom-agent/configs`

use std::process::ExitCode;

use pe_agent::Agent;
use pe_ping::PingScraperFactory;
use pe_push::PushgatewayFactory;

fn main() -> ExitCode {
    Agent::new("custom-agent", env!("CARGO_PKG_VERSION"))
        .about("Measures devices and how long their services take to greet.")
        .scraper_with("ping", |context| {
            PingScraperFactory::new(context.resolver()).opener(context.socket_opener())
        })
        .scraper("greeting", example_custom_scraper::factory())
        .sink("pushgateway", PushgatewayFactory::default())
        .main()
}
