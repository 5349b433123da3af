//! What a client authenticates itself with.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderValue;
use pe_scrape::SecretText;

use crate::PushError;

/// What goes with every request.
#[derive(Clone, Default)]
pub(crate) enum Authentication {
    /// Nothing.
    #[default]
    None,
    /// User and password (RFC 7617, in UTF-8).
    Basic { user: String, password: SecretText },
    /// A token (RFC 6750, section 2.1).
    Bearer(SecretText),
}

impl Authentication {
    /// User and password.
    ///
    /// # Errors
    /// Where they hold what RFC 7617 forbids.
    pub(crate) fn basic(user: &str, password: SecretText) -> Result<Self, PushError> {
        let given = match &password {
            SecretText::Given(secret) => secret.expose(),
            SecretText::File(_) => "",
        };
        let plain = |text: &str| text.chars().all(|c| !c.is_control());
        if user.contains(':') || !plain(user) || !plain(given) {
            return Err(PushError::Credentials);
        }
        let user = user.to_owned();
        Ok(Self::Basic { user, password })
    }

    pub(crate) fn is_some(&self) -> bool {
        !matches!(self, Self::None)
    }

    /// The value of the header `Authorization`.
    pub(super) async fn header(&self) -> Result<Option<HeaderValue>, PushError> {
        let value = match self {
            Self::None => return Ok(None),
            Self::Basic { user, password } => {
                let password = password.get().await.map_err(|_| PushError::Credentials)?;
                let pair = format!("{user}:{}", password.expose());
                format!("Basic {}", STANDARD.encode(pair))
            }
            Self::Bearer(token) => {
                let token = token.get().await.map_err(|_| PushError::Credentials)?;
                format!("Bearer {}", token.expose())
            }
        };
        let mut value = HeaderValue::try_from(value).map_err(|_| PushError::Credentials)?;
        value.set_sensitive(true);
        Ok(Some(value))
    }

    /// How a message calls what is to be checked where access is refused.
    pub(super) fn advice(&self) -> &'static str {
        match self {
            Self::None => "it asks for user and password, or a token",
            Self::Basic { .. } => "check user and password",
            Self::Bearer(_) => "check the token",
        }
    }
}
