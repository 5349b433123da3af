//! Reading the push configuration.

use std::path::{Path, PathBuf};

use figment::value::Value as Layer;
use jsonc_parser::ast::Value;
use url::{Host, Url};

use crate::config::{Grouping, PushConfig};
use crate::fields::{Fields, start};
use crate::group::{self, Context};
use crate::layers::{Layered, Origin, PUSH_SETTINGS};
use crate::report::Scope;
use crate::scalar::{self, Refusal};
use crate::schema::PUSH_KEYS;
use crate::settings::SettingReader;
use crate::{Secret, read, suggest};

/// Port of a Pushgateway.
const DEFAULT_PORT: u16 = 9091;
/// Most pushes at one time.
const MAX_PARALLEL_PUSHES: u64 = 1024;

/// Reads the push configuration. `root` is `None` when there is no file and the environment or flags
/// hold all of it; `scope` is of an empty document then. `watched` takes up the files that were read.
pub(crate) fn read(
    scope: Scope<'_, '_>,
    root: Option<&Value<'_>>,
    context: &Context<'_>,
    watched: &mut Vec<PathBuf>,
) -> Option<PushConfig> {
    let errors = scope.report.errors();
    if let Some(root) = root {
        if let Some(at) = group::key_of(root, "jobs") {
            let hint = "give the directory it is in with --configs";
            scope.error_hint(
                at,
                "this is a group of devices, not a push configuration",
                hint.to_owned(),
            );
            return None;
        }
        let file = Fields::open(scope, root, "the push configuration", &PUSH_KEYS)?;
        file.check_schema_key(scope);
    }
    let object = root.and_then(|root| root.as_object());
    let (env, overrides) = (context.env, context.overrides);
    let layered = Layered::merge(PUSH_SETTINGS, object, env, overrides, scope.report);
    let settings = SettingReader::new(scope, layered, root.map_or(0, start));
    let reader = Reader { scope, settings };
    let settings = &reader.settings;
    let url = reader.url();
    let credentials = reader.credentials(watched);
    let grouping = settings.read("grouping", |value, _| {
        let text = scalar::text(value)?;
        match text.as_str() {
            "device" => Ok(Grouping::Device),
            "config" => Ok(Grouping::Config),
            other => {
                let meant = suggest::nearest(other, ["device", "config"])
                    .map_or(String::new(), |name| format!("; did you mean `{name}`?"));
                Err(Refusal(format!(
                    "found `{other}`, expected `device` or `config`{meant}"
                )))
            }
        }
    });
    let timeout = settings.read("timeout_pushgateway", |value, _| scalar::duration(value));
    let parallel = settings.read("max_parallel_pushes", |value, text| {
        scalar::integer(value, text, 1, MAX_PARALLEL_PUSHES)
    });
    if scope.report.errors() > errors {
        return None;
    }
    let url = url?;
    if credentials.is_some() && is_exposed(&url) {
        let message =
            "user and password travel over plain http, where anybody on the way can read them";
        let hint = "use an https:// URL, or a proxy on the loopback address";
        settings.warn("ip_pushgateway", message, hint);
    }
    let (username, password) = credentials.unzip();
    Some(PushConfig {
        file: root.map(|_| scope.document.path().to_owned()),
        url: url.as_str().trim_end_matches('/').to_owned(),
        username,
        password,
        grouping: grouping?,
        timeout: timeout?,
        max_parallel_pushes: usize::try_from(parallel?).ok()?,
    })
}

/// Whether what is sent to `url` can be read on the network.
fn is_exposed(url: &Url) -> bool {
    let loopback = match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    };
    url.scheme() == "http" && !loopback
}

/// Decodes what takes more than one setting.
struct Reader<'r, 'd> {
    scope: Scope<'r, 'd>,
    settings: SettingReader<'r, 'd>,
}

impl Reader<'_, '_> {
    /// Base URL of the Pushgateway.
    fn url(&self) -> Option<Url> {
        const HOST: &str = "ip_pushgateway";
        const PORT: &str = "port_pushgateway";
        self.settings.require(HOST, "the push configuration");
        let port = self.settings.read(PORT, |value, _| {
            let port = match value {
                Layer::String(..) | Layer::Char(..) => scalar::integer(value, true, 1, 65_535),
                _ => scalar::integer(value, false, 1, 65_535),
            };
            port.map(|port| u16::try_from(port).unwrap_or(DEFAULT_PORT))
        });
        let host = self.settings.read(HOST, |value, _| scalar::text(value))?;
        let host = host.trim();
        if host.is_empty() {
            self.settings.error(HOST, "ip_pushgateway is empty", None);
            return None;
        }
        if host.contains("://") {
            return self.full_url(host, port);
        }
        let authority = match host.parse::<std::net::Ipv6Addr>() {
            Ok(ip) => format!("[{ip}]"),
            Err(_) => host.to_owned(),
        };
        let url = Url::parse(&format!("http://{authority}/"))
            .ok()
            .filter(|url| url.path() == "/" && url.username().is_empty() && url.query().is_none());
        let Some(mut url) = url.filter(|_| !host.contains(['/', '@', '?', '#', '\\'])) else {
            let hint =
                "write a host name, an address, or a URL such as `https://push.example/path`";
            self.settings
                .error(HOST, "ip_pushgateway is not a host", Some(hint));
            return None;
        };
        self.set_port(&mut url, port, DEFAULT_PORT)?;
        Some(url)
    }

    fn full_url(&self, text: &str, port: Option<u16>) -> Option<Url> {
        const HOST: &str = "ip_pushgateway";
        let mut url = match Url::parse(text) {
            Ok(url) => url,
            Err(error) => {
                self.settings
                    .error(HOST, format!("ip_pushgateway is not a URL: {error}"), None);
                return None;
            }
        };
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            let hint = "use `http://…` or `https://…`";
            self.settings.error(
                HOST,
                "ip_pushgateway is not an http or https URL",
                Some(hint),
            );
            return None;
        }
        if !url.username().is_empty() || url.password().is_some() {
            let hint = "use `username_pushgateway` and `pass_pushgateway`, which are never shown";
            self.settings
                .error(HOST, "ip_pushgateway holds a user or password", Some(hint));
            return None;
        }
        if url.query().is_some() || url.fragment().is_some() {
            let hint = "write scheme, host, port and path alone";
            self.settings
                .error(HOST, "ip_pushgateway has a query or a fragment", Some(hint));
            return None;
        }
        let default = url.port_or_known_default().unwrap_or(DEFAULT_PORT);
        self.set_port(&mut url, port, default)?;
        Some(url)
    }

    /// Puts the port into `url`: that of the URL, of the key `port_pushgateway`, or `default`.
    fn set_port(&self, url: &mut Url, port: Option<u16>, default: u16) -> Option<()> {
        let wanted = match (url.port(), port) {
            (Some(written), Some(port)) if written != port => {
                let message = format!(
                    "port_pushgateway ({port}) and the port of ip_pushgateway ({written}) differ"
                );
                self.settings
                    .error("port_pushgateway", message, Some("write the port once"));
                return None;
            }
            (Some(written), _) => written,
            (None, port) => port.unwrap_or(default),
        };
        url.set_port(Some(wanted)).ok()
    }

    /// User and password, if both are given.
    fn credentials(&self, watched: &mut Vec<PathBuf>) -> Option<(String, Secret)> {
        const USER: &str = "username_pushgateway";
        const PASS: &str = "pass_pushgateway";
        const FILE: &str = "pass_pushgateway_file";
        let errors = self.scope.report.errors();
        let user = self
            .settings
            .read(USER, |value, _| scalar::text(value))
            .filter(|user| !user.is_empty());
        if user.as_ref().is_some_and(|user| user.contains(':')) {
            let message =
                "username_pushgateway contains a colon, which basic authentication forbids";
            self.settings.error(USER, message, None);
        }
        let literal = self
            .settings
            .read(PASS, |value, _| scalar::text(value))
            .filter(|p| !p.is_empty());
        let file = self
            .settings
            .read(FILE, |value, _| scalar::text(value))
            .filter(|p| !p.is_empty());
        let key = match (&literal, &file) {
            (Some(_), Some(_)) => {
                let rank = |key| self.settings.origin(key).map_or(0, Origin::rank);
                match rank(PASS).cmp(&rank(FILE)) {
                    std::cmp::Ordering::Greater => PASS,
                    std::cmp::Ordering::Less => FILE,
                    std::cmp::Ordering::Equal => {
                        let message = "pass_pushgateway and pass_pushgateway_file are both given";
                        self.settings
                            .error(FILE, message, Some("remove one of them"));
                        return None;
                    }
                }
            }
            (None, Some(_)) => FILE,
            _ => PASS,
        };
        let password = match (key, literal, file) {
            (FILE, _, Some(file)) => Some(self.password_file(Path::new(&file), watched)?),
            (_, literal, _) => literal.map(Secret::new),
        };
        let controlled = |text: &str| text.chars().any(char::is_control);
        for (key, unsound) in [
            (USER, user.as_deref().is_some_and(controlled)),
            (
                key,
                password
                    .as_ref()
                    .is_some_and(|password| controlled(password.expose())),
            ),
        ] {
            if unsound {
                let message =
                    format!("{key}: control characters, such as a newline, cannot be sent");
                self.settings.error(key, message, None);
            }
        }
        if self.scope.report.errors() > errors {
            return None;
        }
        match (user, password) {
            (Some(user), Some(password)) => Some((user, password)),
            (None, None) => None,
            (Some(_), None) => {
                let message = "username_pushgateway is given, but no password";
                let hint = "add `pass_pushgateway` or `pass_pushgateway_file`, or remove the user";
                self.settings.error(USER, message, Some(hint));
                None
            }
            (None, Some(_)) => {
                let message = format!("{key} is given, but no user");
                self.settings.error(
                    key,
                    message,
                    Some("add `username_pushgateway`, or remove the password"),
                );
                None
            }
        }
    }

    /// The password in a file: its text without the newline at the end.
    fn password_file(&self, file: &Path, watched: &mut Vec<PathBuf>) -> Option<Secret> {
        const FILE: &str = "pass_pushgateway_file";
        let base = match self.settings.origin(FILE) {
            Some(Origin::File(_)) => self.scope.document.path().parent(),
            _ => None,
        };
        let path = base.unwrap_or(Path::new("")).join(file);
        watched.push(path.clone());
        let problem = |reason: &str| {
            let message = format!("pass_pushgateway_file: {}: {reason}", path.display());
            self.settings.error(FILE, message, None);
        };
        let bytes = match read::regular_file(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                problem(&error.to_string());
                return None;
            }
        };
        let Ok(text) = String::from_utf8(bytes) else {
            problem("not UTF-8 text");
            return None;
        };
        let text = text.strip_suffix('\n').unwrap_or(&text);
        let text = text.strip_suffix('\r').unwrap_or(text);
        if text.is_empty() {
            problem("the file is empty");
            return None;
        }
        Some(Secret::new(text))
    }
}
