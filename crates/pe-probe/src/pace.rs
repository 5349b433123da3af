//! Spreads the probes of a batch, so that they do not all leave at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use pe_scrape::Pacer;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{AcquireError, Semaphore, SemaphorePermit};

/// A batch starts its probes within this share of its interval.
const SHARE: f64 = 0.5;

/// The longest time between two probes.
const LONGEST_GAP: Duration = Duration::from_millis(10);

/// When each probe of a batch may start.
#[derive(Debug)]
pub(crate) struct Spread {
    gap: Duration,
    next: Mutex<Instant>,
    paced: Option<Paced>,
}

impl Spread {
    /// For `probes` within `interval`, no faster than `pacer` lets them and whoever shares it.
    pub(crate) fn new(probes: usize, interval: Duration, pacer: Option<Pacer>) -> Self {
        let even = interval.mul_f64(SHARE) / u32::try_from(probes.max(1)).unwrap_or(u32::MAX);
        Self {
            gap: even.min(LONGEST_GAP),
            next: Mutex::new(Instant::now()),
            paced: pacer.map(Paced::new),
        }
    }

    /// When the next probe may start.
    fn turn(&self) -> Instant {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        // What was not used in time is not made up for.
        let turn = (*next).max(Instant::now());
        *next = turn + self.gap;
        turn
    }

    /// Waits for a turn, and for one of `permits`.
    ///
    /// # Cancel safety
    /// The turn is lost.
    ///
    /// # Errors
    /// Where no more permits are given.
    pub(crate) async fn wait<'p>(
        &self,
        permits: &'p Semaphore,
    ) -> Result<SemaphorePermit<'p>, AcquireError> {
        until(self.turn()).await;
        match &self.paced {
            Some(paced) => paced.wait(permits).await,
            None => permits.acquire().await,
        }
    }
}

/// What a batch has of a pacer that others use too.
#[derive(Debug)]
struct Paced {
    pacer: Pacer,
    /// Probes that wait for it. Time is booked for no more of them, so that none is kept from others in vain, and for no
    /// fewer, so that the batch gets as much as others that share the pacer.
    waiting: AtomicUsize,
    /// Held by the probe whose turn is next.
    booked: tokio::sync::Mutex<Booked>,
}

/// The time that is booked and not used, by the pacer's clock.
#[derive(Debug, Default)]
struct Booked {
    from: u64,
    until: u64,
}

impl Paced {
    fn new(pacer: Pacer) -> Self {
        Self {
            pacer,
            waiting: AtomicUsize::new(0),
            booked: tokio::sync::Mutex::default(),
        }
    }

    async fn wait<'p>(&self, permits: &'p Semaphore) -> Result<SemaphorePermit<'p>, AcquireError> {
        let _one = Waiting::new(&self.waiting);
        let mut booked = self.booked.lock().await;
        until(self.turn(&mut booked)).await;
        // A permit is not held while a turn is far: other batches need it.
        if let Ok(permit) = permits.try_acquire() {
            return Ok(permit);
        }
        let permit = permits.acquire().await?;
        // The turn may be long over, and permits of several that ended together would let as many start together.
        until(self.turn(&mut booked)).await;
        Ok(permit)
    }

    /// When the next probe may start, of the time that is booked.
    fn turn(&self, booked: &mut Booked) -> Instant {
        let now = Instant::now();
        let clock = clock();
        let gap = self.pacer.gap();
        let lost = self.pacer.oldest(clock).saturating_sub(booked.from) / gap;
        booked.from = booked.from.saturating_add(lost.saturating_mul(gap));
        if booked.until < booked.from.saturating_add(gap) {
            let wanted = self.waiting.load(Ordering::Relaxed).max(1);
            (booked.from, booked.until) = self.pacer.book(clock, wanted as u64, 0);
        }
        booked.from = booked.from.saturating_add(gap);
        now + Duration::from_nanos(booked.from.saturating_sub(clock))
    }
}

/// The time of the clock that all scrapers read for a pacer; it never goes back, and starts at 0.
fn clock() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64 + Pacer::OFFSET
}

/// Counts one that waits, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn until(turn: Instant) {
    if turn > Instant::now() {
        tokio::time::sleep_until(turn.into()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_leave_within_half_the_interval() {
        let interval = Duration::from_secs(10);
        let gap = |probes| Spread::new(probes, interval, None).gap;
        assert_eq!(gap(1_000), Duration::from_millis(5));
        assert_eq!(gap(10), LONGEST_GAP);
        let spread = Spread::new(1_000, interval, None);
        let (first, second) = (spread.turn(), spread.turn());
        assert!(second >= first + spread.gap);
    }

    #[test]
    fn a_pacer_that_several_book_gives_each_probe_its_time() {
        let gap = Duration::from_secs(100);
        let pacer = Pacer::new(0.01, 1);
        let (one, other) = (Paced::new(pacer.clone()), Paced::new(pacer));
        let (mut of_one, mut of_other) = (Booked::default(), Booked::default());
        let first = one.turn(&mut of_one);
        let second = other.turn(&mut of_other);
        let third = one.turn(&mut of_one);
        // The clocks are read one after the other.
        let slack = Duration::from_secs(10);
        assert!(second + slack >= first + gap && third + slack >= second + gap);
    }

    #[test]
    fn a_batch_gets_as_much_of_a_pacer_as_another_that_books_many() {
        // 640 a second: what others book at once is 16 probes' time.
        let pacer = Pacer::new(640.0, 64);
        let paced = Paced::new(pacer.clone());
        let waiting: Vec<_> = (0..1_000).map(|_| Waiting::new(&paced.waiting)).collect();
        let mut booked = Booked::default();
        // Far ahead, so that no time of it comes while this runs.
        for _ in 0..1_000 {
            let _ = pacer.book(clock(), 64, 0);
        }
        let (from, until) = pacer.book(clock(), 64, 0);
        paced.turn(&mut booked);
        // One of them is used.
        assert_eq!(booked.until - booked.from + pacer.gap(), until - from);
        booked = Booked::default();
        // And no more than it needs.
        drop(waiting);
        paced.turn(&mut booked);
        assert_eq!(booked.until, booked.from);
    }
}
