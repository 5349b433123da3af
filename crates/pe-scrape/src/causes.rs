//! The words of errors and panics, where they are shown.

use std::any::Any;
use std::error::Error;

/// An error and its causes in one line, for logs and messages to users: the one place that joins them. `Display` of our own
/// errors tells one level, without its cause. A cause that the text before it ends with is not shown again, since errors of
/// other crates may hold it in their text.
///
/// ```
/// use pe_scrape::{ScraperRegistry, ScraperSettings, with_causes};
///
/// let error = ScraperRegistry::new().create("ping", &ScraperSettings::default()).map(drop).unwrap_err();
/// assert_eq!(with_causes(&error), r#"there is no scraper named "ping"; there are: "#);
/// ```
#[must_use]
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text = format!("{text}: {words}");
        }
        next = cause.source();
    }
    text
}

/// Implements `Debug` of errors as [`with_causes`] shows them, since a `main` that returns a `Result` prints its error by
/// `Debug`.
#[macro_export]
macro_rules! debug_with_causes {
    ($($error:ty),+ $(,)?) => { $(
        impl ::core::fmt::Debug for $error {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.write_str(&$crate::with_causes(self))
            }
        }
    )+ };
}

/// The words of a panic.
#[must_use]
pub fn panic_message(panic: &(dyn Any + Send)) -> &str {
    let words = panic.downcast_ref::<&str>().copied();
    words
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use super::*;

    #[derive(Debug)]
    struct Level(&'static str, Option<Box<Level>>);

    impl fmt::Display for Level {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Level {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|cause| cause as _)
        }
    }

    #[test]
    fn each_cause_is_shown_once() {
        let cause = Level("refused", Some(Box::new(Level("refused", None))));
        let error = Level("cannot connect", Some(Box::new(cause)));
        assert_eq!(with_causes(&error), "cannot connect: refused");
    }
}
