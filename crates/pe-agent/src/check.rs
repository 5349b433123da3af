//! Says everything that is wrong with a configuration, without measuring anything; and asks the peers of sinks, if wanted.

use std::sync::Arc;
use std::time::Duration;

use pe_scrape::{Severity, Sink, SinkConfig, with_causes};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::failure::Failure;
use crate::load::Loader;
use crate::output::{count, tell};
use crate::supervise::why;

/// How long a peer may take to answer. Sinks give up earlier by timeouts of their own, mostly 10 s.
const PATIENCE: Duration = Duration::from_secs(30);

/// Checks the configuration, and returns its sinks.
pub(crate) fn check(loader: &Loader) -> Result<Vec<SinkConfig>, Failure> {
    let loaded = loader.load(None)?;
    for warning in &loaded.warnings {
        tell(warning);
    }
    let config = loaded.config;
    let warnings = loaded.warnings.iter();
    let warnings = warnings
        .filter(|found| found.severity == Severity::Warning)
        .count();
    tell(format_args!(
        "the configuration is in order: {} in {}, {}",
        count(config.device_count(), "device"),
        count(config.groups.len(), "file"),
        count(warnings, "warning"),
    ));
    Ok(config.sinks)
}

/// Checks the configuration, then asks all peers at once, and says a line for each sink in the order of the configuration.
pub(crate) async fn connect(loader: &Loader) -> Result<(), Failure> {
    let sinks = check(loader)?;
    if sinks.is_empty() {
        tell("there is no sink to connect to");
    }
    let mut asked = JoinSet::new();
    for (position, config) in sinks.iter().enumerate() {
        let sink = loader.sinks.create(config)?;
        asked.spawn(async move { (position, ask(sink).await) });
    }
    let mut answers = vec![Err("it panicked".to_owned()); sinks.len()];
    while let Some(ended) = asked.join_next().await {
        match ended {
            Ok((position, answer)) => answers[position] = answer,
            Err(error) => tell(why(error)),
        }
    }
    for (config, answer) in sinks.iter().zip(&answers) {
        let name = &config.settings.name;
        match answer {
            Ok(peer) => tell(format_args!("sink {name}: results would arrive{peer}")),
            Err(error) => tell(format_args!("sink {name}: {error}")),
        }
    }
    match answers.iter().all(Result::is_ok) {
        true => Ok(()),
        false => Err(Failure::Told),
    }
}

/// Asks the peer of a sink, and says which it is.
async fn ask(sink: Arc<dyn Sink>) -> Result<String, String> {
    let peer = match sink.status().destination {
        empty if empty.is_empty() => empty,
        destination => format!(" at {destination}"),
    };
    match timeout(PATIENCE, sink.check_peer()).await {
        Ok(Ok(())) => Ok(peer),
        Ok(Err(error)) => Err(format!(
            "results would not arrive{peer}: {}",
            with_causes(&*error)
        )),
        Err(_) => Err(format!(
            "results would not arrive{peer}: no answer within {} s",
            PATIENCE.as_secs()
        )),
    }
}
