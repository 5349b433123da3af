//! Queries and responses of DNS as bytes (RFC 1035, RFC 6891); the wire format itself is hickory-proto's.
//!
//! A response is only taken where its identifier and its question are those of the query. What else arrives is told apart, so that
//! a server that answers something else has a reason of its own. No I/O.

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use thiserror::Error;

/// What a response over UDP may hold: what passes every path without being cut into fragments.
/// Source: <https://www.dnsflagday.net/2020/>.
const UDP_PAYLOAD: u16 = 1232;

/// Bytes of a header.
const HEADER: usize = 12;

/// QR, in the third byte of a header.
const RESPONSE: u8 = 0x80;
/// TC, in the same byte.
const TRUNCATED: u8 = 0x02;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    name: Name,
    record_type: RecordType,
    class: DNSClass,
    /// Whether the server is to ask others (RD).
    pub recursion: bool,
    /// Whether the query says what it can take (EDNS), which a few old servers refuse.
    pub edns: bool,
    /// Whether signatures are asked for (DO), which takes EDNS.
    pub dnssec: bool,
}

/// Why something cannot be asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QuestionError {
    /// The name is none of DNS.
    #[error("{0:?} is not a name of DNS")]
    Name(String),
    /// There is no such type of record.
    #[error("{0:?} is not a type of record, such as A, AAAA, MX, SOA or TXT")]
    Type(String),
}

impl Question {
    /// Asks for the records of `record_type` that `name` has in the class IN, with recursion and EDNS.
    ///
    /// # Errors
    /// [`QuestionError`] when name or type are none.
    pub fn new(name: &str, record_type: &str) -> Result<Self, QuestionError> {
        let not_a_name = || QuestionError::Name(name.to_owned());
        let mut parsed = Name::from_utf8(name)
            .or_else(|_| Name::from_ascii(name))
            .map_err(|_| not_a_name())?;
        // Whether it is written with the dot at the end or without.
        parsed.set_fqdn(true);
        let known = record_type.to_ascii_uppercase().parse();
        Ok(Self {
            name: parsed,
            record_type: known
                .ok()
                .filter(|found| !matches!(found, RecordType::Unknown(_) | RecordType::ZERO))
                .ok_or_else(|| QuestionError::Type(record_type.to_owned()))?,
            class: DNSClass::IN,
            recursion: true,
            edns: true,
            dnssec: false,
        })
    }

    /// The same in the class CHAOS, in which servers tell of themselves.
    #[must_use]
    pub fn chaos(mut self) -> Self {
        self.class = DNSClass::CH;
        self
    }

    /// The query as it is sent.
    #[must_use]
    pub fn encode(&self, id: u16) -> Vec<u8> {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = self.recursion;
        // Says that the flag is understood: RFC 6840, section 5.7. Else a resolver need not set it.
        message.metadata.authentic_data = true;
        let mut query = Query::query(self.name.clone(), self.record_type);
        query.set_query_class(self.class);
        message.add_query(query);
        if self.edns || self.dnssec {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_PAYLOAD);
            edns.set_dnssec_ok(self.dnssec);
            message.set_edns(edns);
        }
        // A name that was parsed fits into a message.
        message.to_vec().unwrap_or_default()
    }

    /// Whether a response repeats the question. One without a question tells only that the server could not make anything of
    /// the query.
    fn is_asked_in(&self, message: &Message) -> bool {
        match &message.queries[..] {
            [] => message.metadata.response_code != ResponseCode::NoError,
            [query] => {
                query.query_type() == self.record_type
                    && query.query_class() == self.class
                    // Upper and lower case are the same in DNS.
                    && *query.name() == self.name
            }
            _ => false,
        }
    }
}

/// Why bytes that came are no response to a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NotOurs {
    /// Another query's response.
    #[error("a response with another identifier than the query's")]
    Id,
    /// The identifier is right; what was asked is not.
    #[error("a response to another question")]
    Question,
    /// A query, such as our own sent back.
    #[error("a query instead of a response")]
    Query,
    /// Not a message of DNS.
    #[error("no message of DNS")]
    Malformed,
}

/// The bits of a header that say something of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    /// Authoritative answer (AA).
    pub authoritative: bool,
    /// Truncated (TC).
    pub truncated: bool,
    /// Recursion available (RA).
    pub recursion_available: bool,
    /// Authentic data (AD): validated by DNSSEC.
    pub authentic: bool,
}

/// A response to a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The code, with the part that EDNS adds.
    pub rcode: u16,
    /// The bits of the header.
    pub flags: Flags,
    /// The records that answer, each as text: name, TTL, class, type and data.
    pub answers: Vec<String>,
    /// How many records tell of authorities.
    pub authorities: usize,
    /// How many further records there are; the pseudo-record of EDNS is not counted.
    pub additionals: usize,
    /// The serial number of the SOA record, if there is one.
    pub serial: Option<u32>,
}

impl Response {
    /// Reads what came for a query. One that is truncated may be cut anywhere; it has no records then.
    ///
    /// # Errors
    /// [`NotOurs`] where it is no response to the query.
    pub fn read(bytes: &[u8], question: &Question, id: u16) -> Result<Self, NotOurs> {
        let header = bytes.get(..HEADER).ok_or(NotOurs::Malformed)?;
        if u16::from_be_bytes([header[0], header[1]]) != id {
            return Err(NotOurs::Id);
        }
        if header[2] & RESPONSE == 0 {
            return Err(NotOurs::Query);
        }
        let message = match Message::from_vec(bytes) {
            Ok(message) => message,
            Err(_) if header[2] & TRUNCATED != 0 => return Ok(Self::cut(header[3])),
            Err(_) => return Err(NotOurs::Malformed),
        };
        if !question.is_asked_in(&message) {
            return Err(NotOurs::Question);
        }
        let metadata = message.metadata;
        Ok(Self {
            rcode: metadata.response_code.into(),
            flags: Flags {
                authoritative: metadata.authoritative,
                truncated: metadata.truncation,
                recursion_available: metadata.recursion_available,
                authentic: metadata.authentic_data,
            },
            answers: message.answers.iter().map(ToString::to_string).collect(),
            authorities: message.authorities.len(),
            additionals: message.additionals.len(),
            serial: message.answers.iter().find_map(serial),
        })
    }

    fn cut(codes: u8) -> Self {
        Self {
            rcode: u16::from(codes & 0x0f),
            flags: Flags {
                truncated: true,
                ..Flags::default()
            },
            answers: Vec::new(),
            authorities: 0,
            additionals: 0,
            serial: None,
        }
    }
}

fn serial(record: &Record) -> Option<u32> {
    match &record.data {
        RData::SOA(soa) => Some(soa.serial),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question() -> Question {
        Question::new("router.test", "soa").unwrap()
    }

    /// A response to `question` with these codes in the third and fourth byte, and nothing else.
    fn response(question: &Question, flags: [u8; 2]) -> Vec<u8> {
        let mut bytes = question.encode(7);
        bytes[2] = flags[0];
        bytes[3] = flags[1];
        bytes
    }

    #[test]
    fn what_cannot_be_asked_is_told() {
        let told = |name, kind| Question::new(name, kind).unwrap_err().to_string();
        assert_eq!(told("a..b", "A"), "\"a..b\" is not a name of DNS");
        let long = "a".repeat(64);
        assert!(told(&long, "A").contains("is not a name"));
        assert!(told("a.test", "NOSUCH").starts_with("\"NOSUCH\" is not a type of record"));
        for name in [
            "_sip._udp.a.test",
            "a.test.",
            ".",
            "bücher.test",
            "10.2.0.192.in-addr.arpa",
        ] {
            assert!(Question::new(name, "any").is_ok(), "{name}");
        }
    }

    #[test]
    fn only_a_response_to_the_query_is_taken() {
        let question = question();
        let read = |bytes: &[u8]| Response::read(bytes, &question, 7);
        let good = response(&question, [0x84, 0x03]);
        let response_code = read(&good).unwrap();
        assert_eq!(response_code.rcode, 3);
        assert!(response_code.flags.authoritative && !response_code.flags.recursion_available);

        let mut upper = good.clone();
        upper[13..19].make_ascii_uppercase();
        assert!(read(&upper).is_ok());

        assert_eq!(Response::read(&good, &question, 8), Err(NotOurs::Id));
        assert_eq!(read(&question.encode(7)), Err(NotOurs::Query));
        assert_eq!(read(&good[..11]), Err(NotOurs::Malformed));
        assert_eq!(read(&good[..20]), Err(NotOurs::Malformed));
        let other = Question::new("other.test", "SOA").unwrap();
        assert_eq!(read(&response(&other, [0x84, 0])), Err(NotOurs::Question));
        let other = Question::new("router.test", "A").unwrap();
        assert_eq!(read(&response(&other, [0x84, 0])), Err(NotOurs::Question));
    }

    #[test]
    fn a_refusal_may_leave_the_question_out() {
        let question = question();
        let header = |code| [0, 7, 0x80, code, 0, 0, 0, 0, 0, 0, 0, 0];
        let read = |code| Response::read(&header(code), &question, 7);
        assert_eq!(read(5).unwrap().rcode, 5);
        assert_eq!(read(0), Err(NotOurs::Question));
    }

    #[test]
    fn a_truncated_response_may_be_cut_anywhere() {
        let question = question();
        let cut = &response(&question, [0x82, 0])[..20];
        let response = Response::read(cut, &question, 7).unwrap();
        assert!(response.flags.truncated && response.answers.is_empty());
    }
}
