//! ICMPv6 messages with a wrong checksum, which the kernel counts among the drops of a raw socket.
//!
//! `rawv6_rcv_skb` in the kernel discards such a message before any filter and counts a drop, as it does where the
//! receive buffer is full. The statistics of the network namespace (`Icmp6InCsumErrors` in `/proc/net/snmp6`) tell how
//! many there were, so the two can be told apart: a reply may have been lost by this machine only where
//! the buffer was full.

use super::Nanos;

/// How old a count may be to tell anything about drops that are found after it: messages of types that the socket does
/// not take are in the count as well, and are no drops.
const FRESH: Nanos = 1_000_000_000;

/// The count of corrupted messages at the last look.
#[derive(Debug, Clone, Default)]
pub(crate) struct Corruption {
    count: Option<u64>,
    looked_at: Nanos,
}

impl Corruption {
    /// Whether to look at the count: where drops need it as an explanation, and often enough to have a fresh one to
    /// compare with.
    pub(crate) fn wants_look(&self, risen: u32, now: Nanos) -> bool {
        risen > 0 || self.count.is_none() || now.saturating_sub(self.looked_at) > FRESH
    }

    /// Takes a look: how many of the `risen` drops since the last look were corrupted messages.
    pub(crate) fn look(&mut self, risen: u32, now: Nanos, count: Option<u64>) -> u32 {
        self.looked_at = now;
        let before = std::mem::replace(&mut self.count, count);
        let corrupted = count
            .zip(before)
            .map_or(0, |(now, before)| now.saturating_sub(before));
        risen.min(u32::try_from(corrupted).unwrap_or(u32::MAX))
    }
}

/// `Icmp6InCsumErrors` out of the text of `/proc/net/snmp6`.
pub(crate) fn checksum_errors(snmp6: &str) -> Option<u64> {
    snmp6
        .lines()
        .find_map(|line| line.strip_prefix("Icmp6InCsumErrors"))
        .and_then(|count| count.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_drops_without_a_corrupted_message_are_the_machines_own() {
        let mut corruption = Corruption::default();
        assert!(corruption.wants_look(0, 0));
        assert_eq!(corruption.look(0, 1, Some(100)), 0);
        assert!(!corruption.wants_look(0, 2));
        assert!(corruption.wants_look(3, 2));
        assert_eq!(corruption.look(3, 2, Some(103)), 3);
        assert_eq!(corruption.look(5, 3, Some(105)), 2);
        assert_eq!(corruption.look(5, 4, Some(105)), 0);
        // Of a type that is not ours: no drop.
        assert_eq!(corruption.look(0, 5, Some(109)), 0);
        assert_eq!(corruption.look(1, 6, None), 0);
        assert_eq!(corruption.look(1, 7, Some(200)), 0);
    }

    #[test]
    fn a_count_is_kept_fresh() {
        let mut corruption = Corruption::default();
        corruption.look(0, 0, Some(1));
        assert!(!corruption.wants_look(0, FRESH));
        assert!(corruption.wants_look(0, FRESH + 1));
    }

    #[test]
    fn the_count_is_found_in_the_kernels_table() {
        let text =
            "Icmp6InMsgs    \t5\nIcmp6InCsumErrors               \t12\nUdp6InCsumErrors \t3\n";
        assert_eq!(checksum_errors(text), Some(12));
        assert_eq!(checksum_errors("Udp6InCsumErrors 3\n"), None);
        assert_eq!(checksum_errors("Icmp6InCsumErrors x\n"), None);
    }
}
