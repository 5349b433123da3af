//! What a client authenticates itself with.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderValue;
use pe_scrape::Secret;

use super::watched::Watched;
use crate::PushError;

/// Longest text of a secret that is read, in bytes: tokens have some thousands.
const LONGEST: u64 = 64 * 1024;

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

/// A secret that was given, or that is in a file.
#[derive(Clone)]
pub(crate) enum SecretText {
    Given(Secret),
    File(Arc<Watched<Secret>>),
}

impl SecretText {
    /// The secret in a file, read again when the file changes.
    ///
    /// # Errors
    /// Why the file cannot be used.
    pub(crate) fn from_file(path: PathBuf) -> Result<Self, String> {
        let file = path.clone();
        Watched::new(vec![path], move || read(&file)).map(Self::File)
    }

    async fn get(&self) -> Secret {
        match self {
            Self::Given(secret) => secret.clone(),
            Self::File(file) => file.get().await,
        }
    }
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
                let password = password.get().await;
                let pair = format!("{user}:{}", password.expose());
                format!("Basic {}", STANDARD.encode(pair))
            }
            Self::Bearer(token) => format!("Bearer {}", token.get().await.expose()),
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

/// The text of a file, without a byte order mark and without the newline at its end.
fn read(path: &Path) -> Result<Secret, String> {
    let refused = |reason: &str| format!("{}: {reason}", path.display());
    let found = std::fs::metadata(path).map_err(|error| refused(&error.to_string()))?;
    if !found.is_file() {
        return Err(refused("not a file"));
    }
    if found.len() > LONGEST {
        return Err(refused("too long for a secret"));
    }
    let bytes = std::fs::read(path).map_err(|error| refused(&error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| refused("not UTF-8 text"))?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        return Err(refused("the file is empty"));
    }
    if text.chars().any(char::is_control) {
        return Err(refused(
            "it contains control characters, such as a newline, which cannot be sent",
        ));
    }
    Ok(Secret::new(text))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_file_gives_its_text_alone_or_says_what_is_wrong_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let read = |content: &[u8]| {
            let path = directory.path().join("secret");
            std::fs::write(&path, content).unwrap();
            super::read(&path).map(|secret| secret.expose().to_owned())
        };
        assert_eq!(read("\u{feff}hunter2\r\n".as_bytes()).unwrap(), "hunter2");
        assert_eq!(read(b" two words ").unwrap(), " two words ");
        for (content, reason) in [
            (&b""[..], "is empty"),
            (b"\n", "is empty"),
            (b"a\nb", "control characters"),
            (b"\xff\xfe", "not UTF-8"),
            (&[b'x'; 100_000], "too long"),
        ] {
            let words = read(content).unwrap_err();
            assert!(words.contains(reason), "{words}");
        }
        assert!(
            super::read(directory.path())
                .unwrap_err()
                .contains("not a file")
        );
        let missing = super::read(&directory.path().join("missing")).unwrap_err();
        assert!(missing.contains("No such file"), "{missing}");
    }
}
