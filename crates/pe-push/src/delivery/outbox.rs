//! The latest value under each key, and which of them are pending. No I/O.
//!
//! Values are cheap to clone (`Arc`s), and the lock is held for no longer than it takes to clone or move them: whoever puts
//! a value in never waits for somebody who walks values. What was taken out becomes pending again unless it is settled.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The latest values, pending or not.
#[derive(Debug)]
pub(crate) struct Outbox<V> {
    state: Mutex<State<V>>,
    changed: Notify,
}

#[derive(Debug)]
struct State<V> {
    latest: BTreeMap<Arc<str>, V>,
    /// Keys whose latest value has not arrived.
    pending: BTreeSet<Arc<str>>,
    /// Values that are gone since the last take.
    removed: Vec<V>,
}

/// What a delivery took out. Dropped without more, as when its future is dropped, everything is pending again.
#[derive(Debug)]
pub(crate) struct Taken<'a, V: Clone> {
    outbox: &'a Outbox<V>,
    /// The latest values of all keys.
    pub(crate) latest: BTreeMap<Arc<str>, V>,
    /// Which of them are to be handed on. More may be added.
    pub(crate) pending: BTreeSet<Arc<str>>,
    /// Values that are gone since the last take.
    pub(crate) removed: Vec<V>,
}

impl<V> Default for Outbox<V> {
    fn default() -> Self {
        let state = State {
            latest: BTreeMap::new(),
            pending: BTreeSet::new(),
            removed: Vec::new(),
        };
        Self {
            state: Mutex::new(state),
            changed: Notify::new(),
        }
    }
}

impl<V: Clone> Outbox<V> {
    /// Puts a value in the place of the former one. Returns whether that one was still pending.
    pub(crate) fn put(&self, key: Arc<str>, value: V) -> bool {
        let mut state = self.state();
        let former = state.latest.insert(key.clone(), value);
        let was_pending = !state.pending.insert(key);
        drop(state);
        self.changed.notify_one();
        // A former value may be large: it is freed without the lock.
        drop(former);
        was_pending
    }

    /// Wakes whoever waits for a change.
    pub(crate) fn wake(&self) {
        self.changed.notify_one();
    }

    /// Puts a value in the place of the former one, which counts as gone: what it had in common with others is looked at again.
    pub(crate) fn replace(&self, key: Arc<str>, value: V) {
        let mut state = self.state();
        let former = state.latest.insert(key.clone(), value);
        state.removed.extend(former);
        state.pending.insert(key);
        drop(state);
        self.changed.notify_one();
    }

    /// Forgets all keys but these.
    pub(crate) fn retain(&self, keys: &[Arc<str>]) {
        let keys: BTreeSet<&str> = keys.iter().map(|key| &**key).collect();
        let mut state = self.state();
        let State {
            latest,
            pending,
            removed,
        } = &mut *state;
        let before = removed.len();
        removed.extend(
            latest
                .extract_if(.., |key, _| !keys.contains(&**key))
                .map(|(_, value)| value),
        );
        pending.retain(|key| keys.contains(&**key));
        let is_changed = removed.len() > before;
        drop(state);
        if is_changed {
            self.changed.notify_one();
        }
    }

    /// Waits until something was put in, forgotten or given back by a delivery that was broken off, since the last wait.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Takes out what is pending.
    pub(crate) fn take(&self) -> Taken<'_, V> {
        let mut state = self.state();
        Taken {
            outbox: self,
            latest: state.latest.clone(),
            pending: std::mem::take(&mut state.pending),
            removed: std::mem::take(&mut state.removed),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V: Clone> Taken<'_, V> {
    /// Everything was handed on, or is not worth another try.
    pub(crate) fn settle(mut self) {
        self.pending.clear();
        self.removed.clear();
    }

    fn restore(&mut self) -> bool {
        if self.pending.is_empty() && self.removed.is_empty() {
            return false;
        }
        let mut state = self.outbox.state();
        for key in std::mem::take(&mut self.pending) {
            if state.latest.contains_key(&key) {
                state.pending.insert(key);
            }
        }
        state.removed.append(&mut self.removed);
        true
    }
}

impl<V: Clone> Drop for Taken<'_, V> {
    fn drop(&mut self) {
        if self.restore() {
            self.outbox.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn pending(taken: &Taken<'_, u32>) -> Vec<String> {
        taken.pending.iter().map(ToString::to_string).collect()
    }

    fn outbox() -> Outbox<u32> {
        let outbox = Outbox::default();
        outbox.put("a".into(), 1);
        outbox.put("b".into(), 2);
        outbox
    }

    fn is_changed(outbox: &Outbox<u32>) -> bool {
        outbox.changed().now_or_never().is_some()
    }

    #[test]
    fn what_is_settled_is_no_longer_pending_and_still_the_latest() {
        let outbox = outbox();
        let taken = outbox.take();
        assert_eq!(pending(&taken), ["a", "b"]);
        taken.settle();
        outbox.put("b".into(), 3);
        let taken = outbox.take();
        assert_eq!(pending(&taken), ["b"]);
        let latest: Vec<_> = taken.latest.values().copied().collect();
        assert_eq!(latest, [1, 3]);
    }

    #[test]
    fn what_was_taken_and_dropped_is_pending_again_and_wakes() {
        let outbox = outbox();
        assert!(is_changed(&outbox) && !is_changed(&outbox));
        drop(outbox.take());
        assert!(is_changed(&outbox));
        assert_eq!(pending(&outbox.take()), ["a", "b"]);
    }

    #[test]
    fn what_is_replaced_is_gone() {
        let outbox = outbox();
        outbox.replace("a".into(), 3);
        outbox.replace("c".into(), 4);
        let taken = outbox.take();
        assert_eq!(
            (pending(&taken), &taken.removed[..]),
            (vec!["a".into(), "b".into(), "c".into()], &[1][..])
        );
    }

    #[test]
    fn what_is_forgotten_meanwhile_does_not_come_back() {
        let outbox = outbox();
        let taken = outbox.take();
        outbox.retain(&["b".into()]);
        outbox.put("b".into(), 3);
        drop(taken);
        let taken = outbox.take();
        assert_eq!(
            (pending(&taken), &taken.removed[..]),
            (vec!["b".into()], &[1][..])
        );
        // A delivery that was broken off leaves word of what is gone as well.
        drop(taken);
        assert_eq!(outbox.take().removed, [1]);
        drop(outbox.take());
        outbox.take().settle();
        assert!(outbox.take().removed.is_empty());
        outbox.retain(&["b".into()]);
        assert!(outbox.take().pending.is_empty());
    }
}
