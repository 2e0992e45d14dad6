//! Randomness that a seed decides.

use std::sync::{Arc, Mutex};

use crate::lock;

/// A small generator (SplitMix64: Steele, Lea, Flood 2014). Clones share one stream.
#[derive(Clone)]
pub struct Seed(Arc<Mutex<u64>>);

impl Seed {
    /// The stream of `seed` that `purpose` names: what one part draws does not move another's.
    pub fn new(seed: u64, purpose: u64) -> Seed {
        let own = Seed(Arc::new(Mutex::new(seed ^ purpose.wrapping_mul(0xd6e8_feb8_6659_fd93))));
        own.next();
        own
    }

    /// 64 bits.
    pub fn next(&self) -> u64 {
        let mut state = lock(&self.0);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 128 bits.
    pub fn wide(&self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }

    /// A number below `n`; 0 if `n` is 0.
    pub fn below(&self, n: u64) -> u64 {
        if n == 0 { 0 } else { self.next() % n }
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&self, low: u64, high: u64) -> u64 {
        low + self.below(high - low + 1)
    }

    /// True in `per_cent` of 100 cases.
    pub fn chance(&self, per_cent: u64) -> bool {
        self.below(100) < per_cent
    }

    /// One of them.
    pub fn pick<'a, T>(&self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len() as u64) as usize]
    }
}
