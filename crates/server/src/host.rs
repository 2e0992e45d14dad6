//! Time, randomness and tasks, as production has them.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fireside_node::ports::{Host, Soon};

/// The operating system's clock and randomness, tokio's tasks and timers.
pub struct TokioHost {
    started: Instant,
}

impl Default for TokioHost {
    fn default() -> Self {
        TokioHost { started: Instant::now() }
    }
}

impl Host for TokioHost {
    fn now_ms(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }

    fn monotonic_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    fn random(&self) -> u128 {
        random()
    }

    fn spawn(&self, task: Soon<()>) {
        tokio::spawn(task);
    }

    fn sleep(&self, ms: u64) -> Soon<()> {
        Box::pin(tokio::time::sleep(Duration::from_millis(ms)))
    }
}

/// Unpredictable bits. A system that has none to give cannot make a secret, and nothing here may go on without.
pub fn random() -> u128 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the operating system has randomness to give");
    u128::from_le_bytes(bytes)
}
