//! What a session does under its lock: hand to the link what it takes, and queue the rest.

use std::sync::Arc;

use fireside_core::outbox::{Lane, Offered, Outbox, Overrun, SubId};
use fireside_core::{Batch, Disconnect, Fact};

use super::{Inner, Phase};
use crate::Node;
use crate::ports::{Sent, Sink};

impl Inner {
    pub(super) fn wake(&mut self) {
        if let Some(waker) = &self.waker {
            waker.wake_by_ref();
        }
    }

    pub(super) fn push(&mut self, push: impl FnOnce(&mut Outbox) -> Result<(), Overrun>) {
        if self.phase != Phase::Closed && push(&mut self.outbox).is_err() {
            self.closing.get_or_insert(Disconnect::SLOW);
            self.wake();
        }
    }

    pub(super) fn move_to(&mut self, sub: SubId, offset: u64) {
        if let Some(known) = self.subs.iter_mut().find(|known| known.id == sub) {
            known.offset = offset;
        }
    }

    /// Before `batch` is handed to a subscription behind `earlier`: a record may have been erased since the reader saw it, or since the batch
    /// after it was told what it follows. Patches build on it only if it is what was just handed over.
    pub(super) fn join(&mut self, sub: SubId, earlier: Option<&Batch>, batch: &Batch) {
        if let Some(known) = self.subs.iter_mut().find(|known| known.id == sub)
            && known.patches_from.is_some()
            && !earlier.is_some_and(|earlier| batch.builds_on(earlier))
        {
            known.patches_from = Some(known.offset);
        }
    }

    /// The place of a subscription that must read the log, if what it will find can be sent.
    pub(super) fn detached(&self) -> Option<usize> {
        if !self.outbox.has_no_records() || self.sink_waits {
            return None;
        }
        self.subs.iter().position(|sub| sub.begun && sub.shard.is_none())
    }

    pub(super) fn no_pong(&self, now_ms: u64, pong_ms_max: u64) -> bool {
        self.pinged_ms != 0 && !self.heard && !self.deaf && now_ms >= self.pinged_ms + pong_ms_max
    }

    pub(super) fn deliver(&mut self, node: &Node, sink: &dyn Sink, sub: SubId, batch: &Arc<Batch>) -> bool {
        let Some(known) = self.subs.iter_mut().find(|known| known.id == sub && known.shard.is_some()) else {
            return false;
        };
        let (reached, lane) = (known.reached(), known.channel.lane);
        if lane != Lane::Ephemeral {
            if batch.last() <= reached.after {
                return true;
            }
            debug_assert!(batch.first() <= reached.after + 1, "a reader that is attached is at the tail");
            known.offset = batch.last();
        }
        let filtered = match &known.filter {
            None => None,
            Some(filter) => match filter.of(batch, reached.after) {
                Some(wanted) => Some(wanted),
                // Where it stands moves on all the same.
                None => return true,
            },
        };
        let batch = filtered.as_ref().unwrap_or(batch);
        if self.outbox.is_empty() && !self.sink_waits {
            match sink.try_send(&reached.rest_of(batch), false) {
                Sent::Sent => return true,
                Sent::Partial => {
                    self.wait_for_sink();
                    return true;
                }
                Sent::Full => self.wait_for_sink(),
                Sent::Closed => {
                    self.closing.get_or_insert(Disconnect::WRITE_ERROR);
                    self.wake();
                    return true;
                }
            }
        }
        match self.outbox.offer(sub, lane, batch, reached) {
            Offered::Queued => {
                self.drain(sink);
                true
            }
            Offered::Dropped(entries) => {
                node.say(Fact::Dropped { entries });
                self.drain(sink);
                true
            }
            Offered::Rewind(to) => {
                node.say(Fact::Detached);
                if let Some(known) = self.subs.iter_mut().find(|known| known.id == sub) {
                    known.shard = None;
                    known.offset = to;
                }
                self.wake();
                false
            }
        }
    }

    pub(super) fn wait_for_sink(&mut self) {
        self.sink_waits = true;
        self.wake();
    }

    /// Hands over what the link takes.
    pub(super) fn drain(&mut self, sink: &dyn Sink) {
        while !self.sink_waits {
            let Some((what, more)) = self.outbox.peek() else { break };
            match sink.try_send(what, more) {
                Sent::Sent => self.outbox.taken(),
                Sent::Partial => {
                    self.outbox.taken();
                    self.wait_for_sink();
                }
                Sent::Full => self.wait_for_sink(),
                Sent::Closed => {
                    self.closing.get_or_insert(Disconnect::WRITE_ERROR);
                    self.wake();
                    break;
                }
            }
        }
    }
}
