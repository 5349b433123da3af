//! Why a probe failed.

use std::borrow::Cow;
use std::fmt;

use thiserror::Error;

/// Why a probe failed: the class, and what happened in words.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct Failure {
    /// The class.
    pub reason: Reason,
    /// What happened, for logs.
    pub message: Cow<'static, str>,
}

impl Failure {
    /// A failure of this class.
    pub fn new(reason: Reason, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason,
            message: message.into(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.reason.as_str())
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $word:literal, $side:ident;)+) => {
        /// A class of failures, the value of the label `reason` in `probe_errors_total`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum Reason { $($(#[doc = $doc])+ $variant,)+ }

        impl Reason {
            /// All reasons, in the order of their discriminants.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The label's value.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            /// Whether nothing was learned about the device, because this machine could not ask. Such a probe counts neither
            /// for nor against the device.
            #[must_use]
            pub const fn is_unknown(self) -> bool {
                match self { $(Self::$variant => reasons!(@$side)),+ }
            }
        }
    };
    (@down) => { false };
    (@unknown) => { true };
}

// A line of its own for each, so that probes can be added side by side. `down`: the device was asked and did not do what it
// should. `unknown`: this machine could not ask.
reasons! {
    // The way to the device.
    /// The host name has no address: a name server, or the hosts file, said so.
    Dns = "dns", down;
    /// No name server answered for the host name.
    DnsUnanswered = "dns_unanswered", unknown;
    /// The host name has an address that is not to be measured.
    Excluded = "excluded", unknown;
    /// The interface of a link-local address is not there.
    NoInterface = "no_interface", unknown;
    /// This machine has no route to the address.
    NoRoute = "no_route", unknown;
    /// This machine's firewall or permissions forbid it.
    PermissionDenied = "permission_denied", unknown;
    /// This machine has no free file descriptor.
    NoDescriptors = "no_descriptors", unknown;
    /// This machine has no buffers or no memory for it.
    NoBuffers = "no_buffers", unknown;
    /// This machine has no free port, or no address to send from.
    NoSource = "no_source_address", unknown;
    /// Another error of this machine.
    Local = "local", unknown;
    // Connections.
    /// Nobody answered the request for a connection in time.
    ConnectTimeout = "connect_timeout", down;
    /// The device refused the connection: nobody listens on the port.
    Refused = "refused", down;
    /// A router says that there is no way to the network.
    NetworkUnreachable = "network_unreachable", down;
    /// The host does not answer on its link, or a router says so.
    HostUnreachable = "host_unreachable", down;
    /// The device ended the connection with a reset.
    Reset = "reset", down;
    /// The device closed the connection before it had said everything.
    Closed = "closed", down;
    /// Another error of the connection.
    Connection = "connection", down;
    // TLS.
    /// The TLS handshake did not end in time.
    TlsTimeout = "tls_timeout", down;
    /// The TLS handshake failed: the peer speaks no TLS, or none that both sides know.
    TlsHandshake = "tls_handshake", down;
    /// The certificate has expired.
    TlsExpired = "tls_expired", down;
    /// The certificate is not valid yet.
    TlsNotYetValid = "tls_not_yet_valid", down;
    /// The certificate is for another name.
    TlsWrongName = "tls_wrong_name", down;
    /// The certificate is signed by an authority that is not trusted.
    TlsUnknownCa = "tls_unknown_ca", down;
    /// The certificate is signed by itself and not trusted.
    TlsSelfSigned = "tls_self_signed", down;
    /// The certificate cannot be accepted for another reason.
    TlsCertificate = "tls_certificate", down;
    /// The peer wants a certificate of ours and got none, or not the right one.
    TlsClientCertificate = "tls_client_certificate", down;
    /// The peer refuses to go over to TLS.
    StarttlsRefused = "starttls_refused", down;
    /// Certificates or keys of this machine cannot be read.
    TlsFiles = "tls_files", unknown;
    // What is said on them.
    /// Nothing came back in time.
    Timeout = "timeout", down;
    /// The answer began, but did not end in time.
    TransferTimeout = "transfer_timeout", down;
    /// The answer is larger than allowed.
    TooLarge = "too_large", down;
    /// The answer does not follow its protocol.
    Protocol = "protocol", down;
    /// The answer is not what was expected.
    Mismatch = "mismatch", down;
    // HTTP.
    /// The status of the answer is not as it should be.
    HttpStatus = "http_status", down;
    /// There were more redirects than allowed.
    TooManyRedirects = "too_many_redirects", down;
    /// A redirect leads to another host, which is not asked.
    RedirectElsewhere = "redirect_elsewhere", down;
    /// The proxy refuses, or cannot be found.
    Proxy = "proxy", unknown;
    /// The file of a password or token cannot be read.
    SecretFile = "secret_file", unknown;
    // Pages of metrics.
    /// The page has a line that cannot be read.
    Malformed = "malformed", down;
    /// The page is no UTF-8.
    InvalidUtf8 = "invalid_utf8", down;
    /// The page has more series than allowed.
    TooManySeries = "too_many_series", down;
    // DNS.
    /// The server's responses had another identifier than the query.
    WrongId = "wrong_id", down;
    /// The server's responses were to another question.
    WrongQuestion = "wrong_question", down;
    /// The response over UDP was truncated.
    DnsTruncated = "dns_truncated", down;
    /// The response code is not one of those expected.
    DnsRcode = "dns_rcode", down;
    /// A flag of the response is not as expected.
    DnsFlags = "dns_flags", down;
    /// The records that answer are not as expected.
    DnsAnswer = "dns_answer", down;
    // Clocks.
    /// The server's replies were to another request.
    WrongOrigin = "wrong_origin", down;
    /// The server refuses to serve this client (kiss-o'-death).
    KissOfDeath = "kiss_of_death", down;
    /// The device says that its clock is not synchronised.
    Unsynchronised = "unsynchronised", down;
    /// The device's clock is too many servers away from a reference clock.
    Stratum = "stratum", down;
    /// The device's clock is too far from ours.
    ClockOffset = "clock_offset", down;
    // Commands.
    /// The plugin says that something is critical.
    Critical = "critical", down;
    /// The plugin warns, where that is a failure.
    Warning = "warning", down;
    /// The plugin could not tell.
    PluginUnknown = "plugin_unknown", unknown;
    /// The program could not be started.
    NotStarted = "not_started", unknown;
    /// The program's exit code is no state of a plugin.
    ExitCode = "exit_code", unknown;
    /// A signal ended the program.
    Killed = "killed", unknown;
    /// The program wrote more than it may.
    OutputTooLarge = "output_too_large", unknown;
    /// The program's output is no page of metrics.
    OutputMalformed = "output_malformed", unknown;
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn words_are_unique_and_at_the_place_of_their_reason() {
        let words: HashSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
        }
    }

    #[test]
    fn the_page_of_probes_tells_every_reason() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/probes/README.md");
        let page = std::fs::read_to_string(page).unwrap();
        for reason in Reason::ALL {
            let side = if reason.is_unknown() {
                "unknown"
            } else {
                "down"
            };
            let row = format!("| `{}` | ", reason.as_str());
            let told = page
                .lines()
                .any(|line| line.starts_with(&row) && line.ends_with(&format!("| {side} |")));
            assert!(told, "docs/probes/README.md: {row}… | {side} |");
        }
    }
}
