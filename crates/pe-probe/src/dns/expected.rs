//! What a response has to be like. No I/O.

use std::fmt;

use regex::Regex;
use thiserror::Error;

use super::message::{Flags, Response};

/// Names of response codes. Source: the registry of IANA, <https://www.iana.org/assignments/dns-parameters>.
const RCODES: [(u16, &str); 12] = [
    (0, "NOERROR"),
    (1, "FORMERR"),
    (2, "SERVFAIL"),
    (3, "NXDOMAIN"),
    (4, "NOTIMP"),
    (5, "REFUSED"),
    (6, "YXDOMAIN"),
    (7, "YXRRSET"),
    (8, "NXRRSET"),
    (9, "NOTAUTH"),
    (10, "NOTZONE"),
    (16, "BADVERS"),
];

/// A response code as people write it: a name, or a number.
pub fn parse_rcode(text: &str) -> Option<u16> {
    let named = RCODES
        .iter()
        .find(|(_, name)| name.eq_ignore_ascii_case(text));
    // There are twelve bits.
    let number = || text.parse().ok().filter(|code| *code < 4096);
    named.map(|(code, _)| *code).or_else(number)
}

/// A response code by its name where it has one.
struct Rcode(u16);

impl fmt::Display for Rcode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match RCODES.iter().find(|(code, _)| *code == self.0) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "code {}", self.0),
        }
    }
}

/// A bit of the header that may be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    /// The server is an authority for the name.
    Aa,
    /// The server asks others.
    Ra,
    /// The server has validated the answer.
    Ad,
}

impl Flag {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Aa, Self::Ra, Self::Ad];

    /// Its name in lower case.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aa => "aa",
            Self::Ra => "ra",
            Self::Ad => "ad",
        }
    }

    /// Whether it is set.
    #[must_use]
    pub fn is_set(self, flags: Flags) -> bool {
        match self {
            Self::Aa => flags.authoritative,
            Self::Ra => flags.recursion_available,
            Self::Ad => flags.authentic,
        }
    }
}

/// A flag that has to be set, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WantedFlag {
    /// The flag.
    pub flag: Flag,
    /// Whether it has to be set.
    pub set: bool,
}

impl WantedFlag {
    /// Reads `aa`, or `!aa` for one that must not be set.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, set) = match text.strip_prefix('!') {
            Some(name) => (name, false),
            None => (text, true),
        };
        let mut all = Flag::ALL.into_iter();
        let flag = all.find(|flag| flag.as_str().eq_ignore_ascii_case(name))?;
        Some(Self { flag, set })
    }
}

/// What a response has to be like.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    /// The codes that are right.
    pub rcodes: Vec<u16>,
    /// The flags that have to be set, or not.
    pub flags: Vec<WantedFlag>,
    /// What at least one answer has to match, each.
    pub some: Vec<Regex>,
    /// What all answers have to match, of which there has to be one.
    pub every: Vec<Regex>,
    /// What no answer may match.
    pub none: Vec<Regex>,
}

/// What is wrong with a response.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Unexpected {
    /// The code.
    #[error("the server answered {}", Rcode(*.0))]
    Rcode(u16),
    /// A flag.
    #[error("the flag {} is {}", .0.flag.as_str(), if .0.set { "not set" } else { "set" })]
    Flag(WantedFlag),
    /// No answer matches, of so many.
    #[error("none of {answers} answers matches {pattern:?}")]
    NoMatch {
        /// What was looked for.
        pattern: String,
        /// How many answers there were.
        answers: usize,
    },
    /// This answer does not match.
    #[error("the answer {answer:?} does not match {pattern:?}")]
    Differs {
        /// What was looked for.
        pattern: String,
        /// The answer.
        answer: String,
    },
    /// This answer matches.
    #[error("the answer {answer:?} matches {pattern:?}")]
    Forbidden {
        /// What must not be there.
        pattern: String,
        /// The answer.
        answer: String,
    },
}

impl Expected {
    /// Whether the response is as it has to be.
    ///
    /// # Errors
    /// The first thing that is not.
    pub fn check(&self, response: &Response) -> Result<(), Unexpected> {
        if !self.rcodes.contains(&response.rcode) {
            return Err(Unexpected::Rcode(response.rcode));
        }
        let wrong = |wanted: &&WantedFlag| wanted.flag.is_set(response.flags) != wanted.set;
        if let Some(wanted) = self.flags.iter().find(wrong) {
            return Err(Unexpected::Flag(*wanted));
        }
        let answers = &response.answers;
        for pattern in &self.some {
            if !answers.iter().any(|answer| pattern.is_match(answer)) {
                return Err(no_match(pattern, answers));
            }
        }
        for pattern in &self.every {
            if answers.is_empty() {
                return Err(no_match(pattern, answers));
            }
            if let Some(answer) = answers.iter().find(|answer| !pattern.is_match(answer)) {
                return Err(Unexpected::Differs {
                    pattern: pattern.to_string(),
                    answer: answer.clone(),
                });
            }
        }
        for pattern in &self.none {
            if let Some(answer) = answers.iter().find(|answer| pattern.is_match(answer)) {
                return Err(Unexpected::Forbidden {
                    pattern: pattern.to_string(),
                    answer: answer.clone(),
                });
            }
        }
        Ok(())
    }
}

fn no_match(pattern: &Regex, answers: &[String]) -> Unexpected {
    Unexpected::NoMatch {
        pattern: pattern.to_string(),
        answers: answers.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response() -> Response {
        Response {
            rcode: 0,
            flags: Flags {
                authoritative: true,
                ..Flags::default()
            },
            answers: vec![
                "a.test. 60 IN A 192.0.2.1".to_owned(),
                "a.test. 60 IN A 192.0.2.2".to_owned(),
            ],
            authorities: 0,
            additionals: 0,
            serial: None,
        }
    }

    fn patterns(text: &str) -> Vec<Regex> {
        vec![Regex::new(text).unwrap()]
    }

    fn expected() -> Expected {
        Expected {
            rcodes: vec![0],
            ..Expected::default()
        }
    }

    #[test]
    fn codes_and_flags_are_compared() {
        let told = |expected: &Expected| expected.check(&response()).map_err(|e| e.to_string());
        assert_eq!(told(&expected()), Ok(()));
        let mut refused = response();
        refused.rcode = 5;
        let error = expected().check(&refused).unwrap_err();
        assert_eq!(error.to_string(), "the server answered REFUSED");
        for (flag, right) in [("aa", true), ("!aa", false), ("ra", false), ("!AD", true)] {
            let mut expected = expected();
            expected.flags = vec![WantedFlag::parse(flag).unwrap()];
            assert_eq!(told(&expected).is_ok(), right, "{flag}");
        }
        assert_eq!(WantedFlag::parse("tc"), None);
    }

    #[test]
    fn answers_are_matched() {
        let check = |change: fn(&mut Expected)| {
            let mut expected = expected();
            change(&mut expected);
            expected
                .check(&response())
                .map_err(|error| error.to_string())
        };
        assert_eq!(check(|e| e.some = patterns(r"192\.0\.2\.2$")), Ok(()));
        assert_eq!(
            check(|e| e.some = patterns(r"192\.0\.2\.3$")).unwrap_err(),
            r#"none of 2 answers matches "192\\.0\\.2\\.3$""#
        );
        assert_eq!(check(|e| e.every = patterns(r"IN A 192\.")), Ok(()));
        assert_eq!(
            check(|e| e.every = patterns("1$")).unwrap_err(),
            r#"the answer "a.test. 60 IN A 192.0.2.2" does not match "1$""#
        );
        assert!(check(|e| e.none = patterns("AAAA")).is_ok());
        assert!(
            check(|e| e.none = patterns("A 192"))
                .unwrap_err()
                .contains("matches \"A 192\"")
        );
        let mut empty = response();
        empty.answers.clear();
        let mut every = expected();
        every.every = patterns("");
        assert!(every.check(&empty).is_err());
    }

    #[test]
    fn codes_have_names_and_numbers() {
        for (text, code) in [
            ("nxdomain", Some(3)),
            ("NOERROR", Some(0)),
            ("23", Some(23)),
            ("4096", None),
            ("no", None),
        ] {
            assert_eq!(parse_rcode(text), code, "{text}");
        }
        assert_eq!(Rcode(23).to_string(), "code 23");
    }
}
