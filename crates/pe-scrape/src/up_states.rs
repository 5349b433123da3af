//! Whether devices are up by what several scrapers say of each.

use crate::columns::UpRole;
use crate::{Columns, Frame};

/// Which devices of a list are up. Those scrapers count that have the highest role of all that say anything of the device: it
/// is up when one of them says so, down when one says so and none says up, and else unknown.
#[derive(Debug, Clone, Default)]
pub struct UpStates(Vec<Option<(UpRole, Option<bool>)>>);

impl UpStates {
    /// For so many devices, of which nobody says anything yet.
    #[must_use]
    pub fn new(devices: usize) -> Self {
        Self(vec![None; devices])
    }

    /// Takes in what a frame says of the devices at `indices`, one for each of its rows.
    ///
    /// # Panics
    /// When there is no such device.
    pub fn note(&mut self, frame: &Frame, indices: impl IntoIterator<Item = usize>) {
        let columns = frame.columns();
        let Some(up) = columns.up() else { return };
        for (row, index) in indices.into_iter().enumerate() {
            self.note_value(index, columns, frame.get(row, up));
        }
    }

    /// Takes in what a scraper with these columns says of the device at `index`: the value of [`Columns::up`], `None` where it
    /// does not know. Returns whether nothing that counts for more was taken in before.
    ///
    /// # Panics
    /// When there is no such device.
    pub fn note_value(&mut self, index: usize, columns: &Columns, value: Option<f64>) -> bool {
        let state = value.map(|value| value > 0.0);
        let told = columns.up_role().map(|role| (role, state));
        let known = &mut self.0[index];
        let is_best = told >= *known;
        if is_best {
            *known = told;
        }
        is_best
    }

    /// Whether the device at `index` is up; `None` where that is unknown.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<bool> {
        self.0.get(index).copied().flatten()?.1
    }

    /// Whether what a scraper with these columns says of the device at `index` counts.
    #[must_use]
    pub fn counts(&self, index: usize, columns: &Columns) -> bool {
        let known = self.0.get(index).copied().flatten();
        known.is_some_and(|(role, _)| columns.up_role() == Some(role))
    }

    /// The states of those devices of which a scraper says anything, in their order.
    pub fn told(&self) -> impl Iterator<Item = Option<bool>> {
        self.0.iter().flatten().map(|(_, state)| *state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MetricDescriptor;

    #[test]
    fn the_highest_role_counts_and_of_it_the_best_word() {
        let columns = |descriptor| Columns::new(&[descriptor]).unwrap();
        let weak = columns(MetricDescriptor::gauge("weak", "").up_unless_told());
        let strong = columns(MetricDescriptor::gauge("strong", "").up());
        let none = columns(MetricDescriptor::gauge("none", ""));
        let (up, down, unknown) = (Some(1.0), Some(0.0), None);
        for (told, expected) in [
            (vec![], None),
            (vec![(&none, up)], None),
            (vec![(&weak, up)], Some(true)),
            (vec![(&weak, up), (&none, down)], Some(true)),
            (vec![(&weak, up), (&strong, down)], Some(false)),
            (vec![(&strong, down), (&weak, up)], Some(false)),
            (vec![(&weak, up), (&strong, unknown)], None),
            (vec![(&strong, up), (&strong, down)], Some(true)),
            (vec![(&strong, unknown), (&strong, down)], Some(false)),
        ] {
            let mut states = UpStates::new(1);
            for (columns, value) in &told {
                states.note_value(0, columns, *value);
            }
            assert_eq!(states.get(0), expected, "{told:?}");
        }
        let mut states = UpStates::new(3);
        for (device, columns) in [(0, &weak), (0, &strong), (1, &weak), (1, &none), (2, &none)] {
            states.note_value(device, columns, unknown);
        }
        let counts = [&weak, &strong, &none].map(|it| [0, 1, 2].map(|at| states.counts(at, it)));
        assert_eq!(
            counts,
            [
                [false, true, false],
                [true, false, false],
                [false, false, false]
            ]
        );
        assert_eq!(states.told().count(), 2);
    }
}
