//! A scraper that says what it would yield, and measures nothing.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use crate::{
    Columns, HistogramSpec, MetricDescriptor, Row, ScrapeError, Scraper, ScraperSettings,
    SettingsError, Target,
};

/// A scraper with given metrics, of which no row ever gets a value: for tests of what a configuration is checked for.
#[derive(Debug)]
pub struct Yields(Arc<Columns>);

impl Yields {
    /// One that yields these metrics.
    ///
    /// # Errors
    /// [`SettingsError`] when they contradict each other.
    pub fn new(descriptors: &[MetricDescriptor]) -> Result<Self, SettingsError> {
        Ok(Self(Columns::new(descriptors)?))
    }

    /// A factory for a registry: a plain function, which declares no settings. A scraper yields the metrics that its
    /// settings name, gauges with the HELP text `Help` unless they say otherwise.
    ///
    /// ```
    /// use pe_scrape::{ScraperRegistry, ScraperSettings, testkit::Yields};
    /// use serde_json::json;
    ///
    /// let mut registry = ScraperRegistry::new();
    /// registry.register("one", Yields::create)?;
    /// let own = json!({"a": {}, "b": {"type": "histogram", "help": "Sizes", "labels": {"side": "left"}}});
    /// let columns = registry.describe("one", &ScraperSettings::default().with_own(own))?;
    /// assert_eq!(columns.descriptors().len(), 2);
    /// # Ok::<(), pe_scrape::RegistryError>(())
    /// ```
    ///
    /// # Errors
    /// [`SettingsError`] when they contradict each other.
    ///
    /// # Panics
    /// When the settings name a metric `panic`.
    pub fn create(settings: &ScraperSettings) -> Result<Arc<dyn Scraper>, SettingsError> {
        let metrics = settings.own.as_object().into_iter().flatten();
        let descriptors: Vec<MetricDescriptor> = metrics
            .map(|(name, metric)| {
                assert!(name != "panic", "as the settings say");
                descriptor(name, metric)
            })
            .collect();
        Ok(Arc::new(Self::new(&descriptors)?))
    }
}

fn descriptor(name: &str, metric: &Value) -> MetricDescriptor {
    let (name, help) = (name.to_owned(), metric["help"].as_str().unwrap_or("Help"));
    let descriptor = match metric["type"].as_str() {
        Some("histogram") => {
            MetricDescriptor::histogram(name, help.to_owned(), HistogramSpec::classic([1.0]))
        }
        _ => MetricDescriptor::gauge(name, help.to_owned()),
    };
    let labels = metric["labels"].as_object().into_iter().flatten();
    labels.fold(descriptor, |descriptor, (label, text)| {
        let text = text.as_str().unwrap_or_default().to_owned();
        descriptor.with_label(label.clone(), text)
    })
}

#[async_trait]
impl Scraper for Yields {
    fn columns(&self) -> &Arc<Columns> {
        &self.0
    }

    async fn scrape(&self, _: &Target, _: Row<'_>) -> Result<(), ScrapeError> {
        Ok(())
    }
}
