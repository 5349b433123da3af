//! Performance data as series: a row for each piece, with its label as `label`, and a frame for each unit.

use std::sync::Arc;

use pe_scrape::{
    ABSENT, Columns, ColumnsError, Frame, FrameBuilder, LabelSet, MetricDescriptor, Target, Unit,
};

use super::plugin::{Piece, PieceUnit, Range};
use crate::ProbeMetrics;

/// The columns of each unit, in the order of [`unit_index`].
#[derive(Debug)]
pub(super) struct Perfdata {
    columns: Vec<Arc<Columns>>,
    probe: Arc<str>,
}

/// What a unit adds to the names of metrics.
const UNITS: [(&str, Unit); 5] = [
    ("", Unit::None),
    ("_seconds", Unit::Seconds),
    ("_bytes", Unit::Bytes),
    ("_ratio", Unit::Ratio),
    ("_total", Unit::None),
];

/// The position of the counters.
const COUNTERS: usize = 4;

/// What a unit that the conventions do not know is told by is the label `unit`.
fn unit_index(unit: &PieceUnit) -> usize {
    match unit {
        PieceUnit::Number | PieceUnit::Other(_) => 0,
        PieceUnit::Seconds => 1,
        PieceUnit::Bytes => 2,
        PieceUnit::Ratio => 3,
        PieceUnit::Counter => COUNTERS,
    }
}

/// The ends of ranges, and whether the alert is outside or inside of them.
const BOUNDS: [&str; 4] = ["lower", "upper", "inside_lower", "inside_upper"];

impl Perfdata {
    pub(super) fn new(metrics: &mut ProbeMetrics) -> Result<Self, ColumnsError> {
        let columns = UNITS.iter().enumerate().map(|(index, (suffix, unit))| {
            let name = format!("probe_command_perfdata{suffix}");
            let help = "Performance data of the plugin, in base units";
            let value = match index {
                COUNTERS => MetricDescriptor::counter(name, help).sparse(),
                _ => MetricDescriptor::gauge(name, help),
            };
            let mut all = vec![value.with_unit(*unit)];
            // The threshold of a counter is no counter.
            let suffix = if index == COUNTERS { "" } else { suffix };
            for level in ["warning", "critical"] {
                for bound in BOUNDS {
                    let name = format!("probe_command_threshold{suffix}");
                    let help =
                        "Where the plugin warns of a piece of performance data, or is critical";
                    let threshold = MetricDescriptor::gauge(name, help).with_unit(*unit);
                    all.push(
                        threshold
                            .with_label("level", level)
                            .with_label("bound", bound),
                    );
                }
            }
            for bound in ["min", "max"] {
                let name = format!("probe_command_limit{suffix}");
                let help =
                    "The least and the greatest value that a piece of performance data can have";
                let limit = MetricDescriptor::gauge(name, help).with_unit(*unit);
                all.push(limit.with_label("bound", bound));
            }
            Columns::new(&all)
        });
        let columns: Vec<_> = columns.collect::<Result<_, _>>()?;
        columns.iter().for_each(|columns| metrics.learn(columns));
        Ok(Self {
            columns,
            probe: metrics.probe_name().clone(),
        })
    }

    /// The frames of what a plugin said of a device. None where the device has a label of the same name as one of ours.
    pub(super) fn frames(&self, target: &Target, pieces: &[Piece]) -> Vec<Frame> {
        let mut builders: Vec<Option<FrameBuilder>> = vec![None, None, None, None, None];
        for piece in pieces {
            let index = unit_index(&piece.unit);
            let own = target.labels().iter();
            let own = own.map(|label| (Arc::from(label.name()), Arc::from(label.value())));
            let unit = match &piece.unit {
                PieceUnit::Other(unit) => Some((Arc::from("unit"), Arc::from(unit.as_str()))),
                _ => None,
            };
            let learned = [
                (Arc::from("probe"), self.probe.clone()),
                (Arc::from("label"), Arc::from(piece.label.as_str())),
            ];
            let Ok(labels) = LabelSet::new(own.chain(learned).chain(unit)) else {
                return Vec::new();
            };
            let builder = builders[index]
                .take()
                .unwrap_or_else(|| FrameBuilder::with_columns(self.columns[index].clone()));
            builders[index] = Some(builder.row(labels, &values(piece)));
        }
        builders
            .into_iter()
            .flatten()
            .map(FrameBuilder::build)
            .collect()
    }
}

/// The values of a piece, in the order of its columns.
fn values(piece: &Piece) -> Vec<f64> {
    let mut values = vec![piece.value.unwrap_or(ABSENT)];
    for range in [piece.warning, piece.critical] {
        values.extend(ends(range));
    }
    values.push(piece.min.unwrap_or(ABSENT));
    values.push(piece.max.unwrap_or(ABSENT));
    values
}

/// The ends of a range, in the order of [`BOUNDS`]. One that is infinite is no bound.
fn ends(range: Option<Range>) -> [f64; BOUNDS.len()] {
    let Some(Range { low, high, inside }) = range else {
        return [ABSENT; BOUNDS.len()];
    };
    let finite = |end: f64| if end.is_finite() { end } else { ABSENT };
    let (low, high) = (finite(low), finite(high));
    match inside {
        false => [low, high, ABSENT, ABSENT],
        true => [ABSENT, ABSENT, low, high],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::plugin::PluginOutput;

    #[test]
    fn pieces_become_series_of_their_unit() {
        let perfdata = Perfdata::new(&mut ProbeMetrics::new("command:x")).unwrap();
        let output = PluginOutput::parse(
            b"OK | time=250ms;1000;2000;0 size=5KB n=4;@1:2 c=7c rssi=-70dBm pl=50%;20;60 u=U",
        );
        let target = Target::from_ip([127, 0, 0, 1].into());
        let frames = perfdata.frames(&target, &output.pieces);
        let value = |name: &str| frames.iter().find_map(|frame| frame.value(0, name));
        assert_eq!(value("probe_command_perfdata_seconds"), Some(0.25));
        assert_eq!(value("probe_command_threshold_seconds"), Some(0.0));
        assert_eq!(value("probe_command_perfdata_bytes"), Some(5120.0));
        assert_eq!(value("probe_command_perfdata_total"), Some(7.0));
        assert_eq!(value("probe_command_perfdata_ratio"), Some(0.5));
        let plain = frames.iter().find(|frame| frame.rows().len() == 3).unwrap();
        assert_eq!(plain.value(0, "probe_command_perfdata"), Some(4.0));
        assert_eq!(plain.value(1, "probe_command_perfdata"), Some(-70.0));
        assert_eq!(plain.rows()[1].get("unit"), Some("dBm"));
        assert_eq!(plain.value(2, "probe_command_perfdata"), None);
    }

    #[test]
    fn a_device_that_has_a_label_of_ours_keeps_it() {
        let perfdata = Perfdata::new(&mut ProbeMetrics::new("command:x")).unwrap();
        let address = pe_scrape::Address::Ip([127, 0, 0, 1].into());
        let further = [("label".into(), "x".into())];
        let target = Target::new("a", "127.0.0.1", address, further).unwrap();
        let output = PluginOutput::parse(b"OK | n=4");
        assert!(perfdata.frames(&target, &output.pieces).is_empty());
    }
}
