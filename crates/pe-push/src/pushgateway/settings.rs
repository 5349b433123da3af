//! What may be set for a Pushgateway, and what is refused. No I/O but reading the system's certificates.

use std::sync::Arc;

use pe_scrape::SettingsError;
use pe_scrape::resolve::Resolve;
use pe_scrape::settings::{Bounds, Problems, Setting, decode};

use super::{Compression, Pushgateway};
use crate::http::sink_settings;
use pe_scrape::Filter;

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

sink_settings! {
    /// A Prometheus Pushgateway that gets the latest results.
    pub struct PushgatewaySettings {
        url {
            /// URL of the Pushgateway, such as `http://127.0.0.1:9091` or `https://push.example/path`, without user and password.
            url: String;
        }
        own {
            /// What makes up a group on the Pushgateway: `device` for one group for each device name, `config` for one group for
            /// each configuration file.
            grouping: Grouping = Grouping::Device;
            /// How bodies travel: `gzip` where they are larger than a packet and the gateway takes it, or `none`.
            compression: Compression = Compression::Gzip;
            /// Delete the push groups at the end of the program. A crash leaves them.
            delete_on_shutdown: bool = false;
            /// Pushes that may be under way at one time.
            max_parallel_pushes: u32 = DEFAULT_PARALLEL_PUSHES, range(1.0, 1024.0);
        }
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

    /// Checks everything, and makes the client and the filter that these settings describe.
    ///
    /// # Errors
    /// [`SettingsError`] with every problem, each at its key.
    pub(super) fn prepare(
        &self,
        resolver: Arc<dyn Resolve>,
    ) -> Result<(Pushgateway, Filter), SettingsError> {
        let mut problems = Problems::default();
        self.check(&Bounds::NONE, &mut problems);
        let common = self.common();
        let client = common.client(resolver, &mut problems);
        let filter = common.filter(&mut problems);
        match client {
            Some(client) if !problems.has_errors() => Ok((
                Pushgateway::from(client).compression(self.compression),
                filter,
            )),
            _ => Err(problems.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pe_scrape::Secret;
    use pe_scrape::resolve::SystemResolver;
    use pe_scrape::settings::Kind;

    use super::*;

    fn problems(set: impl FnOnce(&mut PushgatewaySettings)) -> Vec<String> {
        let mut settings = PushgatewaySettings::new("http://127.0.0.1:9091");
        set(&mut settings);
        let Err(error) = settings.prepare(Arc::new(SystemResolver)) else {
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
        let missing =
            problems(|it| (it.username, it.password_file) = (user("a"), Some("/no/file".into())));
        assert_eq!(missing.len(), 1);
        assert!(
            missing[0].starts_with("/password_file /no/file: No such file"),
            "{missing:?}"
        );
        let missing = problems(|it| it.bearer_token_file = Some("/no/token".into()));
        assert!(
            missing[0].starts_with("/bearer_token_file /no/token: No such file"),
            "{missing:?}"
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
                "/url \"host\" is not a URL to push to: give user and password apart from the URL (it should look like `http://host:9091`)",
                "/username a user is given, but no password (add a password, or remove the user)",
            ]
        );
        assert_eq!(
            problems(|it| it.url = " ".to_owned()),
            ["/url url: is empty"]
        );
    }
}
