//! What may be set for a Pushgateway, and what is refused. No I/O but reading the system's certificates.

use std::path::PathBuf;
use std::time::Duration;

use pe_scrape::settings::{Bounds, Problems, Setting, decode};
use pe_scrape::{Secret, SettingsError};

use super::Pushgateway;
use crate::PushError;
use crate::http::DEFAULT_TIMEOUT;

/// Pushes under way at one time unless something else is said: more do not make a gateway faster.
const DEFAULT_PARALLEL_PUSHES: u32 = 8;

pe_scrape::choices! {
    /// What makes up a push group on the gateway.
    pub enum Grouping {
        /// One push group for each device name: `job=<device>`. A gateway checks every push group again at each push, so this
        /// suits a few hundred devices.
        #[default]
        Device = "device",
        /// One push group for each group of devices, that is, for each configuration file: `job=<prom_id>`, with all its
        /// devices.
        Config = "config",
    }
}

pe_scrape::settings! {
    /// A Prometheus Pushgateway that gets the latest results.
    pub struct PushgatewaySettings("") {
        /// URL of the Pushgateway, such as `http://127.0.0.1:9091` or `https://push.example/path`, without user and password.
        url: String;
        /// User for HTTP basic authentication.
        username: Option<String>;
        /// Password for HTTP basic authentication.
        password: Option<Secret>;
        /// File that holds the password, relative to this file; instead of `password`.
        password_file: Option<PathBuf>, secret_file("password");
        /// What makes up a group on the Pushgateway: `device` for one group for each device name, `config` for one group for
        /// each configuration file.
        grouping: Grouping = Grouping::Device;
        /// How long one push may take.
        timeout: Duration = DEFAULT_TIMEOUT;
        /// Pushes that may be under way at one time.
        max_parallel_pushes: u32 = DEFAULT_PARALLEL_PUSHES, range(1.0, 1024.0);
    }
}

impl PushgatewaySettings {
    /// The defaults, for the gateway at `url`.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        let written = pe_scrape::Value::from_iter([("url", "http://localhost")]);
        let mut settings: Self = decode(&written).expect("one key is required, and it is there");
        settings.url = url.into();
        settings
    }

    /// User and password, if there are any. An empty password counts as none.
    pub(super) fn credentials(&self) -> (Option<&str>, Option<&str>) {
        let password = self.password.as_ref().map(Secret::expose);
        let password = password.filter(|password| !password.is_empty());
        (self.username.as_deref(), password)
    }

    /// Checks everything, and makes the client that these settings describe.
    ///
    /// # Errors
    /// [`SettingsError`] with every problem, each at its key.
    pub(super) fn client(&self) -> Result<Pushgateway, SettingsError> {
        let mut problems = Problems::default();
        self.check(&Bounds::NONE, &mut problems);
        let gateway = self.gateway(&mut problems);
        self.check_credentials(&mut problems);
        if problems.has_errors() {
            return Err(problems.into());
        }
        let gateway = gateway.ok_or_else(|| SettingsError::at("url", "is not a URL"))?;
        let gateway = gateway.timeout(self.timeout);
        match self.credentials() {
            (Some(user), Some(password)) => gateway
                .basic_auth(user, password)
                .map_err(|error| SettingsError::at("username", error.to_string())),
            _ => Ok(gateway),
        }
    }

    fn gateway(&self, problems: &mut Problems) -> Option<Pushgateway> {
        if self.url.trim().is_empty() {
            return None; // told by `check`
        }
        Pushgateway::new(&self.url)
            .map_err(|error| {
                let (message, hint) = match error {
                    PushError::Url { url, reason } => (
                        format!("{url:?} is not the URL of a Pushgateway: {reason}"),
                        Some("it should look like `http://host:9091`".to_owned()),
                    ),
                    error => (error.to_string(), None),
                };
                problems.within("url", |problems| problems.error(message, hint));
            })
            .ok()
    }

    /// User and password come together, and can be sent (RFC 7617, section 2).
    fn check_credentials(&self, problems: &mut Problems) {
        let mut refuse = |key: &str, message: &str, hint: &str| {
            let hint = (!hint.is_empty()).then(|| hint.to_owned());
            problems.within(key, |problems| problems.error(message, hint));
        };
        if self.password_file.is_some() {
            let message = "a file with the password is read together with configuration files only";
            refuse("password_file", message, "give the password itself");
        }
        let (user, password) = self.credentials();
        if user.is_some_and(|user| user.contains(':')) {
            let message = "the user contains a colon, which basic authentication forbids";
            refuse("username", message, "");
        }
        let unsound = |text: Option<&str>| text.is_some_and(|it| it.chars().any(char::is_control));
        if unsound(user) {
            let message =
                "the user contains control characters, such as a newline, which cannot be sent";
            refuse("username", message, "");
        }
        if unsound(password) {
            let message =
                "the password contains control characters, such as a newline, which cannot be sent";
            refuse("password", message, "");
        }
        match (user, password) {
            (Some(_), None) if self.password_file.is_none() => refuse(
                "username",
                "a user is given, but no password",
                "add a password, or remove the user",
            ),
            (None, Some(_)) => refuse(
                "password",
                "a password is given, but no user",
                "add a user, or remove the password",
            ),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use pe_scrape::settings::Kind;

    use super::*;

    fn problems(set: impl FnOnce(&mut PushgatewaySettings)) -> Vec<String> {
        let mut settings = PushgatewaySettings::new("http://127.0.0.1:9091");
        set(&mut settings);
        let Err(error) = settings.client() else {
            return Vec::new();
        };
        assert!(!format!("{error}{error:?}{:?}", settings.password).contains("hunter2"));
        let told = error.problems().iter();
        told.map(|problem| format!("{} {problem}", problem.pointer()))
            .collect()
    }

    #[test]
    fn defaults_are_in_order() {
        assert!(problems(|_| {}).is_empty());
        let defaults = PushgatewaySettings::new("http://h");
        assert_eq!(defaults.grouping, Grouping::Device);
        assert_eq!(defaults.timeout, Duration::from_secs(10));
        assert_eq!(defaults.max_parallel_pushes, 8);
        let file = PushgatewaySettings::TABLE.key("password_file").unwrap();
        assert_eq!(file.kind, Kind::SecretFile("password"));
    }

    #[test]
    fn credentials_that_cannot_work_are_refused() {
        let user = |user: &str| Some(user.to_owned());
        let secret = |text: &str| Some(Secret::new(text));
        assert_eq!(
            problems(|it| it.username = user("u")),
            ["/username a user is given, but no password (add a password, or remove the user)"]
        );
        assert_eq!(
            problems(|it| (it.username, it.password) = (user("u"), secret(""))).len(),
            1
        );
        assert_eq!(
            problems(|it| it.password = secret("hunter2")),
            ["/password a password is given, but no user (add a user, or remove the password)"]
        );
        assert_eq!(
            problems(|it| (it.username, it.password) = (user("a:b"), secret("hunter2"))),
            ["/username the user contains a colon, which basic authentication forbids"]
        );
        assert_eq!(
            problems(|it| (it.username, it.password) = (user("a\nb"), secret("hunter2\n"))),
            [
                "/username the user contains control characters, such as a newline, which cannot be sent",
                "/password the password contains control characters, such as a newline, which cannot be sent"
            ]
        );
        assert_eq!(
            problems(|it| (it.username, it.password_file) = (user("a"), Some("/secret".into()))),
            [
                "/password_file a file with the password is read together with configuration files only (give the password itself)"
            ]
        );
        assert!(
            problems(|it| (it.username, it.password) = (user("u"), secret("hunter2"))).is_empty()
        );
    }

    #[test]
    fn everything_else_that_is_wrong_is_told_at_once() {
        let told = problems(|it| {
            it.url = "http://user:hunter2@host".to_owned();
            it.timeout = Duration::ZERO;
            it.max_parallel_pushes = 0;
            it.username = Some("u".to_owned());
        });
        assert_eq!(
            told,
            [
                "/timeout timeout: must be greater than zero",
                "/max_parallel_pushes max_parallel_pushes: out of range, expected a whole number from 1 to 1024",
                "/url \"host\" is not the URL of a Pushgateway: give user and password apart from the URL (it should look like `http://host:9091`)",
                "/username a user is given, but no password (add a password, or remove the user)",
            ]
        );
        assert_eq!(
            problems(|it| it.url = " ".to_owned()),
            ["/url url: is empty"]
        );
    }
}
