//! What must hold for every message that a parser lets through.

use pe_ping::packet::{COOKIE, CookieKey, EchoKey, EchoTemplate, Message, Quote, Recognition};

/// The random part of the cookie, as the seeds of the corpus have it.
pub const SECRET: [u8; 8] = *b"\x13\x57\x9b\xdf\x02\x46\x8a\xce";

/// Templates of the sizes that are handled differently: no payload, part of a cookie, a cookie, the default.
pub fn templates() -> [EchoTemplate; 4] {
    [0, 5, COOKIE, 56].map(|size| EchoTemplate::new(CookieKey::new([0; 16]), size))
}

/// A reply is ours only if it starts with the cookie and goes on as it was sent.
pub fn check(template: &EchoTemplate, message: &Message<'_>) {
    match message {
        Message::EchoReply { id, sequence, payload } => {
            if let Recognition::Ours { generation, truncated } = template.recognise(payload, SECRET) {
                let key = EchoKey { id: *id, sequence: *sequence, generation: generation.unwrap_or(0), secret: SECRET };
                let mut sent = [0; 64];
                let sent = &mut sent[..template.message_size()];
                template.prepare(sent);
                template.write_v6(sent, key);
                let sent = &sent[8..];
                assert!(payload.len() <= sent.len(), "never longer than what was sent");
                assert_eq!(truncated, payload.len() < sent.len());
                assert_eq!(payload[..], sent[..payload.len()], "never other bytes than were sent");
                assert!(payload.len() >= sent.len().min(COOKIE), "never without the whole cookie");
            }
        }
        Message::Error { quote, .. } => check_quote(template, quote),
    }
}

/// A quote fits a probe only if identifier, sequence and whatever else it holds are the probe's.
pub fn check_quote(template: &EchoTemplate, quote: &Quote<'_>) {
    let generation = quote.payload.get(8..COOKIE).map_or(0, |bytes| {
        u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    });
    let key = EchoKey { id: quote.id, sequence: quote.sequence, generation, secret: SECRET };
    for other in [
        EchoKey { id: key.id ^ 1, ..key },
        EchoKey { sequence: key.sequence ^ 1, ..key },
    ] {
        assert!(!template.fits_quote(quote, other));
    }
    if template.fits_quote(quote, key) && quote.payload.len() >= COOKIE && template.payload_size() >= COOKIE {
        assert_eq!(quote.payload[..8], SECRET);
        assert!(!template.fits_quote(quote, EchoKey { generation: generation ^ 1, ..key }));
    }
}
