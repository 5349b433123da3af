//! `external_labels`: labels of the agent, which everything that leaves it carries.
//!
//! `${NAME}` in a value stands for an environment variable, `$$` for a dollar. `${HOSTNAME}` always has a value: shells
//! set that variable, service managers do not, and then the system is asked for the name.

use std::sync::Arc;

use pe_scrape::settings::{Key, Node, View};
use pe_scrape::{AGENT_LABELS, Checks, Group, Labels, REPLICA_LABEL, refuse_label_name};

use crate::file::{Scope, Syntax};
use crate::layers::Environment;

/// The labels.
pub(crate) const EXTERNAL_LABELS: Key = Key::of::<Labels>(
    "external_labels",
    &[
        "Labels for everything that is sent from here, such as `{\"site\": \"north\", \"agent\": \"${HOSTNAME}\"}`:",
        "further grouping labels on a Pushgateway. `/metrics` does not show them.",
    ],
);

/// The variable that has a value even where it is not set.
const HOSTNAME: &str = "HOSTNAME";

/// The labels, and where each was written.
#[derive(Default)]
pub(crate) struct ExternalLabels {
    pub(crate) labels: Labels,
    places: Vec<(Arc<str>, usize)>,
}

/// Reads the object; reports what is wrong with it.
pub(super) fn read(scope: Scope<'_, '_>, node: Syntax<'_>, env: &Environment) -> ExternalLabels {
    if node.view() != View::Object {
        let found = node.view().describe();
        let message = format!("external_labels: found {found}, expected an object");
        scope.error(node.start(), message, None);
        return ExternalLabels::default();
    }
    let mut labels = Vec::new();
    let mut places = Vec::new();
    for (name, value) in node.fields() {
        let at = node.key_start(name).unwrap_or(node.start());
        if name != REPLICA_LABEL
            && let Some((message, hint)) = refuse_label_name(name)
        {
            scope.error(at, message, hint);
            continue;
        }
        if AGENT_LABELS.contains(&name) {
            let message = format!("external label `{name}`: series of the agent itself carry it");
            let hint = "a series has a label once; choose another name";
            scope.error(at, message, hint.to_owned());
            continue;
        }
        let View::Text(text) = value.view() else {
            let found = value.view().describe();
            let message = format!("external label `{name}`: found {found}, expected a string");
            scope.error(value.start(), message, None);
            continue;
        };
        match expand(text, |variable| value_of(variable, env)) {
            Ok(text) => {
                let name: Arc<str> = name.into();
                places.push((name.clone(), at));
                labels.push((name, text));
            }
            Err(Refusal { reason, hint }) => {
                let message = format!("external label `{name}`: {reason}");
                scope.error(value.start(), message, hint);
            }
        }
    }
    ExternalLabels {
        // An empty value is no label.
        labels: Labels::default().overlaid(labels),
        places,
    }
}

impl ExternalLabels {
    /// Reports labels that a device of `groups` carries too, whether they were configured or its scrapers set them.
    pub(crate) fn refuse_shared(self, scope: Scope<'_, '_>, groups: &[Group], checks: &Checks<'_>) {
        for (name, at) in &self.places {
            let Some((group, owner)) = groups
                .iter()
                .find_map(|group| Some((group, owner_of(name, group, checks)?)))
            else {
                continue;
            };
            let message = format!(
                "external label `{name}`: {owner} in {} carries it already",
                group.origin()
            );
            let hint = "a series has a label once; choose another name";
            scope.error(*at, message, hint.to_owned());
        }
    }
}

/// What in `group` has a label of that name.
fn owner_of(name: &str, group: &Group, checks: &Checks<'_>) -> Option<String> {
    group.devices.iter().find_map(|device| {
        if device.target.labels().get(name).is_some() {
            return Some(format!("the device `{}`", device.target.device()));
        }
        let (_, scraper) = checks.clashing_label([name], &device.scrapers)?;
        Some(format!("the metric `{scraper}`"))
    })
}

/// Why a value cannot be used.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    reason: String,
    hint: Option<String>,
}

/// The value of an environment variable; never part of a message.
fn value_of(name: &str, env: &Environment) -> Result<String, Refusal> {
    match env.variable(name) {
        Some(value) => value.to_str().map(str::to_owned).ok_or_else(|| Refusal {
            reason: format!("the environment variable `{name}` is not UTF-8 text"),
            hint: None,
        }),
        None if name == HOSTNAME => {
            let name = rustix::system::uname();
            Ok(name.nodename().to_string_lossy().into_owned())
        }
        None => Err(Refusal {
            reason: format!("the environment variable `{name}` is not set, or empty"),
            hint: Some("set it, or write the value itself".to_owned()),
        }),
    }
}

/// The text with the values of variables in their places.
fn expand(
    text: &str,
    value_of: impl Fn(&str) -> Result<String, Refusal>,
) -> Result<String, Refusal> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        expanded.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            expanded.push('$');
            rest = after;
            continue;
        }
        let variable = after
            .strip_prefix('{')
            .and_then(|after| after.split_once('}'));
        let Some((name, after)) = variable.filter(|(name, _)| is_variable_name(name)) else {
            return Err(Refusal {
                reason: "a `$` that begins no variable".to_owned(),
                hint: Some(
                    "write `${NAME}` for an environment variable, and `$$` for a dollar".to_owned(),
                ),
            });
        };
        expanded.push_str(&value_of(name)?);
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

fn is_variable_name(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    name.bytes().all(is_part) && !name.is_empty() && !name.as_bytes()[0].is_ascii_digit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_stand_in_braces_and_two_dollars_for_one() {
        let known = |name: &str| Ok(format!("<{name}>"));
        let expanded = |text| expand(text, known).map_err(|refusal| refusal.reason);
        for (text, expected) in [
            ("plain", "plain"),
            ("", ""),
            ("a ${B}${_C2} d", "a <B><_C2> d"),
            ("$$", "$"),
            ("$${B} costs 5$$", "${B} costs 5$"),
            ("}{", "}{"),
        ] {
            assert_eq!(expanded(text).as_deref(), Ok(expected), "{text}");
        }
        for bad in ["$", "$B", "${B", "${}", "${1}", "${a-b}", "$$$", "${B:-c}"] {
            assert_eq!(
                expanded(bad).as_deref(),
                Err(&"a `$` that begins no variable".to_owned()),
                "{bad}"
            );
        }
    }
}
