//! A secret that is given, or read from a file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::file_backed::read_file;
use crate::{FileBacked, Secret};

/// Longest text of a secret that is read, in bytes: tokens have some thousands.
const LONGEST: u64 = 64 * 1024;

/// A secret that was given, or that is in a file, which is read again when it changes.
///
/// ```
/// use pe_scrape::{Secret, SecretText};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let password = SecretText::Given(Secret::new("hunter2"));
/// assert_eq!(password.get().await?.expose(), "hunter2");
/// # Ok::<(), String>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Clone)]
pub enum SecretText {
    /// The secret itself.
    Given(Secret),
    /// The one in a file.
    File(Arc<FileBacked<Secret>>),
}

impl SecretText {
    /// The secret in a file, which is read when it is first asked for.
    #[must_use]
    pub fn file(path: PathBuf) -> Self {
        let file = path.clone();
        Self::File(FileBacked::new(vec![path], move || read(&file)))
    }

    /// The secret in a file, which is read now. This call blocks.
    ///
    /// # Errors
    /// Why the file cannot be used.
    pub fn read_file(path: PathBuf) -> Result<Self, String> {
        let file = path.clone();
        FileBacked::read(vec![path], move || read(&file)).map(Self::File)
    }

    /// The secret as it is now; that of a file which can no longer be used is as it was.
    ///
    /// # Errors
    /// Why a file could never be used.
    pub async fn get(&self) -> Result<Secret, String> {
        match self {
            Self::Given(secret) => Ok(secret.clone()),
            Self::File(file) => file.get().await,
        }
    }
}

/// The text of a file, without a byte order mark and without the newline at its end.
fn read(path: &Path) -> Result<Secret, String> {
    let refused = |reason: &str| format!("{}: {reason}", path.display());
    let bytes = read_file(path, LONGEST).map_err(|reason| refused(&reason))?;
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
