//! Starts engine, HTTP server and reloader, and keeps them running until SIGINT or SIGTERM.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use pe_engine::{Engine, EngineError};
use pe_resolve::CachingResolver;
use pe_scrape::with_causes;
use pe_web::{History, ListenAddress, WebMetrics, WebSettings};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::cli::{Listen, WebArgs};
use crate::device_log::DeviceLog;
use crate::failure::Failure;
use crate::load::{Loader, warn_about};
use crate::metrics::AgentMetrics;
use crate::reload::{Asked, Reloader};
use crate::service_manager::ServiceManager;
use crate::signals::{Signals, Stop};
use crate::start_line::StartLine;
use crate::supervise::why;
use crate::watch::{self, Watcher};
use crate::web::WebServer;

/// The name of the sink that the pages read. No sink of a configuration can have it, since a file's names start with a letter.
const HISTORY: &str = "(history)";
/// The name of the one that logs changes of state.
const DEVICE_LOG: &str = "(log)";

/// What a service is started with.
pub(crate) struct Service {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    /// The directory for what must survive a restart.
    pub(crate) state_dir: Option<PathBuf>,
    /// Whether a helper opens the sockets.
    pub(crate) has_helper: bool,
    pub(crate) web: WebArgs,
    pub(crate) loader: Loader,
    pub(crate) resolver: CachingResolver,
    pub(crate) metrics: Arc<AgentMetrics>,
    pub(crate) signals: Signals,
}

pub(crate) async fn run(service: Service) -> Result<(), Failure> {
    let Service {
        name,
        version,
        state_dir,
        has_helper,
        web,
        loader,
        resolver,
        metrics,
        signals,
    } = service;
    let Signals { mut stop, hangup } = signals;
    let (result, seen) = tokio::select! {
        biased;
        signal = stop.received() => {
            info!(signal, "stopped before the start was complete");
            return Ok(());
        }
        read = watch::read(loader.clone(), None, None) => read?,
    };
    let loaded = result?;
    warn_about(&loaded.warnings);
    let start_line = StartLine::new(version, &loaded.config)
        .state_dir(state_dir)
        .with_sockets(has_helper);
    let addresses = addresses(&web.listen)?;
    // Only the pages show it.
    let history = History::with_bytes(web.history.0);
    let history = (!addresses.is_empty()).then(|| Arc::new(history));
    let web_metrics = Arc::new(WebMetrics::default());
    let mut engine = Engine::builder(loader.scrapers.clone())
        .config(loaded.config)
        .sinks(loader.sinks.clone())
        .sink(DEVICE_LOG, Arc::new(DeviceLog::new(Instant::now())))
        .metrics({
            let (metrics, web_metrics) = (metrics.clone(), web_metrics.clone());
            let is_served = !addresses.is_empty();
            move || {
                let web = is_served.then(|| web_metrics.frames());
                [
                    resolver.metrics(),
                    metrics.frames(),
                    web.unwrap_or_default(),
                ]
                .concat()
            }
        });
    if let Some(history) = &history {
        engine = engine.sink(HISTORY, history.clone());
    }
    let engine = engine.build()?;
    let handle = engine.handle();

    // Whatever is in here never ends before the program does.
    let mut parts = JoinSet::new();
    let mut url = None;
    let (request_reload, reload_requests) = mpsc::channel(1);
    if addresses.is_empty() {
        if !start_line.has_sinks() {
            warn!(
                "nobody sees the results: there is no push configuration, and nothing is listened on"
            );
        }
    } else {
        let mut settings = WebSettings::new(addresses);
        settings.telemetry_path = web.telemetry_path;
        settings.config_file = web.config_file;
        settings.history = history;
        settings.metrics = web_metrics;
        let configs = &loader.files.configs;
        settings.watched = Some(std::path::absolute(configs).unwrap_or_else(|_| configs.clone()));
        settings.example_command = Some(format!("{name} init DIR"));
        settings.reload = web.enable_lifecycle.then(|| request_reload.clone());
        let server = WebServer::bind(settings).await?;
        url = Some(server.urls());
        parts.spawn(server.keep_running(handle.clone(), metrics.clone()));
    }
    let watcher = Watcher::new(seen);
    // The sender is kept, so that there is always somebody who could ask.
    let asked = Asked {
        hangup,
        requests: reload_requests,
        _sender: request_reload,
    };
    let manager = ServiceManager::of_this_process();
    parts.spawn(manager.clone().feed_watchdog(handle.clone()));
    let reloader =
        Reloader::new(loader, handle, watcher, loaded.target_files, asked).telling(manager.clone());
    parts.spawn(reloader.keep_running(metrics));

    let (request_stop, stop_requested) = oneshot::channel();
    let mut measuring = JoinSet::new();
    measuring.spawn(engine.run(async move {
        let _ = stop_requested.await;
    }));
    start_line.log(url.as_deref());
    manager.ready();
    let ended = tokio::select! {
        signal = stop.received() => {
            info!(signal, "stopping: what is running is finished first");
            manager.stopping();
            let _ = request_stop.send(());
            return finish(measuring, stop).await;
        }
        Some(ended) = measuring.join_next() => match ended {
            Ok(Ok(())) => "the engine ended by itself".to_owned(),
            Ok(Err(error)) => with_causes(&error),
            Err(error) => format!("the engine ended: {}", why(error)),
        },
        Some(ended) = parts.join_next() => match ended {
            Ok(()) => "a part of the program ended by itself".to_owned(),
            Err(error) => format!("a part of the program ended: {}", why(error)),
        },
    };
    // Not by the caller: standard error may have a reader that is stuck.
    error!(error = ended, "the program cannot go on and ends");
    Err(Failure::Told)
}

/// Waits until the engine has ended, which it does within a bound. A second signal ends the wait.
async fn finish(
    mut measuring: JoinSet<Result<(), EngineError>>,
    mut stop: Stop,
) -> Result<(), Failure> {
    tokio::select! {
        Some(ended) = measuring.join_next() => match ended {
            Ok(Ok(())) => info!("stopped"),
            Ok(Err(error)) => {
                let error = with_causes(&error);
                warn!(error, "stopped, but not all results were delivered");
            }
            Err(error) => warn!(error = why(error), "stopped, but not all results were delivered"),
        },
        signal = stop.received() => {
            warn!(signal, "stopped at the second signal, before all was finished");
        }
    }
    Ok(())
}

/// The addresses to listen on; none where that is what is asked for.
fn addresses(listen: &[Listen]) -> Result<Vec<ListenAddress>, Failure> {
    let addresses: Vec<ListenAddress> = listen
        .iter()
        .filter_map(|listen| match listen {
            Listen::None => None,
            Listen::On(address) => Some(*address),
        })
        .collect();
    if !addresses.is_empty() && addresses.len() < listen.len() {
        return Err(Failure::new(
            "--listen has addresses and \"none\": leave one of the two out",
        ));
    }
    Ok(addresses)
}
