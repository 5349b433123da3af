//! What a start finds on the disk.

use std::collections::BTreeMap;

use super::cursor::{COPIES, Known, decode};
use super::disk::Disk;
use super::format::{parse_segment_name, segment_name};
use super::segment::Segment;
use super::{QueueError, read_error};

/// Numbers that a segment of a later version may have used; they are not used again.
const LATER_NUMBERS: u64 = 1 << 32;
/// Numbers that a segment may have used which was not finished in order: its last blocks may be damaged.
const UNFINISHED_NUMBERS: u64 = 1 << 20;
/// Cursors of more bytes than this are not ours.
const CURSORS_BYTES: u64 = 16 << 20;

/// What was found when a queue was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Recovery {
    /// Segments with blocks.
    pub segments: usize,
    /// Their blocks.
    pub blocks: u64,
    /// Segments that were not finished in order: one after a crash.
    pub unfinished: usize,
    /// Bytes at the end of segments that are no whole record: what was being written when it stopped.
    pub torn_bytes: u64,
    /// Places in these where there should be a record and is none.
    pub damages: u64,
    /// Segments of a later version, which are left alone.
    pub later_versions: usize,
    /// Copies of the cursors that are damaged, out of two.
    pub damaged_cursors: usize,
}

/// What a start goes on with.
pub(crate) struct Found {
    pub(crate) segments: BTreeMap<u64, Segment>,
    /// `None` if there are blocks and no copy of the cursors can be read.
    pub(crate) cursors: Option<Known>,
    pub(crate) generation: u64,
    pub(crate) recovery: Recovery,
    /// The least number that no file has used.
    unused: u64,
    /// Segments without a block.
    pub(crate) empty: Vec<String>,
}

impl Found {
    /// The number for the next block.
    pub(crate) fn next(&self) -> u64 {
        let known = self.cursors.as_ref().map_or(0, Known::end);
        known.max(self.unused)
    }
}

/// Looks at all files, and changes none.
pub(crate) fn find(disk: &mut dyn Disk) -> Result<Found, QueueError> {
    let files = disk.list().map_err(read_error("."))?;
    let (mut segments, mut recovery) = (BTreeMap::new(), Recovery::default());
    let (mut unused, mut empty) = (0, Vec::new());
    for (name, length) in &files {
        let Some(first) = parse_segment_name(name) else {
            continue;
        };
        match Segment::load(disk, name, first, *length) {
            Ok((segment, index)) => {
                if let Some(index) = index {
                    recovery.unfinished += 1;
                    recovery.torn_bytes += index.torn;
                    recovery.damages += index.damages;
                    unused = unused.max(segment.end.saturating_add(UNFINISHED_NUMBERS));
                }
                if segment.blocks == 0 {
                    empty.push(segment_name(first));
                    continue;
                }
                recovery.segments += 1;
                recovery.blocks += segment.blocks;
                unused = unused.max(segment.end);
                segments.insert(first, segment);
            }
            Err(QueueError::Version { .. }) => {
                recovery.later_versions += 1;
                unused = unused.max(first.saturating_add(LATER_NUMBERS));
            }
            Err(error) => return Err(error),
        }
    }
    let mut newest: Option<(u64, Known)> = None;
    for name in COPIES {
        let Some((_, length)) = files.iter().find(|(file, _)| file == name) else {
            continue;
        };
        let mut bytes = vec![0; usize::try_from(*length.min(&CURSORS_BYTES)).unwrap_or_default()];
        // One that cannot be read is as good as damaged: the other may be in order.
        let read = disk.read(name, 0, &mut bytes).unwrap_or_default();
        match decode(&bytes[..read]) {
            Ok(copy) if newest.as_ref().is_none_or(|newest| newest.0 < copy.0) => {
                newest = Some(copy);
            }
            Ok(_) => {}
            Err(_) => recovery.damaged_cursors += 1,
        }
    }
    let generation = newest.as_ref().map_or(0, |newest| newest.0);
    let cursors = newest.map(|newest| newest.1);
    let cursors = cursors.or_else(|| segments.is_empty().then(Known::default));
    Ok(Found {
        segments,
        cursors,
        generation,
        recovery,
        unused,
        empty,
    })
}
