//! What fuzzers and the tests of their seeds do with a targets file: the whole way from its bytes to devices.

use std::path::Path;

use pe_scrape::is_label_name;

use super::targets_file::{is_yaml, read_groups};
use crate::file::{DiagnosticsBuilder, Document, Scope, Syntax};

/// Reads a targets file. The first byte says whether it is YAML; the rest is the file.
///
/// # Panics
/// When something is not as it always must be.
#[doc(hidden)]
pub fn try_targets(data: &[u8]) {
    let (kind, bytes) = data.split_first().unwrap_or((&0, &[]));
    let path = match kind % 2 {
        0 => "targets.json",
        _ => "targets.yml",
    };
    let found = DiagnosticsBuilder::default();
    match Document::new(Path::new(path), bytes.to_vec()) {
        Ok(document) => try_document(&document, &found),
        Err(problem) => found.push(problem),
    }
    for problem in found.into_vec() {
        assert!(problem.line > 0 && problem.col > 0, "{problem}");
        let hint = problem.hint.as_deref().unwrap_or_default();
        let shown = format!("{}{hint}", problem.message);
        assert!(!shown.contains(char::is_control), "{shown:?}");
    }
}

fn try_document(document: &Document, found: &DiagnosticsBuilder) {
    let scope = Scope { found, document };
    let root = match is_yaml(document.path()) {
        true => scope.parse_yaml(),
        false => scope.parse(),
    };
    let Some(root) = root else {
        return;
    };
    for group in read_groups(scope, Syntax::new(&root)) {
        assert_eq!(group.labels.len(), group.labels_at.len());
        assert!(group.labels.iter().all(|(name, _)| is_label_name(name)));
        let places = group.targets.iter().map(|(_, at)| at);
        assert!(
            places
                .chain(&group.labels_at)
                .all(|at| *at <= document.text().len())
        );
    }
}
