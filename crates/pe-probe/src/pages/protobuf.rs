//! Length-delimited `io.prometheus.client.MetricFamily` messages, read one metric at a time. No I/O.
//!
//! Each metric is handed on before the next one is read: a page of small messages would take many times its size as objects. Field
//! numbers and types are those of `metrics.proto` of the Prometheus client model. Unknown fields are passed over.

use thiserror::Error;

use super::text::Malformed;

/// What a message says of a metric family.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ProtoFamily<'a> {
    /// The name.
    pub name: &'a str,
    /// The help text.
    pub help: &'a str,
    /// The number of the type.
    pub kind: u64,
}

/// A metric: its labels and what it holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ProtoMetric<'a> {
    /// Names and values.
    pub labels: Vec<(&'a str, &'a str)>,
    /// The value of a gauge, counter or untyped metric.
    pub value: Option<f64>,
    /// Of a histogram or summary.
    pub count: Option<f64>,
    /// Of a histogram or summary.
    pub sum: Option<f64>,
    /// Upper bounds and cumulative counts, or quantiles and values.
    pub parts: Vec<(f64, f64)>,
    /// Whether there are native buckets.
    pub is_native: bool,
    /// Whether there is a time stamp.
    pub has_time: bool,
}

/// Fields of a message.
struct Fields<'a>(&'a [u8]);

enum Value<'a> {
    Number(u64),
    Fixed(u64),
    Bytes(&'a [u8]),
}

impl Value<'_> {
    fn double(&self) -> f64 {
        match self {
            Self::Fixed(bits) => f64::from_bits(*bits),
            _ => 0.0,
        }
    }

    fn number(&self) -> u64 {
        match self {
            Self::Number(number) => *number,
            _ => 0,
        }
    }
}

impl<'a> Value<'a> {
    fn bytes(&self) -> &'a [u8] {
        match self {
            Self::Bytes(bytes) => bytes,
            _ => &[],
        }
    }

    fn text(&self) -> Result<&'a str, PageError> {
        std::str::from_utf8(self.bytes()).map_err(|_| PageError::Utf8)
    }
}

/// Why a page cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PageError {
    /// It does not follow its format: the line or message, from 1, and what is wrong there.
    #[error("line {0} of the page cannot be read: {1}")]
    Malformed(usize, &'static str),
    /// It is no UTF-8.
    #[error("the page is no UTF-8")]
    Utf8,
    /// It has more samples than this, which are allowed.
    #[error("the page has more than {0} series")]
    TooManySeries(usize),
}

const CUT: Malformed = Malformed("a message that is cut off");

fn varint(input: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = input.split_first().ok_or(CUT)?;
        *input = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(Malformed("a number that is too long"))
}

fn take<'a>(input: &mut &'a [u8], length: u64) -> Result<&'a [u8], Malformed> {
    let length = usize::try_from(length).map_err(|_| CUT)?;
    let (taken, rest) = input.split_at_checked(length).ok_or(CUT)?;
    *input = rest;
    Ok(taken)
}

impl<'a> Fields<'a> {
    fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = varint(&mut self.0)?;
        let value = match tag & 7 {
            0 => Value::Number(varint(&mut self.0)?),
            1 => {
                let bytes = take(&mut self.0, 8)?;
                Value::Fixed(u64::from_le_bytes(bytes.try_into().map_err(|_| CUT)?))
            }
            2 => {
                let length = varint(&mut self.0)?;
                Value::Bytes(take(&mut self.0, length)?)
            }
            5 => {
                take(&mut self.0, 4)?;
                Value::Number(0)
            }
            _ => return Err(Malformed("a field of an unknown kind")),
        };
        Ok(Some((tag >> 3, value)))
    }
}

/// Reads a page: each family, then its metrics in their order.
///
/// # Errors
/// [`PageError`], also that of `each`.
pub fn read_families<'a>(
    page: &'a [u8],
    mut each: impl FnMut(&ProtoFamily<'a>, ProtoMetric<'a>) -> Result<(), PageError>,
) -> Result<(), PageError> {
    let mut rest = page;
    let mut number = 0;
    while !rest.is_empty() {
        number += 1;
        let at = |Malformed(why)| PageError::Malformed(number, why);
        let length = varint(&mut rest).map_err(at)?;
        let message = take(&mut rest, length).map_err(at)?;
        let mut family = ProtoFamily::default();
        // Name and type may stand behind the metrics.
        let mut fields = Fields(message);
        while let Some((field, value)) = fields.next().map_err(at)? {
            match field {
                1 => family.name = value.text()?,
                2 => family.help = value.text()?,
                3 => family.kind = value.number(),
                _ => {}
            }
        }
        let mut fields = Fields(message);
        while let Some((field, value)) = fields.next().map_err(at)? {
            if field == 4 {
                each(&family, read_metric(value.bytes(), &at)?)?;
            }
        }
    }
    Ok(())
}

fn read_metric<'a>(
    message: &'a [u8],
    at: &impl Fn(Malformed) -> PageError,
) -> Result<ProtoMetric<'a>, PageError> {
    let mut metric = ProtoMetric::default();
    let mut fields = Fields(message);
    while let Some((field, value)) = fields.next().map_err(at)? {
        match field {
            1 => metric.labels.push(read_label(value.bytes(), at)?),
            // Gauge, counter and untyped have their value in the same field.
            2 | 3 | 5 => {
                let mut number = 0.0;
                let mut fields = Fields(value.bytes());
                while let Some((field, value)) = fields.next().map_err(at)? {
                    if field == 1 {
                        number = value.double();
                    }
                }
                metric.value = Some(number);
            }
            4 | 7 => read_parts(value.bytes(), field == 7, &mut metric, at)?,
            6 => metric.has_time = true,
            _ => {}
        }
    }
    Ok(metric)
}

fn read_label<'a>(
    message: &'a [u8],
    at: &impl Fn(Malformed) -> PageError,
) -> Result<(&'a str, &'a str), PageError> {
    let mut label = ("", "");
    let mut fields = Fields(message);
    while let Some((field, value)) = fields.next().map_err(at)? {
        match field {
            1 => label.0 = value.text()?,
            2 => label.1 = value.text()?,
            _ => {}
        }
    }
    Ok(label)
}

/// A summary or a histogram: count, sum, and quantiles or buckets.
fn read_parts<'a>(
    message: &'a [u8],
    is_histogram: bool,
    metric: &mut ProtoMetric<'a>,
    at: &impl Fn(Malformed) -> PageError,
) -> Result<(), PageError> {
    // An absent field is a zero.
    (metric.count, metric.sum) = (Some(0.0), Some(0.0));
    let mut fields = Fields(message);
    while let Some((field, value)) = fields.next().map_err(at)? {
        match field {
            1 => metric.count = Some(value.number() as f64),
            2 => metric.sum = Some(value.double()),
            3 => {
                let (mut first, mut second) = (0.0, 0.0);
                let mut fields = Fields(value.bytes());
                while let Some((field, value)) = fields.next().map_err(at)? {
                    match (field, is_histogram) {
                        (1, true) => second = value.number() as f64,
                        (2, true) | (1, false) => first = value.double(),
                        (2, false) => second = value.double(),
                        // Of a histogram whose counts are no whole numbers.
                        (4, true) => second = value.double(),
                        _ => {}
                    }
                }
                metric.parts.push((first, second));
            }
            4 if is_histogram => metric.count = Some(value.double()),
            5..=16 if is_histogram => metric.is_native = true,
            _ => {}
        }
    }
    Ok(())
}
