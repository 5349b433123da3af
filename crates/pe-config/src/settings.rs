//! Decoding layered settings, and telling of what is wrong with them where it was written.

use figment::value::Value;

use crate::diagnostic::Severity;
use crate::layers::{Layered, Origin};
use crate::report::Scope;
use crate::scalar::Refusal;

/// The settings of one file, ready to be decoded.
pub(crate) struct SettingReader<'r, 'd> {
    scope: Scope<'r, 'd>,
    layered: Layered,
    /// Where problems with what was written nowhere are told of.
    fallback: usize,
}

impl<'r, 'd> SettingReader<'r, 'd> {
    /// A reader of `layered`; `fallback` is the byte offset of the object that holds the settings.
    pub(crate) fn new(scope: Scope<'r, 'd>, layered: Layered, fallback: usize) -> Self {
        Self {
            scope,
            layered,
            fallback,
        }
    }

    /// The setting `key`, decoded; `None` when it is absent or was reported. `decode` learns whether the
    /// value comes from outside a file, where numbers are written as text.
    pub(crate) fn read<T>(
        &self,
        key: &str,
        decode: impl FnOnce(&Value, bool) -> Result<T, Refusal>,
    ) -> Option<T> {
        let setting = self.layered.get(key)?;
        decode(&setting.value, setting.origin.is_text())
            .map_err(|Refusal(reason)| self.error(key, format!("{key}: {reason}"), None))
            .ok()
    }

    /// Whether any layer has the setting `key`.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.layered.get(key).is_some()
    }

    /// Reports the setting `key` as missing in the object called `name`, unless some layer has it.
    pub(crate) fn require(&self, key: &str, name: &str) {
        if !self.has(key) {
            self.scope
                .error(self.fallback, format!("missing key `{key}` in {name}"));
        }
    }

    /// Where the setting `key` was written.
    pub(crate) fn origin(&self, key: &str) -> Option<&Origin> {
        self.layered.get(key).map(|setting| &setting.origin)
    }

    /// Whether the setting `key` was written anywhere: it is no default.
    pub(crate) fn is_written(&self, key: &str) -> bool {
        self.origin(key)
            .is_some_and(|origin| *origin != Origin::Default)
    }

    /// Reports an error in the setting `key`.
    pub(crate) fn error(&self, key: &str, message: impl Into<String>, hint: Option<&str>) {
        self.report(key, Severity::Error, message.into(), hint);
    }

    /// Warns of the setting `key`.
    pub(crate) fn warn(&self, key: &str, message: impl Into<String>, hint: &str) {
        self.report(key, Severity::Warning, message.into(), Some(hint));
    }

    fn report(&self, key: &str, severity: Severity, message: String, hint: Option<&str>) {
        let origin = self.origin(key).unwrap_or(&Origin::Default);
        origin.report(
            self.scope,
            self.fallback,
            severity,
            message,
            hint.map(str::to_owned),
        );
    }
}
