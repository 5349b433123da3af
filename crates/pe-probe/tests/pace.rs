//! How fast probes start that share the limit of a group.
#![cfg(feature = "command")]
#![allow(clippy::unwrap_used)]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pe_probe::{Asked, CommandFactory, Failure, Probe, ProbeFactory, ProbeMetrics};
use pe_scrape::{
    Batch, Pacer, Scraper, ScraperFactory, ScraperSettings, SettingsError, Table, Target,
};

pe_probe::probe_settings! {
    /// Settings of a probe that asks nothing.
    pub struct NothingSettings {
        /// How long the first device, 127.0.0.1, takes.
        first: Duration = Duration::ZERO;
    }
}

struct Nothing {
    first: Duration,
}

impl Probe for Nothing {
    type Settings = NothingSettings;

    fn name(_: &NothingSettings) -> String {
        "nothing".to_owned()
    }

    fn new(
        settings: NothingSettings,
        _: &ScraperSettings,
        _: &mut ProbeMetrics,
    ) -> Result<Self, SettingsError> {
        Ok(Self {
            first: settings.first,
        })
    }

    async fn probe(&self, asked: &Asked<'_>) -> Result<(), Failure> {
        if asked.address == Ipv4Addr::LOCALHOST {
            tokio::time::sleep(self.first).await;
        }
        Ok(())
    }
}

fn batch(scraper: &dyn Scraper, devices: u8, pacer: &Pacer) -> Batch {
    let targets: Arc<[Target]> = (1..=devices)
        .map(|n| Target::from_ip(Ipv4Addr::new(127, 0, 0, n).into()))
        .collect();
    let table = Arc::new(Table::new(scraper.columns().clone(), targets.len()));
    let mut batch = Batch::new(targets, table, Instant::now() + Duration::from_secs(30));
    batch.pacer = Some(pacer.clone());
    batch
}

#[tokio::test]
async fn scrapers_of_a_group_keep_to_its_rate_together() {
    let nothing = ProbeFactory::<Nothing>::default();
    let settings = ScraperSettings::default();
    let command = CommandFactory::default().allow(["/bin/true".into()]);
    let own = serde_json::json!({"argv": ["/bin/true"]});
    let scrapers = [
        nothing.create(&settings).unwrap(),
        nothing.create(&settings).unwrap(),
        command.create(&settings.clone().with_own(own)).unwrap(),
    ];
    // A probe each 20 ms, of which the first may leave at once.
    let pacer = Pacer::new(50.0, 1);
    let start = Instant::now();
    let batches = scrapers.iter().map(|scraper| {
        let batch = batch(&**scraper, 4, &pacer);
        async move { scraper.scrape_batch(&batch).await.unwrap() }
    });
    futures_util::future::join_all(batches).await;
    assert!(start.elapsed() >= Duration::from_millis(11 * 20));
}

#[tokio::test]
async fn probes_that_waited_for_one_that_is_slow_keep_to_the_rate_then() {
    let nothing = ProbeFactory::<Nothing>::default().at_once(1);
    let own = serde_json::json!({"first": "200ms"});
    let settings = ScraperSettings::default().with_own(own);
    let scraper = nothing.create(&settings).unwrap();
    // A probe each 20 ms; all but the first have waited for longer.
    let pacer = Pacer::new(50.0, 1);
    let start = Instant::now();
    scraper
        .scrape_batch(&batch(&*scraper, 4, &pacer))
        .await
        .unwrap();
    assert!(start.elapsed() >= Duration::from_millis(200 + 2 * 20));
}

#[tokio::test]
async fn a_probe_that_waits_for_another_ends_with_its_batch() {
    let nothing = ProbeFactory::<Nothing>::default().at_once(1);
    let own = serde_json::json!({"first": "500ms"});
    let settings = ScraperSettings::default().with_own(own);
    let (slow, other) = (
        nothing.create(&settings).unwrap(),
        nothing.create(&settings).unwrap(),
    );
    let pacer = Pacer::new(1e6, 64);
    let of_slow = batch(&*slow, 1, &pacer);
    let mut of_other = batch(&*other, 3, &pacer);
    of_other.deadline = Instant::now() + Duration::from_millis(50);
    let (slow, other) = tokio::join!(slow.scrape_batch(&of_slow), other.scrape_batch(&of_other));
    slow.unwrap();
    other.unwrap();
    assert_eq!(of_slow.unfinished().count(), 0);
    assert_eq!(of_other.unfinished().count(), 3);
    // What waited has left no permit behind that is missing now.
    let scraper = nothing.create(&ScraperSettings::default()).unwrap();
    let again = batch(&*scraper, 3, &pacer);
    scraper.scrape_batch(&again).await.unwrap();
    assert_eq!(again.unfinished().count(), 0);
}
