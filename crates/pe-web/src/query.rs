//! The query string of lists of devices, the same for the page and the API.

use serde::Deserialize;

use crate::history::Kind;

/// Rows at one time, unless asked for otherwise, and at most.
const ROWS: usize = 25;
const MOST_ROWS: usize = 1000;

/// The longest text to search for.
const LONGEST_FILTER: usize = 200;

/// By what a list is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    Worst,
    Name,
    Address,
    Group,
    Rtt,
    Jitter,
    Loss,
    Change,
}

impl Sort {
    pub(crate) const ALL: [Self; 8] = [
        Self::Worst,
        Self::Name,
        Self::Address,
        Self::Group,
        Self::Rtt,
        Self::Jitter,
        Self::Loss,
        Self::Change,
    ];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Worst => "worst",
            Self::Name => "name",
            Self::Address => "address",
            Self::Group => "group",
            Self::Rtt => "rtt",
            Self::Jitter => "jitter",
            Self::Loss => "loss",
            Self::Change => "change",
        }
    }
}

/// The parameters as they come. Unknown ones are ignored, so that links of other versions work.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Parameters {
    state: String,
    reason: String,
    group: String,
    label: String,
    q: String,
    filter: String,
    groups: String,
    sort: String,
    page: String,
    rows: String,
    limit: String,
    offset: String,
}

/// Which devices, and in which order.
#[derive(Debug, Clone)]
pub(crate) struct DeviceQuery {
    pub(crate) state: Option<Kind>,
    pub(crate) reason: Option<String>,
    pub(crate) group: Option<String>,
    pub(crate) label: Option<(String, String)>,
    pub(crate) filter: Option<String>,
    /// Whether all groups are listed, and not only the worst.
    pub(crate) all_groups: bool,
    pub(crate) sort: Sort,
    pub(crate) descending: bool,
    pub(crate) limit: usize,
    pub(crate) offset: usize,
}

impl From<Parameters> for DeviceQuery {
    /// What means nothing counts as not given.
    fn from(parameters: Parameters) -> Self {
        let given = |text: String| (!text.is_empty()).then_some(text);
        let (sort, descending) = match parameters.sort.strip_prefix('-') {
            Some(sort) => (sort, true),
            None => (parameters.sort.as_str(), false),
        };
        let number = |text: &str| text.parse::<usize>().ok();
        let limit = number(&parameters.limit).or(number(&parameters.rows));
        let limit = limit.unwrap_or(ROWS).clamp(1, MOST_ROWS);
        let page = number(&parameters.page).unwrap_or(1).max(1);
        let text = if parameters.q.is_empty() {
            parameters.filter
        } else {
            parameters.q
        };
        let label = parameters.label.split_once('=');
        Self {
            state: Kind::ALL
                .into_iter()
                .find(|kind| kind.as_str() == parameters.state),
            reason: given(parameters.reason),
            group: given(parameters.group),
            label: label.map(|(name, value)| (name.to_owned(), value.to_owned())),
            filter: given(text.trim().chars().take(LONGEST_FILTER).collect()),
            all_groups: parameters.groups == "all",
            sort: Sort::ALL
                .into_iter()
                .find(|known| known.as_str() == sort)
                .unwrap_or(Sort::Worst),
            descending,
            limit,
            offset: number(&parameters.offset).unwrap_or((page - 1).saturating_mul(limit)),
        }
    }
}

impl DeviceQuery {
    /// The query string of this list, with what is not as usual.
    pub(crate) fn to_query(&self) -> String {
        let mut pairs: Vec<(&str, String)> = Vec::new();
        if let Some(state) = self.state {
            pairs.push(("state", state.as_str().to_owned()));
        }
        if let Some(reason) = &self.reason {
            pairs.push(("reason", reason.clone()));
        }
        if let Some(group) = &self.group {
            pairs.push(("group", group.clone()));
        }
        if let Some((name, value)) = &self.label {
            pairs.push(("label", format!("{name}={value}")));
        }
        if let Some(filter) = &self.filter {
            pairs.push(("q", filter.clone()));
        }
        if self.all_groups {
            pairs.push(("groups", "all".to_owned()));
        }
        if self.sort != Sort::Worst || self.descending {
            let sign = if self.descending { "-" } else { "" };
            pairs.push(("sort", format!("{sign}{}", self.sort.as_str())));
        }
        if self.offset > 0 {
            pairs.push(("page", (self.offset / self.limit + 1).to_string()));
        }
        if self.limit != ROWS {
            pairs.push(("rows", self.limit.to_string()));
        }
        let pairs = pairs
            .iter()
            .map(|(name, value)| format!("{name}={}", escaped(value)));
        let text = pairs.collect::<Vec<_>>().join("&");
        if text.is_empty() {
            String::new()
        } else {
            format!("?{text}")
        }
    }

    /// The same list from its beginning, changed.
    pub(crate) fn changed(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut other = self.clone();
        other.offset = 0;
        change(&mut other);
        other
    }
}

/// A value in a query string (RFC 3986: everything but unreserved characters escaped).
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_found_again_by_its_query_string() {
        let parameters: Parameters = serde_json::from_value(serde_json::json!({
            "state": "down", "reason": "timeout", "group": "a&b", "label": "line=2", "q": "press \u{202e}",
            "sort": "-rtt", "page": "3", "rows": "50",
        }))
        .unwrap();
        let query = DeviceQuery::from(parameters);
        assert_eq!(
            (query.offset, query.limit, query.descending),
            (100, 50, true)
        );
        assert_eq!(
            query.to_query(),
            "?state=down&reason=timeout&group=a%26b&label=line%3D2&q=press%20%E2%80%AE&sort=-rtt&page=3&rows=50"
        );
        let odd = serde_json::json!({ "state": "odd", "sort": "-odd", "page": "-1", "rows": "x", "limit": "1e9" });
        let odd: Parameters = serde_json::from_value(odd).unwrap();
        assert_eq!(DeviceQuery::from(odd).to_query(), "?sort=-worst");
        let usual = DeviceQuery::from(Parameters::default());
        assert_eq!((usual.to_query(), usual.limit), (String::new(), 25));
    }
}
