//! The keyed hash of a channel's name: SipHash-1-3 with 128 bits of output.

use std::hash::{BuildHasherDefault, Hasher};

/// What the index knows a channel by. Keyed with the store's own random salt, so that nobody can choose names that collide;
/// every entry bears the full name besides, which is compared whenever it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id {
    /// Finds the channel in memory. Two channels may share it.
    pub slot: u64,
    /// Tells apart the channels of one slot.
    pub check: u64,
}

impl Id {
    /// The id of `name` under `salt`. `mask` is all ones outside tests that want collisions.
    pub fn of(salt: &[u8; 16], name: &str, mask: u64) -> Id {
        let (slot, check) = sip13(salt, name.as_bytes());
        Id { slot: slot & mask, check }
    }

    /// The bucket of the generations that it belongs to.
    pub fn bucket(self) -> u16 {
        (self.check >> 48) as u16
    }
}

/// For maps whose keys are hashes already.
pub(crate) type Hashed = BuildHasherDefault<PassThrough>;

/// Takes a u64 nearly as its own hash.
#[derive(Default)]
pub(crate) struct PassThrough(u64);

impl Hasher for PassThrough {
    fn finish(&self) -> u64 {
        // Spreads numbers that are not hashes (places in segments); costs nothing for those that are.
        self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = self.0.rotate_left(32) ^ number;
    }
}

fn sip13(key: &[u8; 16], data: &[u8]) -> (u64, u64) {
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0u64, |n, b| n << 8 | u64::from(*b));
    let (k0, k1) = (word(&key[..8]), word(&key[8..]));
    let mut v = [
        k0 ^ 0x736f_6d65_7073_6575,
        k1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
        k0 ^ 0x6c79_6765_6e65_7261,
        k1 ^ 0x7465_6462_7974_6573,
    ];
    let mut chunks = data.chunks_exact(8);
    for chunk in &mut chunks {
        absorb(&mut v, word(chunk));
    }
    absorb(&mut v, word(chunks.remainder()) | (data.len() as u64) << 56);
    v[2] ^= 0xee;
    (0..3).for_each(|_| round(&mut v));
    let low = v[0] ^ v[1] ^ v[2] ^ v[3];
    v[1] ^= 0xdd;
    (0..3).for_each(|_| round(&mut v));
    (low, v[0] ^ v[1] ^ v[2] ^ v[3])
}

fn absorb(v: &mut [u64; 4], word: u64) {
    v[3] ^= word;
    round(v);
    v[0] ^= word;
}

fn round(v: &mut [u64; 4]) {
    v[0] = v[0].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(13) ^ v[0];
    v[0] = v[0].rotate_left(32);
    v[2] = v[2].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(16) ^ v[2];
    v[0] = v[0].wrapping_add(v[3]);
    v[3] = v[3].rotate_left(21) ^ v[0];
    v[2] = v[2].wrapping_add(v[1]);
    v[1] = v[1].rotate_left(17) ^ v[2];
    v[2] = v[2].rotate_left(32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_spread_over_buckets_and_salts_differ() {
        let mut buckets = std::collections::BTreeSet::new();
        for n in 0..2000 {
            buckets.insert(Id::of(&[7; 16], &format!("room:{n}"), u64::MAX).bucket());
        }
        assert!(buckets.len() > 1900, "{}", buckets.len());
        assert_ne!(Id::of(&[7; 16], "a", u64::MAX), Id::of(&[8; 16], "a", u64::MAX));
        assert_eq!(Id::of(&[7; 16], "a", 0).slot, Id::of(&[7; 16], "b", 0).slot);
    }
}
