//! The web configuration file: its keys, and what they become.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use axum::http::{HeaderName, HeaderValue};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::passwords::Passwords;
use super::{Settings, tls, yaml};

/// Headers that `http_server_config` may set, in the spelling of the format.
const HEADERS: [&str; 5] = [
    "Strict-Transport-Security",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "X-XSS-Protection",
    "Content-Security-Policy",
];

#[derive(Default)]
struct File {
    tls_server_config: Option<TlsKeys>,
    http_server_config: HttpKeys,
    basic_auth_users: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct HttpKeys {
    http2: Option<bool>,
    headers: BTreeMap<String, String>,
}

/// `tls_server_config`. Keys of the format that are not here are refused: a setting that nobody heeds would look safe.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct TlsKeys {
    pub(super) cert_file: Option<PathBuf>,
    pub(super) key_file: Option<PathBuf>,
    pub(super) client_auth_type: Option<String>,
    pub(super) client_ca_file: Option<PathBuf>,
    pub(super) min_version: Option<String>,
    pub(super) max_version: Option<String>,
}

impl TlsKeys {
    /// The files that are named, below `directory` where they are relative.
    pub(super) fn files(&self, directory: &Path) -> [Option<PathBuf>; 3] {
        [&self.cert_file, &self.key_file, &self.client_ca_file]
            .map(|file| file.as_ref().map(|file| directory.join(file)))
    }
}

/// Everything that the file says.
pub(super) fn load(path: &Path) -> Result<Settings, String> {
    let (file, read) = read(path)?;
    let told = |problem: String| format!("{}: {problem}", path.display());
    if file.http_server_config.http2 == Some(true) {
        return Err(told(
            "http_server_config: http2 cannot be true: HTTP/1.1 is spoken here; leave it out or write false".into(),
        ));
    }
    let mut headers = Vec::new();
    for (name, value) in &file.http_server_config.headers {
        if !HEADERS.contains(&name.as_str()) {
            let known = HEADERS.join(", ");
            return Err(told(format!(
                "http_server_config: header {name:?} cannot be set; those that can are {known}"
            )));
        }
        let name: HeaderName = name.parse().map_err(|error| told(format!("{error}")))?;
        let value = HeaderValue::from_str(value)
            .map_err(|error| told(format!("http_server_config: header {name}: {error}")))?;
        headers.push((name, value));
    }
    let tls = file.tls_server_config.as_ref();
    let tls = tls.map(|keys| tls::acceptor(keys, &read[1..]).map_err(told));
    let users = file.basic_auth_users.filter(|users| !users.is_empty());
    let passwords = users.map(|users| Passwords::new(users).map_err(told));
    Ok(Settings {
        tls: tls.transpose()?,
        passwords: passwords.transpose()?,
        headers,
        read,
    })
}

/// The content of the file and of those it names.
pub(super) fn contents(path: &Path) -> Result<Vec<Vec<u8>>, String> {
    read(path).map(|(_, read)| read)
}

fn read(path: &Path) -> Result<(File, Vec<Vec<u8>>), String> {
    let bytes = |path: &Path| {
        fs::read(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
    };
    let own = bytes(path)?;
    let file = parse(&own).map_err(|problem| format!("{}: {problem}", path.display()))?;
    let mut read = vec![own];
    if let Some(tls) = &file.tls_server_config {
        let directory = path.parent().unwrap_or(Path::new(""));
        for named in tls.files(directory) {
            read.push(named.map_or_else(|| Ok(Vec::new()), |named| bytes(&named))?);
        }
    }
    Ok((file, read))
}

fn parse(bytes: &[u8]) -> Result<File, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let sections = match yaml::parse(text)? {
        // An empty file says nothing, as in the exporters of Prometheus.
        Value::Null => return Ok(File::default()),
        Value::Object(sections) => sections,
        _ => {
            return Err("the keys of the format are expected, such as basic_auth_users".to_owned());
        }
    };
    let mut file = File::default();
    for (key, value) in sections {
        match &*key {
            "tls_server_config" => file.tls_server_config = section(&key, value)?,
            "http_server_config" => file.http_server_config = section(&key, value)?,
            "basic_auth_users" => file.basic_auth_users = section(&key, value)?,
            _ => {
                return Err(format!(
                    "unknown key {key:?}; those that there are: tls_server_config, http_server_config, basic_auth_users"
                ));
            }
        }
    }
    Ok(file)
}

/// What stands under a key; nothing is as if the key were not there.
fn section<T: DeserializeOwned + Default>(key: &str, value: Value) -> Result<T, String> {
    let section: Option<T> =
        serde_json::from_value(value).map_err(|error| format!("{key}: {error}"))?;
    Ok(section.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(text: &str) -> Result<Settings, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("web.yml");
        fs::write(&path, text).unwrap();
        load(&path)
    }

    #[test]
    fn an_option_that_is_not_there_is_an_error() {
        for (text, expected) in [
            ("tls_server_config: {cipher_suites: [A]}", "cipher_suites"),
            (
                "tls_server_config: {client_auth_type: RequestClientCert}",
                "cert_file",
            ),
            ("http_server_config: {http2: true}", "http2"),
            ("http_server_config: {headers: {Server: x}}", "Server"),
            ("basic_auth_users: {a: plain}", "bcrypt"),
            ("rate_limit: {}", "rate_limit"),
            ("basic_auth_users: [", "line "),
            ("basic_auth_users: {a: true}", "basic_auth_users: "),
            ("- a", "basic_auth_users"),
        ] {
            let error = load_text(text).err().unwrap();
            assert!(
                error.contains(expected) && error.contains("web.yml"),
                "{error}"
            );
        }
    }

    #[test]
    fn an_empty_file_asks_for_nothing() {
        for text in [
            "",
            "# nothing\n",
            "basic_auth_users: {}\n",
            "tls_server_config:\n",
        ] {
            let settings = load_text(text).unwrap();
            assert!(
                settings.tls.is_none() && settings.passwords.is_none(),
                "{text}"
            );
        }
    }
}
