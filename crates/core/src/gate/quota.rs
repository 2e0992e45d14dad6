//! Step 4: how fast one session may ask.

use super::{Caller, Rules};
use crate::refusal::{Code, Refusal};

/// A token bucket as the Generic Cell Rate Algorithm keeps it (ITU-T I.371): one number, no timer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Theoretical arrival time of the next command, in µs.
    next_us: u64,
}

impl Bucket {
    /// Takes one command.
    ///
    /// # Errors
    /// The bucket is empty: how long until the next is there, in ms (at least 1).
    pub fn take(&mut self, per_second: u32, burst: u32, now_ms: u64) -> Result<(), u64> {
        let now_us = now_ms.saturating_mul(1000);
        let step_us = 1_000_000 / u64::from(per_second.max(1));
        let depth_us = step_us * u64::from(burst.max(1));
        // Further ahead than a full bucket reaches only after the clock went back: begin anew.
        let known_us = if self.next_us > now_us + depth_us { now_us } else { self.next_us.max(now_us) };
        let next_us = known_us + step_us;
        if next_us - now_us > depth_us {
            return Err((next_us - now_us - depth_us).div_ceil(1000).max(1));
        }
        self.next_us = next_us;
        Ok(())
    }
}

pub(super) fn take(rules: &Rules, caller: &mut Caller<'_>) -> Result<(), Refusal> {
    caller.bucket.as_deref_mut().map_or(Ok(()), |bucket| charge(rules, bucket, caller.now_ms))
}

pub(super) fn charge(rules: &Rules, bucket: &mut Bucket, now_ms: u64) -> Result<(), Refusal> {
    bucket
        .take(rules.commands_per_second, rules.commands_burst, now_ms)
        .map_err(|ms| Refusal::new(Code::TooManyRequests).retry_after(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_then_its_rate() {
        let mut bucket = Bucket::default();
        assert_eq!((0..200).filter(|_| bucket.take(50, 100, 1_000_000).is_ok()).count(), 100);
        assert_eq!(bucket.take(50, 100, 1_000_000), Err(20));
        assert!(bucket.take(50, 100, 1_000_020).is_ok());
        assert!(bucket.take(50, 100, 1_000_020).is_err());
        // Long quiet fills it to the burst, not beyond.
        assert_eq!((0..200).filter(|_| bucket.take(50, 100, 9_000_000).is_ok()).count(), 100);
    }

    #[test]
    fn a_clock_that_jumps_back_blocks_nobody_for_long() {
        let mut bucket = Bucket::default();
        assert!(bucket.take(50, 100, 10_000_000).is_ok());
        assert!(bucket.take(50, 100, 9_000_000).is_ok());
    }
}
