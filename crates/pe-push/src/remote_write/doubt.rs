//! Which blocks the receiver may have already. No I/O; takes every time as an argument.
//!
//! A program that is killed after the receiver took a request, and before that was noted, sends the samples again. A receiver that
//! wants each series in order of time refuses them, and with them what is new in the same request; of a request that is refused
//! the older half is dropped, so that new samples would be lost. Blocks from before the start of a sender whose times are settled therefore go one by one, until one
//! of their shape is taken: what follows it is new to the receiver. A request that an earlier sender had sent may arrive even after
//! that; for a while, older halves that are refused go block by block too.

use std::collections::HashMap;
use std::sync::Arc;

use super::work::{ShapeId, labels_of, shape};
use crate::SampleBlock;
use crate::clocks::Now;

/// Most blocks that go alone after a start: more than a window and what is acknowledged between two synchronisations of the queue.
/// A receiver that refuses all of a long backlog is asked that often.
const MOST_DOUBTED: usize = 2_000;

/// When a sender started, by a clock that nobody sets.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start {
    boot_id: u128,
    /// Nanoseconds since that boot.
    boot_ns: u64,
}

impl Start {
    pub(crate) fn at(now: Now) -> Self {
        Self {
            boot_id: now.boot_id,
            boot_ns: now.boot_ns,
        }
    }

    /// Whether a block was measured before it.
    pub(crate) fn is_after(self, block: &SampleBlock) -> bool {
        block.time.boot_id != self.boot_id || block.time.boot_ns < self.boot_ns
    }
}

/// What is not known to be new to the receiver.
#[derive(Debug)]
pub(crate) struct Doubts {
    started: Start,
    /// Blocks that were sent alone.
    sent: usize,
    /// Shapes of which a block was taken, with a block that keeps their addresses their own.
    certain: HashMap<ShapeId, Arc<SampleBlock>>,
}

impl Doubts {
    /// Those of a sender that started then.
    pub(crate) fn since(started: Start) -> Self {
        Self {
            started,
            sent: 0,
            certain: HashMap::new(),
        }
    }

    /// Whether the receiver may have a block already.
    pub(crate) fn is_doubted(&self, block: &SampleBlock) -> bool {
        // A time is settled before its block is sent for the first time, by this sink or by another.
        let may_be_there = block.time.is_final && self.started.is_after(block);
        may_be_there && self.sent < MOST_DOUBTED && !self.certain.contains_key(&shape(block))
    }

    /// Notes that so many blocks go alone, unless those are too many.
    pub(crate) fn may_send(&mut self, blocks: usize) -> bool {
        let may_send = self.sent + blocks <= MOST_DOUBTED;
        if may_send {
            self.sent += blocks;
        }
        may_send
    }

    /// Notes that the receiver took a block.
    pub(crate) fn taken(&mut self, block: &SampleBlock) {
        if self.is_doubted(block) {
            self.certain.insert(shape(block), labels_of(block));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote_write::testing::{block, metric, now};

    #[test]
    fn blocks_from_before_the_start_are_doubted_until_one_of_their_shape_is_taken() {
        let measured = |boot_id: u128, boot_ns: u64, of: &Arc<SampleBlock>| {
            let mut block = SampleBlock::clone(of);
            (block.time.boot_id, block.time.boot_ns) = (boot_id, boot_ns);
            block.time.is_final = true;
            block
        };
        let row: &[(&str, &str)] = &[("device", "x")];
        let a = block(&[metric("a", &[])], &[row], &[&[1.0]], 10);
        let b = block(&[metric("b", &[])], &[row], &[&[1.0]], 10);
        let start = Now {
            boot_ns: 100,
            ..now(0)
        };
        let mut doubts = Doubts::since(Start::at(start));
        assert!(doubts.is_doubted(&measured(7, 99, &a)));
        assert!(doubts.is_doubted(&measured(6, 500, &a)));
        assert!(!doubts.is_doubted(&measured(7, 100, &a)));
        // It was never sent.
        let mut unsettled = measured(7, 99, &a);
        unsettled.time.is_final = false;
        assert!(!doubts.is_doubted(&unsettled));
        doubts.taken(&measured(7, 98, &a));
        assert!(!doubts.is_doubted(&measured(7, 99, &a)));
        assert!(doubts.is_doubted(&measured(7, 99, &b)));
        assert!(doubts.may_send(MOST_DOUBTED) && !doubts.may_send(1));
        assert!(!doubts.is_doubted(&measured(7, 99, &b)));
    }
}
