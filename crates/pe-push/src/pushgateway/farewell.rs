//! Deleting what is left on gateways that no sink pushes to any more.
//!
//! Such gateways are known from former settings and former runs, by their URL alone: user, password and tokens are never written down,
//! nor the files that they were in, since whoever can write to the state directory could then have any file sent anywhere. One
//! that takes deletions from everybody is cleared with the first try. Others are tried again, with growing pauses, for a day, in
//! which they may come back, open, or be configured again; then they are told once more and forgotten.
//!
//! One sink of an agent does so at a time, beside its deliveries. [`Farewells`] decides when, without I/O.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use pe_scrape::with_causes;
use tracing::{info, warn};

use super::Pushgateway;
use super::deliver::Shared;
use super::ledger::{Ledger, Paths};
use super::sink::until;
use crate::PushError;
use crate::delivery::Delivery;

/// The first pause after a try that left something; doubled each time.
const SHORTEST_PAUSE: Duration = Duration::from_secs(60);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// Tries of a run, the last of them about a day after the first.
const MOST_TRIES: u32 = 30;

/// When former gateways are tried.
#[derive(Debug, Default)]
pub(super) struct Farewells(BTreeMap<Arc<str>, Tries>);

#[derive(Debug)]
struct Tries {
    failed: u32,
    next: Instant,
}

/// What a try that left something means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// It is the first.
    First,
    /// There were others, and there will be more.
    Again,
    /// There will be no more.
    Last,
}

impl Farewells {
    fn is_due(&self, url: &str, now: Instant) -> bool {
        self.0.get(url).is_none_or(|tries| tries.next <= now)
    }

    /// Notes a try that left something; the gateway may ask to be left alone for a time.
    fn note(&mut self, url: &Arc<str>, asked: Option<Duration>, now: Instant) -> Left {
        let tries = self.0.entry(url.clone()).or_insert(Tries {
            failed: 0,
            next: now,
        });
        let pause = SHORTEST_PAUSE.saturating_mul(1 << tries.failed.min(10));
        let pause = pause.min(LONGEST_PAUSE).max(asked.unwrap_or_default());
        tries.failed += 1;
        tries.next = now + pause;
        match tries.failed {
            1 => Left::First,
            MOST_TRIES.. => Left::Last,
            _ => Left::Again,
        }
    }

    /// Forgets gateways that are not among these.
    fn retain(&mut self, is_left: impl Fn(&str) -> bool) {
        self.0.retain(|url, _| is_left(url));
    }

    /// When the next try is due.
    fn next(&self) -> Option<Instant> {
        self.0.values().map(|tries| tries.next).min()
    }
}

/// Deletes what is left, as long as it is polled.
///
/// # Cancel safety
/// What was not deleted stays noted. A deletion that was under way may have arrived.
pub(super) async fn bid_farewell(shared: &Shared) -> Infallible {
    let ledger = shared.lease.ledger();
    let mut farewells = ledger.farewells.lock().await;
    loop {
        let left = ledger.left_alone();
        farewells.retain(|url| left.iter().any(|(known, _)| **known == *url));
        for (url, paths) in left {
            if farewells.is_due(&url, Instant::now()) {
                clear(shared, &mut farewells, &url, paths).await;
            }
        }
        let left = ledger.left_alone();
        let groups: usize = left.iter().map(|(_, paths)| paths.len()).sum();
        shared.metrics.former.set(groups as f64);
        tokio::select! {
            () = ledger.left.notified() => {}
            () = until(farewells.next()) => {}
        }
    }
}

/// Tries one gateway.
async fn clear(shared: &Shared, farewells: &mut Farewells, url: &Arc<str>, paths: Paths) {
    let ledger = shared.lease.ledger();
    let groups = paths.len();
    let (deleted, round) = match Pushgateway::new(url) {
        Ok(gateway) => delete_all(ledger, &gateway, paths, shared.max_parallel_pushes).await,
        Err(error) => {
            let mut round = Delivery::default();
            round.note(Err(error));
            (Paths::new(), round)
        }
    };
    ledger.cross_out_of(url, &deleted).await;
    let (sink, url_shown, left) = (&*shared.name, &**url, groups - deleted.len());
    if left == 0 {
        info!(
            sink,
            url = url_shown,
            groups,
            "push groups of a gateway that is no longer configured were deleted"
        );
        return;
    }
    if !ledger.is_left_alone(url) {
        return;
    }
    let error = round.first.as_ref().map(|error| with_causes(error));
    match farewells.note(url, round.asked, Instant::now()) {
        Left::First => warn!(
            sink,
            url = url_shown,
            groups = left,
            error,
            "push groups stay on a gateway that is no longer configured; it is tried for a day, without credentials: to have them \
             deleted, configure it again and remove it by a reload, or delete them there"
        ),
        Left::Again => {}
        Left::Last => {
            ledger.forget(url).await;
            warn!(
                sink,
                url = url_shown,
                groups = left,
                error,
                "push groups stay on a gateway that is no longer configured, and are forgotten: delete them there"
            );
        }
    }
}

/// Deletes push groups in one round, which ends when the gateway is configured again. Returns those that are gone, and how the
/// round went.
async fn delete_all(
    ledger: &Ledger,
    gateway: &Pushgateway,
    paths: Paths,
    parallel: usize,
) -> (Paths, Delivery) {
    let deletions = paths.into_iter().map(|path| async move {
        let result: Result<(), PushError> = gateway.delete_path(&path).await;
        (path, result)
    });
    let mut results = futures_util::stream::iter(deletions).buffer_unordered(parallel);
    let (mut deleted, mut round) = (Paths::new(), Delivery::default());
    while round.goes_on()
        && ledger.is_left_alone(gateway.url())
        && let Some((path, result)) = results.next().await
    {
        if result.is_ok() {
            deleted.insert(path);
        }
        round.note(result);
    }
    (deleted, round)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_former_gateway_is_tried_for_a_day_with_pauses_of_an_hour_at_most() {
        let (mut farewells, url) = (Farewells::default(), Arc::from("http://g"));
        let start = Instant::now();
        let (mut now, mut pauses) = (start, Vec::new());
        let mut ends = Vec::new();
        while ends.last() != Some(&Left::Last) {
            assert!(farewells.is_due(&url, now));
            ends.push(farewells.note(&url, None, now));
            assert!(!farewells.is_due(&url, now));
            let next = farewells.next().unwrap();
            pauses.push((next - now).as_secs());
            now = next;
        }
        assert_eq!(pauses[..8], [60, 120, 240, 480, 960, 1920, 3600, 3600]);
        assert_eq!(ends[0], Left::First);
        assert!(ends[1..29].iter().all(|it| *it == Left::Again));
        let hours = (now - start).as_secs() / 3600;
        assert_eq!((ends.len(), hours), (30, 25));
    }

    #[test]
    fn a_former_gateway_is_left_alone_for_as_long_as_it_asks_and_forgotten_when_it_is_none() {
        let (mut farewells, url) = (Farewells::default(), Arc::from("http://g"));
        let now = Instant::now();
        farewells.note(&url, Some(Duration::from_secs(1000)), now);
        assert_eq!(farewells.next(), Some(now + Duration::from_secs(1000)));
        farewells.retain(|url| url == "http://other");
        assert!(farewells.next().is_none() && farewells.is_due(&url, now));
    }
}
