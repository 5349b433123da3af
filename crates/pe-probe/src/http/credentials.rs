//! What a request shows to be let in: a password or a token, from the configuration or from a file that is read again.

use std::path::PathBuf;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use pe_scrape::{Secret, SecretText, SettingsError};

use crate::{Failure, Reason};

/// What lets requests in.
#[derive(Debug)]
pub(crate) enum Credentials {
    None,
    Basic {
        username: String,
        password: SecretText,
    },
    Bearer(SecretText),
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
        let given = password.cloned().map(SecretText::Given);
        let password = given.or_else(|| password_file.cloned().map(SecretText::file));
        match (username, password, bearer_token_file) {
            (None, None, None) => Ok(Self::None),
            (Some(username), password, None) => Ok(Self::Basic {
                username: username.clone(),
                password: password.unwrap_or_else(|| SecretText::Given(Secret::new(""))),
            }),
            (None, None, Some(file)) => Ok(Self::Bearer(SecretText::file(file.clone()))),
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
                let password = secret(password).await?;
                let both = format!("{username}:{}", password.expose());
                format!("Basic {}", BASE64_STANDARD.encode(both))
            }
            Self::Bearer(token) => format!("Bearer {}", secret(token).await?.expose()),
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

async fn secret(text: &SecretText) -> Result<Secret, Failure> {
    text.get()
        .await
        .map_err(|reason| Failure::new(Reason::SecretFile, reason))
}
