//! Runs a probe as the engine does, and shows what it wrote.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test uses a part"
)]
#![allow(clippy::unwrap_used)]

pub use pe_testkit::certificates;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use pe_scrape::exposition::{Block, Format, encode};
use pe_scrape::{Address, Batch, Frame, LabelSet, ScraperFactory, ScraperSettings, Table, Target};
use serde_json::Value;

/// What a probe of a device has written.
pub struct Shown {
    /// Its series of a single value.
    pub series: Vec<Series>,
    /// All of it in the text format.
    pub text: String,
}

/// Name, labels, value.
type Series = (String, Vec<(String, String)>, f64);

/// Probes `host` once, with a timeout of 5 s where `own` has no other.
pub async fn probe(factory: &impl ScraperFactory, host: &str, own: Value) -> Shown {
    let mut settings = ScraperSettings::default().with_own(own);
    settings.timeout = Duration::from_secs(5);
    let scraper = factory.create(&settings).unwrap();
    let address = match host.parse() {
        Ok(ip) => Address::Ip(ip),
        Err(_) => Address::Name {
            host: host.into(),
            family: None,
        },
    };
    let target = Target::new("device", host, address, []).unwrap();
    let table = Arc::new(Table::new(scraper.columns().clone(), 1));
    let deadline = Instant::now() + Duration::from_secs(30);
    let batch = Batch::new([target.clone()].into(), table.clone(), deadline);
    scraper.scrape_batch(&batch).await.unwrap();
    assert!(batch.progress().is_done(0), "the row is not done");
    assert_eq!(batch.progress().panics(), 0, "{:?}", batch.progress());
    let rows: Arc<[LabelSet]> = [target.labels().clone()].into();
    let mut frames = vec![Frame::freeze(&table, rows, SystemTime::now())];
    for (_, frame) in table.take_learned(|_| true) {
        let taken = [scraper.columns().clone()];
        assert_eq!(pe_scrape::refuse_frame(&frame, &target, &taken), None);
        frames.push(frame);
    }
    let mut series = Vec::new();
    for frame in &frames {
        let rows = frame.rows().iter().enumerate();
        let cells = rows.flat_map(|row| frame.columns().metrics().map(move |cell| (row, cell)));
        for ((index, row), (descriptor, metric)) in cells {
            let Some(value) = frame.get(index, metric) else {
                continue;
            };
            let own = descriptor.labels();
            let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let row = row.iter();
            let row = row.map(|label| (label.name().to_owned(), label.value().to_owned()));
            series.push((
                descriptor.name().to_owned(),
                row.chain(own).collect(),
                value,
            ));
        }
    }
    let blocks: Vec<_> = frames.iter().map(Block::new).collect();
    let text = String::from_utf8(encode(&blocks, Format::Text)).unwrap();
    Shown { series, text }
}

impl Shown {
    /// The value of the only series of that name.
    pub fn value(&self, name: &str) -> Option<f64> {
        let mut found = self.series.iter().filter(|(known, ..)| known == name);
        let value = found.next().map(|(.., value)| *value);
        assert!(found.next().is_none(), "{name} has several series");
        value
    }

    /// The value of the series of that name with that label.
    pub fn of(&self, name: &str, label: (&str, &str)) -> Option<f64> {
        let wanted = (label.0.to_owned(), label.1.to_owned());
        let mut found = self.series.iter();
        let found = found.find(|(known, labels, _)| known == name && labels.contains(&wanted));
        found.map(|(.., value)| *value)
    }

    /// A label of the first series of that name.
    pub fn label(&self, name: &str, label: &str) -> String {
        let mut found = self.series.iter();
        let (_, labels, _) = found.find(|(known, ..)| known == name).unwrap();
        let found = labels.iter().find(|(known, _)| known == label);
        found.map(|(_, value)| value.clone()).unwrap_or_default()
    }

    /// The reasons that were counted.
    pub fn reasons(&self) -> Vec<String> {
        let errors = self.series.iter();
        let errors = errors.filter(|(name, ..)| name == "probe_errors_total");
        let reasons: BTreeSet<String> = errors
            .flat_map(|(_, labels, _)| labels.iter())
            .filter(|(name, _)| name == "reason")
            .map(|(_, reason)| reason.clone())
            .collect();
        reasons.into_iter().collect()
    }

    /// Asserts that the probe failed for this reason only.
    #[track_caller]
    pub fn failed(&self, reason: &str) {
        assert_eq!(self.reasons(), [reason], "{:#?}", self.series);
        assert_eq!(self.value("probe_success"), Some(0.0));
    }

    /// Asserts that the probe succeeded.
    #[track_caller]
    pub fn succeeded(&self) {
        assert_eq!(self.value("probe_success"), Some(1.0), "{:#?}", self.series);
        assert_eq!(self.reasons(), [""; 0]);
    }
}
