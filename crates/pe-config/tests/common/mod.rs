//! What the tests of this crate share: fixtures, and registries with two scrapers and a sink.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use pe_config::{Environment, LoadError, Loaded, Sources, load};
use pe_scrape::settings::{Problem, Problems, Step, Table};
use pe_scrape::testkit::Yields;
use pe_scrape::{
    CycleReport, Device, Group, MetricDescriptor, Remark, Scraper, ScraperFactory, ScraperRegistry,
    ScraperSettings, Secret, SettingsError, Sink, SinkConfig, SinkFactory, SinkRegistry,
    SinkSettings, async_trait, scraper_factory,
};

pe_scrape::settings! {
    /// Settings of the test's `ping`.
    pub(crate) struct PingSettings("") {
        /// Probes in each cycle, instead of what `conf` says.
        count: Option<u32>, range(1.0, 10_000.0);
        /// Bytes of payload.
        size: Option<u32>, range(0.0, 65_507.0);
        /// Interface to leave by.
        interface: Option<String>;
    }
}

pe_scrape::settings! {
    /// Settings of the test's `tcp`.
    pub(crate) struct TcpSettings("") {
        /// Port to connect to.
        port: u16, range(1.0, 65_535.0);
    }
}

pe_scrape::choices! {
    /// What makes up a group on the Pushgateway.
    pub(crate) enum Grouping {
        /// Each device name.
        #[default]
        Device = "device",
        /// Each configuration file.
        Config = "config",
    }
}

pe_scrape::settings! {
    /// Settings of the test's `pushgateway`.
    pub(crate) struct PushSettings("the sink") {
        /// Base URL.
        url: String;
        /// User for HTTP basic authentication.
        username: Option<String>;
        /// Password for HTTP basic authentication.
        password: Option<Secret>;
        /// File that holds the password, relative to this file.
        password_file: Option<PathBuf>, secret_file("password");
        /// What makes up a group.
        grouping: Grouping = Grouping::Device;
        /// How long one push may take.
        timeout: Duration = Duration::from_secs(10);
        /// Pushes that may be under way at one time.
        max_parallel_pushes: u32 = 8, range(1.0, 1024.0);
    }
}

pe_scrape::settings! {
    /// Certificates of the test's `archive`.
    pub(crate) struct TlsSettings("tls") {
        /// Certificates to trust.
        ca_file: Option<PathBuf>;
    }
}

pe_scrape::settings! {
    /// Settings of the test's `archive`.
    pub(crate) struct ArchiveSettings("the sink") {
        /// Where to.
        url: String;
        /// Token for the archive.
        token: Option<Secret>;
        /// File that holds the token.
        token_file: Option<PathBuf>, secret_file("token");
        /// Whether to keep what is old.
        keep_old: bool = false;
        /// TLS.
        tls: Option<TlsSettings>;
    }
}

struct PingFactory;

impl ScraperFactory for PingFactory {
    fn create(&self, settings: &ScraperSettings) -> Result<Arc<dyn Scraper>, SettingsError> {
        settings.parse::<PingSettings>()?;
        let ping = MetricDescriptor::gauge("dev_ping", "Ping to device (ms)");
        Ok(Arc::new(Yields::new(&[ping])?))
    }

    fn review(&self, settings: &ScraperSettings) -> Vec<Problem> {
        let Ok(PingSettings {
            count: Some(count), ..
        }) = settings.parse()
        else {
            return Vec::new();
        };
        let mut common = settings.clone();
        common.count = count;
        let overrun = common.overrun().map(|(message, hint)| {
            Problem::error(message)
                .at([Step::from("count")])
                .hint(hint)
                .warning()
        });
        overrun.into_iter().collect()
    }

    fn table(&self) -> Option<&'static Table> {
        Some(PingSettings::TABLE)
    }
}

/// Knows `ping`, with `count`, `size` and `interface`, and `tcp`, with `port`.
pub(crate) static SCRAPERS: LazyLock<ScraperRegistry> = LazyLock::new(|| {
    let tcp = scraper_factory(|settings: TcpSettings, _: &ScraperSettings| {
        let descriptor = MetricDescriptor::gauge("tcp_up", "Whether the port answered");
        Yields::new(&[descriptor.with_label("port", settings.port.to_string())])
    });
    let mut registry = ScraperRegistry::new();
    registry.register("ping", PingFactory).unwrap();
    registry.register("tcp", tcp).unwrap();
    registry
});

struct Nowhere;

#[async_trait]
impl Sink for Nowhere {
    fn publish(&self, _: Arc<CycleReport>) {}
}

struct PushFactory;

impl SinkFactory for PushFactory {
    fn create(&self, settings: &SinkSettings) -> Result<Arc<dyn Sink>, SettingsError> {
        let settings: PushSettings = settings.parse()?;
        let controlled = |text: &str| text.chars().any(char::is_control);
        let refuse = |key: &str, reason: &str, hint: Option<&str>| {
            let problem = Problem::error(format!("{key}{reason}"))
                .at([Step::from(key)])
                .hint(hint.map(str::to_owned));
            let mut problems = Problems::default();
            problems.extend([problem]);
            Err(problems.into())
        };
        let unsendable = ": control characters, such as a newline, cannot be sent";
        let password = settings.password.as_ref().map(Secret::expose);
        match (settings.username.as_deref(), password) {
            (Some(user), _) if user.contains(':') => {
                let reason = " contains a colon, which basic authentication forbids";
                return refuse("username", reason, None);
            }
            (Some(user), _) if controlled(user) => return refuse("username", unsendable, None),
            (_, Some(password)) if controlled(password) => {
                return refuse("password", unsendable, None);
            }
            (Some(_), None) => {
                let hint = "add `password` or `password_file`, or remove the user";
                return refuse("username", " is given, but no password", Some(hint));
            }
            (None, Some(_)) => {
                let hint = "add `username`, or remove the password";
                return refuse("password", " is given, but no user", Some(hint));
            }
            _ => {}
        }
        Ok(Arc::new(Nowhere))
    }

    /// Two remarks, one of each kind.
    fn review(&self, settings: &SinkSettings, groups: &[Group]) -> Vec<Remark> {
        let Ok(settings) = settings.parse::<PushSettings>() else {
            return Vec::new();
        };
        let mut remarks = Vec::new();
        let plain = settings.url.starts_with("http://") && !settings.url.contains("127.0.0.1");
        if settings.password.is_some() && plain {
            let message = "user and password travel over plain http";
            remarks.push(Remark::new(Problem::error(message).at([Step::from("url")])));
        }
        for (index, group) in groups.iter().enumerate() {
            let devices = group.devices.len();
            if devices > 500 && settings.grouping == Grouping::Device {
                let message = format!("{devices} devices are pushed in a group of their own each");
                let problem = Problem::error(message)
                    .hint("set `\"grouping\": \"config\"` in the push configuration".to_owned());
                remarks.push(Remark::of_group(index, problem));
            }
        }
        remarks
    }

    fn table(&self) -> Option<&'static Table> {
        Some(PushSettings::TABLE)
    }
}

struct ArchiveFactory;

impl SinkFactory for ArchiveFactory {
    fn create(&self, settings: &SinkSettings) -> Result<Arc<dyn Sink>, SettingsError> {
        let settings: ArchiveSettings = settings.parse()?;
        if settings.url == "panic" {
            panic!("as the settings say");
        }
        Ok(Arc::new(Nowhere))
    }

    fn table(&self) -> Option<&'static Table> {
        Some(ArchiveSettings::TABLE)
    }
}

/// Knows `pushgateway` and `archive`.
pub(crate) static SINKS: LazyLock<SinkRegistry> = LazyLock::new(|| {
    let mut registry = SinkRegistry::new();
    registry.register("pushgateway", PushFactory).unwrap();
    registry.register("archive", ArchiveFactory).unwrap();
    registry
});

/// A file or directory under `fixtures/configs`, as a path that is the same on every machine.
pub(crate) fn fixture(path: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    std::env::set_current_dir(root).unwrap();
    Path::new("fixtures/configs").join(path)
}

/// Sources of a directory, with nothing of the environment.
pub(crate) fn sources_of(directory: impl Into<PathBuf>) -> Sources<'static> {
    let mut sources = Sources::new(directory, &SCRAPERS, &SINKS);
    sources.env = Environment::empty();
    sources
}

/// Sources of a fixture, with nothing of the environment.
pub(crate) fn sources(directory: &str) -> Sources<'static> {
    sources_of(fixture(directory))
}

/// Loads a fixture without a push configuration.
pub(crate) fn load_dir(directory: &str) -> Result<Loaded, LoadError> {
    load(&sources(directory))
}

/// Loads a fixture with a push configuration of this text, in a directory of its own.
pub(crate) fn load_push(text: &str) -> Result<Loaded, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("push.json");
    std::fs::write(&path, text).unwrap();
    let mut sources = sources("loopback/project1");
    sources.push_config = Some(path);
    load(&sources).map_err(|error| {
        let shown = error.to_string();
        shown.replace(&*directory.path().to_string_lossy(), "DIRECTORY")
    })
}

/// All warnings, a line each or two.
pub(crate) fn warnings(loaded: &Loaded) -> Vec<String> {
    loaded.warnings.iter().map(ToString::to_string).collect()
}

/// The settings of a sink, decoded.
pub(crate) fn push_settings(sink: &SinkConfig) -> PushSettings {
    sink.settings.parse().unwrap()
}

/// The settings that the first scraper of a device gets.
pub(crate) fn common(device: &Device) -> &ScraperSettings {
    &device.scrapers[0].settings
}
