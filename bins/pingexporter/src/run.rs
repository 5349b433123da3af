//! `pingexporter run`

use pe_engine::Engine;
use pe_web::Server;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

use crate::cli::{Listen, RunArgs};
use crate::load::{self, Failure};
use crate::reload::Reloader;

pub(crate) async fn run(args: RunArgs) -> Result<(), Failure> {
    let files = args.files();
    let (registry, resolver) = load::registry(&files.dns_servers)?;
    let loaded = load::load(&files, &registry, None)?;
    load::warn_about(&loaded);
    let mut signals = Signals::new()?;
    let server = match args.listen {
        Listen::On(address) => Some(Server::bind(address).await?),
        Listen::None => None,
    };
    info!(
        version = env!("CARGO_PKG_VERSION"),
        configs = loaded.config.groups.len(),
        devices = loaded.config.device_count(),
        push = loaded.config.push.as_ref().map(|push| push.url.as_str()),
        "started"
    );
    let engine = Engine::builder(loaded.config, registry.clone())
        .metrics(move || resolver.metrics())
        .build()?;
    if let Some(server) = server {
        info!(
            "results are served on http://{}/metrics",
            server.local_addr()
        );
        tokio::spawn(server.serve(engine.handle(), std::future::pending()));
    }
    let reloader = Reloader::new(
        files,
        registry,
        engine.handle(),
        &loaded.watched,
        loaded.target_files,
    );
    tokio::spawn(reloader.run(signals.hangup));
    engine
        .run(async move {
            let name = tokio::select! {
                _ = signals.interrupt.recv() => "SIGINT",
                _ = signals.terminate.recv() => "SIGTERM",
            };
            info!("{name} received: finishing what is running");
        })
        .await;
    info!("stopped");
    Ok(())
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|source| Failure::Io {
                action: "cannot listen for signals",
                source,
            })
        };
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }
}
