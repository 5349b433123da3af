//! TLS and passwords, from a file in the format of Prometheus' exporters.
//!
//! The file and the files it names are read again every few seconds; what changed holds for new connections and requests.
//! Where they are out of order then, the former settings stay, which is told once.
//!
//! Source: <https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md>.

mod file;
mod passwords;
mod tls;
mod yaml;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use tokio_rustls::TlsAcceptor;
use tracing::{error, info};

use crate::WebError;
use passwords::Passwords;

/// How often the files are compared with what is in force.
const REREAD: Duration = Duration::from_secs(2);

/// What connections and requests have to go through.
pub(crate) struct Secure {
    path: Option<PathBuf>,
    current: ArcSwap<Settings>,
}

/// One reading of the files.
#[derive(Default)]
pub(crate) struct Settings {
    tls: Option<TlsAcceptor>,
    passwords: Option<Passwords>,
    headers: Vec<(HeaderName, HeaderValue)>,
    /// The content of all files, to see whether they changed.
    read: Vec<Vec<u8>>,
}

impl Secure {
    /// Reads the file, if there is one.
    pub(crate) fn load(path: Option<PathBuf>) -> Result<Self, WebError> {
        let settings = match &path {
            Some(path) => file::load(path).map_err(WebError::Config)?,
            None => Settings::default(),
        };
        Ok(Self {
            path,
            current: ArcSwap::from_pointee(settings),
        })
    }

    /// What holds now.
    pub(crate) fn current(&self) -> Arc<Settings> {
        self.current.load_full()
    }

    /// Reads the files again and again, for ever.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(crate) async fn follow_files(&self) {
        let Some(path) = &self.path else {
            return std::future::pending().await;
        };
        let mut failing: Option<String> = None;
        loop {
            tokio::time::sleep(REREAD).await;
            let (path, current) = (path.clone(), self.current());
            let read = tokio::task::spawn_blocking(move || {
                let is_same = file::contents(&path).is_ok_and(|read| read == current.read);
                if is_same {
                    Ok(None)
                } else {
                    file::load(&path).map(Some)
                }
            });
            match read.await {
                Ok(Ok(changed)) => {
                    failing = None;
                    if let Some(settings) = changed {
                        self.current.store(Arc::new(settings));
                        info!("the web configuration was reloaded");
                    }
                }
                Ok(Err(error)) if failing.as_ref() != Some(&error) => {
                    error!(
                        error,
                        "the web configuration is not in order; the one before stays in force"
                    );
                    failing = Some(error);
                }
                _ => {}
            }
        }
    }
}

impl Settings {
    /// How connections are encrypted, if they are.
    pub(crate) fn tls(&self) -> Option<&TlsAcceptor> {
        self.tls.as_ref()
    }

    /// Whether requests need a password.
    pub(crate) fn asks_for_password(&self) -> bool {
        self.passwords.is_some()
    }

    /// Whether a request with these headers may go on.
    pub(crate) async fn allows(&self, request: &HeaderMap) -> bool {
        match &self.passwords {
            Some(passwords) => passwords.allow(request).await,
            None => true,
        }
    }

    /// Headers that all responses carry.
    pub(crate) fn headers(&self) -> &[(HeaderName, HeaderValue)] {
        &self.headers
    }
}
