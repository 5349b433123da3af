//! A reply of a time server, with our cookie as its origin where the packet is long enough.
#![no_main]

use std::time::{Duration, SystemTime};

use libfuzzer_sys::fuzz_target;
use pe_probe::sntp::packet::{LENGTH, NoTime, Reply};

const COOKIE: u64 = 0x0123_4567_89ab_cdef;

fuzz_target!(|data: &[u8]| {
    let mut packet = data.to_vec();
    if let Some(origin) = packet.get_mut(24..32) {
        origin.copy_from_slice(&COOKIE.to_be_bytes());
    }
    let sent = SystemTime::UNIX_EPOCH + Duration::from_secs(1_764_000_000);
    match Reply::read(&packet, COOKIE) {
        Ok(reply) => {
            assert!(packet.len() >= LENGTH && (1..=15).contains(&reply.stratum) && reply.leap < 3);
            let (offset, delay) = reply.offset_and_delay(sent, Duration::from_millis(20));
            assert!(offset.is_finite() && offset.abs() < 2_f64.powi(32));
            assert!(delay.is_finite() && delay >= 0.0);
            assert!(reply.reference.unix_seconds(sent).is_finite());
            assert!((1..=15).contains(&reply.reference_name().len()));
            assert!(matches!(Reply::read(&packet, COOKIE ^ 1), Err((NoTime::Origin, None))));
        }
        Err((no_time, _)) => assert_ne!(no_time, NoTime::Origin),
    }
});
