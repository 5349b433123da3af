//! For tests and fuzzers: what is written of a page, and whether a page is taken again.

use std::sync::Arc;

use pe_scrape::LabelSet;

use super::dictionary::Dictionary;
use super::layout::{Layout, Values};
use super::page::{Page, PageFormat};
use super::rules::Rules;

/// What is written of a page, for tests: name, labels, value.
#[must_use]
pub(super) fn series_of(layout: &Layout, values: &Values) -> Vec<String> {
    let mut all = Vec::new();
    for part in layout.parts() {
        let cells = layout.values_of(part, values);
        let frame = pe_scrape::FrameBuilder::with_columns(part.columns.clone())
            .row(LabelSet::empty(), cells)
            .build();
        let text = pe_scrape::exposition::encode(
            &[pe_scrape::exposition::Block::new(&frame)],
            pe_scrape::exposition::Format::Text,
        );
        let text = String::from_utf8_lossy(&text).into_owned();
        all.extend(text.lines().map(str::to_owned));
    }
    all
}

/// Reads a page with all that there is, as a fuzzer does: the layout of a page must take that page again, with the same values. The
/// first byte says in which format it is.
#[doc(hidden)]
pub fn try_page(input: &[u8]) {
    const MAX_SAMPLES: usize = 10_000;
    let Some((format, bytes)) = input.split_first() else {
        return;
    };
    let format = match format % 3 {
        0 => PageFormat::Text {
            open_metrics: false,
        },
        1 => PageFormat::Text { open_metrics: true },
        _ => PageFormat::Protobuf,
    };
    let Ok(page) = Page::read(bytes, format, MAX_SAMPLES) else {
        return;
    };
    let names: Arc<[String]> = ["device".to_owned(), "ip".to_owned()].into();
    for honour_labels in [false, true] {
        let rules = Rules {
            honour_labels,
            ..Rules::default()
        };
        let dictionary = Dictionary::default();
        let (layout, values) =
            Layout::build(&page, (bytes, format), names.clone(), &rules, &dictionary);
        let mut again = Values::default();
        let filled = match format {
            PageFormat::Text { .. } => layout.fill(bytes, format, &mut again),
            PageFormat::Protobuf => layout.fill_from(&page, &mut again),
        };
        assert!(filled, "a page has the layout that was made of it");
        let bits = |values: &Values| {
            let cells = values.values.iter().map(|value| value.to_bits());
            cells.collect::<Vec<_>>()
        };
        assert_eq!(bits(&values), bits(&again), "and the same values");
        assert_eq!(values.with_time, again.with_time);
        let counts = layout.counts();
        let all = counts.series + counts.filtered + counts.duplicate + counts.conflict;
        assert!(
            all + counts.invalid >= page.samples,
            "every sample is accounted for"
        );
        let _ = series_of(&layout, &values);
    }
}
