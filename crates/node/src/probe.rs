//! How much a node holds at the moment: what a check of its bounds looks at.

use crate::{Node, lock};

/// The largest of each kind at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peaks {
    /// Bytes that wait for one session.
    pub outbox_bytes: usize,
    /// Publishes of one session that are not answered.
    pub pending: usize,
    /// Publishes that wait in one channel.
    pub waiting: usize,
    /// Batches in the ring of one channel.
    pub ring_batches: usize,
    /// Bytes of them.
    pub ring_bytes: usize,
}

impl Node {
    /// Looks at every session and every awake channel.
    pub fn peaks(&self) -> Peaks {
        let mut peaks = Peaks::default();
        for session in self.sessions.all() {
            let (bytes, pending) = session.owed();
            peaks.outbox_bytes = peaks.outbox_bytes.max(bytes);
            peaks.pending = peaks.pending.max(pending);
        }
        for channel in self.directory.all() {
            let (waiting, batches, bytes) = lock(&channel.state).held();
            peaks.waiting = peaks.waiting.max(waiting);
            peaks.ring_batches = peaks.ring_batches.max(batches);
            peaks.ring_bytes = peaks.ring_bytes.max(bytes);
        }
        peaks
    }
}
