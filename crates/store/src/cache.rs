//! Batches that were read or written lately, shared with everybody who has them already, encodings included.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use fireside_core::Batch;

use crate::hash::Hashed;

/// Bounded in bytes; what was not asked for since it came goes first.
pub struct Cache {
    bytes_max: usize,
    bytes: usize,
    map: HashMap<u64, Kept, Hashed>,
    queue: VecDeque<u64>,
}

struct Kept {
    batch: Arc<Batch>,
    cost: usize,
    again: bool,
}

/// A batch is known by its segment and its place there.
pub fn key(segment: u32, place: u32) -> u64 {
    u64::from(segment) << 32 | u64::from(place)
}

impl Cache {
    /// An empty cache of at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Cache {
        Cache { bytes_max, bytes: 0, map: HashMap::default(), queue: VecDeque::new() }
    }

    /// The batch, if it is here.
    pub fn get(&mut self, key: u64) -> Option<Arc<Batch>> {
        let kept = self.map.get_mut(&key)?;
        kept.again = true;
        Some(kept.batch.clone())
    }

    /// Keeps a batch, and lets others go for it.
    pub fn put(&mut self, key: u64, batch: &Arc<Batch>) {
        // What it may keep in slots is not known; the same again is a fair guess for one encoding in use.
        let cost = batch.cost() * 2 + 128;
        if cost > self.bytes_max / 4 || self.map.contains_key(&key) {
            return;
        }
        self.map.insert(key, Kept { batch: batch.clone(), cost, again: false });
        self.queue.push_back(key);
        self.bytes += cost;
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.queue.pop_front() else { break };
            match self.map.get_mut(&oldest) {
                Some(kept) if kept.again => {
                    kept.again = false;
                    self.queue.push_back(oldest);
                }
                Some(_) => self.forget(oldest),
                None => {}
            }
        }
    }

    /// Lets every batch of a segment go.
    pub fn forget_segment(&mut self, segment: u32) {
        let gone: Vec<u64> = self.map.keys().copied().filter(|k| (k >> 32) as u32 == segment).collect();
        gone.into_iter().for_each(|k| self.forget(k));
        let map = &self.map;
        self.queue.retain(|k| map.contains_key(k));
    }

    /// Bytes of what is here.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    fn forget(&mut self, key: u64) {
        if let Some(kept) = self.map.remove(&key) {
            self.bytes -= kept.cost;
        }
    }
}
