//! Putting an agent together, and running what the command line asks for.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use pe_ping::{OpenSocket, OwnRights, SocketHelper};
use pe_resolve::{CachingResolver, NameServer, ResolverSettings};
use pe_scrape::resolve::{Resolve, SystemResolver};
use pe_scrape::{RegistryError, ScraperFactory, ScraperRegistry, SinkFactory, SinkRegistry};
use tokio::runtime::Runtime;
use tracing::{error, warn};

use crate::cli::{self, CheckArgs, Cli, Command, FileArgs, Identity, LogFormat};
use crate::failure::Failure;
use crate::load::Loader;
use crate::metrics::AgentMetrics;
use crate::output::{print, tell};
use crate::privileges::{self, PrivilegesError, Separated};
use crate::run::Service;
use crate::signals::Signals;
use crate::supervise::why;
use crate::{check, healthcheck, init, logging, once, pages, ping, queue, run, schema, state_dir};

/// Threads that run tasks: one for measurements, one for everything else that may be slow.
const THREADS: usize = 2;

/// How long the end of the program waits for system calls that hang, such as on a network file system.
const LAST_WAIT: Duration = Duration::from_millis(500);

/// A program that measures devices and hands on the results.
///
/// See [the crate](crate) for an example.
pub struct Agent {
    identity: Identity,
    scrapers: Vec<Register<ScraperRegistry>>,
    sinks: Vec<SinkKind>,
}

/// A kind of sink, before its factory is made.
struct SinkKind {
    name: String,
    keeps_state: bool,
    register: Register<SinkRegistry>,
}

/// Adds a factory to a registry.
type Register<R> = Box<dyn FnOnce(&mut R, &Context) -> Result<(), RegistryError>>;

/// What an agent has for its scrapers and sinks, once the command line is known.
pub struct Context {
    resolver: Arc<dyn Resolve>,
    state_dir: Option<PathBuf>,
    opener: Option<Arc<SocketHelper>>,
    allowed_commands: Vec<PathBuf>,
}

impl Context {
    /// Programs, and directories of programs, that a scraper may run: those of `--allow-commands`, none unless it is given.
    ///
    /// In a service the kernel lets no other program be executed, but for the loaders and interpreters that these need.
    #[must_use]
    pub fn allowed_commands(&self) -> Vec<PathBuf> {
        self.allowed_commands.clone()
    }

    /// Who opens raw sockets: the helper of a service, which keeps no right of its own to, or else the calling thread.
    #[must_use]
    pub fn socket_opener(&self) -> Arc<dyn OpenSocket> {
        match &self.opener {
            Some(helper) => helper.clone(),
            None => Arc::new(OwnRights),
        }
    }

    /// The resolver that all scrapers and sinks of the agent share: one that caches, and that asks the name servers of
    /// `--dns-servers` where these are given.
    ///
    /// Where nothing is measured or sent, in `check` without `--connect` and in `schema`, it is the system's.
    #[must_use]
    pub fn resolver(&self) -> Arc<dyn Resolve> {
        self.resolver.clone()
    }

    fn without_state(resolver: impl Resolve + 'static) -> Self {
        Self {
            resolver: Arc::new(resolver),
            state_dir: None,
            opener: None,
            allowed_commands: Vec::new(),
        }
    }

    /// The same with the programs that the command line allows.
    fn allowing(mut self, files: &FileArgs) -> Self {
        self.allowed_commands.clone_from(&files.allow_commands);
        self
    }

    /// The directory for what must survive a restart: the one of `--state-dir`, else the first path of
    /// `$STATE_DIRECTORY`, else, where the push configuration has a sink that [keeps
    /// state](SinkFactory::keeps_state), `pingexporter-data` in the working directory. It may not exist yet.
    ///
    /// `None` where there is none, and always outside of `run`: `check`, `once` and `ping` leave the state of an agent that
    /// runs alone.
    #[must_use]
    pub fn state_dir(&self) -> Option<PathBuf> {
        self.state_dir.clone()
    }
}

impl Agent {
    /// An agent without scrapers and sinks. `name` is what the program is called in its help, `version` what `--version`
    /// says.
    #[must_use]
    pub fn new(name: &'static str, version: &'static str) -> Self {
        let about = "Measures what Prometheus cannot reach, and pushes the results.";
        Self {
            identity: Identity {
                name,
                version,
                about,
            },
            scrapers: Vec::new(),
            sinks: Vec::new(),
        }
    }

    /// The sentence that `--help` starts with.
    #[must_use]
    pub fn about(mut self, about: &'static str) -> Self {
        self.identity.about = about;
        self
    }

    /// Adds a scraper, which group files name in `metrics`.
    #[must_use]
    pub fn scraper(self, name: impl Into<String>, factory: impl ScraperFactory + 'static) -> Self {
        self.scraper_with(name, |_| factory)
    }

    /// Adds a scraper that is made with something of the agent's, such as the resolver.
    #[must_use]
    pub fn scraper_with<F: ScraperFactory + 'static>(
        mut self,
        name: impl Into<String>,
        factory: impl FnOnce(&Context) -> F + 'static,
    ) -> Self {
        let name = name.into();
        self.scrapers.push(Box::new(move |registry, context| {
            registry.register(name, factory(context))
        }));
        self
    }

    /// Adds a kind of sink, which the push configuration names.
    #[must_use]
    pub fn sink(self, name: impl Into<String>, factory: impl SinkFactory + 'static) -> Self {
        self.sink_with(name, |_| factory)
    }

    /// Adds a kind of sink that is made with something of the agent's, such as the resolver.
    #[must_use]
    pub fn sink_with<F: SinkFactory + 'static>(
        mut self,
        name: impl Into<String>,
        factory: impl FnOnce(&Context) -> F + 'static,
    ) -> Self {
        let name = name.into();
        self.sinks.push(SinkKind {
            name: name.clone(),
            keeps_state: F::keeps_state(),
            register: Box::new(move |registry, context| registry.register(name, factory(context))),
        });
        self
    }

    /// Does what the command line of this process says, until it is done or a signal ends it.
    ///
    /// A name that is registered twice, or that is not made of letters, digits and `_`, ends it with exit code 1.
    ///
    /// Before `run` measures, the process gives up its rights: it starts itself again as a helper that opens sockets, and
    /// keeps no capability. This must be called while the process has one thread, and called in the helper too: there, the
    /// environment is empty and the one argument is `__open-sockets`.
    #[must_use]
    pub fn main(self) -> ExitCode {
        if privileges::is_helper() {
            return privileges::run_helper();
        }
        // What this process was given open is not for the programs that it starts. An old kernel cannot tell.
        let _ = pe_ping::keep_descriptors_from_programs();
        pe_ping::keep_less_memory();
        self.start(std::env::args_os().collect(), privileges::separate)
    }

    fn start(
        self,
        arguments: Vec<OsString>,
        separate: impl FnOnce(&privileges::Wanted) -> Result<Separated, PrivilegesError>,
    ) -> ExitCode {
        let cli = match cli::parse(self.identity, arguments) {
            Ok(cli) => cli,
            Err(error) => return show(&error),
        };
        let separated = match &cli.command {
            Command::Run(args) => separate(&args.privileges()),
            _ => Ok(Separated::default()),
        };
        let as_json = cli.logging.log_format == LogFormat::Json;
        let is_service = matches!(cli.command, Command::Run(_));
        let metrics = Arc::new(AgentMetrics::default());
        let flush = logging::start(cli.logging, metrics.clone());
        let name = self.identity.name;
        let result = separated.map_err(Failure::from).and_then(|separated| {
            let runtime = start_runtime()?;
            let result = runtime.block_on(self.execute(cli, metrics, separated));
            runtime.shutdown_timeout(LAST_WAIT);
            result
        });
        let failure = match result {
            Ok(()) => return ExitCode::SUCCESS,
            Err(failure) => failure,
        };
        // Whoever reads the log of a service as JSON reads nothing else.
        let is_logged = is_service && as_json && !matches!(failure, Failure::Told);
        if is_logged {
            error!(error = %failure, "the program cannot start");
        }
        // What was logged comes before the last word.
        drop(flush);
        match failure {
            Failure::Told => {}
            _ if is_logged => {}
            Failure::Config(diagnostics) => tell(diagnostics),
            failure => tell(format_args!("{name}: {failure}")),
        }
        ExitCode::FAILURE
    }

    async fn execute(
        self,
        cli: Cli,
        metrics: Arc<AgentMetrics>,
        separated: Separated,
    ) -> Result<(), Failure> {
        let opener = separated.opener();
        match cli.command {
            Command::Run(args) => {
                // Before anything else: from here on, SIGHUP is a request and no end.
                let mut signals = Signals::new()?;
                watch_over(separated)?;
                let Identity { name, version, .. } = self.identity;
                let resolver = resolver(&args.files.dns_servers);
                let state_dir = tokio::select! {
                    biased;
                    _ = signals.stop.received() => return Ok(()),
                    state_dir = self.state_dir(args.state_dir, args.files.push_config.clone()) => state_dir?,
                };
                let context = Context {
                    resolver: Arc::new(resolver.clone()),
                    state_dir,
                    opener,
                    allowed_commands: args.files.allow_commands.clone(),
                };
                let loader = self.loader(args.files, &context)?;
                let service = Service {
                    name,
                    version,
                    state_dir: context.state_dir,
                    has_helper: context.opener.is_some(),
                    web: args.web,
                    loader,
                    resolver,
                    metrics,
                    signals,
                };
                run::run(service).await
            }
            Command::Check(CheckArgs {
                files,
                connect: false,
            }) => {
                let context = Context::without_state(SystemResolver).allowing(&files);
                check::check(&self.loader(files, &context)?).map(drop)
            }
            Command::Check(CheckArgs { files, .. }) => {
                let context = Context::without_state(resolver(&files.dns_servers)).allowing(&files);
                check::connect(&self.loader(files, &context)?).await
            }
            Command::Once(files) => {
                let resolver = resolver(&files.dns_servers);
                let context = Context::without_state(resolver.clone()).allowing(&files);
                let loader = self.loader(files, &context)?;
                once::once(&loader, resolver).await
            }
            Command::Queue(args) => queue::queue(args),
            Command::Schema(args) => {
                let (scrapers, sinks) = self.registries(&Context::without_state(SystemResolver))?;
                schema::schema(args.kind, &scrapers, &sinks)
            }
            Command::Completions(args) => pages::completions(self.identity, args.shell),
            Command::Man => pages::man(self.identity),
            Command::Healthcheck(args) => healthcheck::healthcheck(&args.listen).await,
            Command::Init(args) => init::init(&args.directory, self.identity.name),
            Command::Ping(args) => {
                let resolver = resolver(&args.dns_servers);
                ping::ping(args, &resolver).await
            }
        }
    }

    /// The directory for what must survive a restart. `push_config` may be on a file system that hangs.
    async fn state_dir(
        &self,
        given: Option<PathBuf>,
        push_config: Option<PathBuf>,
    ) -> Result<Option<PathBuf>, Failure> {
        let keepers = self.sinks.iter().filter(|sink| sink.keeps_state);
        let keepers: Vec<String> = keepers.map(|sink| sink.name.clone()).collect();
        let choose = move || {
            state_dir::choose_from_environment(given, || {
                let kinds = push_config.map(|path| pe_config::sink_kinds(&path));
                let mut kinds = kinds.into_iter().flatten();
                kinds.any(|kind| keepers.contains(&kind))
            })
        };
        let chosen = tokio::task::spawn_blocking(choose).await;
        chosen.map_err(|error| Failure::cannot("choose a state directory", why(error)))
    }

    fn loader(self, files: FileArgs, context: &Context) -> Result<Loader, Failure> {
        let (scrapers, sinks) = self.registries(context)?;
        Ok(Loader {
            files,
            scrapers,
            sinks,
        })
    }

    fn registries(self, context: &Context) -> Result<(ScraperRegistry, SinkRegistry), Failure> {
        let mut scrapers = ScraperRegistry::new();
        for register in self.scrapers {
            register(&mut scrapers, context)?;
        }
        let mut sinks = SinkRegistry::new();
        for sink in self.sinks {
            (sink.register)(&mut sinks, context)?;
        }
        Ok((scrapers, sinks))
    }
}

/// Tells of rights that were not given up, and of the helper's end.
fn watch_over(separated: Separated) -> Result<(), Failure> {
    for right in &separated.kept {
        warn!(%right, "the program runs with more rights than it needs");
    }
    let Some(helper) = separated.helper else {
        return Ok(());
    };
    let watch = || {
        let ended = helper.wait();
        error!(
            ?ended,
            "the process that opens sockets has ended; those that are open go on, others need a restart of the program"
        );
    };
    std::thread::Builder::new()
        .name("socket-helper".to_owned())
        .spawn(watch)
        .map(drop)
        .map_err(|error| Failure::cannot("watch over the helper", error))
}

/// Prints help, version, or what is wrong with the arguments.
fn show(error: &clap::Error) -> ExitCode {
    let text = error.render().to_string();
    if error.use_stderr() {
        tell(text.trim_end());
        return ExitCode::from(2);
    }
    match print(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tell(failure);
            ExitCode::FAILURE
        }
    }
}

fn start_runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .map_err(|error| Failure::cannot("start the runtime", error))
}

/// The resolver of the agent, with the name servers of the command line.
fn resolver(servers: &[NameServer]) -> CachingResolver {
    let mut settings = ResolverSettings::default();
    settings.servers = servers.to_vec();
    CachingResolver::new(settings)
}
