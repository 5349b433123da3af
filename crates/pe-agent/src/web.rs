//! The web server, in a runtime of its own.
//!
//! It has one thread, and further ones that put together what it serves. So a health check never waits for a step of a cycle
//! that takes long with many devices, and thousands of clients take no time of the threads that measure.

use std::future::pending;
use std::sync::Arc;

use pe_engine::EngineHandle;
use pe_scrape::with_causes;
use pe_web::{ListenAddress, Server, WebSettings};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tracing::{error, warn};

use crate::failure::Failure;
use crate::metrics::AgentMetrics;
use crate::supervise::{keep_running, why};

/// Threads that accept connections and answer them.
const THREADS: usize = 1;

/// A server that is bound, and where it runs.
pub(crate) struct WebServer {
    runtime: OwnRuntime,
    server: Server,
    settings: WebSettings,
}

/// A runtime that may end in a task of another one, without waiting for clients.
struct OwnRuntime(Option<Runtime>);

impl WebServer {
    /// Listens on the addresses of `settings`, and warns where everybody can read.
    pub(crate) async fn bind(settings: WebSettings) -> Result<Self, Failure> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("web")
            .enable_all()
            .build()
            .map_err(|error| Failure::cannot("start the runtime of the web server", error))?;
        let runtime = OwnRuntime(Some(runtime));
        // Sockets belong to the runtime in which they are made.
        let mut binding = JoinSet::new();
        runtime.spawn_in(&mut binding, Server::bind(settings.clone()));
        let server = match binding.join_next().await {
            Some(Ok(server)) => server?,
            Some(Err(error)) => {
                let words = format!("cannot start the web server: {}", why(error));
                return Err(Failure::new(words));
            }
            None => return Err(Failure::new("cannot start the web server")),
        };
        warn_about_openness(&settings, &server);
        Ok(Self {
            runtime,
            server,
            settings,
        })
    }

    /// Where the metrics are, for the log.
    pub(crate) fn urls(&self) -> String {
        let scheme = match self.server.is_encrypted() {
            true => "https",
            false => "http",
        };
        let path = &self.settings.telemetry_path;
        let urls = self.server.addresses().iter();
        let urls = urls.map(|address| format!("{scheme}://{address}{path}"));
        urls.collect::<Vec<_>>().join(",")
    }

    /// Serves for ever, on new sockets where the server ends.
    ///
    /// # Cancel safety
    /// Dropping the future ends the server.
    pub(crate) async fn keep_running(self, handle: EngineHandle, metrics: Arc<AgentMetrics>) {
        let Self {
            runtime,
            server,
            mut settings,
        } = self;
        // A port that the system chose stays the same.
        for (wanted, bound) in settings.listen.iter_mut().zip(server.addresses()) {
            *wanted = match *wanted {
                ListenAddress::All(_) => ListenAddress::All(bound.port()),
                ListenAddress::One(_) => ListenAddress::One(*bound),
            };
        }
        let mut first = Some(server);
        let mut serving = JoinSet::new();
        runtime.spawn_in(&mut serving, async move {
            keep_running("web_server", &metrics, move || {
                let (bound, handle, settings) = (first.take(), handle.clone(), settings.clone());
                async move {
                    let server = match bound {
                        Some(server) => Ok(server),
                        None => Server::bind(settings).await,
                    };
                    match server {
                        Ok(server) => server.serve(handle, pending()).await,
                        Err(error) => {
                            let error = with_causes(&error);
                            error!(error, "the web server cannot be started again");
                        }
                    }
                }
            })
            .await;
        });
        if let Some(Err(error)) = serving.join_next().await {
            error!(error = why(error), "the web server ended");
        }
    }
}

impl OwnRuntime {
    fn spawn_in<T: Send + 'static>(
        &self,
        tasks: &mut JoinSet<T>,
        task: impl Future<Output = T> + Send + 'static,
    ) {
        if let Some(runtime) = &self.0 {
            tasks.spawn_on(task, runtime.handle());
        }
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

fn warn_about_openness(settings: &WebSettings, server: &Server) {
    let open = settings
        .listen
        .iter()
        .find(|address| !address.is_loopback());
    if let Some(address) = open
        && !server.asks_for_password()
    {
        warn!(
            %address,
            "whoever reaches this address sees all results without a password; --web.config.file can ask for one"
        );
    }
}
