//! What a channel does under its lock.

use std::sync::Arc;
use std::task::Waker;

use fireside_core::channel as core;
use fireside_core::{Batch, Code, Refusal, limits};

use super::{Channel, Life, State, Waiting};
use crate::ports::Waking;
use crate::readers::{Op, Shard};

impl State {
    pub(crate) fn core(&self) -> Option<&core::Channel> {
        match &self.life {
            Life::Awake(core) => Some(core),
            _ => None,
        }
    }

    pub(crate) fn core_mut(&mut self) -> Option<&mut core::Channel> {
        match &mut self.life {
            Life::Awake(core) => Some(core),
            _ => None,
        }
    }

    /// Everybody who waits for a change of this state; to be woken once the lock is given back.
    pub(crate) fn rouse(&mut self) -> Vec<Waker> {
        self.roused += 1;
        std::mem::take(&mut self.sleepers)
    }

    pub(super) fn must_save(&self) -> bool {
        self.saves_asked > self.saves_done || self.unsaved >= self.save_at
    }

    pub(crate) fn used(&mut self, now_ms: u64) {
        self.used_ms = now_ms;
    }

    /// The batches in memory that a reader after `offset` misses. `None`: it is behind them and must read the log.
    pub(crate) fn missing_after(&self, offset: u64) -> Option<Vec<Arc<Batch>>> {
        let newest = self.core()?.newest().offset;
        if offset >= newest {
            return Some(Vec::new());
        }
        let reaches = self.ring.front().is_some_and(|batch| batch.first() <= offset + 1);
        reaches.then(|| self.ring.iter().filter(|batch| batch.last() > offset).cloned().collect())
    }

    /// Publishes that wait, batches in the ring, and their bytes.
    pub(crate) fn held(&self) -> (usize, usize, usize) {
        (self.waiting.len(), self.ring.len(), self.ring_bytes)
    }

    /// Nothing is to be read.
    pub(crate) fn has_no_records(&self) -> bool {
        self.core().is_none_or(|core| core.oldest() > core.newest().offset)
    }

    /// Handing something out is so quick that nothing need be gathered: no driver, and every shard is drained at once.
    pub(super) fn is_swift(&self) -> bool {
        !self.driving && self.shards.iter().all(|shard| shard.is_small())
    }

    /// Sessions that follow at the tail.
    pub(crate) fn readers(&self) -> u32 {
        self.shards.iter().map(|shard| shard.load()).sum()
    }

    /// A shard with room for one more reader.
    pub(crate) fn shard(&mut self) -> Arc<Shard> {
        if let Some(shard) = self.shards.iter().find(|shard| shard.has_room()) {
            return shard.clone();
        }
        let shard = Arc::new(Shard::default());
        self.shards.push(shard.clone());
        shard
    }

    pub(super) fn awaken(&mut self, channel: &Channel, waking: Waking, now_ms: u64) {
        let mut core = core::Channel::wake(
            channel.name.clone(),
            channel.policy.clone(),
            waking.checkpoint,
            waking.generation,
        );
        self.unsaved = 0;
        self.ring.clear();
        self.ring_bytes = 0;
        if channel.policy.patches {
            waking.tail.windows(2).for_each(|pair| pair[1].follows(&pair[0]));
        }
        for batch in &waking.tail {
            core.absorb(batch);
            self.unsaved += batch.records.len() as u64;
            self.keep_in_ring(batch);
        }
        if let Some(last) = self.removed {
            core.remove_until(last);
            self.unsaved += 1;
        }
        core.trim(now_ms);
        self.life = Life::Awake(Box::new(core));
    }

    pub(super) fn enqueue(&mut self, waiting: Waiting) -> Result<(), Box<(Refusal, Waiting)>> {
        if let Life::Failed(refusal) = &self.life {
            return Err(Box::new((refusal.clone(), waiting)));
        }
        let is_full = self.waiting.len() >= limits::WAITING_PUBLISHES_MAX
            || self.waiting_bytes > limits::WAITING_BYTES_MAX;
        if is_full {
            let refusal = Refusal::because(Code::TooManyRequests, "too many publishes wait in this channel");
            return Err(Box::new((refusal, waiting)));
        }
        self.waiting_bytes += waiting.write.command().body.len();
        self.waiting.push_back(waiting);
        Ok(())
    }

    /// What fits one batch: at least one write, at most [`limits::BATCH_RECORDS_MAX`] and, beyond the first, `bytes_max`.
    pub(super) fn take_waiting(&mut self, bytes_max: usize) -> Vec<Waiting> {
        let mut bytes = 0;
        let fits = |one: &&Waiting| {
            let first = bytes == 0;
            bytes += one.write.command().body.len() + 512;
            first || bytes <= bytes_max
        };
        let count = self.waiting.iter().take(limits::BATCH_RECORDS_MAX).take_while(fits).count();
        let taken: Vec<_> = self.waiting.drain(..count).collect();
        self.waiting_bytes -= taken.iter().map(|one| one.write.command().body.len()).sum::<usize>();
        if self.waiting.is_empty() {
            self.waiting.shrink_to(64);
        }
        taken
    }

    pub(super) fn absorb(&mut self, batch: &Arc<Batch>) {
        if let Some(core) = self.core_mut() {
            core.absorb(batch);
        }
        self.unsaved += batch.records.len() as u64;
        self.keep_in_ring(batch);
    }

    pub(super) fn keep_in_ring(&mut self, batch: &Arc<Batch>) {
        if let Some(newest) = self.ring.back()
            && self.core().is_some_and(|core| core.policy().patches)
        {
            batch.follows(newest);
        }
        self.ring.push_back(batch.clone());
        self.ring_bytes += batch.cost();
        while self.ring.len() > limits::RING_BATCHES_MAX || self.ring_bytes > limits::RING_BYTES_MAX {
            // The newest stays, whatever its size: whoever attaches at the tail must find it.
            if self.ring.len() == 1 {
                break;
            }
            if let Some(oldest) = self.ring.pop_front() {
                self.ring_bytes -= oldest.cost();
            }
        }
    }

    /// Removes history: nothing of it is handed to anybody any more, and the next checkpoint says so.
    pub(crate) fn remove_history(&mut self) {
        if let Some(core) = self.core_mut() {
            core.remove_history();
            self.removed = self.core().map(core::Channel::newest);
        }
        self.ring.clear();
        self.ring_bytes = 0;
        self.unsaved += 1;
    }

    /// A record was erased: nobody who attaches from here on is handed its body.
    pub(crate) fn erase(&mut self, offset: u64) {
        for batch in &mut self.ring {
            *batch = batch.erased(&[offset]);
        }
        self.ring_bytes = self.ring.iter().map(|batch| batch.cost()).sum();
    }

    /// Queues a batch for every reader. Answers the shards to drain once the lock is given back.
    pub(super) fn hand_out(&mut self, batch: &Arc<Batch>) -> Vec<Arc<Shard>> {
        let busy = self.shards.iter().filter(|shard| !shard.is_empty());
        busy.inspect(|shard| shard.push(Op::Records(batch.clone()))).cloned().collect()
    }
}
