//! What happened: a hash of all of it, lines for whoever reads along, and how often each fault fired.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use crate::lock;

/// Clones share the same record.
#[derive(Clone)]
pub struct Trace(Arc<Mutex<Inner>>);

struct Inner {
    hash: u64,
    lines: Option<Vec<String>>,
    now_us: u64,
    counts: BTreeMap<&'static str, u64>,
}

impl Inner {
    fn mix(&mut self, value: u64) {
        // FNV-1a over words: it need not resist anybody, only tell two runs apart.
        self.hash = (self.hash ^ value).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }
}

impl Trace {
    /// Nothing yet; with `lines`, everything is also kept as text.
    pub fn new(lines: bool) -> Trace {
        Trace(Arc::new(Mutex::new(Inner {
            hash: 0xcbf2_9ce4_8422_2325,
            lines: lines.then(Vec::new),
            now_us: 0,
            counts: BTreeMap::new(),
        })))
    }

    /// A task was polled.
    pub fn step(&self, task: u64, now_us: u64) {
        let mut inner = lock(&self.0);
        inner.now_us = now_us;
        inner.mix(task << 40 ^ now_us);
    }

    /// Something happened: `what`, to whom or where, and a number.
    pub fn note(&self, what: &'static str, to: &str, number: u64) {
        let mut inner = lock(&self.0);
        for byte in what.bytes().chain(to.bytes()) {
            inner.mix(u64::from(byte));
        }
        inner.mix(number);
        let now_us = inner.now_us;
        if let Some(lines) = &mut inner.lines {
            lines.push(format!("{:>10}.{:03} {what} {to} {number}", now_us / 1000, now_us % 1000));
        }
    }

    /// A fault or another thing worth proving fired.
    pub fn count(&self, kind: &'static str) {
        self.count_many(kind, 1);
    }

    /// The same, several times.
    pub fn count_many(&self, kind: &'static str, times: u64) {
        *lock(&self.0).counts.entry(kind).or_default() += times;
    }

    /// The hash so far.
    pub fn hash(&self) -> u64 {
        lock(&self.0).hash
    }

    /// How often each thing fired.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        lock(&self.0).counts.clone()
    }

    /// The lines, if they were kept.
    pub fn lines(&self) -> Vec<String> {
        lock(&self.0).lines.clone().unwrap_or_default()
    }
}
