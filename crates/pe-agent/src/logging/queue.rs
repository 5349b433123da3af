//! Lines on their way to a log that may be slow, full, or gone.
//!
//! Whoever logs puts a line into a bounded queue and goes on; one thread writes. A line that does not fit, or that cannot
//! be written, is dropped and counted, and the count is told as soon as a line can be written again.

use std::collections::VecDeque;
use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::metrics::AgentMetrics;

/// Bytes that may wait: some thousand lines.
const MOST_BYTES: usize = 1 << 20;

/// How long the end of the program waits for what is not written yet.
const PATIENCE: Duration = Duration::from_secs(1);

/// A queue of lines, and the thread that writes them. Clones share both.
#[derive(Clone)]
pub(super) struct Queue(Arc<Shared>);

struct Shared {
    metrics: Arc<AgentMetrics>,
    state: Mutex<State>,
    /// A line came, or all are written.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    lines: VecDeque<Vec<u8>>,
    bytes: usize,
    /// Lines that were dropped and not told of yet.
    dropped: u64,
    /// Whether the thread is writing a line.
    writing: bool,
}

impl Queue {
    /// Starts the thread. It calls `tell` with a number of dropped lines, to log it.
    pub(super) fn start(
        target: impl Write + Send + 'static,
        metrics: Arc<AgentMetrics>,
        tell: impl Fn(u64) + Send + 'static,
    ) -> Self {
        let queue = Self(Arc::new(Shared {
            metrics,
            state: Mutex::default(),
            changed: Condvar::new(),
        }));
        let of_thread = queue.clone();
        // Without the thread nothing is logged, and all else works.
        let _ = std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || of_thread.write(target, &tell));
        queue
    }

    /// Takes a line, or drops it. Returns at once.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.state();
        // A line that is longer than all the room there is may wait alone.
        if !state.lines.is_empty() && state.bytes + line.len() > MOST_BYTES {
            self.drop_line(&mut state);
            return;
        }
        state.bytes += line.len();
        state.lines.push_back(line.to_owned());
        drop(state);
        self.0.changed.notify_all();
    }

    /// Waits until all is written, for `patience` at most.
    fn flush(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        let mut state = self.state();
        while state.writing || !state.lines.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            let woken = self.0.changed.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    fn write(&self, mut target: impl Write, tell: &impl Fn(u64)) {
        loop {
            let mut state = self.state();
            while state.lines.is_empty() {
                let woken = self.0.changed.wait(state);
                state = woken.unwrap_or_else(PoisonError::into_inner);
            }
            let line = state.lines.pop_front().unwrap_or_default();
            state.bytes -= line.len();
            state.writing = true;
            drop(state);

            let written = target.write_all(&line).and_then(|()| target.flush());
            let mut state = self.state();
            if written.is_err() {
                self.drop_line(&mut state);
            }
            let dropped = match written {
                Ok(()) => std::mem::take(&mut state.dropped),
                Err(_) => 0,
            };
            drop(state);
            if dropped > 0 {
                tell(dropped);
            }
            self.state().writing = false;
            self.0.changed.notify_all();
        }
    }

    fn drop_line(&self, state: &mut State) {
        state.dropped += 1;
        self.0.metrics.log_lines_dropped.add(1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes what is waiting, for a second at most, when it is dropped.
pub(crate) struct Flush(pub(super) Queue);

impl Drop for Flush {
    fn drop(&mut self) {
        self.0.flush(PATIENCE);
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use super::*;

    /// A log that keeps what is written, unless it is full.
    #[derive(Clone, Default)]
    struct Log {
        text: Arc<Mutex<Vec<u8>>>,
        full: Arc<AtomicBool>,
    }

    impl Write for Log {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            match self.full.load(Ordering::SeqCst) {
                true => Err(io::ErrorKind::StorageFull.into()),
                false => self.text.lock().unwrap().write(bytes),
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Log {
        fn text(&self) -> String {
            String::from_utf8(self.text.lock().unwrap().clone()).unwrap()
        }
    }

    #[test]
    fn lines_are_written_in_order() {
        let log = Log::default();
        let queue = Queue::start(log.clone(), Arc::default(), |_| {});
        let flush = Flush(queue.clone());
        for line in 0..100 {
            queue.push(format!("{line}\n").as_bytes());
        }
        drop(flush);
        let expected: String = (0..100).map(|line| format!("{line}\n")).collect();
        assert_eq!(log.text(), expected);
    }

    #[test]
    fn what_a_full_log_cannot_take_is_dropped_counted_and_told_once() {
        let log = Log::default();
        let told = Arc::new(AtomicU64::new(0));
        let metrics = Arc::new(AgentMetrics::default());
        let queue = Queue::start(log.clone(), metrics.clone(), {
            let told = told.clone();
            move |dropped| {
                told.fetch_add(dropped, Ordering::SeqCst);
            }
        });
        let write = |line: &str| {
            queue.push(line.as_bytes());
            queue.flush(Duration::from_secs(60));
        };
        log.full.store(true, Ordering::SeqCst);
        write("lost\n");
        write("lost too\n");
        assert_eq!(told.load(Ordering::SeqCst), 0);
        log.full.store(false, Ordering::SeqCst);
        write("kept\n");
        write("kept too\n");
        assert_eq!(
            (log.text().as_str(), told.load(Ordering::SeqCst)),
            ("kept\nkept too\n", 2)
        );
        assert_eq!(metrics.log_lines_dropped.get(), 2);
    }

    #[test]
    fn a_log_that_nobody_reads_makes_nobody_wait() {
        struct Stuck;
        impl Write for Stuck {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                loop {
                    std::thread::park();
                }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let queue = Queue::start(Stuck, Arc::default(), |_| {});
        let line = [b'x'; 1000];
        for _ in 0..5000 {
            queue.push(&line);
        }
        let state = queue.state();
        assert!(state.bytes <= MOST_BYTES, "{}", state.bytes);
        // One line may be with the thread.
        let kept = state.lines.len() as u64;
        assert!((4999..=5000).contains(&(kept + state.dropped)));
        drop(state);
        queue.flush(Duration::from_millis(1));
    }

    #[test]
    fn a_long_line_waits_alone() {
        let log = Log::default();
        let queue = Queue::start(log.clone(), Arc::default(), |_| {});
        queue.push(&vec![b'x'; 2 * MOST_BYTES]);
        queue.flush(Duration::from_secs(60));
        assert_eq!(log.text().len(), 2 * MOST_BYTES);
    }
}
