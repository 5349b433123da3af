//! Bytes as people write them, and replies compared with them. No I/O.

use regex::bytes::Regex;

/// Most bytes of a datagram over IPv4.
pub const MAX_DATAGRAM: usize = 65_507;

/// Reads bytes in hexadecimal, with spaces, colons or nothing between them.
pub fn parse_hex(text: &str) -> Option<Vec<u8>> {
    HexPattern::parse(text)?.0.into_iter().collect()
}

/// Bytes in hexadecimal of which some may be any (`??`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HexPattern(Vec<Option<u8>>);

impl HexPattern {
    /// Reads such as `01 03 ?? ff`; `None` where it is none, or empty.
    pub fn parse(text: &str) -> Option<Self> {
        let digits: Vec<char> = text
            .chars()
            .filter(|c| !c.is_whitespace() && *c != ':')
            .collect();
        let (pairs, rest) = digits.as_chunks::<2>();
        if pairs.is_empty() || !rest.is_empty() || pairs.len() > MAX_DATAGRAM {
            return None;
        }
        let byte = |pair: &[char; 2]| match pair {
            ['?', '?'] => Some(None),
            [high, low] => Some(Some((high.to_digit(16)? << 4 | low.to_digit(16)?) as u8)),
        };
        pairs.iter().map(byte).collect::<Option<_>>().map(Self)
    }

    /// Whether `bytes` begin so.
    #[must_use]
    pub fn is_start_of(&self, bytes: &[u8]) -> bool {
        let mut pairs = self.0.iter().zip(bytes);
        self.0.len() <= bytes.len()
            && pairs.all(|(wanted, byte)| wanted.is_none_or(|wanted| wanted == *byte))
    }
}

/// What a reply has to be like.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// What it has to match somewhere.
    pub pattern: Option<Regex>,
    /// What it has to begin with.
    pub start: Option<HexPattern>,
}

impl Expected {
    /// Whether the reply is as it has to be. Any is, where nothing is expected.
    #[must_use]
    pub fn matches(&self, reply: &[u8]) -> bool {
        self.pattern
            .as_ref()
            .is_none_or(|pattern| pattern.is_match(reply))
            && self
                .start
                .as_ref()
                .is_none_or(|start| start.is_start_of(reply))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_written_in_several_forms() {
        for text in ["0103ff", "01 03 FF", "01:03:ff", " 01\t03\nff "] {
            assert_eq!(parse_hex(text), Some(vec![1, 3, 255]), "{text}");
        }
        for text in ["", " ", "0", "01 0", "0x01", "01 ??", "zz", "é"] {
            assert_eq!(parse_hex(text), None, "{text}");
        }
    }

    #[test]
    fn replies_are_compared_by_pattern_and_by_bytes() {
        let expected = |pattern: Option<&str>, start: Option<&str>| Expected {
            pattern: pattern.map(|text| Regex::new(text).unwrap()),
            start: start.map(|text| HexPattern::parse(text).unwrap()),
        };
        assert!(expected(None, None).matches(b""));
        assert!(expected(Some("(?-u)^\\xff+PONG"), None).matches(b"\xff\xffPONG"));
        assert!(!expected(Some("^PONG"), None).matches(b"ping"));
        assert!(expected(None, Some("01 ?? 03")).matches(&[1, 2, 3, 4]));
        assert!(!expected(None, Some("01 ?? 03")).matches(&[1, 2, 4]));
        assert!(!expected(None, Some("01 ?? 03")).matches(&[1, 2]));
        assert!(!expected(Some("^a"), Some("62")).matches(b"b"));
    }
}
