//! The push configuration of the Python original: one Pushgateway.
//!
//! Its keys are other names for settings of the sink `pushgateway`, whose table says what they may be, and host and port
//! make its `url`. Declared here are the pairs of names only.

use std::path::PathBuf;

use pe_scrape::settings::{Key, Kind, Node, Port, Problem, Problems, Setting, Step};
use pe_scrape::{SinkConfig, SinkRegistry, Value};
use url::Url;

use super::{Context, FILE, ParsedSink, Settings, Written, sinks, tell};
use crate::file::{Scope, Syntax};
use crate::layers::Merged;

/// The kind of sink that the keys stand for.
pub(crate) const KIND: &str = "pushgateway";

/// The key of that sink which host and port make.
const URL: &str = "url";

/// Keys of the file, and the keys of the sink that they stand for.
pub(crate) const NAMES: &[(&str, &str)] = &[
    ("username_pushgateway", "username"),
    ("pass_pushgateway", "password"),
    ("pass_pushgateway_file", "password_file"),
    ("grouping", "grouping"),
    ("timeout_pushgateway", "timeout"),
    ("max_parallel_pushes", "max_parallel_pushes"),
];

/// The host.
pub(crate) const HOST: Key = Key::of::<Option<String>>(
    "ip_pushgateway",
    &[
        "The Pushgateway: a host name, an IPv4 or IPv6 address, or a URL such as",
        "`https://push.example/path`.",
    ],
);

/// The port.
pub(crate) const PORT: Key =
    Key::of::<Option<Port>>("port_pushgateway", &["Port of the Pushgateway."])
        .otherwise("`9091`; for a URL its own port, else that of its scheme");

/// Port of a Pushgateway.
const DEFAULT_PORT: u16 = 9091;

/// What the rest of the settings is checked with where host and port are at fault.
const STAND_IN_URL: &str = "http://localhost:9091";

/// The keys, with all that the sink's table says of them; none where the program does not have the sink, or the sink does
/// not declare its settings.
pub(crate) fn keys(registry: &SinkRegistry) -> Vec<Key> {
    let Some(table) = registry.table(KIND) else {
        return Vec::new();
    };
    let mut keys = vec![HOST, PORT];
    keys.extend(NAMES.iter().filter_map(|(written, name)| {
        let key = table.key(name).copied()?;
        Some(key.named(written))
    }));
    keys
}

/// The names of the keys.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let names = NAMES.iter().map(|(written, _)| *written);
    [HOST.name, PORT.name].into_iter().chain(names)
}

/// Where the file has the first of the keys.
pub(super) fn written(root: Syntax<'_>) -> Option<usize> {
    names().filter_map(|name| root.key_start(name)).min()
}

/// Reports that the program has no such sink; one of the keys stands at `at`.
pub(super) fn refuse(scope: Scope<'_, '_>, at: usize, registry: &SinkRegistry) {
    let message = format!(
        "this program has no sink `{KIND}`, for which `{}` stands",
        HOST.name
    );
    let hint = match registry.names().as_slice() {
        [] => "it cannot push anywhere".to_owned(),
        known => format!("list its sinks under `sinks`; known: {}", known.join(", ")),
    };
    scope.error(at, message, hint);
}

/// Reads the keys from all layers. `None` where a layer has one and the program does not have the sink.
pub(super) fn read<'v, 'c>(
    scope: Scope<'_, '_>,
    root: Option<Syntax<'v>>,
    context: &Context<'c>,
    files: &mut Vec<PathBuf>,
) -> Option<ParsedSink<'v, 'c>> {
    let keys = keys(context.registry);
    let errors = scope.found.errors();
    let mut file = Settings::new();
    for (name, value) in root.into_iter().flat_map(Node::fields) {
        if keys.iter().any(|key| key.name == name) {
            file.insert(name.to_owned(), value.to_json());
        }
    }
    let merged = context.layers.over(&file);
    let gateway = Gateway {
        scope,
        root,
        merged: &merged,
    };
    let url = gateway.url();
    let mut own = Settings::new();
    let url = url.as_ref().map(|url| url.as_str().trim_end_matches('/'));
    own.insert(URL.to_owned(), url.unwrap_or(STAND_IN_URL).into());
    let mut names = vec![(URL, HOST.name)];
    for (written, name) in NAMES {
        names.push((name, written));
        let Some(Key { kind, .. }) = keys.iter().find(|key| key.name == *written) else {
            continue;
        };
        match merged.json.get(*written) {
            // As in the original, an empty user or password is none.
            Some(Value::String(text)) if text.is_empty() && is_text(kind) => {}
            Some(value) => {
                own.insert((*name).to_owned(), value.clone());
            }
            None => {}
        }
    }
    let table = context.registry.table(KIND)?;
    let secrets = sinks::Secrets {
        table,
        document: scope.document,
        rank: &|name| merged.origin_of(written_as(&names, name)).rank(),
    };
    let found = secrets.fetch(&mut own, &names, files);
    for problem in found.problems {
        tell(scope, root, &merged, problem);
    }
    for (secret, file) in found.from_files {
        let file = written_as(&names, file);
        if let Some(pair) = names.iter_mut().find(|(name, _)| *name == secret) {
            pair.1 = file;
        }
    }
    Some(ParsedSink {
        config: SinkConfig::new(KIND, KIND, Value::Object(own)),
        sound: scope.found.errors() == errors,
        given_name: None,
        written: Written::Keys {
            root,
            merged: Box::new(merged),
        },
        names,
    })
}

fn is_text(kind: &Kind) -> bool {
    matches!(kind, Kind::Text | Kind::Secret | Kind::SecretFile(_))
}

/// What the user wrote for the key `name` of the sink.
fn written_as(names: &[(&'static str, &'static str)], name: &'static str) -> &'static str {
    let found = names.iter().find(|(known, _)| *known == name);
    found.map_or(name, |(_, written)| written)
}

/// Makes a URL of host and port.
struct Gateway<'g, 'r, 'd, 'c> {
    scope: Scope<'r, 'd>,
    root: Option<Syntax<'g>>,
    merged: &'g Merged<'c>,
}

impl Gateway<'_, '_, '_, '_> {
    /// Base URL of the Pushgateway.
    fn url(&self) -> Option<Url> {
        let port = self.decode::<Port>(&PORT).map(|Port(port)| port);
        if !self.merged.json.contains_key(HOST.name) {
            let message = format!("missing key `{}` in {FILE}", HOST.name);
            tell(self.scope, self.root, self.merged, Problem::error(message));
            return None;
        }
        let host = self.decode::<String>(&HOST)?;
        let host = host.trim();
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
            self.error(&HOST, "ip_pushgateway is not a host", Some(hint));
            return None;
        };
        self.set_port(&mut url, port, DEFAULT_PORT)?;
        Some(url)
    }

    fn full_url(&self, text: &str, port: Option<u16>) -> Option<Url> {
        let mut url = match Url::parse(text) {
            Ok(url) => url,
            Err(error) => {
                let message = format!("ip_pushgateway is not a URL: {error}");
                self.error(&HOST, message, None);
                return None;
            }
        };
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            let message = "ip_pushgateway is not an http or https URL";
            self.error(&HOST, message, Some("use `http://…` or `https://…`"));
            return None;
        }
        if !url.username().is_empty() || url.password().is_some() {
            let hint = "use `username_pushgateway` and `pass_pushgateway`, which are never shown";
            self.error(&HOST, "ip_pushgateway holds a user or password", Some(hint));
            return None;
        }
        if url.query().is_some() || url.fragment().is_some() {
            let hint = "write scheme, host, port and path alone";
            self.error(
                &HOST,
                "ip_pushgateway has a query or a fragment",
                Some(hint),
            );
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
                self.error(&PORT, message, Some("write the port once"));
                return None;
            }
            (Some(written), _) => written,
            (None, port) => port.unwrap_or(default),
        };
        url.set_port(Some(wanted)).ok()
    }

    /// The value of `key`; reports one that is refused.
    fn decode<T: Setting>(&self, key: &Key) -> Option<T> {
        let value = self.merged.json.get(key.name)?;
        let mut problems = Problems::default();
        let decoded = problems.within(key.name, |problems| T::decode(value, &key.bounds, problems));
        for problem in problems.into_vec() {
            tell(self.scope, self.root, self.merged, problem);
        }
        decoded
    }

    fn error(&self, key: &Key, message: impl Into<String>, hint: Option<&str>) {
        let problem = Problem::error(message)
            .at([Step::from(key.name)])
            .hint(hint.map(str::to_owned));
        tell(self.scope, self.root, self.merged, problem);
    }
}
