//! Protocol Buffers, as far as remote write needs them. No message is built: fields are written where they belong.
//!
//! Source: <https://protobuf.dev/programming-guides/encoding/>.

/// The wire types that occur.
#[derive(Debug, Clone, Copy)]
pub(super) enum Wire {
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
}

/// A field's tag; field numbers here are below 16, so it is one byte.
pub(super) const fn tag(field: u8, wire: Wire) -> u8 {
    field << 3 | wire as u8
}

pub(super) fn put_varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

/// How many bytes a varint takes.
pub(super) const fn varint_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// A field of text or bytes.
pub(super) fn put_text(to: &mut Vec<u8>, field: u8, text: &str) {
    to.push(tag(field, Wire::Bytes));
    put_varint(to, text.len() as u64);
    to.extend_from_slice(text.as_bytes());
}

/// How many bytes a field of text takes.
pub(super) const fn text_len(text: &str) -> usize {
    1 + varint_len(text.len() as u64) + text.len()
}

/// A varint field. Zero is what an absent field means, so it is left out.
pub(super) fn put_number(to: &mut Vec<u8>, field: u8, value: u64) {
    if value != 0 {
        to.push(tag(field, Wire::Varint));
        put_varint(to, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_have_the_length_that_is_told() {
        for value in [0, 1, 127, 128, 16_383, 16_384, 1 << 56, u64::MAX] {
            let mut bytes = Vec::new();
            put_varint(&mut bytes, value);
            assert_eq!(bytes.len(), varint_len(value), "{value}");
        }
        let mut bytes = Vec::new();
        put_varint(&mut bytes, 300);
        assert_eq!(bytes, [0xac, 0x02]);
    }
}
