//! Sending and expecting on a connection, within a number of bytes.

use std::collections::HashMap;
use std::time::Instant;

use regex::bytes::{Captures, Regex};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::probe::PhaseHandle;
use crate::{Failure, Phase, Reason, timed, tls};

/// Bytes of a group that are kept.
pub(super) const LONGEST_CAPTURE: usize = 256;

/// Bytes that are read at once.
const CHUNK: usize = 4096;

/// What is expected, and what is sent then.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) expect: Option<Regex>,
    pub(super) send: Option<String>,
}

/// The steps of a dialogue.
#[derive(Debug)]
pub(super) struct Script {
    steps: Vec<Step>,
    /// Named groups, each once.
    names: Vec<String>,
}

impl Script {
    pub(super) fn new(steps: Vec<Step>) -> Self {
        let mut names: Vec<String> = Vec::new();
        for name in steps
            .iter()
            .filter_map(|step| step.expect.as_ref())
            .flat_map(|expect| expect.capture_names().flatten())
        {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        Self { steps, names }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    pub(super) fn has_names(&self) -> bool {
        !self.names.is_empty()
    }
}

/// Groups that were matched, by name or number.
pub(super) type Found = HashMap<String, String>;

/// A connection in a dialogue.
pub(super) struct Conversation<S> {
    stream: S,
    /// What came and was not matched yet.
    buffer: Vec<u8>,
    /// Bytes that may still come.
    left: usize,
    /// When something came last.
    heard: Option<Instant>,
    phase: PhaseHandle,
    lacks_certificate: bool,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Conversation<S> {
    pub(super) fn new(
        stream: S,
        phase: PhaseHandle,
        max_bytes: usize,
        lacks_certificate: bool,
    ) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            left: max_bytes,
            heard: None,
            phase,
            lacks_certificate,
        }
    }

    /// When something came last.
    pub(super) fn heard_at(&self) -> Option<Instant> {
        self.heard
    }

    /// Whether something came that nothing expected.
    pub(super) fn has_rest(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Waits for what the step expects, and sends what it sends.
    ///
    /// # Cancel safety
    /// What came stays; part of what is sent may have left.
    pub(super) async fn step(&mut self, step: &Step, found: &mut Found) -> Result<(), Failure> {
        if let Some(expect) = &step.expect {
            self.expect(expect, None, found).await?;
        }
        if let Some(send) = &step.send {
            self.send(fill(send, found).as_bytes()).await?;
        }
        Ok(())
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        sent.await
            .map_err(|error| tls::handshake_failure(&error, self.lacks_certificate))
            .map_err(of_connection)
    }

    /// Reads until `wanted` matches, and notes its groups. Fails at once when `refusal` matches before.
    pub(super) async fn expect(
        &mut self,
        wanted: &Regex,
        refusal: Option<&Regex>,
        found: &mut Found,
    ) -> Result<(), Failure> {
        loop {
            self.phase.enter(match self.buffer.last() {
                None => Phase::Answer,
                // Whole lines came, and none is the right one.
                Some(b'\n') => Phase::Unexpected,
                Some(_) => Phase::Transfer,
            });
            if let Some(end) = note(wanted, &self.buffer, found) {
                self.buffer.drain(..end);
                return Ok(());
            }
            if let Some(refused) = refusal.and_then(|refusal| refusal.find(&self.buffer)) {
                let words = String::from_utf8_lossy(refused.as_bytes())
                    .trim()
                    .to_owned();
                return Err(Failure::new(Reason::StarttlsRefused, words));
            }
            self.read().await?;
        }
    }

    async fn read(&mut self) -> Result<(), Failure> {
        if self.left == 0 {
            return Err(Failure::new(
                Reason::TooLarge,
                "what was expected is not among the bytes that may be read",
            ));
        }
        let start = self.buffer.len();
        self.buffer.resize(start + CHUNK.min(self.left), 0);
        let read = timed(self.stream.read(&mut self.buffer[start..])).await;
        let count = *read.output.as_ref().unwrap_or(&0);
        self.buffer.truncate(start + count);
        self.left -= count;
        match read.output {
            Ok(0) if start == 0 => Err(Failure::new(
                Reason::Closed,
                "the device closed the connection without an answer",
            )),
            Ok(0) => Err(Failure::new(
                Reason::Mismatch,
                "the device closed the connection before it had said what was expected",
            )),
            Ok(_) => {
                self.heard = Some(read.at);
                Ok(())
            }
            Err(error) => Err(of_connection(tls::handshake_failure(
                &error,
                self.lacks_certificate,
            ))),
        }
    }
}

/// An error after the handshake is none of the handshake.
fn of_connection(mut failure: Failure) -> Failure {
    if failure.reason == Reason::TlsHandshake {
        failure.reason = Reason::Connection;
    }
    failure
}

/// Notes the groups of what `expect` matches in `bytes`, and returns where the match ends.
fn note(expect: &Regex, bytes: &[u8], found: &mut Found) -> Option<usize> {
    let groups = expect.captures(bytes)?;
    for (number, name) in expect.capture_names().enumerate() {
        let value = text(&groups, number);
        if let Some(name) = name {
            found.insert(name.to_owned(), value.clone());
        }
        found.insert(number.to_string(), value);
    }
    groups.get(0).map(|whole| whole.end())
}

fn text(groups: &Captures<'_>, number: usize) -> String {
    let bytes = groups.get(number).map_or(&[][..], |group| group.as_bytes());
    let bytes = &bytes[..bytes.len().min(LONGEST_CAPTURE)];
    String::from_utf8_lossy(bytes).into_owned()
}

/// Puts groups in the place of `${1}` and `${name}`; what is not known becomes nothing.
fn fill(template: &str, found: &Found) -> String {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("${") {
        text.push_str(before);
        let Some((name, after)) = after.split_once('}') else {
            text.push_str("${");
            rest = after;
            continue;
        };
        text.push_str(found.get(name).map_or("", String::as_str));
        rest = after;
    }
    text.push_str(rest);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_take_the_place_of_their_names() {
        let expect = Regex::new(r"PING (?<cookie>\w+)(\d)").unwrap();
        let mut found = Found::new();
        assert_eq!(note(&expect, b"PING abc7\n", &mut found), Some(9));
        assert_eq!(
            fill("PONG ${cookie}-${2}${none} ${", &found),
            "PONG abc-7 ${"
        );
    }
}
