//! A hierarchical timer wheel whose entries live in the caller's slab: no allocation, constant time to add and remove.

use super::Nanos;

/// Ticks of 2^20 ns, a little above a millisecond.
const TICK_BITS: u32 = 20;
const LEVEL_BITS: u32 = 6;
const SLOTS: usize = 1 << LEVEL_BITS;
/// 67 ms, 4.3 s, 4.6 min, 4.9 h, 13 days.
const LEVELS: usize = 5;
/// The farthest ahead a deadline may be, in ticks: 63 slots of the coarsest level, so that it never falls into the slot
/// that time is in. What is farther is looked at again then.
const HORIZON: u64 = (SLOTS as u64 - 1) << (LEVEL_BITS * (LEVELS as u32 - 1));

/// No entry.
pub(crate) const NONE: u32 = u32::MAX;

/// What the wheel keeps in each entry of the slab.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Links {
    pub(crate) next: u32,
    pub(crate) previous: u32,
    /// Level and slot of the list that the entry is in.
    bucket: u16,
}

impl Links {
    pub(crate) const UNLINKED: Self = Self {
        next: NONE,
        previous: NONE,
        bucket: u16::MAX,
    };
}

/// A slab whose entries a [`Wheel`] can link.
pub(crate) trait Entries {
    /// The links of entry `index`.
    fn links(&mut self, index: u32) -> &mut Links;
    /// When entry `index` expires.
    fn deadline(&self, index: u32) -> Nanos;
}

/// The wheel: for each level, 64 lists of entries.
#[derive(Debug)]
pub(crate) struct Wheel {
    /// All ticks below this one have been expired.
    elapsed: u64,
    heads: Box<[[u32; SLOTS]; LEVELS]>,
    occupied: [u64; LEVELS],
}

/// The first tick at whose start `deadline` has passed.
fn tick_after(deadline: Nanos) -> u64 {
    (deadline >> TICK_BITS) + 1
}

impl Wheel {
    pub(crate) fn new(now: Nanos) -> Self {
        Self {
            elapsed: now >> TICK_BITS,
            heads: Box::new([[NONE; SLOTS]; LEVELS]),
            occupied: [0; LEVELS],
        }
    }

    /// Adds an unlinked entry.
    #[inline]
    pub(crate) fn insert(&mut self, entries: &mut impl Entries, index: u32) {
        let tick = tick_after(entries.deadline(index))
            .clamp(self.elapsed, self.elapsed.saturating_add(HORIZON));
        // The highest bit in which the tick differs from now tells the level.
        let differing = (tick ^ self.elapsed) | ((1 << LEVEL_BITS) - 1);
        let level = ((63 - differing.leading_zeros()) / LEVEL_BITS).min(LEVELS as u32 - 1);
        let slot = (tick >> (level * LEVEL_BITS)) as usize & (SLOTS - 1);
        let level = level as usize;
        let head = self.heads[level][slot];
        *entries.links(index) = Links {
            next: head,
            previous: NONE,
            bucket: (level * SLOTS + slot) as u16,
        };
        if head != NONE {
            entries.links(head).previous = index;
        }
        self.heads[level][slot] = index;
        self.occupied[level] |= 1 << slot;
    }

    /// Takes an entry out before its time.
    #[inline]
    pub(crate) fn remove(&mut self, entries: &mut impl Entries, index: u32) {
        let Links {
            next,
            previous,
            bucket,
        } = std::mem::replace(entries.links(index), Links::UNLINKED);
        if next != NONE {
            entries.links(next).previous = previous;
        }
        if previous != NONE {
            entries.links(previous).next = next;
            return;
        }
        let (level, slot) = (usize::from(bucket) / SLOTS, usize::from(bucket) % SLOTS);
        self.heads[level][slot] = next;
        if next == NONE {
            self.occupied[level] &= !(1 << slot);
        }
    }

    /// The next slot that is due: its level, its position and the tick at which it starts.
    fn next_slot(&self) -> Option<(usize, usize, u64)> {
        (0..LEVELS).find_map(|level| {
            if self.occupied[level] == 0 {
                return None;
            }
            let shift = LEVEL_BITS * level as u32;
            let here = (self.elapsed >> shift) as u32 & (SLOTS as u32 - 1);
            let ahead = self.occupied[level].rotate_right(here).trailing_zeros();
            let slot = (here + ahead) as usize & (SLOTS - 1);
            let start = ((self.elapsed >> shift) + u64::from(ahead)) << shift;
            Some((level, slot, start.max(self.elapsed)))
        })
    }

    /// The moment at which [`pop`](Self::pop) may have something to give. Never later than the first deadline's tick.
    pub(crate) fn next_wake(&self) -> Option<Nanos> {
        self.next_slot().map(|(_, _, tick)| tick << TICK_BITS)
    }

    /// Takes out one entry whose deadline lies before the tick of `now`, if there is one.
    pub(crate) fn pop(&mut self, entries: &mut impl Entries, now: Nanos) -> Option<u32> {
        let now_tick = now >> TICK_BITS;
        loop {
            let Some((level, slot, start)) = self.next_slot() else {
                self.elapsed = self.elapsed.max(now_tick);
                return None;
            };
            if start > now_tick {
                self.elapsed = self.elapsed.max(now_tick);
                return None;
            }
            self.elapsed = start;
            let index = self.heads[level][slot];
            if level == 0 {
                self.remove(entries, index);
                if tick_after(entries.deadline(index)) <= now_tick {
                    return Some(index);
                }
                // It was beyond the horizon when it was added.
                self.insert(entries, index);
                continue;
            }
            self.cascade(entries, level, slot);
        }
    }

    /// Spreads a slot whose time has come over the finer levels.
    fn cascade(&mut self, entries: &mut impl Entries, level: usize, slot: usize) {
        let mut index = std::mem::replace(&mut self.heads[level][slot], NONE);
        self.occupied[level] &= !(1 << slot);
        while index != NONE {
            let next = entries.links(index).next;
            self.insert(entries, index);
            index = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    struct Slab(Vec<(Links, Nanos)>);

    impl Entries for Slab {
        fn links(&mut self, index: u32) -> &mut Links {
            &mut self.0[index as usize].0
        }
        fn deadline(&self, index: u32) -> Nanos {
            self.0[index as usize].1
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Add(Nanos),
        Remove(prop::sample::Index),
        Advance(Nanos),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let span = prop_oneof![
            0..5_000_000_u64,
            0..5_000_000_000_u64,
            0..400_000_000_000_u64,
            0..3_000_000_000_000_000_u64,
        ];
        let step = prop_oneof![
            3 => span.clone().prop_map(Step::Add),
            1 => any::<prop::sample::Index>().prop_map(Step::Remove),
            2 => span.prop_map(Step::Advance),
        ];
        proptest::collection::vec(step, 1..120)
    }

    proptest! {
        /// Whatever happens, an entry comes out in the first tick after its deadline: never before, never forgotten.
        #[test]
        fn expires_each_entry_in_its_tick(start in 0..u64::MAX / 4, steps in steps()) {
            let mut now = start;
            let mut wheel = Wheel::new(now);
            let mut slab = Slab(Vec::new());
            let mut waiting: BTreeMap<u32, Nanos> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Add(ahead) => {
                        let index = slab.0.len() as u32;
                        slab.0.push((Links::UNLINKED, now + ahead));
                        wheel.insert(&mut slab, index);
                        waiting.insert(index, now + ahead);
                    }
                    Step::Remove(which) => {
                        if !waiting.is_empty() {
                            let index = *waiting.keys().nth(which.index(waiting.len())).unwrap();
                            waiting.remove(&index);
                            wheel.remove(&mut slab, index);
                        }
                    }
                    Step::Advance(by) => {
                        now += by;
                        while let Some(index) = wheel.pop(&mut slab, now) {
                            let deadline = waiting.remove(&index).unwrap();
                            prop_assert!(deadline < now);
                        }
                        for deadline in waiting.values() {
                            prop_assert!(*deadline >> TICK_BITS >= now >> TICK_BITS);
                        }
                    }
                }
                if let Some(first) = waiting.values().min() {
                    let wake = wheel.next_wake().unwrap();
                    prop_assert!(wake <= (tick_after(*first) << TICK_BITS).max(now));
                } else {
                    prop_assert_eq!(wheel.next_wake(), None);
                }
            }
        }
    }
}
