//! What may be set for `tcp`.

use pe_scrape::settings::Problems;
use pe_scrape::{SettingsError, is_label_name};
use regex::bytes::Regex;

use super::dialogue::{Script, Step};
use crate::tls::{TlsChoice, TlsSettings};

crate::probe_settings! {
    /// Settings of `tcp`.
    pub struct TcpSettings {
        /// Port to connect to.
        port: u16, range(1.0, 65_535.0);
        /// Secures the connection before anything is said: `true`, or an object.
        tls: TlsChoice = TlsChoice::Off;
        /// Goes over to TLS as the protocol has it. Then `tls` holds what is otherwise than by default.
        starttls: Option<Starttls>;
        /// Text to send when the connection is there; `\r\n` for the end of a line.
        send: Option<String>;
        /// Regular expression that what comes back must match, after `send`. Named groups become labels of `probe_expect_info`.
        expect: Option<String>;
        /// Several steps, in place of `send` and `expect`: each waits for its `expect` first, and then sends its `send`, in which
        /// `${1}` and `${name}` are groups of what was matched so far.
        dialogue: Vec<StepSettings>;
        /// Bytes that are read at most.
        max_bytes: u32 = 16_384, range(1.0, 16_777_216.0);
    }
}

pe_scrape::settings! {
    /// A step of a dialogue.
    pub struct StepSettings("dialogue") {
        /// Regular expression that what comes must match.
        expect: Option<String>;
        /// Text to send then.
        send: Option<String>;
    }
}

pe_scrape::choices! {
    /// A protocol that goes over to TLS on request.
    pub enum Starttls {
        /// `STARTTLS` of mail servers (RFC 3207).
        #[default]
        Smtp = "smtp",
        /// `STARTTLS` of IMAP (RFC 9051, section 6.2.1).
        Imap = "imap",
        /// `STLS` of POP3 (RFC 2595, section 4).
        Pop3 = "pop3",
        /// `SSLRequest` of PostgreSQL (its manual, section "Message Formats").
        Postgres = "postgres",
    }
}

impl TcpSettings {
    /// What TLS is used with, if it is.
    pub(super) fn tls_settings(&self) -> Option<TlsSettings> {
        let always = self.starttls.map(|_| TlsSettings::default());
        self.tls.settings().or(always)
    }

    /// What is said, checked.
    pub(super) fn script(&self) -> Result<Script, SettingsError> {
        let mut problems = Problems::default();
        if !self.dialogue.is_empty() && (self.send.is_some() || self.expect.is_some()) {
            problems.within("dialogue", |problems| {
                problems.refuse("has the place of `send` and `expect`: leave these out");
            });
        }
        let mut steps = Vec::new();
        for (index, step) in self.dialogue.iter().enumerate() {
            let expect = problems.within("dialogue", |problems| {
                problems.within(index, |problems| {
                    problems.within("expect", |problems| read(step.expect.as_ref(), problems))
                })
            });
            steps.push(Step {
                expect,
                send: step.send.clone(),
            });
        }
        if self.send.is_some() {
            steps.push(Step {
                expect: None,
                send: self.send.clone(),
            });
        }
        if self.expect.is_some() {
            let expect = problems.within("expect", |problems| read(self.expect.as_ref(), problems));
            steps.push(Step { expect, send: None });
        }
        match problems.has_errors() {
            true => Err(problems.into()),
            false => Ok(Script::new(steps)),
        }
    }
}

/// A regular expression whose named groups can be labels.
fn read(text: Option<&String>, problems: &mut Problems) -> Option<Regex> {
    let expression = match Regex::new(text?) {
        Ok(expression) => expression,
        Err(error) => {
            problems.refuse(format_args!("no regular expression: {error}"));
            return None;
        }
    };
    for name in expression.capture_names().flatten() {
        if !is_label_name(name) || pe_scrape::refuse_label_name(name).is_some() || name == "probe" {
            problems.refuse(format_args!("the group `{name}` cannot be a label"));
        }
    }
    Some(expression)
}
