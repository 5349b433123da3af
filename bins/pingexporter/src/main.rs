//! The PingExporter agent: flags, wiring, signals and exit codes around the crates that do the work.

mod check;
mod cli;
mod load;
mod logging;
mod once;
mod ping;
mod reload;
mod run;
mod schema;
mod watch;

use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let Some(command) = cli.command.or(cli.run.map(Command::Run)) else {
        Cli::command()
            .error(
                ErrorKind::MissingRequiredArgument,
                "--configs <DIR> is missing",
            )
            .exit();
    };
    logging::init(&cli.logging);
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("pingexporter: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(async {
        match command {
            Command::Run(args) => run::run(args).await,
            Command::Check(args) => check::check(&args),
            Command::Once(args) => once::once(&args).await,
            Command::Schema(args) => schema::schema(&args),
            Command::Ping(args) => ping::ping(args).await,
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(load::Failure::NoAnswer) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
