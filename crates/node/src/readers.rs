//! The readers of one channel, in shards: an ordered queue of attach, detach and records, drained by one task at a time.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use fireside_core::outbox::SubId;
use fireside_core::{Batch, Event, Fact, limits};

use crate::session::Session;
use crate::{Node, lock};

/// One subscription that is at the tail.
#[derive(Clone)]
pub(crate) struct Reader {
    pub(crate) session: Arc<Session>,
    pub(crate) sub: SubId,
}

impl Reader {
    fn is(&self, other: &Reader) -> bool {
        Arc::ptr_eq(&self.session, &other.session) && self.sub == other.sub
    }
}

/// What a shard does, in this order and no other: a reader attached between two batches gets the second and not the first.
pub(crate) enum Op {
    Attach(Reader),
    Detach(Reader),
    Records(Arc<Batch>),
    /// A join or a leave.
    Passing(Arc<Event>),
}

/// At most [`limits::SHARD_READERS_MAX`] readers.
#[derive(Default)]
pub(crate) struct Shard {
    queue: Mutex<Queue>,
    readers: Mutex<Vec<Reader>>,
    /// Readers attached or about to be.
    load: AtomicUsize,
}

#[derive(Default)]
struct Queue {
    ops: VecDeque<Op>,
    draining: bool,
    /// How many were ever queued, and how many of those are done.
    queued: u64,
    done: u64,
    /// Who waits for somebody else's draining.
    waiting: Vec<Waker>,
}

impl Shard {
    pub(crate) fn has_room(&self) -> bool {
        self.load.load(Ordering::Relaxed) < limits::SHARD_READERS_MAX
    }

    pub(crate) fn load(&self) -> u32 {
        self.load.load(Ordering::Relaxed) as u32
    }

    /// It is drained at once, by whoever has something for it.
    pub(crate) fn is_small(&self) -> bool {
        self.load.load(Ordering::Relaxed) <= limits::SHARD_WRITES_PER_TURN
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.load.load(Ordering::Relaxed) == 0
    }

    pub(crate) fn push(&self, op: Op) {
        match op {
            Op::Attach(_) => drop(self.load.fetch_add(1, Ordering::Relaxed)),
            Op::Records(_) | Op::Passing(_) if self.is_empty() => return,
            _ => {}
        }
        let mut queue = lock(&self.queue);
        queue.queued += 1;
        queue.ops.push_back(op);
    }

    /// Drains a small shard at once, and leaves a large one to a task that yields.
    pub(crate) fn kick(self: &Arc<Self>, node: &Arc<Node>) {
        if self.is_small() {
            if self.begin() {
                while let Some(op) = self.next() {
                    let mut readers = std::mem::take(&mut *lock(&self.readers));
                    self.perform_at_once(node, &op, &mut readers);
                    *lock(&self.readers) = readers;
                }
            }
            return;
        }
        let (shard, node_of_task) = (self.clone(), node.clone());
        node.host.spawn(Box::pin(async move { shard.drain(&node_of_task).await }));
    }

    /// Drains it, or waits until somebody else, who does already, has done all that is queued by now: else the next batch would
    /// not wait for the readers, and the queue would have no end.
    pub(crate) async fn drain(&self, node: &Arc<Node>) {
        if !self.begin() {
            return self.drained().await;
        }
        while let Some(op) = self.next() {
            let mut readers = std::mem::take(&mut *lock(&self.readers));
            if readers.len() <= limits::SHARD_WRITES_PER_TURN {
                self.perform_at_once(node, &op, &mut readers);
            } else {
                self.perform(node, &op, &mut readers).await;
            }
            *lock(&self.readers) = readers;
        }
    }

    fn begin(&self) -> bool {
        let mut queue = lock(&self.queue);
        !std::mem::replace(&mut queue.draining, true)
    }

    /// The next thing to do; with `None`, whoever pushes next must drain anew. Asked for by whoever drains, once the one before is done.
    fn next(&self) -> Option<Op> {
        let mut queue = lock(&self.queue);
        queue.done = queue.queued - queue.ops.len() as u64;
        let waiting = std::mem::take(&mut queue.waiting);
        let op = queue.ops.pop_front();
        if op.is_none() {
            queue.draining = false;
            queue.ops.shrink_to(0);
        }
        drop(queue);
        waiting.into_iter().for_each(Waker::wake);
        op
    }

    async fn drained(&self) {
        let until = lock(&self.queue).queued;
        poll_fn(|cx| {
            let mut queue = lock(&self.queue);
            if queue.done >= until || !queue.draining {
                return Poll::Ready(());
            }
            queue.waiting.push(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }

    fn perform_at_once(&self, node: &Arc<Node>, op: &Op, readers: &mut Vec<Reader>) {
        let mut delivered = 0;
        match op {
            Op::Attach(reader) => readers.push(reader.clone()),
            Op::Detach(reader) => self.remove(readers, reader),
            Op::Records(_) | Op::Passing(_) => {
                readers.retain(|reader| self.hand(node, op, reader, &mut delivered));
            }
        }
        self.delivered(node, delivered);
    }

    async fn perform(&self, node: &Arc<Node>, op: &Op, readers: &mut Vec<Reader>) {
        if matches!(op, Op::Attach(_) | Op::Detach(_)) {
            return self.perform_at_once(node, op, readers);
        }
        let mut delivered = 0;
        let mut kept = 0;
        for at in 0..readers.len() {
            if self.hand(node, op, &readers[at], &mut delivered) {
                readers.swap(kept, at);
                kept += 1;
            }
            if (at + 1) % limits::SHARD_WRITES_PER_TURN == 0 {
                turn().await;
            }
        }
        readers.truncate(kept);
        self.delivered(node, delivered);
    }

    /// Hands records to one reader. False if it no longer belongs here.
    fn hand(&self, node: &Arc<Node>, op: &Op, reader: &Reader, delivered: &mut u64) -> bool {
        let stays = match op {
            Op::Records(batch) => {
                *delivered += batch.records.len() as u64;
                reader.session.deliver(node, reader.sub, batch)
            }
            Op::Passing(event) => reader.session.pass_on(node, reader.sub, event),
            _ => true,
        };
        if !stays {
            self.load.fetch_sub(1, Ordering::Relaxed);
        }
        stays
    }

    fn remove(&self, readers: &mut Vec<Reader>, reader: &Reader) {
        if let Some(at) = readers.iter().position(|known| known.is(reader)) {
            readers.swap_remove(at);
            self.load.fetch_sub(1, Ordering::Relaxed);
        }
        if readers.is_empty() {
            readers.shrink_to(0);
        }
    }

    fn delivered(&self, node: &Arc<Node>, records: u64) {
        if records > 0 {
            node.say(Fact::Delivered { records });
        }
    }
}

/// Lets others have their turn.
async fn turn() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Drains all shards, on as many cores as there are, and ends when each has taken everything.
pub(crate) async fn drain_all(node: &Arc<Node>, shards: &[Arc<Shard>]) {
    let Some((first, others)) = shards.split_first() else { return };
    if others.is_empty() {
        return first.drain(node).await;
    }
    let left = Arc::new((AtomicUsize::new(others.len()), Mutex::new(None::<Waker>)));
    for shard in others {
        let (shard, node_of_task, left) = (shard.clone(), node.clone(), left.clone());
        node.host.spawn(Box::pin(async move {
            shard.drain(&node_of_task).await;
            if left.0.fetch_sub(1, Ordering::AcqRel) == 1
                && let Some(waker) = lock(&left.1).take()
            {
                waker.wake();
            }
        }));
    }
    first.drain(node).await;
    poll_fn(|cx| {
        *lock(&left.1) = Some(cx.waker().clone());
        if left.0.load(Ordering::Acquire) == 0 { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
