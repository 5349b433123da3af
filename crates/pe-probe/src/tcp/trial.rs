//! What fuzzers and the tests of their seeds do with bytes of a peer: the dialogues of a probe.

use std::sync::LazyLock;

use pe_scrape::settings::decode;
use serde_json::json;

use super::dialogue::{Conversation, Found, LONGEST_CAPTURE, Script};
use super::settings::{Starttls, TcpSettings};
use super::starttls;
use crate::probe::PhaseHandle;
use crate::replay::{Replay, to_its_end};
use crate::{Phase, Reason};

/// Bytes that are read, at the most.
const MAX_BYTES: usize = 512;

/// Dialogues as users write them: a greeting, a cookie that is sent back, bytes that are no text.
static SCRIPTS: LazyLock<[Script; 3]> = LazyLock::new(|| {
    let dialogues = [
        json!({"port": 22, "expect": "^SSH-2.0-(?<software>\\S+)"}),
        json!({"port": 6667, "dialogue": [
            {"send": "NICK probe\r\n"},
            {"expect": "(?m)^PING :(?<cookie>\\S*)", "send": "PONG ${cookie} ${1} ${none}\r\n"},
            {"expect": "(?m)^:(\\S+) 001"},
        ]}),
        json!({"port": 502, "send": "x", "expect": "(?s-u)^\\x00\\x01(?<rest>.*)\\xff"}),
    ];
    dialogues.map(|settings| {
        let settings: TcpSettings = decode(&settings).expect("these are settings");
        settings.script().expect("these go together")
    })
});

/// Holds a dialogue with a peer. The first byte says which; the second is [that](Replay::new) of a peer.
///
/// # Panics
/// When something is not as it always must be.
#[doc(hidden)]
pub fn try_dialogue(data: &[u8]) {
    let (&which, data) = data.split_first().unwrap_or((&0, &[]));
    let protocols = Starttls::ALL.len();
    let which = usize::from(which) % (protocols + SCRIPTS.len());
    let mut stream = Replay::new(data);
    let phase = PhaseHandle::new(Phase::Connect);
    if let Some(protocol) = Starttls::ALL.get(which) {
        match to_its_end(starttls::begin(phase, &mut stream, *protocol)) {
            // What comes next is TLS, so that nothing was read that is not of the protocol.
            Ok(()) => match protocol {
                Starttls::Postgres => assert_eq!(stream.read(), b"S"),
                _ => assert!(stream.read().ends_with(b"\n")),
            },
            Err(failure) => assert!(!failure.reason.is_unknown(), "{failure}"),
        }
        return;
    }
    let script = &SCRIPTS[which - protocols];
    let mut found = Found::new();
    let mut conversation = Conversation::new(&mut stream, phase, MAX_BYTES, false);
    let held = to_its_end(async {
        for step in script.steps() {
            conversation.step(step, &mut found).await?;
        }
        Ok::<_, crate::Failure>(())
    });
    assert!(stream.read().len() <= MAX_BYTES);
    // A byte that is no text becomes a character of three.
    let longest = found.values().map(String::len).max();
    assert!(longest.is_none_or(|longest| longest <= 3 * LONGEST_CAPTURE));
    match held {
        Ok(()) => assert!(script.names().all(|name| found.contains_key(name))),
        Err(failure) => assert!(matches!(
            failure.reason,
            Reason::Closed | Reason::Mismatch | Reason::TooLarge
        )),
    }
}
