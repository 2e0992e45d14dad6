//! One client: its commands through the gate to channels, and what it is owed through its outbox to its link.
//!
//! A [`Session`] is a locked struct that whoever fans out may write to directly; its [`Driver`] is the one task that polls the link's
//! source and drains what a full sink left. What is polled first is a decision: writing before reading, so that a client that does not
//! read cannot make us owe it more.

mod driver;
mod inner;
mod time;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};

use fireside_core::gate::{Bucket, Caller, Principal};
use fireside_core::outbox::{Offered, Outbox, SubId};
use fireside_core::{
    Batch, ChannelName, Code, Disconnect, Epoch, Event, Fact, Position, Reached, Refusal, Reply, TagFilter,
    limits,
};

use crate::channel::{Channel, Placed};
use crate::ports::Sink;
use crate::readers::{Op, Reader, Shard};
use crate::{Node, lock, uuid};

pub use driver::Driver;

/// One client's life on this node.
pub struct Session {
    /// Its id, visible to others.
    pub(crate) client: Arc<str>,
    /// Carrier and protocol of its link.
    pub(crate) link: &'static str,
    sink: Arc<dyn Sink>,
    /// Its place in the slab of due times.
    slot: AtomicU32,
    inner: Mutex<Inner>,
}

/// What its lock guards. The last in the lock order: channel, shard, session.
pub(crate) struct Inner {
    phase: Phase,
    principal: Option<Arc<Principal>>,
    pub(crate) subs: Vec<Sub>,
    outbox: Outbox,
    bucket: Bucket,
    /// Publishes that are not answered yet, by channel.
    pending: Vec<(ChannelName, u32)>,
    /// Channels that were given something to write in this turn and are driven at its end, so that it goes together.
    undriven: Vec<Arc<Channel>>,
    waker: Option<Waker>,
    /// The sink wants to be polled before it takes more.
    sink_waits: bool,
    closing: Option<Disconnect>,
    next_sub: u32,
    /// When the next ping is to go out, monotonic ms.
    ping_due_ms: u64,
    /// The backend is not asked before whether the session may go on, monotonic ms.
    next_refresh_ms: u64,
    /// When the ping that waits for its answer went out, monotonic ms; 0 if none does.
    pinged_ms: u64,
    /// Pongs that may still come, if late: one per ping.
    pongs_owed: u32,
    /// Nothing is read from the client, because something of ours takes its time: its silence proves nothing.
    deaf: bool,
    /// Something came or was taken since the last ping.
    heard: bool,
    /// Commands in a row that came too fast.
    overruns: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nobody has said who this is.
    New,
    /// The connect was refused: the next command closes the link.
    Refused,
    Open,
    Closed,
}

/// One subscription of a session.
pub(crate) struct Sub {
    pub(crate) id: SubId,
    pub(crate) channel: Arc<Channel>,
    epoch: Epoch,
    /// Offset of the last record that was handed to the link or waits in the outbox.
    offset: u64,
    /// The shard it is attached to; `None` while it must read the log.
    shard: Option<Arc<Shard>>,
    /// Its reply is queued: from here on it follows.
    begun: bool,
    /// It wants these records only.
    filter: Option<Arc<TagFilter>>,
    /// It takes patches, which may build on records after this offset.
    patches_from: Option<u64>,
    /// Join and leave are told.
    pub(crate) join_leave: bool,
    /// The server opened it: losing its position closes the session.
    pub(crate) by_server: bool,
    /// When it is over, Unix ms; `None` if never.
    expires_ms: Option<u64>,
    /// A token of its own opened it: newer tokens of the session do not end it, and it may be late with its own.
    by_token: bool,
    /// The backend is not asked before whether it may go on, monotonic ms.
    next_refresh_ms: u64,
    /// A backend opened it: no newer token ends it.
    kept: bool,
}

impl Sub {
    /// What it wants of a batch; `None` if nothing.
    fn wanted(&self, batch: &Arc<Batch>) -> Option<Arc<Batch>> {
        match &self.filter {
            None => Some(batch.clone()),
            Some(filter) => filter.of(batch, self.offset),
        }
    }

    fn reached(&self) -> Reached {
        Reached { after: self.offset, patches_from: self.patches_from }
    }
}

impl Session {
    fn new(node: &Node, link: &'static str, sink: Arc<dyn Sink>) -> Arc<Self> {
        Arc::new(Session {
            client: Arc::from(uuid(&*node.host)),
            link,
            sink,
            slot: AtomicU32::new(u32::MAX),
            inner: Mutex::new(Inner {
                phase: Phase::New,
                principal: None,
                subs: Vec::new(),
                outbox: Outbox::new(node.settings.outbox_bytes_max),
                bucket: Bucket::default(),
                pending: Vec::new(),
                undriven: Vec::new(),
                waker: None,
                sink_waits: false,
                closing: None,
                next_sub: 0,
                ping_due_ms: u64::MAX,
                next_refresh_ms: 0,
                pinged_ms: 0,
                pongs_owed: 0,
                deaf: false,
                heard: false,
                overruns: 0,
            }),
        })
    }

    pub(crate) fn slot(&self) -> u32 {
        self.slot.load(Ordering::Relaxed)
    }

    pub(crate) fn principal(&self) -> Option<Arc<Principal>> {
        lock(&self.inner).principal.clone()
    }

    // --------------------------------------------------------------------------------------------------- told to it

    /// Hands records to the link, or, if it is busy, to the outbox. False if this subscription is not attached here any more.
    pub(crate) fn deliver(&self, node: &Node, sub: SubId, batch: &Arc<Batch>) -> bool {
        let mut inner = lock(&self.inner);
        inner.deliver(node, &*self.sink, sub, batch)
    }

    /// Hands on a join or leave. False as for [`Session::deliver`].
    pub(crate) fn pass_on(&self, node: &Node, sub: SubId, event: &Arc<Event>) -> bool {
        let mut inner = lock(&self.inner);
        let Some(known) = inner.subs.iter().find(|known| known.id == sub && known.shard.is_some()) else {
            return false;
        };
        if known.join_leave {
            let dropped = inner.outbox.push_passing(sub, event);
            if dropped > 0 {
                node.say(Fact::Dropped { entries: dropped });
            }
            inner.drain(&*self.sink);
        }
        true
    }

    /// Queues the answer to a command that touches no subscription. [`Session::flush`] sends it.
    fn queue_reply(&self, id: u32, reply: Reply) {
        if id != 0 {
            lock(&self.inner).push(|outbox| outbox.push_control(Event::Reply { id, reply }));
        }
    }

    /// Answers a command that touches no subscription.
    pub(crate) fn reply(&self, id: u32, reply: Reply) {
        self.queue_reply(id, reply);
        self.flush();
    }

    /// Refuses a command.
    pub(crate) fn refuse(&self, node: &Node, op: &'static str, id: u32, refusal: Refusal) {
        let user = self.principal().map(|who| who.user().clone()).unwrap_or_default();
        node.say(Fact::Refused { op, code: refusal.code, user });
        self.reply(id, Reply::Refused(refusal));
    }

    /// Queues what opens, moves or ends a subscription, in one order with its records.
    pub(crate) fn tell_in_order(&self, event: Event) {
        let mut inner = lock(&self.inner);
        inner.push(|outbox| outbox.push_ordered(event));
        inner.drain(&*self.sink);
    }

    /// Hands to the link what it takes.
    pub(crate) fn flush(&self) {
        lock(&self.inner).drain(&*self.sink);
    }

    /// Answers a publish.
    pub(crate) fn published(
        &self,
        node: &Node,
        channel: &ChannelName,
        id: u32,
        positioned: bool,
        outcome: Result<Placed, Refusal>,
    ) {
        let reply = match outcome {
            Ok(placed) if positioned => {
                Reply::PublishedAt { position: placed.position, duplicate: placed.duplicate }
            }
            Ok(_) => Reply::Published,
            Err(refusal) => {
                let user = self.principal().map(|who| who.user().clone()).unwrap_or_default();
                node.say(Fact::Refused { op: "publish", code: refusal.code, user });
                Reply::Refused(refusal)
            }
        };
        self.queue_reply(id, reply);
        let mut inner = lock(&self.inner);
        if let Some(at) = inner.pending.iter().position(|(name, _)| name == channel) {
            inner.pending[at].1 -= 1;
            if inner.pending[at].1 == 0 {
                inner.pending.swap_remove(at);
                // Something may wait for exactly this.
                inner.wake();
            }
        }
    }

    /// Bytes that wait for it, and its publishes that are not answered.
    pub(crate) fn owed(&self) -> (usize, usize) {
        let inner = lock(&self.inner);
        (inner.outbox.bytes(), inner.pending.iter().map(|(_, count)| *count as usize).sum())
    }

    /// Asks the session to end. Its own task does it.
    pub fn close(&self, why: Disconnect) {
        let mut inner = lock(&self.inner);
        inner.closing.get_or_insert(why);
        inner.wake();
    }

    // ------------------------------------------------------------------------------------------------- its commands

    /// What the gate must know to judge a command about `channel`.
    pub(crate) fn ask<T>(
        &self,
        node: &Node,
        channel: Option<&str>,
        judge: impl FnOnce(Caller<'_>) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let mut inner = lock(&self.inner);
        let Inner { principal: Some(principal), subs, bucket, .. } = &mut *inner else {
            return Err(Code::Unauthorized.into());
        };
        let principal = principal.clone();
        let subscribed = channel.is_some_and(|name| subs.iter().any(|sub| sub.channel.name.as_str() == name));
        let now_ms = node.host.now_ms();
        let judged =
            judge(Caller { principal: &principal, now_ms, subscribed, bucket: Some(bucket), trace: None });
        let judged = match judged {
            // What is refused has cost us as much as what passes.
            Err(refusal) if refusal.code != Code::TooManyRequests => {
                Err(node.gate.charge(bucket, now_ms).err().unwrap_or(refusal))
            }
            judged => judged,
        };
        match &judged {
            Err(refusal) if refusal.code == Code::TooManyRequests => inner.overruns += 1,
            _ => inner.overruns = 0,
        }
        if inner.overruns >= limits::OVERRUNS_MAX {
            inner.closing.get_or_insert(Disconnect::TOO_MANY_REQUESTS);
            inner.wake();
        }
        judged
    }

    pub(crate) fn publish_begins(&self, channel: &ChannelName) {
        let mut inner = lock(&self.inner);
        match inner.pending.iter_mut().find(|(name, _)| name == channel) {
            Some((_, count)) => *count += 1,
            None => inner.pending.push((channel.clone(), 1)),
        }
    }

    /// The channel is driven when this turn of the session's task is over.
    pub(crate) fn drive_later(&self, channel: &Arc<Channel>) {
        let mut inner = lock(&self.inner);
        if !inner.undriven.iter().any(|known| Arc::ptr_eq(known, channel)) {
            inner.undriven.push(channel.clone());
        }
    }

    fn drive_now(&self, node: &Arc<Node>) {
        // The session's lock is given back first: a channel's comes before it.
        let undriven = std::mem::take(&mut lock(&self.inner).undriven);
        for channel in undriven {
            channel.drive_if_needed(node);
        }
    }

    /// Ready when no publish of this session into `channel` waits any more: whatever else it asks of the channel must see them.
    pub(crate) async fn published_all(&self, channel: &ChannelName) {
        std::future::poll_fn(|cx| {
            let mut inner = lock(&self.inner);
            match inner.pending.iter().any(|(name, _)| name == channel) && inner.phase == Phase::Open {
                true => {
                    inner.waker = Some(cx.waker().clone());
                    Poll::Pending
                }
                false => Poll::Ready(()),
            }
        })
        .await;
    }

    pub(crate) fn open(&self, principal: Arc<Principal>) {
        let mut inner = lock(&self.inner);
        inner.principal = Some(principal);
        if inner.phase == Phase::New {
            inner.phase = Phase::Open;
        }
    }

    pub(crate) fn refused(&self) {
        lock(&self.inner).phase = Phase::Refused;
    }

    pub(crate) fn replace_principal(&self, principal: Arc<Principal>) {
        lock(&self.inner).principal = Some(principal);
    }

    // ----------------------------------------------------------------------------------------------- subscriptions

    pub(crate) fn follows(&self, channel: &ChannelName) -> bool {
        lock(&self.inner).subs.iter().any(|sub| sub.channel.name == *channel)
    }

    pub(crate) fn subscriptions(&self) -> Vec<ChannelName> {
        lock(&self.inner).subs.iter().map(|sub| sub.channel.name.clone()).collect()
    }

    /// Those that hold only as long as the session's token allows them.
    pub(crate) fn subscriptions_by_right(&self) -> Vec<ChannelName> {
        let inner = lock(&self.inner);
        inner
            .subs
            .iter()
            .filter(|sub| !sub.by_token && !sub.kept)
            .map(|sub| sub.channel.name.clone())
            .collect()
    }

    /// Opens a subscription at `position`, detached: it begins to follow when [`follow::attach`] is called for it. `None` if the session
    /// is over.
    ///
    /// # Errors
    /// 105: it follows the channel already.
    pub(crate) fn add_sub(
        &self,
        node: &Node,
        channel: &Arc<Channel>,
        position: Position,
        opts: SubOptions,
    ) -> Result<Option<SubId>, Refusal> {
        let mut inner = lock(&self.inner);
        if matches!(inner.phase, Phase::Closed) {
            return Ok(None);
        }
        if inner.subs.iter().any(|sub| sub.channel.name == channel.name) {
            return Err(Code::AlreadySubscribed.into());
        }
        inner.next_sub += 1;
        let id = SubId(inner.next_sub);
        inner.subs.push(Sub {
            id,
            channel: channel.clone(),
            epoch: position.epoch,
            offset: position.offset,
            shard: None,
            begun: false,
            filter: opts.filter,
            patches_from: opts.patches_from,
            join_leave: opts.join_leave,
            by_server: opts.by_server,
            expires_ms: opts.expires_ms,
            next_refresh_ms: 0,
            by_token: opts.by_token,
            kept: opts.kept,
        });
        node.say(Fact::Subscribed { channel: channel.name.clone() });
        Ok(Some(id))
    }

    /// Ends a subscription here; what waits of it is forgotten.
    pub(crate) fn remove_sub(self: &Arc<Self>, node: &Arc<Node>, channel: &ChannelName) -> Option<Sub> {
        let sub = {
            let mut inner = lock(&self.inner);
            let at = inner.subs.iter().position(|sub| sub.channel.name == *channel)?;
            let sub = inner.subs.swap_remove(at);
            inner.outbox.purge(sub.id);
            sub
        };
        self.let_go(node, &sub);
        Some(sub)
    }

    /// The channel forgets this reader and member.
    fn let_go(self: &Arc<Self>, node: &Arc<Node>, sub: &Sub) {
        if let Some(shard) = &sub.shard {
            shard.push(Op::Detach(Reader { session: self.clone(), sub: sub.id }));
            shard.kick(node);
        }
        node.say(Fact::Unsubscribed { channel: sub.channel.name.clone() });
        let policy = &sub.channel.policy;
        let left = {
            let mut state = lock(&sub.channel.state);
            state.used(node.host.monotonic_ms());
            // Unless it came back meanwhile: then it is still here.
            if self.follows(&sub.channel.name) { None } else { state.presence.leave(&self.client) }
        };
        if let Some(who) = left.filter(|_| policy.join_leave) {
            sub.channel.tell_passing(node, Event::Left { channel: sub.channel.name.clone(), who });
        }
    }

    /// Attaches a subscription to a shard and hands over what it missed. Called by [`follow`] under the channel's lock.
    pub(crate) fn attached(
        &self,
        node: &Node,
        sub: SubId,
        shard: &Arc<Shard>,
        missing: &[Arc<Batch>],
    ) -> bool {
        let mut inner = lock(&self.inner);
        let Some(known) = inner.subs.iter_mut().find(|known| known.id == sub) else { return false };
        known.shard = Some(shard.clone());
        known.patches_from = known.patches_from.map(|_| known.offset);
        let earlier = std::iter::once(None).chain(missing.iter().map(Some));
        earlier.zip(missing).all(|(earlier, batch)| {
            inner.join(sub, earlier.map(|earlier| &**earlier), batch);
            inner.deliver(node, &*self.sink, sub, batch)
        })
    }

    /// The reply that opens a subscription is queued, and it may follow.
    pub(crate) fn begin(&self, sub: SubId) {
        let mut inner = lock(&self.inner);
        if let Some(known) = inner.subs.iter_mut().find(|known| known.id == sub) {
            known.begun = true;
        }
    }

    /// This subscription has not ended.
    pub(crate) fn has(&self, sub: SubId) -> bool {
        lock(&self.inner).subs.iter().any(|known| known.id == sub)
    }

    /// Where a subscription stands; `None` if it ended.
    pub(crate) fn standing(&self, sub: SubId) -> Option<(Arc<Channel>, Position)> {
        let inner = lock(&self.inner);
        let known = inner.subs.iter().find(|known| known.id == sub)?;
        Some((known.channel.clone(), Position::new(known.epoch, known.offset)))
    }

    /// Queues batches that were read from the log for a detached subscription, as far as they fit.
    pub(crate) fn offer_page(&self, sub: SubId, page: &[Arc<Batch>]) {
        let mut inner = lock(&self.inner);
        let earlier = std::iter::once(None).chain(page.iter().map(Some));
        for (earlier, batch) in earlier.zip(page) {
            inner.join(sub, earlier.map(|earlier| &**earlier), batch);
            let Some(known) = inner.subs.iter().find(|known| known.id == sub) else { return };
            let (reached, lane) = (known.reached(), known.channel.lane);
            if batch.last() <= reached.after {
                continue;
            }
            let whole = batch;
            let Some(batch) = known.wanted(whole) else {
                inner.move_to(sub, whole.last());
                continue;
            };
            let batch = &batch;
            // What does not fit is read again once this has gone out. Offered all the same, it would take back what was just
            // queued before it, and reading on would turn in circles.
            if !inner.outbox.has_room(batch.cost()) {
                break;
            }
            match inner.outbox.offer(sub, lane, batch, reached) {
                Offered::Rewind(to) => {
                    inner.move_to(sub, to);
                    break;
                }
                _ => inner.move_to(sub, whole.last()),
            }
        }
        inner.drain(&*self.sink);
    }

    /// A subscription that must read the log, if the outbox has room for what it will find. They take turns.
    fn next_detached(&self) -> Option<SubId> {
        let mut inner = lock(&self.inner);
        let at = inner.detached()?;
        let id = inner.subs[at].id;
        inner.subs[at..].rotate_left(1);
        Some(id)
    }
}

/// How a subscription is to be.
#[derive(Clone, Default)]
pub(crate) struct SubOptions {
    pub(crate) filter: Option<Arc<TagFilter>>,
    pub(crate) patches_from: Option<u64>,
    pub(crate) join_leave: bool,
    pub(crate) by_server: bool,
    /// When it is over, Unix ms; `None` if never.
    pub(crate) expires_ms: Option<u64>,
    /// A token of its own opened it.
    pub(crate) by_token: bool,
    /// A backend opened it.
    pub(crate) kept: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i8_bounded_a_session_and_its_future_stay_small() {
        assert!(size_of::<Driver>() <= 256, "a session's future has {} bytes", size_of::<Driver>());
        let session = size_of::<Session>() + size_of::<Sub>();
        assert!(session <= 1536, "a session with a subscription has {session} bytes");
        println!(
            "driver {}, session {}, sub {}",
            size_of::<Driver>(),
            size_of::<Session>(),
            size_of::<Sub>()
        );
    }
}
