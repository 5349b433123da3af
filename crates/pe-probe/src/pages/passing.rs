//! Pages to frames, device by device: what is remembered of each from one cycle to the next. No I/O.
//!
//! Of a device the latest layouts are kept, so that a page that changes to and fro is not read whole each time. Layouts that were used
//! last are tried for other devices too: pages of the same program on machines of one kind differ in their numbers only.

use std::cell::Cell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use pe_scrape::{Frame, LabelSet};

use super::dictionary::Dictionary;
use super::layout::{Counts, Layout, Values, row_labels};
use super::page::{Page, PageFormat};
use super::protobuf::PageError;
use super::rules::Rules;
use crate::{Failure, Reason};

/// Layouts that are kept of a device.
const OWN: usize = 2;
/// Layouts that are tried for any device.
const RECENT: usize = 8;
/// How long a device is remembered that is no longer measured.
const KEPT: Duration = Duration::from_secs(3600);
/// Devices that are remembered before any of them is forgotten.
const FEW: usize = 1024;

pe_scrape::choices! {
    /// Which label has the device's name.
    pub enum Identity {
        /// `device`, as for all other series.
        #[default]
        Device = "device",
        /// `instance`, as in Prometheus.
        Instance = "instance",
    }
}

/// Pages above this many bytes are read on a thread of the blocking pool.
const LARGE: usize = 512 << 10;

/// Passes on the pages of a scraper's devices.
#[derive(Debug)]
pub(crate) struct Passing {
    rules: Rules,
    identity: Identity,
    max_series: usize,
    dictionary: Dictionary,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    devices: HashMap<LabelSet, Known>,
    recent: VecDeque<Arc<Layout>>,
    /// Whose series it is, by the digest of name and labels; only where labels of devices are honoured.
    claims: HashMap<u64, LabelSet>,
    /// How many devices there may be until old ones are looked for.
    limit: usize,
}

#[derive(Debug)]
struct Known {
    labels: LabelSet,
    names: Arc<[String]>,
    layouts: Vec<OwnLayout>,
    used: Instant,
}

/// A layout with the labels of a device.
#[derive(Debug, Clone)]
struct OwnLayout {
    layout: Arc<Layout>,
    /// The row of each part; `None` where the labels do not go together.
    rows: Arc<[Option<Arc<[LabelSet]>>]>,
    /// Series that another device has too: part, and the metric's place in it.
    masked: Arc<HashSet<(usize, usize)>>,
}

/// What came of a page.
#[derive(Debug)]
pub(crate) struct Passed {
    pub(super) frames: Vec<Frame>,
    pub(super) counts: Counts,
    pub(super) with_time: usize,
}

impl Passing {
    pub(crate) fn new(rules: Rules, identity: Identity, max_series: usize) -> Self {
        Self {
            rules,
            identity,
            max_series,
            dictionary: Dictionary::default(),
            state: Mutex::new(State {
                devices: HashMap::new(),
                recent: VecDeque::new(),
                claims: HashMap::new(),
                limit: FEW,
            }),
        }
    }

    /// The frames of a page of the device with these labels, made on another thread where that takes long.
    ///
    /// # Errors
    /// A [`Failure`] of this machine, or why the page cannot be read.
    pub(crate) async fn pass_on<P: AsRef<[u8]> + Send + 'static>(
        self: &Arc<Self>,
        target: &LabelSet,
        page: P,
        format: PageFormat,
    ) -> Result<Result<Passed, PageError>, Failure> {
        if page.as_ref().len() <= LARGE {
            return Ok(self.pass(target, page.as_ref(), format));
        }
        let (passing, target) = (self.clone(), target.clone());
        let work = move || passing.pass(&target, page.as_ref(), format);
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|error| Failure::new(Reason::Local, error.to_string()))
    }

    fn pass(
        &self,
        target: &LabelSet,
        page: &[u8],
        format: PageFormat,
    ) -> Result<Passed, PageError> {
        let (labels, names, own, recent) = self.known(target);
        let read = match format {
            PageFormat::Protobuf => Some(Page::read(page, format, self.max_series)?),
            PageFormat::Text { .. } => None,
        };
        let mut values = Values::default();
        let mut fill = |layout: &Layout| match &read {
            Some(read) => layout.fill_from(read, &mut values),
            None => layout.fill(page, format, &mut values),
        };
        if let Some(own) = own.iter().find(|own| fill(&own.layout)) {
            return Ok(frames(own, &values));
        }
        let others = recent.iter().filter(|layout| *layout.names() == names);
        let layout = match others.into_iter().find(|layout| fill(layout)) {
            Some(layout) => layout.clone(),
            None => {
                let read = match read {
                    Some(read) => read,
                    None => Page::read(page, format, self.max_series)?,
                };
                let (layout, found) =
                    Layout::build(&read, (page, format), names, &self.rules, &self.dictionary);
                values = found;
                Arc::new(layout)
            }
        };
        let own = self.remember(target, &labels, layout);
        Ok(frames(&own, &values))
    }

    /// What is known of a device: its labels in the page's series, their names, its layouts, and those of others.
    #[allow(clippy::type_complexity, reason = "used in one place")]
    fn known(
        &self,
        target: &LabelSet,
    ) -> (
        LabelSet,
        Arc<[String]>,
        Vec<OwnLayout>,
        VecDeque<Arc<Layout>>,
    ) {
        let mut state = self.state();
        let now = Instant::now();
        if !state.devices.contains_key(target) {
            state.make_room(now);
            let labels = identified(target, self.identity);
            let names = labels.iter().map(|label| label.name().to_owned()).collect();
            let known = Known {
                labels,
                names,
                layouts: Vec::new(),
                used: now,
            };
            state.devices.insert(target.clone(), known);
        }
        let recent = state.recent.clone();
        match state.devices.get_mut(target) {
            Some(known) => {
                known.used = now;
                let (labels, names) = (known.labels.clone(), known.names.clone());
                (labels, names, known.layouts.clone(), recent)
            }
            None => (target.clone(), Arc::new([]), Vec::new(), recent),
        }
    }

    fn remember(&self, target: &LabelSet, labels: &LabelSet, layout: Arc<Layout>) -> OwnLayout {
        let rows: Arc<[Option<Arc<[LabelSet]>>]> = layout
            .parts()
            .iter()
            .map(|part| {
                let row = row_labels(labels, &part.overrides)?;
                Some(Arc::from([row]))
            })
            .collect();
        let mut state = self.state();
        let masked = match self.rules.honour_labels {
            true => state.claim(target, labels, &layout, &rows),
            false => HashSet::new(),
        };
        state.recent.retain(|known| !Arc::ptr_eq(known, &layout));
        state.recent.push_front(layout.clone());
        state.recent.truncate(RECENT);
        let own = OwnLayout {
            layout,
            rows,
            masked: Arc::new(masked),
        };
        if let Some(known) = state.devices.get_mut(target) {
            known.layouts.insert(0, own.clone());
            known.layouts.truncate(OWN);
        }
        own
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Forgets devices that are no longer measured, now and then.
    fn make_room(&mut self, now: Instant) {
        if self.devices.len() < self.limit {
            return;
        }
        self.devices.retain(|_, known| now < known.used + KEPT);
        let devices = &self.devices;
        self.claims.retain(|_, owner| devices.contains_key(owner));
        self.limit = FEW.max(self.devices.len() * 2);
    }

    /// Claims the series of a device whose labels do not tell it from others. Returns those that others have.
    fn claim(
        &mut self,
        target: &LabelSet,
        labels: &LabelSet,
        layout: &Layout,
        rows: &[Option<Arc<[LabelSet]>>],
    ) -> HashSet<(usize, usize)> {
        self.claims.retain(|_, owner| owner != target);
        let mut masked = HashSet::new();
        for (index, (part, row)) in layout.parts().iter().zip(rows).enumerate() {
            let Some([row]) = row.as_deref() else {
                continue;
            };
            let replaced = |name: &str| part.overrides.iter().any(|(own, _)| **own == *name);
            if !labels.iter().any(|label| replaced(label.name())) {
                continue;
            }
            for (metric, descriptor) in part.columns.descriptors().iter().enumerate() {
                let row = row.iter().map(|label| (label.name(), label.value()));
                let mut all: Vec<(&str, &str)> = row.chain(descriptor.labels()).collect();
                all.sort_unstable();
                let mut digest = DefaultHasher::new();
                (descriptor.name(), all).hash(&mut digest);
                let owner = self.claims.entry(digest.finish());
                if owner.or_insert_with(|| target.clone()) != target {
                    masked.insert((index, metric));
                }
            }
        }
        masked
    }
}

/// A target's labels with its name where it is to be.
fn identified(target: &LabelSet, identity: Identity) -> LabelSet {
    if identity == Identity::Device {
        return target.clone();
    }
    let others = target.iter().filter(|label| label.name() != "instance");
    let all = others.map(|label| match label.name() {
        "device" => ("instance", label.value()),
        name => (name, label.value()),
    });
    LabelSet::new(all).unwrap_or_else(|_| target.clone())
}

fn frames(own: &OwnLayout, values: &Values) -> Passed {
    let time = SystemTime::now();
    let mut counts = *own.layout.counts();
    let mut frames = Vec::new();
    let parts = own.layout.parts().iter().zip(&*own.rows);
    for (index, (part, row)) in parts.enumerate() {
        let Some(row) = row else {
            continue;
        };
        let cells = own.layout.values_of(part, values).to_vec();
        let mut frame = Frame::of_rows(part.columns.clone(), row.clone(), cells, time).passed_on();
        if !own.masked.is_empty() {
            let metric = Cell::new(0);
            frame = frame.only_metrics(|_| {
                !own.masked
                    .contains(&(index, metric.replace(metric.get() + 1)))
            });
        }
        frames.push(frame);
    }
    counts.duplicate += own.masked.len();
    counts.series = counts.series.saturating_sub(own.masked.len());
    Passed {
        frames,
        counts,
        with_time: values.with_time,
    }
}

#[cfg(test)]
mod tests {
    use pe_scrape::exposition::{Block, Format, encode};

    use super::*;

    const TEXT: PageFormat = PageFormat::Text {
        open_metrics: false,
    };

    fn target(device: &str) -> LabelSet {
        LabelSet::new([("device", device), ("ip", "10.0.0.1"), ("site", "a")]).unwrap()
    }

    fn lines(passed: &Passed) -> Vec<String> {
        let blocks: Vec<_> = passed.frames.iter().map(Block::new).collect();
        let text = String::from_utf8(encode(&blocks, Format::Text)).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.map(str::to_owned).collect()
    }

    fn passing(honour_labels: bool, identity: Identity) -> Passing {
        let rules = Rules {
            honour_labels,
            ..Rules::default()
        };
        Passing::new(rules, identity, 100)
    }

    #[test]
    fn identity_instance_leaves_the_label_device_to_the_device() {
        let page = b"node_disk_io{device=\"sda\",instance=\"x\"} 1\n";
        let passed = passing(false, Identity::Instance);
        let passed = passed.pass(&target("web"), page, TEXT).unwrap();
        assert_eq!(
            lines(&passed),
            [
                "node_disk_io{instance=\"web\",ip=\"10.0.0.1\",site=\"a\",device=\"sda\",exported_instance=\"x\"} 1"
            ]
        );
    }

    #[test]
    fn pages_of_one_text_share_their_columns_and_a_device_keeps_its_rows() {
        let passing = passing(false, Identity::Device);
        let pass = |device: &str, page: &str| {
            passing
                .pass(&target(device), page.as_bytes(), TEXT)
                .unwrap()
        };
        let (a, b) = (pass("a", "x 1\n"), pass("b", "x 2\n"));
        assert!(Arc::ptr_eq(a.frames[0].columns(), b.frames[0].columns()));
        let again = pass("a", "x 3\n");
        assert!(Arc::ptr_eq(a.frames[0].rows(), again.frames[0].rows()));
        // To and fro.
        let other = pass("a", "x 3\ny 1\n");
        let back = pass("a", "x 4\n");
        assert!(Arc::ptr_eq(a.frames[0].rows(), back.frames[0].rows()));
        assert_eq!(lines(&other).len(), 2);
        assert_eq!(
            lines(&back),
            ["x{device=\"a\",ip=\"10.0.0.1\",site=\"a\"} 4"]
        );
    }

    #[test]
    fn a_series_that_two_devices_claim_is_passed_on_once() {
        let passing = passing(true, Identity::Device);
        let page = b"x{device=\"one\",ip=\"1\",site=\"s\"} 1\ny 2\n";
        let first = passing.pass(&target("a"), page, TEXT).unwrap();
        let second = passing.pass(&target("b"), page, TEXT).unwrap();
        assert_eq!((lines(&first).len(), lines(&second).len()), (2, 1));
        assert_eq!((second.counts.series, second.counts.duplicate), (1, 1));
        // The one who has it keeps it.
        let first = passing.pass(&target("a"), page, TEXT).unwrap();
        assert_eq!(lines(&first).len(), 2);
    }
}
