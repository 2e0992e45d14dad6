//! Keys: what makes a publish happen once. Bounded in number and age, and independent of the records' retention.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::checkpoint::KnownKey;
use crate::record::KeyMark;

/// The keys that a channel remembers.
#[derive(Debug)]
pub(super) struct Keys {
    known: BTreeMap<[u8; 16], KnownKey>,
    order: VecDeque<[u8; 16]>,
    max: usize,
    window_ms: u64,
}

impl Keys {
    pub(super) fn new(all: Vec<KnownKey>, max: usize, window_ms: u64) -> Self {
        let order = all.iter().map(|key| key.id).collect();
        Keys { known: all.into_iter().map(|key| (key.id, key)).collect(), order, max, window_ms }
    }

    /// The key, if it is remembered at `now_ms`.
    pub(super) fn find(&self, id: &[u8; 16], now_ms: u64) -> Option<&KnownKey> {
        self.known.get(id).filter(|key| now_ms < key.time_ms.saturating_add(self.window_ms))
    }

    pub(super) fn remember(&mut self, key: KeyMark, offset: u64, time_ms: u64, run: Option<Arc<str>>) {
        let known = KnownKey { id: key.id, body: key.body, offset, time_ms, run };
        // An id that comes again did so after its window: it counts as new.
        if self.known.insert(key.id, known).is_some() {
            self.order.retain(|id| *id != key.id);
        }
        self.order.push_back(key.id);
        while self.order.len() > self.max {
            self.forget_oldest();
        }
    }

    pub(super) fn expire(&mut self, now_ms: u64) {
        while let Some(key) = self.order.front().and_then(|id| self.known.get(id)) {
            if now_ms < key.time_ms.saturating_add(self.window_ms) {
                break;
            }
            self.forget_oldest();
        }
    }

    pub(super) fn all(&self) -> Vec<KnownKey> {
        self.order.iter().filter_map(|id| self.known.get(id)).cloned().collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    fn forget_oldest(&mut self) {
        if let Some(id) = self.order.pop_front() {
            self.known.remove(&id);
        }
    }
}
