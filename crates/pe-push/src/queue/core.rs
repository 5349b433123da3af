//! The queue itself: appends blocks, gives them out to sinks, keeps limits. Does its work when it is called, by the operations
//! of a [`Disk`]; has no thread and reads no clock.
//!
//! What always holds:
//!
//! - A block that was appended before a [`sync`](Queue::sync) that succeeded is given to each sink that was known then until that sink
//!   acknowledges it, over crashes too, unless it is dropped by a limit or damaged on the disk, both of which are counted.
//! - A sink gets blocks in their order (`Order::Strict`), each once between rewinds and restarts.
//! - A block's time is settled once, for all sinks.
//! - Memory does not grow with what is on the disk: some hundred bytes a segment; the numbers of the blocks of a few segments.
//!
//! It does not keep two programs apart: the caller locks the directory.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use pe_scrape::Backlog;

use super::block::{count_samples, read_block, write_block};
use super::column::ColumnWriter;
use super::cursor::{self, COPIES, Cursor, Given, Ranges};
use super::disk::{Disk, MemoryDisk};
use super::format::{Kind, RecordHeader, segment_name, write_record, write_segment_header};
use super::recovery::{self, Recovery};
use super::segment::{Entry, Index, Segment, read_payload};
use super::settled::Settled;
use super::shape::{Shape, ShapeWriter};
use super::types::Drops;
use super::{BlockId, DropReason, Order, QueueCounters, QueueError, QueueLimits, time_of};
use crate::{SampleBlock, SampleTime};

/// Segments whose records are known at one time, beside the one that is written.
const OPEN_SEGMENTS: usize = 4;
/// Rows and columns of the shapes of one segment. Shapes that change at each cycle end it early.
const SHAPE_WEIGHT: usize = 1 << 20;
/// Blocks of so long (nanoseconds since boot) before the newest are fresh.
const FRESH_NS: u64 = 60_000_000_000;
/// At most so many blocks are fresh.
const FRESH_BLOCKS: usize = 4_096;
/// Numbers of blocks in memory begin here, far from those of a disk to which they may be moved: what a sink acknowledges late is then
/// never taken for another block.
const MEMORY_NUMBERS: u64 = 1 << 62;

/// A durable queue of blocks that several sinks read.
pub struct Queue {
    disk: Box<dyn Disk>,
    limits: QueueLimits,
    /// Finished segments, by their first number.
    segments: BTreeMap<u64, Segment>,
    writing: Option<Writing>,
    /// The number of the next block.
    next: u64,
    cursors: BTreeMap<String, Cursor>,
    /// Final times of blocks that may be there.
    settled: Settled,
    /// Sinks that are new begin with the oldest block, since the cursors could not be read.
    cursors_lost: bool,
    /// Which copies of the cursors have to be written.
    copies_due: usize,
    generation: u64,
    directory_changed: bool,
    /// Which copies of the cursors were made since the start.
    copies_made: [bool; 2],
    /// What was not certain to survive when a segment was ended; the next synchronisation tells it.
    uncertain: Option<QueueError>,
    /// Newest blocks, with nanoseconds since boot.
    recent: VecDeque<(u64, u64)>,
    open: VecDeque<(u64, Index)>,
    /// Shapes of the segment that was written before.
    earlier: Option<ShapeWriter>,
    columns: ColumnWriter,
    buffer: Vec<u8>,
    payload: Vec<u8>,
    counters: QueueCounters,
}

/// The segment that is being written.
struct Writing {
    segment: Segment,
    entries: Vec<Entry>,
    shapes: ShapeWriter,
    changed: bool,
}

impl Writing {
    /// Samples and bytes of the newest block.
    fn latest(&self) -> (u64, u64) {
        self.entries
            .last()
            .map_or((0, 0), |entry| weight(&entry.header))
    }
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue")
            .field("segments", &self.segments.len())
            .field("next", &self.next)
            .field("sinks", &self.cursors.keys())
            .finish_non_exhaustive()
    }
}

impl Queue {
    /// Opens what is on the disk, or begins anew. Nothing has to be mended by hand: what was found is told.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn open(
        mut disk: Box<dyn Disk>,
        limits: QueueLimits,
    ) -> Result<(Self, Recovery), QueueError> {
        let found = recovery::find(&mut *disk)?;
        for name in &found.empty {
            // Where that fails, it is tried again at the next start.
            let _ = disk.remove(name);
        }
        let next = found.next();
        let mut queue = Self {
            disk,
            limits,
            segments: found.segments,
            writing: None,
            next,
            cursors: BTreeMap::new(),
            settled: Settled::default(),
            cursors_lost: found.cursors.is_none(),
            copies_due: 0,
            generation: found.generation,
            directory_changed: true,
            copies_made: [false; 2],
            uncertain: None,
            recent: VecDeque::new(),
            open: VecDeque::new(),
            earlier: None,
            columns: ColumnWriter::default(),
            buffer: Vec::new(),
            payload: Vec::new(),
            counters: QueueCounters::default(),
        };
        let known = found.cursors.unwrap_or_default();
        queue.settled = known.settled;
        for (name, done) in known.done {
            queue.cursors.insert(name, Cursor::new(done));
        }
        let names: Vec<String> = queue.cursors.keys().cloned().collect();
        for name in names {
            queue.count_waiting(&name)?;
        }
        for (number, time) in known.times {
            if let Some((_, entry)) = queue.existing(number)?
                && entry.header.number == number
            {
                let shift = time.wrapping_sub(entry.header.wall_ms);
                queue.settled.insert(number, shift);
            }
        }
        queue.settled.forget_below(queue.first_number());
        queue.release();
        Ok((queue, found.recovery))
    }

    /// A queue in memory.
    pub(crate) fn in_memory(limits: QueueLimits) -> Self {
        let opened = Self::open(Box::new(MemoryDisk::new()), limits);
        let (mut queue, _) = opened.expect("memory is read without failure");
        queue.next = MEMORY_NUMBERS;
        queue
    }

    /// Gives `sink` a cursor. A sink that was known goes on where it was; a new one begins with the next block that is appended. One
    /// that was [closed](Self::close) gets what is appended from now on.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn attach(&mut self, sink: &str, order: Order) -> Result<(), QueueError> {
        if !self.cursors.contains_key(sink) {
            let done = if self.cursors_lost { 0 } else { self.next };
            let cursor = Cursor::new(Ranges::below(done));
            self.cursors.insert(sink.to_owned(), cursor);
            self.count_waiting(sink)?;
            self.copies_due = COPIES.len();
        }
        if let Some(cursor) = self.cursors.get_mut(sink) {
            cursor.order = order;
            cursor.is_closed = false;
            cursor.rewind();
        }
        Ok(())
    }

    /// Forgets all sinks but these, and what waits for no other.
    pub fn retain(&mut self, is_wanted: impl Fn(&str) -> bool) {
        let before = self.cursors.len();
        self.cursors.retain(|name, _| is_wanted(name));
        self.cursors_lost = false;
        if self.cursors.len() != before {
            self.copies_due = COPIES.len();
        }
        self.release();
    }

    /// Appends nothing more for `sink`, until it is attached again. What waits for it stays.
    pub fn close(&mut self, sink: &str) {
        if let Some(cursor) = self.cursors.get_mut(sink) {
            cursor.is_closed = true;
        }
    }

    /// The sinks that are known.
    pub fn sinks(&self) -> impl Iterator<Item = &str> {
        self.cursors.keys().map(String::as_str)
    }

    /// Appends a block for all sinks; `None` when there is none. It survives a crash after the next [`sync`](Self::sync).
    ///
    /// Where the disk is full, the oldest segments are dropped until there is room.
    ///
    /// # Errors
    /// When the block could not be written; it is dropped, and counted.
    pub fn append(&mut self, block: &SampleBlock) -> Result<Option<BlockId>, QueueError> {
        if self.cursors.values().all(|cursor| cursor.is_closed) {
            return Ok(None);
        }
        let samples = count_samples(block);
        let mut failures = 0;
        loop {
            let error = match self.try_append(block, samples) {
                Ok(id) => {
                    self.counters.appended_samples += u64::from(samples);
                    self.counters.appended_blocks += 1;
                    self.keep_limits();
                    return Ok(Some(id));
                }
                Err(error) => error,
            };
            let is_full = error.is_full();
            let reason = if is_full {
                DropReason::DiskFull
            } else {
                DropReason::WriteFailed
            };
            self.abandon();
            // All of the record may be in the file after all: its number must not name another block.
            self.next += 1;
            let room = is_full && self.drop_oldest(DropReason::DiskFull);
            if !room {
                failures += 1;
            }
            if failures == 2 {
                self.counters.drop(reason, 1, samples.into());
                for cursor in self.cursors.values_mut().filter(|it| !it.is_closed) {
                    cursor.dropped.add(reason, samples.into());
                }
                return Err(error);
            }
        }
    }

    /// Makes all that was appended and acknowledged before survive a crash.
    ///
    /// # Errors
    /// When that is not certain. It stays uncertain for what was appended since the latest success, since a system may report a
    /// failure once only; what is appended later goes to another segment.
    pub fn sync(&mut self) -> Result<(), QueueError> {
        if let Some(writing) = &mut self.writing
            && std::mem::take(&mut writing.changed)
        {
            let name = segment_name(writing.segment.first);
            if let Err(source) = self.disk.sync(&name) {
                self.uncertain = Some(io_error("synchronise", &name, source));
                self.abandon();
            }
        }
        let mut result = Ok(());
        while self.copies_due > 0 && result.is_ok() {
            result = self.save_cursors();
        }
        if self.directory_changed {
            match self.disk.sync_directory() {
                Ok(()) => self.directory_changed = false,
                Err(source) => result = Err(io_error("synchronise", ".", source)),
            }
        }
        let result = self.uncertain.take().map_or(result, Err);
        if result.as_ref().is_err_and(QueueError::is_full) {
            self.drop_oldest(DropReason::DiskFull);
        }
        result
    }

    /// The next block for `sink`, or `None` when it has had all. It comes again after [`rewind`](Self::rewind) or a restart, until it
    /// is acknowledged.
    ///
    /// # Errors
    /// When the disk cannot be read just now: the next call tries again. A block that is damaged is counted and passed over.
    pub fn next(&mut self, sink: &str) -> Result<Option<(BlockId, SampleBlock)>, QueueError> {
        while let Some((first, entry)) = self.pick(sink)? {
            let number = entry.header.number;
            let block = self.read(first, &entry)?;
            let (samples, bytes) = weight(&entry.header);
            if let Some(mut block) = block {
                let wall_ms = block.time.wall_ms;
                if let Some(shift) = self.settled.get(number) {
                    block.time.wall_ms = wall_ms.wrapping_add(shift);
                    block.time.is_final = true;
                }
                if let Some(cursor) = self.cursors.get_mut(sink) {
                    cursor.taken.insert(number, number + 1);
                    let given = Given {
                        samples,
                        bytes,
                        wall_ms,
                    };
                    cursor.waiting.insert(number, given);
                }
                return Ok(Some((BlockId(number), block)));
            }
            self.counters.drop(DropReason::Damaged, 1, samples);
            for cursor in self.cursors.values_mut() {
                if !cursor.done.contains(number) {
                    cursor.lose(DropReason::Damaged, number..number + 1, samples, bytes);
                }
            }
            self.copies_due = self.copies_due.max(1);
        }
        self.release();
        Ok(None)
    }

    /// Says that `sink` needs these blocks no more. Numbers that it was not given change nothing.
    pub fn acknowledge(&mut self, sink: &str, ids: impl IntoIterator<Item = BlockId>) {
        let Some(cursor) = self.cursors.get_mut(sink) else {
            return;
        };
        let mut changed = false;
        for BlockId(number) in ids {
            changed |= cursor.acknowledge(number);
        }
        if changed {
            self.copies_due = self.copies_due.max(1);
            self.release();
        }
    }

    /// Settles the times of blocks that `sink` was given and is about to send, in wall-clock milliseconds. After a
    /// [`sync`](Self::sync) they come with these times, marked as final, to all sinks and over restarts too, until they are acknowledged.
    ///
    /// A time that was settled before stands. Returns whether all are as `sink` wants them; where not, it must read them again.
    pub fn settle(&mut self, sink: &str, times: impl IntoIterator<Item = (BlockId, i64)>) -> bool {
        let Some(cursor) = self.cursors.get(sink) else {
            return true;
        };
        let mut are_equal = true;
        for (BlockId(number), time) in times {
            let Some(given) = cursor.waiting.get(&number) else {
                continue;
            };
            let shift = time.wrapping_sub(given.wall_ms);
            match self.settled.get(number) {
                Some(settled) => are_equal &= settled == shift,
                None => {
                    self.settled.insert(number, shift);
                    self.copies_due = self.copies_due.max(1);
                }
            }
        }
        are_equal
    }

    /// Gives out again what `sink` has not acknowledged.
    pub fn rewind(&mut self, sink: &str) {
        if let Some(cursor) = self.cursors.get_mut(sink) {
            cursor.rewind();
        }
    }

    /// Takes back a block that did not reach the sink: it is given out again.
    pub(crate) fn give_back(&mut self, sink: &str, BlockId(number): BlockId) {
        if let Some(cursor) = self.cursors.get_mut(sink)
            && cursor.waiting.remove(&number).is_some()
        {
            cursor.taken.remove(number);
            cursor.fresh = cursor.fresh.min(number);
        }
    }

    /// Appends all that waits to another queue, for the sinks that wait for it.
    pub(crate) fn move_into(&mut self, other: &mut Self) -> Result<(), QueueError> {
        let mut from = 0;
        while let Some((first, entry)) = self.existing(from)? {
            let number = entry.header.number;
            from = number + 1;
            let waiting = |cursor: &Cursor| !cursor.done.contains(number);
            if !self.cursors.values().any(waiting) {
                continue;
            }
            let Some(block) = self.read(first, &entry)? else {
                continue;
            };
            // What the other cannot take is counted there.
            let Ok(Some(BlockId(new))) = other.append(&block) else {
                continue;
            };
            let (samples, bytes) = other.writing.as_ref().map_or((0, 0), Writing::latest);
            for (name, cursor) in &mut other.cursors {
                let former = self.cursors.get(name);
                if former.is_none_or(|former| !waiting(former)) {
                    cursor.finish(new, new + 1, samples, bytes);
                }
            }
            if let Some(shift) = self.settled.get(number) {
                other.settled.insert(new, shift);
                other.copies_due = other.copies_due.max(1);
            }
        }
        other.counters.add(&self.counters);
        for (name, cursor) in &mut other.cursors {
            if let Some(former) = self.cursors.get(name) {
                cursor.dropped.add_all(&former.dropped);
            }
        }
        Ok(())
    }

    /// What `sink` has not acknowledged.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn backlog(&mut self, sink: &str) -> Result<Backlog, QueueError> {
        let Some(cursor) = self.cursors.get(sink) else {
            return Ok(Backlog::default());
        };
        let mut backlog = Backlog::default();
        (backlog.samples, backlog.bytes) = (cursor.samples, cursor.bytes);
        if backlog.samples > 0 {
            let least = cursor.done.first_missing(0);
            let oldest = self.existing(least)?;
            backlog.oldest = oldest.map(|(_, entry)| time_of(entry.header.wall_ms));
        }
        Ok(backlog)
    }

    /// Whether `sink` has acknowledged all that is there.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn is_done(&mut self, sink: &str) -> Result<bool, QueueError> {
        let mut from = 0;
        while let Some(cursor) = self.cursors.get(sink) {
            from = cursor.done.first_missing(from);
            match self.existing(from)? {
                // A number without a block.
                Some((_, entry)) if entry.header.number > from => from = entry.header.number,
                found => return Ok(found.is_none()),
            }
        }
        Ok(true)
    }

    /// Drops segments whose newest block is older than the limit at this time. Blocks of the present boot are as old as its clock
    /// says: the wall clock may have been set since, by decades where a machine has no clock of its own.
    pub fn expire(&mut self, now: SampleTime) {
        let writing = self.writing.as_ref().map(|writing| writing.segment);
        if writing.is_some_and(|segment| self.is_too_old(&segment, now)) {
            self.finish_segment();
        }
        while let Some((_, oldest)) = self.segments.first_key_value() {
            let oldest = *oldest;
            if !self.is_too_old(&oldest, now) {
                break;
            }
            self.drop_oldest(DropReason::Age);
        }
    }

    fn is_too_old(&mut self, segment: &Segment, now: SampleTime) -> bool {
        let age = self.limits.age;
        let limit = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
        if segment.newest_ms >= now.wall_ms.saturating_sub(limit) {
            return false;
        }
        let newest = self.entries(segment.first).ok();
        let newest = newest.and_then(|entries| entries.last().copied());
        let newest = newest.and_then(|entry| self.read(segment.first, &entry).ok().flatten());
        newest.is_none_or(|block| {
            let is_of_this_boot = block.time.boot_id == now.boot_id && now.boot_id != 0;
            let since = Duration::from_nanos(now.boot_ns.saturating_sub(block.time.boot_ns));
            !is_of_this_boot || since > age
        })
    }

    /// What happened since it was opened.
    #[must_use]
    pub fn counters(&self) -> QueueCounters {
        self.counters
    }

    /// Samples that were dropped for this reason before `sink` had acknowledged them, since the queue was opened.
    #[must_use]
    pub fn dropped_samples(&self, sink: &str, reason: DropReason) -> u64 {
        self.drops(sink).get(reason)
    }

    pub(crate) fn drops(&self, sink: &str) -> Drops {
        let cursor = self.cursors.get(sink);
        cursor.map_or_else(Drops::default, |cursor| cursor.dropped)
    }

    /// The number of the oldest block that may still be there; that of the next one if there is none.
    #[must_use]
    pub fn oldest(&self) -> BlockId {
        BlockId(self.first_number())
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let finished = self.segments.values().map(|segment| segment.length);
        let writing = self.writing.iter().map(|writing| writing.segment.length);
        finished.chain(writing).sum()
    }

    /// The newest block of each shape in the newest finished segment: after opening, the last that is known of each series.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn latest(&mut self) -> Result<Vec<SampleBlock>, QueueError> {
        let mut latest: Vec<SampleBlock> = Vec::new();
        let Some(first) = self.segments.last_key_value().map(|(first, _)| *first) else {
            return Ok(latest);
        };
        let index = self.index(first)?;
        let shapes = index.shapes.shapes().count();
        for entry in index.blocks.clone().iter().rev() {
            let Some(block) = self.read(first, entry)? else {
                continue;
            };
            let is_same = |other: &SampleBlock| {
                Arc::ptr_eq(&other.rows, &block.rows) && Arc::ptr_eq(&other.metrics, &block.metrics)
            };
            if !latest.iter().any(is_same) {
                latest.push(block);
            }
            if latest.len() == shapes {
                break;
            }
        }
        Ok(latest)
    }

    /// Counts what waits for a cursor that is new here.
    fn count_waiting(&mut self, name: &str) -> Result<(), QueueError> {
        let oldest = self.first_number();
        let Some(cursor) = self.cursors.get_mut(name) else {
            return Ok(());
        };
        cursor.done.insert(0, oldest);
        cursor.rewind();
        let done = cursor.done.clone();
        let segments: Vec<Segment> = self.all_segments().collect();
        let (mut samples, mut bytes) = (0, 0);
        for segment in segments {
            let waiting = self.waiting_in(&segment, &done)?;
            samples += waiting.0;
            bytes += waiting.1;
        }
        if let Some(cursor) = self.cursors.get_mut(name) {
            (cursor.samples, cursor.bytes) = (samples, bytes);
        }
        Ok(())
    }

    /// Samples and bytes of the blocks of a segment that are not done.
    fn waiting_in(&mut self, segment: &Segment, done: &Ranges) -> Result<(u64, u64), QueueError> {
        if done.covers(segment.first, segment.end) {
            return Ok((0, 0));
        }
        if done.is_clear(segment.first, segment.end) {
            return Ok((segment.samples, segment.block_bytes));
        }
        let entries = self.entries(segment.first)?;
        let waiting = entries
            .iter()
            .filter(|entry| !done.contains(entry.header.number));
        let weights = waiting.map(|entry| weight(&entry.header));
        Ok(weights.fold((0, 0), |sum, add| (sum.0 + add.0, sum.1 + add.1)))
    }

    fn all_segments(&self) -> impl Iterator<Item = Segment> {
        let writing = self.writing.iter().map(|writing| writing.segment);
        self.segments.values().copied().chain(writing)
    }

    /// The number of the oldest block that may be there.
    fn first_number(&self) -> u64 {
        self.all_segments()
            .next()
            .map_or(self.next, |segment| segment.first)
    }

    fn try_append(&mut self, block: &SampleBlock, samples: u32) -> Result<BlockId, QueueError> {
        let is_done = |writing: &Writing| {
            writing.segment.length >= self.segment_bytes()
                || writing.shapes.weight() >= SHAPE_WEIGHT
        };
        if self.writing.as_ref().is_some_and(is_done) {
            self.finish_segment();
        }
        if self.writing.is_none() {
            self.begin_segment()?;
        }
        let Some(writing) = &mut self.writing else {
            return Ok(BlockId(self.next));
        };
        self.buffer.clear();
        self.payload.clear();
        let (shape, payload) = writing.shapes.number(block);
        if let Some(payload) = payload {
            // Twice: see `format.rs`.
            for _ in 0..2 {
                let header = RecordHeader::new(Kind::Shape, shape);
                write_record(&mut self.buffer, header, &payload);
            }
        }
        write_block(&mut self.payload, shape, block, &mut self.columns);
        let at = self.buffer.len() as u64;
        let header = RecordHeader {
            wall_ms: block.time.wall_ms,
            samples,
            ..RecordHeader::new(Kind::Block, self.next)
        };
        write_record(&mut self.buffer, header, &self.payload);
        let header = RecordHeader::parse(&self.buffer[usize::try_from(at).unwrap_or_default()..]);
        let header = header.expect("it was written a line above");
        let name = segment_name(writing.segment.first);
        let written = self.disk.append(&name, &self.buffer);
        written.map_err(|source| io_error("append to", &name, source))?;
        let offset = writing.segment.length + at;
        writing.entries.push(Entry { offset, header });
        writing.segment.add(&header);
        writing.segment.length += self.buffer.len() as u64;
        writing.changed = true;
        let (samples, bytes) = weight(&header);
        let number = self.next;
        for cursor in self.cursors.values_mut() {
            if cursor.is_closed {
                cursor.finish(number, number + 1, 0, 0);
            } else {
                cursor.samples += samples;
                cursor.bytes += bytes;
            }
        }
        self.note_fresh(block.time.boot_ns);
        let id = BlockId(self.next);
        self.next += 1;
        Ok(id)
    }

    fn note_fresh(&mut self, boot_ns: u64) {
        self.recent.push_back((self.next, boot_ns));
        while let Some((_, oldest)) = self.recent.front()
            && (boot_ns.saturating_sub(*oldest) > FRESH_NS || self.recent.len() > FRESH_BLOCKS)
        {
            self.recent.pop_front();
        }
    }

    fn segment_bytes(&self) -> u64 {
        self.limits.segment_bytes.min(self.limits.bytes / 8)
    }

    fn begin_segment(&mut self) -> Result<(), QueueError> {
        let name = segment_name(self.next);
        let created = self.disk.create(&name);
        created.map_err(|source| io_error("create", &name, source))?;
        self.directory_changed = true;
        let mut segment = Segment::new(self.next);
        let mut header = Vec::new();
        write_segment_header(&mut header, self.next);
        segment.length = header.len() as u64;
        // Kept from now on, so that it is removed should writing fail.
        self.writing = Some(Writing {
            segment,
            entries: Vec::new(),
            shapes: ShapeWriter::default(),
            changed: true,
        });
        let written = self.disk.append(&name, &header);
        written.map_err(|source| io_error("append to", &name, source))
    }

    /// Ends the segment that is written, in order.
    fn finish_segment(&mut self) {
        let Some(writing) = &mut self.writing else {
            return;
        };
        let (header, payload) = writing.segment.summary();
        let mut record = Vec::new();
        write_record(&mut record, header, &payload);
        let name = segment_name(writing.segment.first);
        // Without a summary the segment is read at the start. That is all.
        if self.disk.append(&name, &record).is_ok() {
            writing.segment.length += record.len() as u64;
        }
        if let Err(source) = self.disk.sync(&name) {
            self.uncertain = Some(io_error("synchronise", &name, source));
        }
        self.put_away();
    }

    /// Ends the segment that is written, after a failure: what follows in the file is not known.
    fn abandon(&mut self) {
        let Some(writing) = &mut self.writing else {
            return;
        };
        let name = segment_name(writing.segment.first);
        if writing.segment.blocks == 0 {
            self.writing = None;
            // It holds nothing; if it cannot be removed now, the next start does.
            let _ = self.disk.remove(&name);
            return;
        }
        if writing.changed
            && let Err(source) = self.disk.sync(&name)
        {
            self.uncertain = Some(io_error("synchronise", &name, source));
        }
        if let Ok(files) = self.disk.list() {
            let file = files.into_iter().find(|(file, _)| *file == name);
            writing.segment.length = file.map_or(writing.segment.length, |(_, length)| length);
        }
        self.put_away();
    }

    fn put_away(&mut self) {
        if let Some(writing) = self.writing.take() {
            self.segments.insert(writing.segment.first, writing.segment);
            self.earlier = Some(writing.shapes);
            self.release();
        }
    }

    fn keep_limits(&mut self) {
        while self.bytes() > self.limits.bytes && !self.segments.is_empty() {
            self.drop_oldest(DropReason::Limit);
        }
    }

    /// Drops the oldest segment; returns whether there was one.
    fn drop_oldest(&mut self, reason: DropReason) -> bool {
        if self.segments.is_empty() {
            self.finish_segment();
        }
        let Some((_, segment)) = self.segments.first_key_value() else {
            return false;
        };
        let segment = *segment;
        let mut dropped = 0;
        let names: Vec<String> = self.cursors.keys().cloned().collect();
        let end = self.end_of(&segment);
        for name in names {
            let Some(cursor) = self.cursors.get(&name) else {
                continue;
            };
            let done = cursor.done.clone();
            // A segment that cannot be read is dropped for as much as it had at first.
            let waiting = self.waiting_in(&segment, &done);
            let (samples, bytes) = waiting.unwrap_or((segment.samples, segment.block_bytes));
            dropped = dropped.max(samples);
            if let Some(cursor) = self.cursors.get_mut(&name) {
                cursor.lose(reason, segment.first..end, samples, bytes);
            }
        }
        self.copies_due = self.copies_due.max(1);
        self.counters.drop(reason, segment.blocks, dropped);
        self.remove_segment(segment.first);
        true
    }

    /// One above the numbers for which nothing but this segment can hold a block.
    fn end_of(&self, segment: &Segment) -> u64 {
        let later = self.segments.range(segment.first + 1..).next();
        let writing = || self.writing.as_ref().map(|writing| writing.segment.first);
        later
            .map(|(first, _)| *first)
            .or_else(writing)
            .unwrap_or(self.next)
    }

    fn remove_segment(&mut self, first: u64) {
        self.segments.remove(&first);
        self.open.retain(|(open, _)| *open != first);
        self.settled.forget_below(self.first_number());
        // If it cannot be removed, the next start finds that all of it is acknowledged.
        if self.disk.remove(&segment_name(first)).is_ok() {
            self.directory_changed = true;
        }
    }

    /// Removes segments of which each sink has acknowledged all. The newest stays: it tells what was measured last.
    fn release(&mut self) {
        if self.cursors_lost {
            return;
        }
        while let Some((first, segment)) = self.segments.first_key_value()
            && (self.segments.len() > 1 || self.writing.is_some())
        {
            let (first, end) = (*first, segment.end);
            if !self
                .cursors
                .values()
                .all(|cursor| cursor.done.covers(first, end))
            {
                break;
            }
            self.remove_segment(first);
        }
    }

    /// The block to give out next, with its segment.
    fn pick(&mut self, sink: &str) -> Result<Option<(u64, Entry)>, QueueError> {
        let fresh = self.recent.front().map_or(self.next, |(number, _)| *number);
        let Some(cursor) = self.cursors.get_mut(sink) else {
            return Ok(None);
        };
        if cursor.order == Order::FreshFirst {
            cursor.fresh = cursor.fresh.max(fresh);
            let from = cursor.fresh;
            let found = self.untaken(sink, from)?;
            if let Some((_, entry)) = found
                && let Some(cursor) = self.cursors.get_mut(sink)
            {
                cursor.fresh = entry.header.number + 1;
                return Ok(found);
            }
        }
        self.untaken(sink, 0)
    }

    /// The first block from `from` on that `sink` was not given.
    fn untaken(&mut self, sink: &str, mut from: u64) -> Result<Option<(u64, Entry)>, QueueError> {
        loop {
            let Some(cursor) = self.cursors.get(sink) else {
                return Ok(None);
            };
            from = cursor.taken.first_missing(from);
            let found = self.existing(from)?;
            let next = found.map_or(self.next, |(_, entry)| entry.header.number);
            if let Some(cursor) = self.cursors.get_mut(sink) {
                // Numbers without a block: were they left out, the ranges would grow for ever.
                cursor.taken.insert(from, next);
                cursor.done.insert(from, next);
                if found.is_none() || !cursor.taken.contains(next) {
                    return Ok(found);
                }
            }
            from = next;
        }
    }

    /// The first block from `from` on, with its segment.
    fn existing(&mut self, from: u64) -> Result<Option<(u64, Entry)>, QueueError> {
        let before = self.segments.range(..=from).next_back();
        let mut at = before.map_or(0, |(first, _)| *first);
        while let Some((first, segment)) = self.segments.range(at..).next() {
            let (first, end) = (*first, segment.end);
            at = first + 1;
            if end > from
                && let Some(entry) = self.index(first)?.from(from)
            {
                return Ok(Some((first, entry)));
            }
        }
        let Some(writing) = &self.writing else {
            return Ok(None);
        };
        let entries = &writing.entries;
        let at = entries.partition_point(|entry| entry.header.number < from);
        let entry = entries.get(at);
        Ok(entry.map(|entry| (writing.segment.first, *entry)))
    }

    /// The blocks of a segment.
    fn entries(&mut self, first: u64) -> Result<&[Entry], QueueError> {
        if self.is_writing(first) {
            let writing = self.writing.as_ref();
            return Ok(writing.map_or(&[], |writing| &writing.entries));
        }
        Ok(&self.index(first)?.blocks)
    }

    /// The block of an entry, unless it is damaged.
    fn read(&mut self, first: u64, entry: &Entry) -> Result<Option<SampleBlock>, QueueError> {
        let name = segment_name(first);
        let payload = read_payload(&mut *self.disk, &name, entry.offset, &entry.header)?;
        if !self.is_writing(first) {
            self.index(first)?;
        }
        Ok(payload.and_then(|payload| {
            let shape = |number| self.shape(first, number);
            read_block(&payload, entry.header.wall_ms, shape).ok()
        }))
    }

    /// A shape of a segment whose records are known.
    fn shape(&self, first: u64, number: u64) -> Option<&Shape> {
        if let Some(writing) = &self.writing
            && writing.segment.first == first
        {
            return writing.shapes.get(number);
        }
        let (_, index) = self.open.iter().find(|(open, _)| *open == first)?;
        index.shapes.get(number)
    }

    fn is_writing(&self, first: u64) -> bool {
        let writing = self.writing.as_ref();
        writing.is_some_and(|writing| writing.segment.first == first)
    }

    /// The records of a finished segment.
    fn index(&mut self, first: u64) -> Result<&Index, QueueError> {
        if let Some(at) = self.open.iter().position(|(open, _)| *open == first) {
            if let Some(open) = self.open.remove(at) {
                self.open.push_front(open);
            }
        } else {
            let length = self
                .segments
                .get(&first)
                .map_or(0, |segment| segment.length);
            let mut index = Index::scan(&mut *self.disk, &segment_name(first), first, length)?;
            self.compare_summary(first, &index);
            let writing = self.writing.as_ref().map(|writing| &writing.shapes);
            let written = writing.into_iter().chain(&self.earlier);
            let known = self
                .open
                .iter()
                .flat_map(|(_, index)| index.shapes.shapes());
            index
                .shapes
                .share(written.flat_map(ShapeWriter::shapes).chain(known));
            self.open.truncate(OPEN_SEGMENTS - 1);
            self.open.push_front((first, index));
        }
        Ok(&self.open[0].1)
    }

    /// Puts what is there in place of what a segment's summary says, and counts what is not there.
    fn compare_summary(&mut self, first: u64, index: &Index) {
        let Some(segment) = self.segments.get_mut(&first) else {
            return;
        };
        if std::mem::replace(&mut segment.counted, true) {
            return;
        }
        let told = *segment;
        (segment.blocks, segment.samples, segment.block_bytes) = (0, 0, 0);
        for entry in &index.blocks {
            segment.add(&entry.header);
        }
        segment.end = told.end;
        let blocks = told.blocks.saturating_sub(segment.blocks);
        let samples = told.samples.saturating_sub(segment.samples);
        let bytes = told.block_bytes.saturating_sub(segment.block_bytes);
        self.counters.damages += index.damages;
        self.counters.drop(DropReason::Damaged, blocks, samples);
        // The sums of other cursors were made of what is there.
        for cursor in self.cursors.values_mut() {
            if cursor.done.is_clear(told.first, told.end) {
                cursor.samples = cursor.samples.saturating_sub(samples);
                cursor.bytes = cursor.bytes.saturating_sub(bytes);
            }
            if !cursor.done.covers(told.first, told.end) {
                cursor.dropped.add(DropReason::Damaged, samples);
            }
        }
    }

    fn save_cursors(&mut self) -> Result<(), QueueError> {
        let generation = self.generation + 1;
        let copy = usize::from(generation % 2 == 1);
        let name = COPIES[copy];
        let bytes = {
            let done = self
                .cursors
                .iter()
                .map(|(name, cursor)| (name, &cursor.done));
            cursor::encode(generation, done, &self.settled)
        };
        let created = self.disk.create(name);
        created.map_err(|source| io_error("create", name, source))?;
        self.directory_changed |= !std::mem::replace(&mut self.copies_made[copy], true);
        let written = self.disk.append(name, &bytes);
        written.map_err(|source| io_error("append to", name, source))?;
        let synced = self.disk.sync(name);
        synced.map_err(|source| io_error("synchronise", name, source))?;
        self.generation = generation;
        self.copies_due = self.copies_due.saturating_sub(1);
        Ok(())
    }
}

/// Samples and bytes of a block.
fn weight(header: &RecordHeader) -> (u64, u64) {
    (header.samples.into(), header.record_length())
}

fn io_error(action: &'static str, file: &str, source: io::Error) -> QueueError {
    let file = file.to_owned();
    QueueError::Io {
        action,
        file,
        source,
    }
}
