//! Rings of records: for each of the latest slots of time one record for each device.

/// A record for each device in each of the latest slots.
#[derive(Debug, Clone)]
pub(super) struct Ring<T> {
    slots: usize,
    devices: usize,
    records: Vec<T>,
    /// The number of each slot, oldest first; its records are at `number % slots`.
    numbers: std::collections::VecDeque<u64>,
}

impl<T: Copy + Default> Ring<T> {
    pub(super) fn new(slots: usize, devices: usize) -> Self {
        Self {
            slots,
            devices,
            records: vec![T::default(); slots * devices],
            numbers: std::collections::VecDeque::with_capacity(slots),
        }
    }

    /// Starts the slot `number`, whose records are empty, in the place of the oldest. Numbers grow by one.
    pub(super) fn start(&mut self, number: u64) -> &mut [T] {
        if self.numbers.len() == self.slots {
            self.numbers.pop_front();
        }
        self.numbers.push_back(number);
        let range = self.range(number);
        let records = &mut self.records[range];
        records.fill(T::default());
        records
    }

    /// The records of a slot, if it is still there.
    pub(super) fn slot_mut(&mut self, number: u64) -> Option<&mut [T]> {
        let is_there = self.numbers.contains(&number);
        let range = self.range(number);
        is_there.then(|| &mut self.records[range])
    }

    /// A device's records, oldest first, each with the number of its slot.
    pub(super) fn of(&self, device: usize) -> impl DoubleEndedIterator<Item = (u64, T)> {
        self.numbers.iter().map(move |number| {
            let start = self.range(*number).start;
            (*number, self.records[start + device])
        })
    }

    /// The same ring for other devices: each is what it was, or new.
    pub(super) fn rearranged(&self, former: &[Option<usize>]) -> Self {
        let mut other = Self::new(self.slots, former.len());
        for &number in &self.numbers {
            let here = self.range(number).start;
            let records = other.start(number);
            for (record, former) in records.iter_mut().zip(former) {
                if let Some(former) = former {
                    *record = self.records[here + former];
                }
            }
        }
        other
    }

    fn range(&self, number: u64) -> std::ops::Range<usize> {
        let start = (number % self.slots as u64) as usize * self.devices;
        start..start + self.devices
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_slot_makes_room_and_devices_move() {
        let mut ring = Ring::<u8>::new(3, 2);
        for number in 0..5_u64 {
            ring.start(number)
                .copy_from_slice(&[number as u8, 10 + number as u8]);
        }
        assert!(ring.of(1).eq([(2, 12), (3, 13), (4, 14)]));
        assert!(ring.slot_mut(1).is_none());
        let moved = ring.rearranged(&[Some(1), None, Some(0)]);
        assert!(moved.of(0).eq([(2, 12), (3, 13), (4, 14)]));
        assert!(moved.of(1).eq([(2, 0), (3, 0), (4, 0)]));
        assert!(moved.of(2).eq([(2, 2), (3, 3), (4, 4)]));
    }
}
