//! Columns: the values of one metric for all rows, compressed. What is read is bit for bit what was written.
//!
//! A column is a byte (encoding, and two flags), then:
//!
//! 1. With flag `0x10`, which rows are present: 0 and runs (their count, then the lengths of runs that are absent and present in turn,
//!    beginning with absent, as varints; what is left is present), or 1 for the same as the latest column that had runs.
//! 2. The encoding of the values that are present (of all rows for `Like`), below.
//! 3. With flag `0x20`, exceptions: their count, the gaps between their rows (from 0, counted among what the encoding holds), then
//!    for each 1 and the 8 bytes of its value, or 0 for the same value as the one before.
//!
//! | code | encoding | holds |
//! | --- | --- | --- |
//! | 0 | `Absent` | nothing |
//! | 1 | `Constant` | 8 bytes |
//! | 2 | `ConstantInteger` | scale, signed varint |
//! | 3 | `Like` | an earlier column by number, scale: that column's values, absent ones too, where possible brought to another scale |
//! | 4 | `Packed` | scale, least integer (signed), bits, the distances from it in so many bits each |
//! | 5 | `Integers` | scale, length, a standalone `pco` file of `i64` |
//! | 6 | `Raw` | 8 bytes a value |
//! | 7 | `Floats` | length, a standalone `pco` file of `f64` |
//!
//! *Scale* is an index into [`SCALES`]: a value is an integer divided by that. Most values here are counts, or times of a whole number
//! of nanoseconds told in seconds or milliseconds, and `pco` does far better on the integers than on the fractions. The best, worst
//! and mean time of a single probe are one column, and so are seconds and milliseconds.

use pco::data_types::Number;
use pco::standalone::{simple_compress_into, simple_decompress_into};
use pco::{ChunkConfig, DeltaSpec, ModeSpec};
use pe_scrape::{ABSENT, is_absent};

use super::format::{Input, Malformed, put_signed, put_varint};
use crate::SampleColumns;

const ABSENT_COLUMN: u8 = 0;
const CONSTANT: u8 = 1;
const CONSTANT_INTEGER: u8 = 2;
const LIKE: u8 = 3;
const PACKED: u8 = 4;
const INTEGERS: u8 = 5;
const RAW: u8 = 6;
const FLOATS: u8 = 7;
const HAS_PRESENCE: u8 = 0x10;
const HAS_EXCEPTIONS: u8 = 0x20;

/// Counts, milliseconds, microseconds and nanoseconds as parts of a whole.
const SCALES: [f64; 4] = [1.0, 1e3, 1e6, 1e9];
/// What stands for no scale where one is stored.
const NO_SCALE: u8 = 0xff;
/// Integers above are not exact in a float.
const LARGEST: f64 = 9_007_199_254_740_992.0;
/// Below this many values, `pco`'s own head of some 30 bytes costs more than it saves.
const FEW: usize = 64;
/// Higher levels take twice the time, and save 1 % at most.
const LEVEL: usize = 6;
/// How many rows are looked at before all are.
const SAMPLE: usize = 32;
/// A column is compared with so many earlier ones.
const CANDIDATES: usize = 8;

/// Buffers for writing columns, used again for each block.
#[derive(Debug, Default)]
pub(crate) struct ColumnWriter {
    present: Vec<f64>,
    integers: Vec<i64>,
    exceptions: Vec<(usize, f64)>,
    runs: Vec<u64>,
    latest_runs: Vec<u64>,
    /// Earlier columns of the block that others may be like, by number, with their scales.
    candidates: Vec<(usize, Option<usize>)>,
    packed: Vec<u8>,
}

impl ColumnWriter {
    /// Appends all columns of a block, in order.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>, columns: &SampleColumns) {
        self.latest_runs.clear();
        self.candidates.clear();
        for number in 0..columns.len() {
            self.write_column(out, number, columns);
        }
    }

    fn write_column(&mut self, out: &mut Vec<u8>, number: usize, columns: &SampleColumns) {
        let column = &columns[number];
        self.present.clear();
        let values = column.iter().copied();
        self.present
            .extend(values.filter(|value| !is_absent(*value)));
        let Some(first) = self.present.first().copied() else {
            return out.push(ABSENT_COLUMN);
        };
        let start = out.len();
        out.push(0);
        let is_constant = |value: &f64| value.to_bits() == first.to_bits();
        if self.present.iter().all(is_constant) {
            let presence = self.write_presence(out, column);
            out[start] = presence | write_constant(out, first);
            return;
        }
        let scale = self.find_scale();
        if let Some((like, from)) = self.find_like(columns, number, scale) {
            put_varint(out, like as u64);
            out.push(scale_code(if from == scale { None } else { scale }));
            out[start] = LIKE | self.write_exceptions(out);
            return;
        }
        let presence = self.write_presence(out, column);
        let encoding = match scale {
            Some(scale) => self.write_integers(out, scale),
            None => self.write_floats(out),
        };
        let scale = scale.filter(|_| matches!(encoding & 0x0f, PACKED | INTEGERS));
        out[start] = presence | encoding;
        if self.candidates.len() == CANDIDATES {
            self.candidates.remove(0);
        }
        self.candidates.push((number, scale));
    }

    /// Which rows are present; returns the flag.
    fn write_presence(&mut self, out: &mut Vec<u8>, column: &[f64]) -> u8 {
        if self.present.len() == column.len() {
            return 0;
        }
        self.runs.clear();
        let (mut absent, mut length) = (true, 0);
        for value in column {
            if is_absent(*value) != absent {
                self.runs.push(length);
                (absent, length) = (!absent, 0);
            }
            length += 1;
        }
        // The last run is what is left; an absent one is written, since what is left is present.
        if absent {
            self.runs.push(length);
        }
        if self.runs == self.latest_runs {
            out.push(1);
            return HAS_PRESENCE;
        }
        out.push(0);
        put_varint(out, self.runs.len() as u64);
        for run in &self.runs {
            put_varint(out, *run);
        }
        std::mem::swap(&mut self.runs, &mut self.latest_runs);
        HAS_PRESENCE
    }

    /// The least scale at which nearly all of `present` are integers; they are then in `integers`, and the others in
    /// `exceptions`.
    fn find_scale(&mut self) -> Option<usize> {
        let count = self.present.len();
        let step = count.div_ceil(SAMPLE);
        let bound = count / 16;
        for (scale, factor) in SCALES.iter().enumerate() {
            let sample = || self.present.iter().step_by(step);
            let unfit = sample().filter(|value| to_integer(**value, *factor).is_none());
            if unfit.count() > sample().count() / 8 {
                continue;
            }
            self.integers.clear();
            self.exceptions.clear();
            let mut latest = 0;
            for (row, value) in self.present.iter().enumerate() {
                match to_integer(*value, *factor) {
                    Some(integer) => latest = integer,
                    None if self.exceptions.len() < bound => self.exceptions.push((row, *value)),
                    None => break,
                }
                self.integers.push(latest);
            }
            if self.integers.len() == count {
                return Some(scale);
            }
        }
        None
    }

    /// An earlier column that this one equals in nearly all rows, with its scale; the other rows are in `exceptions`.
    fn find_like(
        &mut self,
        columns: &SampleColumns,
        number: usize,
        scale: Option<usize>,
    ) -> Option<(usize, Option<usize>)> {
        let column = &columns[number];
        let step = column.len().div_ceil(SAMPLE);
        let bound = column.len() / 16;
        let mut found = Vec::new();
        for (like, from) in self.candidates.iter().rev().copied() {
            let change = Rescale::between(from, scale);
            let rows = || columns[like].iter().zip(column);
            let differs =
                |(theirs, ours): &(&f64, &f64)| change.apply(**theirs).to_bits() != ours.to_bits();
            if rows().step_by(step).filter(differs).count() > SAMPLE / 8 {
                continue;
            }
            found.clear();
            let different = rows().enumerate().filter(|(_, pair)| differs(pair));
            found.extend(
                different
                    .map(|(row, (_, ours))| (row, *ours))
                    .take(bound + 1),
            );
            if found.len() <= bound {
                self.exceptions = found;
                return Some((like, from));
            }
        }
        None
    }

    fn write_integers(&mut self, out: &mut Vec<u8>, scale: usize) -> u8 {
        out.push(scale_code(Some(scale)));
        let encoding = if self.integers.len() < FEW && write_packed(out, &self.integers) {
            PACKED
        } else {
            let config = ChunkConfig::default()
                .with_compression_level(LEVEL)
                .with_mode_spec(ModeSpec::Classic)
                .with_delta_spec(DeltaSpec::NoOp);
            self.packed.clear();
            if simple_compress_into(&self.integers, &config, &mut self.packed).is_err() {
                out.pop();
                return write_raw(out, &self.present);
            }
            put_varint(out, self.packed.len() as u64);
            out.extend_from_slice(&self.packed);
            INTEGERS
        };
        encoding | self.write_exceptions(out)
    }

    fn write_floats(&mut self, out: &mut Vec<u8>) -> u8 {
        let config = ChunkConfig::default()
            .with_compression_level(LEVEL)
            .with_delta_spec(DeltaSpec::NoOp);
        self.packed.clear();
        let packed = self.present.len() >= FEW
            && simple_compress_into(&self.present, &config, &mut self.packed).is_ok();
        if !packed || self.packed.len() >= self.present.len() * 8 {
            return write_raw(out, &self.present);
        }
        put_varint(out, self.packed.len() as u64);
        out.extend_from_slice(&self.packed);
        FLOATS
    }

    /// Returns the flag.
    fn write_exceptions(&self, out: &mut Vec<u8>) -> u8 {
        if self.exceptions.is_empty() {
            return 0;
        }
        put_varint(out, self.exceptions.len() as u64);
        let mut latest = 0;
        for (row, _) in &self.exceptions {
            put_varint(out, (row - latest) as u64);
            latest = *row;
        }
        let mut latest = None;
        for (_, value) in &self.exceptions {
            let bits = value.to_bits();
            out.push(u8::from(latest != Some(bits)));
            if latest != Some(bits) {
                out.extend_from_slice(&bits.to_le_bytes());
            }
            latest = Some(bits);
        }
        HAS_EXCEPTIONS
    }
}

/// Reads `count` columns of `rows` rows each.
pub(crate) fn read_columns(
    input: &mut Input<'_>,
    count: usize,
    rows: usize,
) -> Result<SampleColumns, Malformed> {
    let mut columns = SampleColumns::with_capacity(rows, count);
    let values = columns.values_mut();
    let mut scales: Vec<Option<usize>> = Vec::with_capacity(count);
    let mut runs = Vec::new();
    for _ in 0..count {
        let head = input.byte()?;
        let encoding = head & 0x0f;
        let present = if head & HAS_PRESENCE == 0 {
            rows
        } else {
            read_presence(input, rows, &mut runs)?
        };
        let mut scale = None;
        let start = values.len();
        match encoding {
            ABSENT_COLUMN => values.resize(start + rows, ABSENT),
            CONSTANT => {
                let value = f64::from_bits(u64::from_le_bytes(input.array()?));
                values.resize(start + present, value);
            }
            CONSTANT_INTEGER => {
                let factor = SCALES[read_scale(input)?.ok_or(Malformed)?];
                values.resize(start + present, from_integer(input.signed()?, factor));
            }
            LIKE => {
                let like = input.below(scales.len())?;
                let to = read_scale(input)?;
                let change = Rescale::between(scales[like], to.or(scales[like]));
                values.extend_from_within(like * rows..(like + 1) * rows);
                for value in &mut values[start..] {
                    *value = change.apply(*value);
                }
            }
            PACKED | INTEGERS => {
                let index = read_scale(input)?.ok_or(Malformed)?;
                scale = Some(index);
                let integers = if encoding == PACKED {
                    read_packed(input, present)?
                } else {
                    read_pco::<i64>(input, present)?
                };
                let factor = SCALES[index];
                let integers = integers.into_iter();
                values.extend(integers.map(|integer| from_integer(integer, factor)));
            }
            RAW => {
                let bytes = input.take(present.checked_mul(8).ok_or(Malformed)?)?;
                let (chunks, _) = bytes.as_chunks();
                let bits = chunks.iter().map(|bytes| u64::from_le_bytes(*bytes));
                values.extend(bits.map(f64::from_bits));
            }
            FLOATS => values.extend(read_pco::<f64>(input, present)?),
            _ => return Err(Malformed),
        }
        if head & HAS_EXCEPTIONS != 0 {
            read_exceptions(input, &mut values[start..])?;
        }
        if head & HAS_PRESENCE != 0 && !matches!(encoding, ABSENT_COLUMN | LIKE) {
            let present = values.split_off(start);
            spread(&present, &runs, values);
        }
        if values.len() != start + rows {
            return Err(Malformed);
        }
        scales.push(scale);
    }
    Ok(columns)
}

/// Reads runs, or leaves those of an earlier column; returns how many rows are present.
fn read_presence(
    input: &mut Input<'_>,
    rows: usize,
    runs: &mut Vec<usize>,
) -> Result<usize, Malformed> {
    if input.below(2)? == 0 {
        runs.clear();
        for _ in 0..input.count()? {
            runs.push(input.below(rows + 1)?);
        }
    }
    let total = runs
        .iter()
        .try_fold(0_usize, |sum, run| sum.checked_add(*run));
    if total.is_none_or(|total| total > rows) {
        return Err(Malformed);
    }
    Ok(rows - runs.iter().step_by(2).sum::<usize>())
}

/// Appends a column with values where the runs say that rows are present.
fn spread(values: &[f64], runs: &[usize], column: &mut Vec<f64>) {
    let mut values = values.iter().copied();
    for (number, run) in runs.iter().enumerate() {
        if number % 2 == 0 {
            column.resize(column.len() + run, ABSENT);
        } else {
            column.extend(values.by_ref().take(*run));
        }
    }
    column.extend(values);
}

fn read_exceptions(input: &mut Input<'_>, values: &mut [f64]) -> Result<(), Malformed> {
    let count = input.count()?;
    let mut rows = Vec::with_capacity(count);
    let mut row = 0_usize;
    for _ in 0..count {
        row += input.below(values.len() - row)?;
        rows.push(row);
    }
    let mut bits = 0;
    for row in rows {
        if input.below(2)? == 1 {
            bits = u64::from_le_bytes(input.array()?);
        }
        values[row] = f64::from_bits(bits);
    }
    Ok(())
}

fn write_constant(out: &mut Vec<u8>, value: f64) -> u8 {
    for (scale, factor) in SCALES.iter().enumerate() {
        if let Some(integer) = to_integer(value, *factor) {
            out.push(scale_code(Some(scale)));
            put_signed(out, integer);
            return CONSTANT_INTEGER;
        }
    }
    out.extend_from_slice(&value.to_bits().to_le_bytes());
    CONSTANT
}

fn write_raw(out: &mut Vec<u8>, values: &[f64]) -> u8 {
    out.extend(
        values
            .iter()
            .flat_map(|value| value.to_bits().to_le_bytes()),
    );
    RAW
}

/// Whether it could: distances of more than 56 bits are left to others.
fn write_packed(out: &mut Vec<u8>, integers: &[i64]) -> bool {
    let least = integers.iter().copied().min().unwrap_or_default();
    let most = integers.iter().copied().max().unwrap_or_default();
    let bits = u64::BITS - most.abs_diff(least).leading_zeros();
    if bits > 56 {
        return false;
    }
    put_signed(out, least);
    #[allow(clippy::cast_possible_truncation)]
    out.push(bits as u8);
    let (mut held, mut waiting) = (0_u64, 0);
    for integer in integers {
        held |= integer.abs_diff(least) << waiting;
        waiting += bits;
        while waiting >= 8 {
            #[allow(clippy::cast_possible_truncation)]
            out.push(held as u8);
            held >>= 8;
            waiting -= 8;
        }
    }
    if waiting > 0 {
        #[allow(clippy::cast_possible_truncation)]
        out.push(held as u8);
    }
    true
}

fn read_packed(input: &mut Input<'_>, count: usize) -> Result<Vec<i64>, Malformed> {
    let least = input.signed()?;
    let bits = input.below(57)?;
    let length = bits.checked_mul(count).ok_or(Malformed)?.div_ceil(8);
    let mut bytes = input.take(length)?.iter();
    let (mut held, mut waiting) = (0_u64, 0);
    let mut integers = Vec::with_capacity(count);
    for _ in 0..count {
        while waiting < bits {
            held |= u64::from(*bytes.next().ok_or(Malformed)?) << waiting;
            waiting += 8;
        }
        let distance = held & ((1 << bits) - 1);
        integers.push(least.wrapping_add(distance.cast_signed()));
        held >>= bits;
        waiting -= bits;
    }
    Ok(integers)
}

fn read_pco<T: Number + Default>(input: &mut Input<'_>, count: usize) -> Result<Vec<T>, Malformed> {
    let length = input.count()?;
    let mut values = vec![T::default(); count];
    let progress =
        simple_decompress_into(input.take(length)?, &mut values).map_err(|_| Malformed)?;
    if progress.n_processed == count && progress.finished {
        Ok(values)
    } else {
        Err(Malformed)
    }
}

fn scale_code(scale: Option<usize>) -> u8 {
    scale.map_or(NO_SCALE, |scale| u8::try_from(scale).unwrap_or(NO_SCALE))
}

fn read_scale(input: &mut Input<'_>) -> Result<Option<usize>, Malformed> {
    match input.byte()? {
        NO_SCALE => Ok(None),
        scale if usize::from(scale) < SCALES.len() => Ok(Some(scale.into())),
        _ => Err(Malformed),
    }
}

/// From a column of one scale to one of another.
#[derive(Clone, Copy)]
enum Rescale {
    Same,
    Factors(f64, f64),
}

impl Rescale {
    fn between(from: Option<usize>, to: Option<usize>) -> Self {
        match (from, to) {
            (Some(from), Some(to)) if from != to => Self::Factors(SCALES[from], SCALES[to]),
            _ => Self::Same,
        }
    }

    /// What is no integer at the first scale, or absent, stays as it is.
    fn apply(self, value: f64) -> f64 {
        match self {
            Self::Same => value,
            Self::Factors(from, to) => {
                to_integer(value, from).map_or(value, |integer| from_integer(integer, to))
            }
        }
    }
}

/// The integer that gives exactly this value when it is divided by `factor`.
fn to_integer(value: f64, factor: f64) -> Option<i64> {
    let scaled = (value * factor).round();
    // Also false for what is not a number.
    if scaled.abs() < LARGEST {
        #[allow(clippy::cast_possible_truncation)]
        let integer = scaled as i64;
        (from_integer(integer, factor).to_bits() == value.to_bits()).then_some(integer)
    } else {
        None
    }
}

#[allow(clippy::cast_precision_loss)]
fn from_integer(integer: i64, factor: f64) -> f64 {
    integer as f64 / factor
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bits(columns: &SampleColumns) -> Vec<u64> {
        let values = columns.values().iter();
        values.map(|value| value.to_bits()).collect()
    }

    /// Writes and reads; returns the bytes.
    fn round_trip(columns: &[Vec<f64>]) -> usize {
        let rows = columns[0].len();
        let columns: SampleColumns = columns.iter().cloned().collect();
        let mut out = Vec::new();
        ColumnWriter::default().write(&mut out, &columns);
        let mut input = Input(&out);
        let read = read_columns(&mut input, columns.len(), rows).unwrap();
        assert_eq!(bits(&read), bits(&columns));
        assert_eq!(read.len(), columns.len());
        assert!(input.0.is_empty());
        out.len()
    }

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            4 => (0..10_000_000_000_i64).prop_map(|ns| ns as f64 / 1e9),
            2 => (0..100_i64).prop_map(|n| n as f64),
            2 => Just(ABSENT),
            1 => any::<f64>(),
            1 => any::<u64>().prop_map(f64::from_bits),
            1 => prop_oneof![Just(-0.0), Just(f64::NAN), Just(f64::INFINITY), Just(f64::MIN_POSITIVE)],
        ]
    }

    fn column(rows: usize) -> impl Strategy<Value = Vec<f64>> {
        prop_oneof![
            proptest::collection::vec(value(), rows),
            value().prop_map(move |value| vec![value; rows]),
            proptest::collection::vec((0..30_000_000_i64).prop_map(|ns| ns as f64 / 1e9), rows),
        ]
    }

    proptest! {
        #[test]
        fn columns_come_back_bit_for_bit(
            mut columns in (1..200_usize).prop_flat_map(|rows| proptest::collection::vec(column(rows), 1..6)),
            scale in 0..4_usize,
            spoilt in any::<prop::sample::Index>(),
        ) {
            // One more that is like the first, at another scale but for one row.
            let change = Rescale::between(Some(3), Some(scale));
            let mut like: Vec<f64> = columns[0].iter().map(|value| change.apply(*value)).collect();
            let at = spoilt.index(like.len());
            like[at] = 3000.0;
            columns.push(like);
            round_trip(&columns);
        }

        #[test]
        fn whatever_the_bytes_reading_ends(bytes in proptest::collection::vec(any::<u8>(), 0..300), count in 0..8_usize, rows in 0..300_usize) {
            let _ = read_columns(&mut Input(&bytes), count, rows);
        }
    }

    #[test]
    fn constants_and_copies_take_a_few_bytes() {
        let rtt: Vec<f64> = (0..10_000_u64)
            .map(|n| (n * n % 65_537) as f64 / 1e9)
            .collect();
        let alone = round_trip(std::slice::from_ref(&rtt));
        let milliseconds = rtt.iter().map(|s| (s * 1e9).round() / 1e6).collect();
        let more = [
            rtt.clone(),
            rtt,
            milliseconds,
            vec![1.0; 10_000],
            vec![0.2; 10_000],
            vec![ABSENT; 10_000],
        ];
        assert!(round_trip(&more) < alone + 25);
    }

    #[test]
    fn a_few_rows_that_differ_spoil_neither_integers_nor_copies() {
        let mut rtt: Vec<f64> = (0..10_000_u64)
            .map(|n| (n * n % 65_537) as f64 / 1e9)
            .collect();
        let mut milliseconds: Vec<f64> = rtt.iter().map(|s| (s * 1e9).round() / 1e6).collect();
        for row in (0..10_000).step_by(100) {
            rtt[row] = ABSENT;
            milliseconds[row] = 3000.0;
        }
        rtt[5] = 1.0 / 3.0;
        let alone = round_trip(std::slice::from_ref(&rtt));
        assert!(alone < 21_000, "{alone}");
        let both = round_trip(&[rtt, milliseconds]);
        assert!(both < alone + 250, "{both} {alone}");
    }
}
