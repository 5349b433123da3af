//! The Internet checksum (RFC 1071), over whole messages and over parts of them.

/// A ones' complement sum that has not been folded yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sum(u64);

impl Sum {
    /// Adds bytes that start at an even offset of the message. An odd last byte counts as if a zero followed it.
    #[inline]
    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        let mut words = bytes.chunks_exact(4);
        for word in &mut words {
            self.0 += u64::from(u32::from_be_bytes([word[0], word[1], word[2], word[3]]));
        }
        let mut last = [0; 4];
        let rest = words.remainder();
        last[..rest.len()].copy_from_slice(rest);
        self.0 += u64::from(u32::from_be_bytes(last));
        self
    }

    /// Adds one 16-bit word.
    #[inline]
    pub(crate) fn word(mut self, word: u16) -> Self {
        self.0 += u64::from(word);
        self
    }

    /// Adds a 32-bit word that starts at an even offset of the message.
    #[inline]
    pub(crate) fn double_word(mut self, word: u32) -> Self {
        self.0 += u64::from(word);
        self
    }

    /// The checksum to write into the message.
    #[inline]
    pub(crate) fn checksum(self) -> u16 {
        let sum = (self.0 >> 32) + (self.0 & 0xffff_ffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        let sum = (sum >> 16) + (sum & 0xffff);
        !(sum as u16)
    }
}

/// Whether a message that holds its own checksum is intact.
#[inline]
pub(crate) fn is_intact(message: &[u8]) -> bool {
    Sum::default().bytes(message).checksum() == 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn by_the_book(bytes: &[u8]) -> u16 {
        let mut sum = 0_u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn the_example_of_rfc_1071() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(Sum::default().bytes(&bytes).checksum(), !0xddf2);
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert_eq!(Sum::default().bytes(&bytes).checksum(), by_the_book(&bytes));
        }

        #[test]
        fn parts_add_up(head: u32, word: u16, tail in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut whole = head.to_be_bytes().to_vec();
            whole.extend(word.to_be_bytes());
            whole.extend(&tail);
            let parts = Sum::default().bytes(&tail).word(word).double_word(head);
            prop_assert_eq!(parts.checksum(), by_the_book(&whole));
        }

        #[test]
        fn any_single_flip_is_seen(mut bytes in proptest::collection::vec(any::<u8>(), 4..200), at: prop::sample::Index, bit in 0..8_u8) {
            bytes[2..4].fill(0);
            let sum = Sum::default().bytes(&bytes).checksum();
            bytes[2..4].copy_from_slice(&sum.to_be_bytes());
            prop_assert!(is_intact(&bytes));
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(!is_intact(&bytes));
        }
    }
}
