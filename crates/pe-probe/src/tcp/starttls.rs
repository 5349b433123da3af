//! How a plain connection goes over to TLS.

use std::sync::LazyLock;

use regex::bytes::Regex;
use tokio::io::{AsyncRead, AsyncWrite};

use super::dialogue::{Conversation, Found};
use super::settings::Starttls;
use crate::probe::PhaseHandle;
use crate::{Failure, Phase, Reason};

/// Bytes that a server may say before TLS.
const MOST: usize = 16_384;

/// The message of PostgreSQL: its length, and the number of the request.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// What is sent, what is expected then, and what is a refusal.
struct Exchange {
    send: &'static [u8],
    expect: Regex,
    refusal: Regex,
}

impl Exchange {
    fn new(send: &'static [u8], expect: &str, refusal: &str) -> Self {
        let read = |text| Regex::new(text).expect("it is a literal, and a test reads it");
        Self {
            send,
            expect: read(expect),
            refusal: read(refusal),
        }
    }
}

// Each expectation ends with its line, so that what follows is not taken for TLS.
static SMTP: LazyLock<[Exchange; 3]> = LazyLock::new(|| {
    let refusal = r"(?m)^[45]\d\d[ \r][^\n]*\n";
    [
        Exchange::new(b"", r"(?m)^220(?: [^\n]*)?\n", refusal),
        Exchange::new(b"EHLO localhost\r\n", r"(?m)^250(?: [^\n]*)?\n", refusal),
        Exchange::new(b"STARTTLS\r\n", r"(?m)^220(?: [^\n]*)?\n", refusal),
    ]
});
static IMAP: LazyLock<[Exchange; 2]> = LazyLock::new(|| {
    [
        Exchange::new(
            b"",
            r"(?m)^\* OK[^\n]*\n",
            r"(?m)^\* (?:BYE|PREAUTH)[^\n]*\n",
        ),
        Exchange::new(
            b"a STARTTLS\r\n",
            r"(?m)^a OK[^\n]*\n",
            r"(?m)^(?:a (?:NO|BAD)|\* BYE)[^\n]*\n",
        ),
    ]
});
static POP3: LazyLock<[Exchange; 2]> = LazyLock::new(|| {
    let (ok, refusal) = (r"(?m)^\+OK[^\n]*\n", r"(?m)^-ERR[^\n]*\n");
    [
        Exchange::new(b"", ok, refusal),
        Exchange::new(b"STLS\r\n", ok, refusal),
    ]
});
static POSTGRES: LazyLock<[Exchange; 1]> =
    LazyLock::new(|| [Exchange::new(&SSL_REQUEST, r"^S", r"(?s-u)^[^S].*")]);

/// Asks the server to go over to TLS, which it starts after that.
///
/// # Errors
/// [`Reason::StarttlsRefused`] when it does not want to, and what a dialogue fails with.
pub(super) async fn begin(
    phase: PhaseHandle,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    protocol: Starttls,
) -> Result<(), Failure> {
    let exchanges: &[Exchange] = match protocol {
        Starttls::Smtp => &*SMTP,
        Starttls::Imap => &*IMAP,
        Starttls::Pop3 => &*POP3,
        Starttls::Postgres => &*POSTGRES,
    };
    phase.enter(Phase::Answer);
    let mut conversation = Conversation::new(stream, phase, MOST, false);
    let mut found = Found::new();
    for exchange in exchanges {
        if !exchange.send.is_empty() {
            conversation.send(exchange.send).await?;
        }
        conversation
            .expect(&exchange.expect, Some(&exchange.refusal), &mut found)
            .await?;
    }
    if conversation.has_rest() {
        // What is said before TLS must not count as said within it (CVE-2011-0411 and its kin).
        return Err(Failure::new(
            Reason::Protocol,
            "the device said more before TLS than it should",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_and_refusals_are_told_apart() {
        let [_, ehlo, start] = &*SMTP;
        let answer = b"250-mail.test\r\n250-STARTTLS\r\n250 HELP\r\n";
        assert_eq!(ehlo.expect.find(answer).unwrap().end(), answer.len());
        assert!(ehlo.expect.find(b"250-mail.test\r\n250 HEL").is_none());
        assert!(start.refusal.is_match(b"454 TLS not available\r\n"));
        assert!(IMAP[1].refusal.is_match(b"a BAD unknown\r\n"));
        assert!(POP3[1].refusal.is_match(b"-ERR no\r\n"));
        assert!(POSTGRES[0].expect.is_match(b"S"));
        assert!(POSTGRES[0].refusal.is_match(b"N"));
    }
}
