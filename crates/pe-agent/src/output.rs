//! Printing, where a reader may be gone and a disk may be full.
//!
//! The macros of the standard library panic then. Standard output carries results: a reader that has seen enough is no
//! failure, any other error is one. Standard error carries words about them: what cannot be said is left unsaid.

use std::fmt::Display;
use std::io::{self, ErrorKind, Write, stderr, stdout};

use pe_scrape::printable;

use crate::failure::Failure;

/// Prints to standard output.
///
/// # Errors
/// When that fails for another reason than a reader that is gone.
pub(crate) fn print(text: &[u8]) -> Result<(), Failure> {
    let mut out = stdout().lock();
    printed(out.write_all(text).and_then(|()| out.flush()))
}

/// What comes of printing to standard output: a reader that is gone (`… | head`) has seen enough.
pub(crate) fn printed<T: Default>(result: io::Result<T>) -> Result<T, Failure> {
    match result {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(T::default()),
        Err(error) => Err(Failure::cannot("print", error)),
        Ok(done) => Ok(done),
    }
}

/// Prints lines to standard error, if that is possible, without what a terminal would act on.
pub(crate) fn tell(lines: impl Display) {
    let lines = lines.to_string();
    let lines: Vec<_> = lines.split('\n').map(printable).collect();
    let text = format!("{}\n", lines.join("\n"));
    let _ = stderr().lock().write_all(text.as_bytes());
}

/// `1 device`, `2 devices`.
pub(crate) fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reader_that_is_gone_is_no_failure() {
        assert!(printed::<()>(Err(ErrorKind::BrokenPipe.into())).is_ok());
        let full = printed::<()>(Err(ErrorKind::StorageFull.into())).unwrap_err();
        assert!(full.to_string().starts_with("cannot print: "), "{full}");
    }

    #[test]
    fn one_is_singular() {
        assert_eq!(count(1, "device"), "1 device");
        assert_eq!(count(0, "warning"), "0 warnings");
    }
}
