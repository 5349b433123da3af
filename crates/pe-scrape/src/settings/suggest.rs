//! The nearest known name to an unknown one.

/// How alike two names must be (Jaro-Winkler similarity) for the one to be meant by the other.
const ALIKE: f64 = 0.8;

/// Names are listed in a hint up to this many.
const FEW: usize = 16;

/// The name among `known` nearest to `given`, if any is near enough to be meant.
pub fn nearest<'k>(given: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let lower = given.to_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::jaro_winkler(&lower, &name.to_lowercase()), name))
        .filter(|(similarity, _)| *similarity >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
}

/// A hint for an unknown name: the nearest known one, or all of them where they are few.
pub fn suggestion<'k>(
    given: &str,
    known: impl IntoIterator<Item = &'k str> + Clone,
) -> Option<String> {
    if let Some(name) = nearest(given, known.clone()) {
        return Some(format!("did you mean `{name}`?"));
    }
    let mut names: Vec<&str> = known.into_iter().collect();
    names.sort_unstable();
    if names.is_empty() || names.len() > FEW {
        return None;
    }
    Some(format!("known: {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_names_are_suggested_and_distant_ones_are_not() {
        let known = ["interval", "timeout", "prom_id"];
        assert_eq!(nearest("intervall", known), Some("interval"));
        assert_eq!(nearest("Prom_ID", known), Some("prom_id"));
        assert_eq!(nearest("time", known), Some("timeout"));
        assert_eq!(nearest("color", known), None);
        assert_eq!(
            suggestion("color", known).unwrap(),
            "known: interval, prom_id, timeout"
        );
    }
}
