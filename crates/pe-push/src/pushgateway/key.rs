//! The grouping key, and how it is written into a URL's path. No I/O.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pe_scrape::is_label_name;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::PushError;

/// Everything but the characters that RFC 3986, section 2.3 leaves unreserved.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// What a push group on the gateway is known by: a job, and further labels, in the order in which they were added. Any text is
/// a value; what a path cannot hold is percent-encoded (RFC 3986) or sent as base64 (RFC 4648, section 5).
///
/// Source: <https://github.com/prometheus/pushgateway#url>.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupingKey {
    job: String,
    labels: Vec<(String, String)>,
}

impl GroupingKey {
    /// A key of a job alone.
    ///
    /// # Errors
    /// [`PushError::EmptyJob`]: the gateway accepts no empty job.
    pub fn new(job: impl Into<String>) -> Result<Self, PushError> {
        let job = job.into();
        if job.is_empty() {
            return Err(PushError::EmptyJob);
        }
        Ok(Self {
            job,
            labels: Vec::new(),
        })
    }

    /// The key with one more label, whose value may be empty.
    ///
    /// # Errors
    /// [`PushError::Label`] when the name is not a label name, is `job`, or is in the key already.
    pub fn label(
        mut self,
        name: impl Into<String>,
        value: impl Into<String>,
    ) -> Result<Self, PushError> {
        let name = name.into();
        if !is_label_name(&name) || name == "job" || self.labels.iter().any(|(own, _)| *own == name)
        {
            return Err(PushError::Label(name));
        }
        self.labels.push((name, value.into()));
        Ok(self)
    }

    /// The job.
    #[must_use]
    pub fn job(&self) -> &str {
        &self.job
    }

    /// The path below the gateway's base URL: `/metrics/job/…`.
    #[must_use]
    pub fn path(&self) -> String {
        let mut path = String::from("/metrics");
        segment(&mut path, "job", &self.job);
        for (name, value) in &self.labels {
            segment(&mut path, name, value);
        }
        path
    }
}

/// Appends `/name/value`, or `/name@base64/value` where the value cannot stand in a path as it is: a slash would split it,
/// nothing would vanish, and dots alone would be taken for a step up.
fn segment(path: &mut String, name: &str, value: &str) {
    path.push('/');
    path.push_str(name);
    if value.is_empty() {
        path.push_str("@base64/=");
    } else if value.contains('/') || value == "." || value == ".." {
        path.push_str("@base64/");
        URL_SAFE_NO_PAD.encode_string(value, path);
    } else {
        path.push('/');
        path.extend(utf8_percent_encode(value, ESCAPED));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;

    #[test]
    fn paths_are_those_of_the_gateways_documentation() {
        let path = |job: &str, labels: &[(&str, &str)]| {
            let key = GroupingKey::new(job).unwrap();
            labels
                .iter()
                .fold(key, |key, (name, value)| key.label(*name, *value).unwrap())
                .path()
        };
        assert_eq!(
            path("titan", &[("name", "Προμηθεύς")]),
            "/metrics/job/titan/name/%CE%A0%CF%81%CE%BF%CE%BC%CE%B7%CE%B8%CE%B5%CF%8D%CF%82"
        );
        assert_eq!(
            path("directory_cleaner", &[("path", "/var/tmp")]),
            "/metrics/job/directory_cleaner/path@base64/L3Zhci90bXA"
        );
        assert_eq!(
            path(
                "example",
                &[("first_label", ""), ("second_label", "foobar")]
            ),
            "/metrics/job/example/first_label@base64/=/second_label/foobar"
        );
        assert_eq!(path("a b+c%", &[]), "/metrics/job/a%20b%2Bc%25");
        assert_eq!(path("..", &[]), "/metrics/job@base64/Li4");
    }

    #[test]
    fn what_the_gateway_would_refuse_is_refused() {
        assert!(matches!(GroupingKey::new(""), Err(PushError::EmptyJob)));
        let key = GroupingKey::new("a").unwrap().label("x", "1").unwrap();
        for bad in ["x", "job", "1a", "__a", ""] {
            assert!(
                matches!(key.clone().label(bad, "v"), Err(PushError::Label(_))),
                "{bad}"
            );
        }
    }

    /// Reads a path as the gateway does.
    fn decode(path: &str) -> Vec<(String, String)> {
        let parts: Vec<&str> = path.strip_prefix("/metrics/").unwrap().split('/').collect();
        let pair = |pair: &[&str]| {
            let text = |part: &str| percent_decode_str(part).decode_utf8().unwrap().into_owned();
            match pair[0].strip_suffix("@base64") {
                Some(name) => {
                    let bytes = URL_SAFE_NO_PAD
                        .decode(pair[1].trim_end_matches('='))
                        .unwrap();
                    (name.to_owned(), String::from_utf8(bytes).unwrap())
                }
                None => (text(pair[0]), text(pair[1])),
            }
        };
        parts.chunks(2).map(pair).collect()
    }

    proptest! {
        #[test]
        fn any_value_survives(job in ".+", value in ".*", other in "[/.%+ \"=]*") {
            let key = GroupingKey::new(job.clone()).unwrap();
            let path = key.label("a", value.clone()).unwrap().label("b", other.clone()).unwrap().path();
            let pairs = [("job", job), ("a", value), ("b", other)];
            let expected: Vec<_> = pairs.map(|(name, value)| (name.to_owned(), value)).into();
            prop_assert!(path.is_ascii() && !path.contains("//"));
            prop_assert_eq!(decode(&path), expected);
        }
    }
}
