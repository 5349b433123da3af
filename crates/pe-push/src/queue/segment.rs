//! What is in a segment, found by its records' headers.

use std::io;

use super::disk::Disk;
use super::format::{
    Input, Kind, Malformed, RECORD_HEADER, RECORD_MAGIC, RecordHeader, SEGMENT_HEADER,
    check_segment_header,
};
use super::shape::ShapeReader;
use super::{QueueError, read_error};

/// Bytes that are read at once where a record is searched for.
const SEARCH: usize = 64 * 1024;
/// Bytes of a summary's payload.
const SUMMARY: usize = 32;

/// What is known of a segment without reading it: some hundred bytes, however long it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    /// The number in its name.
    pub(crate) first: u64,
    /// One above its last block's number.
    pub(crate) end: u64,
    /// Bytes of the file.
    pub(crate) length: u64,
    pub(crate) blocks: u64,
    /// Samples of all blocks.
    pub(crate) samples: u64,
    /// Bytes of all blocks.
    pub(crate) block_bytes: u64,
    pub(crate) oldest_ms: i64,
    pub(crate) newest_ms: i64,
    /// Whether its damages are counted.
    pub(crate) counted: bool,
}

/// Where a block is, and what its header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) offset: u64,
    pub(crate) header: RecordHeader,
}

/// The records of a segment.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Blocks by number.
    pub(crate) blocks: Vec<Entry>,
    pub(crate) shapes: ShapeReader,
    /// Places where there should be a record and is none, and shapes that cannot be read from either copy.
    pub(crate) damages: u64,
    /// Bytes at the end that are no whole record.
    pub(crate) torn: u64,
}

impl Segment {
    pub(crate) fn new(first: u64) -> Self {
        Self {
            first,
            end: first,
            length: 0,
            blocks: 0,
            samples: 0,
            block_bytes: 0,
            oldest_ms: i64::MAX,
            newest_ms: i64::MIN,
            counted: true,
        }
    }

    /// Counts a block.
    pub(crate) fn add(&mut self, header: &RecordHeader) {
        self.end = header.number + 1;
        self.blocks += 1;
        self.samples += u64::from(header.samples);
        self.block_bytes += header.record_length();
        self.oldest_ms = self.oldest_ms.min(header.wall_ms);
        self.newest_ms = self.newest_ms.max(header.wall_ms);
    }

    /// Header and payload of its summary.
    pub(crate) fn summary(&self) -> (RecordHeader, Vec<u8>) {
        let header = RecordHeader {
            wall_ms: self.oldest_ms,
            ..RecordHeader::new(Kind::Summary, self.blocks)
        };
        let mut payload = Vec::with_capacity(SUMMARY);
        payload.extend_from_slice(&self.end.to_le_bytes());
        payload.extend_from_slice(&self.newest_ms.to_le_bytes());
        payload.extend_from_slice(&self.samples.to_le_bytes());
        payload.extend_from_slice(&self.block_bytes.to_le_bytes());
        (header, payload)
    }

    fn from_summary(
        first: u64,
        length: u64,
        header: &RecordHeader,
        payload: &[u8],
    ) -> Result<Self, Malformed> {
        let mut input = Input(payload);
        let segment = Self {
            first,
            end: u64::from_le_bytes(input.array()?),
            length,
            blocks: header.number,
            oldest_ms: header.wall_ms,
            newest_ms: i64::from_le_bytes(input.array()?),
            samples: u64::from_le_bytes(input.array()?),
            block_bytes: u64::from_le_bytes(input.array()?),
            counted: false,
        };
        if segment.end < first {
            return Err(Malformed);
        }
        Ok(segment)
    }

    /// What a segment holds: from its summary, else from the headers of all records.
    ///
    /// # Errors
    /// When it cannot be read, or is of a later version.
    pub(crate) fn load(
        disk: &mut dyn Disk,
        name: &str,
        first: u64,
        length: u64,
    ) -> Result<(Self, Option<Index>), QueueError> {
        let mut header = [0; SEGMENT_HEADER];
        let read = disk.read(name, 0, &mut header);
        let read = read.map_err(read_error(name))?;
        check_segment_header(&header[..read], name)?;
        let tail = (RECORD_HEADER + SUMMARY) as u64;
        if let Some(start) = length.checked_sub(tail) {
            let bytes = read_up_to(disk, name, start, RECORD_HEADER + SUMMARY)?;
            let summary = RecordHeader::parse(&bytes).filter(|header| {
                header.kind == Kind::Summary && header.fits(&bytes[RECORD_HEADER..])
            });
            if let Some(header) = summary
                && let Ok(segment) =
                    Self::from_summary(first, length, &header, &bytes[RECORD_HEADER..])
            {
                return Ok((segment, None));
            }
        }
        let index = Index::scan(disk, name, first, length)?;
        let mut segment = Self::new(first);
        segment.length = length;
        segment.counted = false;
        for entry in &index.blocks {
            segment.add(&entry.header);
        }
        Ok((segment, Some(index)))
    }
}

impl Index {
    /// Reads the headers of all records, and the shapes.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn scan(
        disk: &mut dyn Disk,
        name: &str,
        first: u64,
        length: u64,
    ) -> Result<Self, QueueError> {
        let mut index = Self::default();
        let mut offset = SEGMENT_HEADER as u64;
        let mut next = first;
        // Whether the latest bytes looked at were no record: a damage is counted once, however long it is.
        let mut lost = false;
        let mut unread_shape = None;
        while offset < length {
            let bytes = read_up_to(disk, name, offset, RECORD_HEADER)?;
            let header = RecordHeader::parse(&bytes);
            let whole = header.filter(|header| offset + header.record_length() <= length);
            let Some(header) = whole else {
                index.damages += u64::from(!lost);
                lost = true;
                match find_record(disk, name, offset + 1, length)? {
                    Some(found) => offset = found,
                    None => {
                        index.torn = length - offset;
                        break;
                    }
                }
                continue;
            };
            lost = false;
            match header.kind {
                // Numbers rise: another one is from something that was never meant to be here.
                Kind::Block if header.number >= next => {
                    next = header.number + 1;
                    index.blocks.push(Entry { offset, header });
                }
                Kind::Shape => {
                    let number = header.number;
                    let bytes = read_payload(disk, name, offset, &header)?;
                    let read = bytes.ok_or(Malformed);
                    let read = read.and_then(|bytes| index.shapes.read(number, &bytes));
                    match (read, unread_shape) {
                        (Ok(()), _) => unread_shape = None,
                        (Err(Malformed), Some(_)) => unread_shape = None,
                        (Err(Malformed), None) => {
                            index.damages += 1;
                            unread_shape = Some(number);
                        }
                    }
                }
                Kind::Block => index.damages += 1,
                Kind::Summary | Kind::Other(_) => {}
            }
            offset += header.record_length();
        }
        Ok(index)
    }

    /// The first block whose number is at least `number`.
    pub(crate) fn from(&self, number: u64) -> Option<Entry> {
        let at = self
            .blocks
            .partition_point(|entry| entry.header.number < number);
        self.blocks.get(at).copied()
    }
}

/// The payload of a record, if it is what was written.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn read_payload(
    disk: &mut dyn Disk,
    name: &str,
    offset: u64,
    header: &RecordHeader,
) -> Result<Option<Vec<u8>>, QueueError> {
    let offset = offset + RECORD_HEADER as u64;
    let payload = read_up_to(disk, name, offset, header.length as usize)?;
    Ok(Some(payload).filter(|payload| header.fits(payload)))
}

/// Where the next valid header is, from `offset` on.
fn find_record(
    disk: &mut dyn Disk,
    name: &str,
    mut offset: u64,
    length: u64,
) -> Result<Option<u64>, QueueError> {
    while offset + RECORD_HEADER as u64 <= length {
        let bytes = read_up_to(disk, name, offset, SEARCH)?;
        let starts = bytes.windows(RECORD_HEADER).enumerate();
        let mut starts = starts.filter(|(_, bytes)| bytes.starts_with(&RECORD_MAGIC));
        if let Some((at, _)) = starts.find(|(_, bytes)| RecordHeader::parse(bytes).is_some()) {
            return Ok(Some(offset + at as u64));
        }
        if bytes.len() < RECORD_HEADER {
            break;
        }
        offset += (bytes.len() - RECORD_HEADER + 1) as u64;
    }
    Ok(None)
}

/// As much as there is, at most `length` bytes. What a damaged sector or a file that is gone holds is nothing.
fn read_up_to(
    disk: &mut dyn Disk,
    name: &str,
    offset: u64,
    length: usize,
) -> Result<Vec<u8>, QueueError> {
    let mut bytes = vec![0; length];
    let read = match disk.read(name, offset, &mut bytes) {
        Ok(read) => read,
        Err(error) if is_lost(&error) => 0,
        Err(error) => return Err(read_error(name)(error)),
    };
    bytes.truncate(read);
    Ok(bytes)
}

/// Whether trying again gives no other answer: an error of the medium, or no such file.
fn is_lost(error: &io::Error) -> bool {
    /// `EIO` of Linux.
    const MEDIUM: i32 = 5;
    error.raw_os_error() == Some(MEDIUM) || error.kind() == io::ErrorKind::NotFound
}
