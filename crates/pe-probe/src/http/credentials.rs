//! What a request shows to be let in: a password or a token, from the configuration or from a file that is read again.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use pe_scrape::{Secret, SettingsError};
use tokio::sync::Mutex;

use crate::{Failure, Reason};

/// How often a file is read.
const LOOK: Duration = Duration::from_secs(10);

/// Most bytes of a file with a secret.
const LONGEST: u64 = 65_536;

/// What lets requests in.
#[derive(Debug)]
pub(crate) enum Credentials {
    None,
    Basic { username: String, password: Text },
    Bearer(Text),
}

/// A secret, or the file that holds it.
#[derive(Debug)]
pub(crate) enum Text {
    Given(Secret),
    File {
        path: PathBuf,
        read: Mutex<Option<(Instant, Secret)>>,
    },
}

impl Text {
    fn file(path: PathBuf) -> Self {
        Self::File {
            path,
            read: Mutex::new(None),
        }
    }

    async fn get(&self) -> Result<Secret, Failure> {
        let (path, read) = match self {
            Self::Given(secret) => return Ok(secret.clone()),
            Self::File { path, read } => (path, read),
        };
        let mut read = read.lock().await;
        if let Some((at, secret)) = &*read
            && at.elapsed() < LOOK
        {
            return Ok(secret.clone());
        }
        let file = path.clone();
        let text = tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            let opened = std::fs::File::open(file)?;
            std::io::Read::read_to_string(&mut std::io::Read::take(opened, LONGEST), &mut text)?;
            Ok::<_, std::io::Error>(text)
        });
        let text = text
            .await
            .map_err(std::io::Error::other)
            .and_then(|text| text);
        let text = text.map_err(|error| {
            let message = format!("cannot read the secret in {}: {error}", path.display());
            Failure::new(Reason::SecretFile, message)
        })?;
        let secret = Secret::new(text.trim_end_matches(['\r', '\n']));
        *read = Some((Instant::now(), secret.clone()));
        Ok(secret)
    }
}

impl Credentials {
    pub(crate) fn new(
        username: Option<&String>,
        password: Option<&Secret>,
        password_file: Option<&PathBuf>,
        bearer_token_file: Option<&PathBuf>,
    ) -> Result<Self, SettingsError> {
        if password.is_some() && password_file.is_some() {
            let message = "has the place of `password`: leave one of them out";
            return Err(SettingsError::at("password_file", message));
        }
        let given = password.cloned().map(Text::Given);
        let password = given.or_else(|| password_file.cloned().map(Text::file));
        match (username, password, bearer_token_file) {
            (None, None, None) => Ok(Self::None),
            (Some(username), password, None) => Ok(Self::Basic {
                username: username.clone(),
                password: password.unwrap_or_else(|| Text::Given(Secret::new(""))),
            }),
            (None, None, Some(file)) => Ok(Self::Bearer(Text::file(file.clone()))),
            (None, Some(_), _) => Err(SettingsError::at(
                "username",
                "a password is given, but no `username`",
            )),
            (Some(_), _, Some(_)) => Err(SettingsError::at(
                "bearer_token_file",
                "has the place of `username`: leave one of them out",
            )),
        }
    }

    pub(crate) async fn add(&self, headers: &mut HeaderMap) -> Result<(), Failure> {
        let value = match self {
            Self::None => return Ok(()),
            Self::Basic { username, password } => {
                let password = password.get().await?;
                let both = format!("{username}:{}", password.expose());
                format!("Basic {}", BASE64_STANDARD.encode(both))
            }
            Self::Bearer(token) => format!("Bearer {}", token.get().await?.expose()),
        };
        let mut value = HeaderValue::try_from(value).map_err(|_| {
            Failure::new(
                Reason::SecretFile,
                "the token contains what cannot be sent, such as a newline",
            )
        })?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
        Ok(())
    }
}
