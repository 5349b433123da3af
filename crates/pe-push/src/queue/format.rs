//! The format of a segment, and what always holds in it.
//!
//! # Files
//!
//! A queue is a directory of its own. It holds *segments*, named by sixteen hexadecimal digits and `.segment`: the number of the
//! first block that the segment can hold; and two copies of the cursors, `cursors.a` and `cursors.b` (see `cursor.rs`). Other
//! files are left alone. All numbers are little-endian; a *varint* is LEB128 of a `u64`, *signed* ones are zigzag.
//!
//! # Segment
//!
//! A header of 32 bytes, then records up to the end of the file. A segment stands alone: what its blocks refer to is in it.
//!
//! | bytes | segment header |
//! | --- | --- |
//! | 8 | `PEQUEUE` and a line feed |
//! | 2 | version of the format, 1 |
//! | 2 | 0 |
//! | 8 | number of the first block, as in the file's name |
//! | 8 | 0 |
//! | 4 | CRC-32 of the 28 bytes before |
//!
//! | bytes | record header (40) |
//! | --- | --- |
//! | 4 | `F1 51 45 50` |
//! | 1 | kind: 1 shape, 2 block, 3 summary |
//! | 3 | 0 |
//! | 4 | length of the payload, which follows the header |
//! | 8 | number: of the block (over all segments); of the shape (in its segment); in a summary, blocks in the segment |
//! | 8 | wall-clock milliseconds at which the block was measured, signed; in a summary, of the oldest block |
//! | 4 | samples in the block that are present; 0 elsewhere |
//! | 4 | CRC-32 of the payload |
//! | 4 | CRC-32 of the 36 bytes before |
//!
//! A *shape* is what blocks have in common, columns and rows with their labels (`shape.rs`); it is written twice in a row before
//! the first block that uses it, so that no single damaged spot costs more than one block. A *block* is one
//! [`SampleBlock`](crate::SampleBlock) (`block.rs`): a time, and a compressed column for each metric (`column.rs`). A *summary*
//! is the last record of a segment that was finished in order: it spares reading the segment at the start.
//!
//! # Invariants
//!
//! - Files grow at their end only. A file is never written to again after a restart or a failed write: a new segment is begun.
//! - Blocks in a segment, and segments by name, are in the order in which they were appended. Their numbers rise. A number that was
//!   acknowledged is never given to another block.
//! - A record is believed if both checksums fit. One whose header fits and whose payload does not is skipped by its length; where
//!   there is no valid header, the next one is searched for by its first four bytes. Both are counted, and cost no other record.
//! - A segment whose header is damaged is read all the same, since its name says what the header says. One of a later version is
//!   left alone.
//! - Numbers and lengths in a payload are checked before they are used: whatever a file holds, reading it ends, and takes memory in
//!   proportion to the file.
//!
//! # Changes of the format
//!
//! A reader knows all versions up to its own. A new kind of record or column that older readers would misread raises the version;
//! kinds of records that may be skipped do not.

use super::QueueError;

/// The version that is written, and the latest that is read.
pub(crate) const VERSION: u16 = 1;
pub(crate) const SEGMENT_HEADER: usize = 32;
pub(crate) const RECORD_HEADER: usize = 40;
/// The first bytes of each record.
pub(crate) const RECORD_MAGIC: [u8; 4] = [0xF1, b'Q', b'E', b'P'];
const SEGMENT_MAGIC: &[u8; 8] = b"PEQUEUE\n";
const SUFFIX: &str = ".segment";

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Shape,
    Block,
    Summary,
    /// Of another version; to be skipped.
    Other(u8),
}

/// A record's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) kind: Kind,
    pub(crate) length: u32,
    pub(crate) number: u64,
    pub(crate) wall_ms: i64,
    pub(crate) samples: u32,
    pub(crate) checksum: u32,
}

/// What is in a payload is not what it should be, though its checksum is right: a mistake of the writer, or another format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The name of the segment whose first block has this number.
pub(crate) fn segment_name(first: u64) -> String {
    format!("{first:016x}{SUFFIX}")
}

/// The number of the first block, from a segment's name.
pub(crate) fn parse_segment_name(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    let plain = digits.len() == 16 && digits.bytes().all(|b| b"0123456789abcdef".contains(&b));
    plain.then(|| u64::from_str_radix(digits, 16).ok())?
}

pub(crate) fn write_segment_header(out: &mut Vec<u8>, first: u64) {
    let start = out.len();
    out.extend_from_slice(SEGMENT_MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&first.to_le_bytes());
    out.extend_from_slice(&[0; 8]);
    let checksum = crc32fast::hash(&out[start..]);
    out.extend_from_slice(&checksum.to_le_bytes());
}

/// Whether a segment's header is in order.
///
/// # Errors
/// When it is of a later version.
pub(crate) fn check_segment_header(header: &[u8], file: &str) -> Result<bool, QueueError> {
    let Some(header) = header.first_chunk::<SEGMENT_HEADER>() else {
        return Ok(false);
    };
    let (body, checksum) = header.split_at(SEGMENT_HEADER - 4);
    if !header.starts_with(SEGMENT_MAGIC) || crc32fast::hash(body).to_le_bytes() != checksum {
        return Ok(false);
    }
    let found = u16::from_le_bytes([header[8], header[9]]);
    if found > VERSION {
        return Err(QueueError::Version {
            file: file.to_owned(),
            found,
            known: VERSION,
        });
    }
    Ok(true)
}

/// Appends a record: header and payload.
pub(crate) fn write_record(out: &mut Vec<u8>, header: RecordHeader, payload: &[u8]) {
    let start = out.len();
    out.extend_from_slice(&RECORD_MAGIC);
    let kind = match header.kind {
        Kind::Shape => 1,
        Kind::Block => 2,
        Kind::Summary => 3,
        Kind::Other(kind) => kind,
    };
    out.extend_from_slice(&[kind, 0, 0, 0]);
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&header.number.to_le_bytes());
    out.extend_from_slice(&header.wall_ms.to_le_bytes());
    out.extend_from_slice(&header.samples.to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
    let checksum = crc32fast::hash(&out[start..]);
    out.extend_from_slice(&checksum.to_le_bytes());
    out.extend_from_slice(payload);
}

impl RecordHeader {
    /// A header to write; length and checksum are filled in there.
    pub(crate) fn new(kind: Kind, number: u64) -> Self {
        Self {
            kind,
            number,
            length: 0,
            wall_ms: 0,
            samples: 0,
            checksum: 0,
        }
    }

    /// The header that these bytes start with, if they are one.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let header = bytes.first_chunk::<RECORD_HEADER>()?;
        if !header.starts_with(&RECORD_MAGIC) {
            return None;
        }
        let (body, checksum) = header.split_at(RECORD_HEADER - 4);
        if crc32fast::hash(body).to_le_bytes() != checksum {
            return None;
        }
        let mut input = Input(&body[4..]);
        let [kind, _, _, _] = input.array().ok()?;
        Some(Self {
            kind: match kind {
                1 => Kind::Shape,
                2 => Kind::Block,
                3 => Kind::Summary,
                other => Kind::Other(other),
            },
            length: u32::from_le_bytes(input.array().ok()?),
            number: u64::from_le_bytes(input.array().ok()?),
            wall_ms: i64::from_le_bytes(input.array().ok()?),
            samples: u32::from_le_bytes(input.array().ok()?),
            checksum: u32::from_le_bytes(input.array().ok()?),
        })
    }

    /// Whether this is the payload that was written.
    pub(crate) fn fits(&self, payload: &[u8]) -> bool {
        payload.len() as u64 == u64::from(self.length) && crc32fast::hash(payload) == self.checksum
    }

    /// Bytes of the record, its header included.
    pub(crate) fn record_length(&self) -> u64 {
        RECORD_HEADER as u64 + u64::from(self.length)
    }
}

/// Writes a varint.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        #[allow(clippy::cast_possible_truncation)]
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    #[allow(clippy::cast_possible_truncation)]
    out.push(value as u8);
}

/// Writes a signed varint.
pub(crate) fn put_signed(out: &mut Vec<u8>, value: i64) {
    put_varint(out, ((value << 1) ^ (value >> 63)).cast_unsigned());
}

/// Bytes that are being read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = rest;
        Ok(*taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    pub(crate) fn signed(&mut self) -> Result<i64, Malformed> {
        let value = self.varint()?;
        Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed())
    }

    /// A number that must be below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> Result<usize, Malformed> {
        let value = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
        if value < bound {
            Ok(value)
        } else {
            Err(Malformed)
        }
    }

    /// How many things follow, of which each takes at least one byte.
    pub(crate) fn count(&mut self) -> Result<usize, Malformed> {
        let count = self.varint()?;
        if count > self.0.len() as u64 {
            return Err(Malformed);
        }
        usize::try_from(count).map_err(|_| Malformed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn varints_come_back(value: u64, signed: i64) {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            put_signed(&mut out, signed);
            let mut input = Input(&out);
            prop_assert_eq!((input.varint(), input.signed()), (Ok(value), Ok(signed)));
            prop_assert!(input.0.is_empty());
        }

        #[test]
        fn a_changed_header_is_no_header(at in 0..RECORD_HEADER, bit in 0..8_u8) {
            let mut out = Vec::new();
            write_record(&mut out, RecordHeader { wall_ms: -5, samples: 7, ..RecordHeader::new(Kind::Block, 3) }, b"abc");
            let header = RecordHeader::parse(&out).unwrap();
            prop_assert!(header.fits(&out[RECORD_HEADER..]));
            prop_assert_eq!((header.number, header.wall_ms, header.samples, header.length), (3, -5, 7, 3));
            out[at] ^= 1 << bit;
            prop_assert_eq!(RecordHeader::parse(&out), None);
        }
    }

    #[test]
    fn only_our_names_are_segments() {
        assert_eq!(parse_segment_name(&segment_name(0xab)), Some(0xab));
        for other in [
            "ab.segment",
            "+0000000000000ab.segment",
            "cursors.a",
            "00000000000000AB.segment",
        ] {
            assert_eq!(parse_segment_name(other), None, "{other}");
        }
    }

    #[test]
    fn a_later_version_is_refused_and_a_damaged_header_is_not() {
        let mut header = Vec::new();
        write_segment_header(&mut header, 9);
        assert!(check_segment_header(&header, "f").unwrap());
        header[8] = 2;
        assert!(!check_segment_header(&header, "f").unwrap());
        let checksum = crc32fast::hash(&header[..28]);
        header[28..].copy_from_slice(&checksum.to_le_bytes());
        let refused = check_segment_header(&header, "f");
        assert!(matches!(refused, Err(QueueError::Version { found: 2, .. })));
    }
}
