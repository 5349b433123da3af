//! The payload of a block's record.
//!
//! The number of its shape (varint); nanoseconds since boot (varint); 16 bytes that name the boot; the columns, one a metric
//! (`column.rs`). Where there are native histograms, how many columns have them, and for each the number of the column, the schema
//! (a byte), the lowest and the highest bucket (signed), the lengths of the records of all rows, and the records (`native.rs`). The time by
//! the wall clock is in the record's header.

use super::column::{ColumnWriter, read_columns};
use pe_scrape::NativeBuckets;

use super::format::{Input, Malformed, put_signed, put_varint};
use super::shape::Shape;
use crate::{NativeColumn, SampleBlock, SampleTime};

/// A block has at most so many cells (512 MB): more in a file is a lie that memory would pay for.
const CELLS: usize = 1 << 26;

/// Appends a block's payload.
pub(crate) fn write_block(
    out: &mut Vec<u8>,
    shape: u64,
    block: &SampleBlock,
    columns: &mut ColumnWriter,
) {
    put_varint(out, shape);
    put_varint(out, block.time.boot_ns);
    out.extend_from_slice(&block.time.boot_id.to_le_bytes());
    columns.write(out, &block.columns);
    if block.natives.is_empty() {
        return;
    }
    put_varint(out, block.natives.len() as u64);
    for native in &block.natives {
        put_varint(out, native.metric as u64);
        out.push(native.buckets.schema);
        put_signed(out, native.buckets.lowest.into());
        put_signed(out, native.buckets.highest.into());
        let records = || (0..block.rows.len()).map(|row| native.record(row));
        for record in records() {
            put_varint(out, record.len() as u64);
        }
        for record in records() {
            out.extend_from_slice(record);
        }
    }
}

/// Reads native histograms, for so many columns and rows.
fn read_natives(
    input: &mut Input<'_>,
    columns: usize,
    rows: usize,
) -> Result<Vec<NativeColumn>, Malformed> {
    let mut natives = Vec::new();
    if input.0.is_empty() {
        return Ok(natives);
    }
    let bound = |bucket: i64| i32::try_from(bucket).map_err(|_| Malformed);
    for _ in 0..input.count()? {
        let metric = input.below(columns)?;
        let buckets = NativeBuckets {
            schema: input.byte()?,
            lowest: bound(input.signed()?)?,
            highest: bound(input.signed()?)?,
        };
        let mut native = NativeColumn::new(metric, buckets);
        let mut lengths = Vec::new();
        for _ in 0..rows {
            lengths.push(input.count()?);
        }
        for length in lengths {
            native.push_record(input.take(length)?);
        }
        natives.push(native);
    }
    Ok(natives)
}

/// Reads a block, with the shape that `shape_of` knows under its number.
pub(crate) fn read_block<'s>(
    payload: &[u8],
    wall_ms: i64,
    shape_of: impl FnOnce(u64) -> Option<&'s Shape>,
) -> Result<SampleBlock, Malformed> {
    let mut input = Input(payload);
    let shape = shape_of(input.varint()?).ok_or(Malformed)?;
    let time = SampleTime {
        wall_ms,
        boot_ns: input.varint()?,
        boot_id: u128::from_le_bytes(input.array()?),
        is_final: false,
    };
    let (columns, rows) = (shape.metrics.len(), shape.rows.len());
    if columns.checked_mul(rows).is_none_or(|cells| cells > CELLS) {
        return Err(Malformed);
    }
    let (width, columns) = (columns, read_columns(&mut input, columns, rows)?);
    let natives = read_natives(&mut input, width, rows)?;
    if !input.0.is_empty() {
        return Err(Malformed);
    }
    Ok(SampleBlock {
        time,
        metrics: shape.metrics.clone(),
        rows: shape.rows.clone(),
        columns,
        natives,
    })
}

/// How many samples are present.
pub(crate) fn count_samples(block: &SampleBlock) -> u32 {
    let cells = block.columns.values().iter();
    let present = cells.filter(|value| !pe_scrape::is_absent(**value)).count();
    u32::try_from(present).unwrap_or(u32::MAX)
}
