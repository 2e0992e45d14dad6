//! What one session is still owed, in lanes, bounded in bytes.
//!
//! | lane | holds | when the reader is slow |
//! |---|---|---|
//! | control | pings, replies that touch no subscription | first; too many close the session |
//! | durable | records of channels with history, and what opens or ends subscriptions, in one order | records go back to the log |
//! | run | text of AI runs | adjacent deltas are merged |
//! | ephemeral | records without history, join and leave | the latest of a conflation key wins; else the oldest goes, and the reader is told how many |

use std::collections::VecDeque;
use std::sync::Arc;

use crate::batch::{Batch, ProposalId};
use crate::channel::run;
use crate::event::{Event, Outgoing, Reached};
use crate::limits;
use crate::name::ChannelName;
use crate::record::Record;

/// One life of one subscription of a session. Entries of a dead one are never begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubId(pub u32);

/// Which lane records travel in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Never dropped: detached and read again.
    Durable,
    /// Never dropped, and merged.
    Run,
    /// At most once.
    Ephemeral,
}

/// What became of records that were offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// They wait for the link.
    Queued,
    /// There was no room. The subscription is to be detached and to go on after this offset.
    Rewind(u64),
    /// Ephemeral: so many entries were dropped or replaced to make room.
    Dropped(u32),
}

/// The control lane is full: the client does not even read its replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overrun;

/// What a session is still owed.
#[derive(Debug)]
pub struct Outbox {
    bytes_max: usize,
    bytes: usize,
    ephemeral_bytes: usize,
    control: VecDeque<Arc<Event>>,
    durable: VecDeque<Entry>,
    run: VecDeque<Entry>,
    ephemeral: VecDeque<Entry>,
    /// What was dropped of the ephemeral lane and the reader has not been told, by subscription: at most one for each.
    missed: Vec<Missed>,
    /// Tried and not taken yet.
    current: Option<Entry>,
    /// Replies, pings and what opens or ends subscriptions, in both lanes and tried.
    events: usize,
    events_bytes: usize,
}

#[derive(Debug)]
struct Missed {
    sub: SubId,
    channel: ChannelName,
    entries: u64,
}

#[derive(Debug)]
struct Entry {
    sub: Option<SubId>,
    what: Outgoing,
    cost: usize,
}

impl Entry {
    fn is_record_of(&self, sub: SubId) -> bool {
        self.sub == Some(sub) && matches!(self.what, Outgoing::Records { .. })
    }
}

impl Outbox {
    /// An empty one that holds at most `bytes_max` of records. Replies are reserved for by the limits on commands instead.
    pub fn new(bytes_max: usize) -> Self {
        Outbox {
            bytes_max,
            bytes: 0,
            ephemeral_bytes: 0,
            control: VecDeque::new(),
            durable: VecDeque::new(),
            run: VecDeque::new(),
            ephemeral: VecDeque::new(),
            missed: Vec::new(),
            current: None,
            events: 0,
            events_bytes: 0,
        }
    }

    /// Nothing is owed: whoever has something may hand it to the link directly.
    pub fn is_empty(&self) -> bool {
        self.current.is_none() && self.control.is_empty() && self.has_no_records()
    }

    /// No record waits: detached subscriptions may read on.
    pub fn has_no_records(&self) -> bool {
        self.current.is_none() && self.no_lane_has_records()
    }

    fn no_lane_has_records(&self) -> bool {
        self.durable.is_empty() && self.run.is_empty() && self.ephemeral.is_empty() && self.missed.is_empty()
    }

    /// Records of this cost may be queued. One batch always fits an empty outbox, whatever its size.
    pub fn has_room(&self, cost: usize) -> bool {
        self.bytes + cost <= self.bytes_max || self.has_no_records()
    }

    /// What the waiting records and events count for.
    pub fn bytes(&self) -> usize {
        self.bytes + self.ephemeral_bytes
    }

    /// How many replies and other events wait, and what they hold: whoever reads none of them is asked for nothing more.
    pub fn events(&self) -> (usize, usize) {
        (self.events, self.events_bytes)
    }

    /// Queues what touches no subscription.
    ///
    /// # Errors
    /// [`limits::CONTROL_ENTRIES_MAX`] events wait already.
    pub fn push_control(&mut self, event: Event) -> Result<(), Overrun> {
        self.count(&event)?;
        self.control.push_back(Arc::new(event));
        Ok(())
    }

    /// Queues what opens, moves or ends a subscription, in one order with the records of the durable lane.
    ///
    /// # Errors
    /// As for [`Outbox::push_control`].
    pub fn push_ordered(&mut self, event: Event) -> Result<(), Overrun> {
        self.count(&event)?;
        let cost = Event::COST;
        self.bytes += cost;
        self.durable.push_back(Entry { sub: None, what: Outgoing::Event(Arc::new(event)), cost });
        Ok(())
    }

    fn count(&mut self, event: &Event) -> Result<(), Overrun> {
        if self.events >= limits::CONTROL_ENTRIES_MAX {
            return Err(Overrun);
        }
        self.events += 1;
        self.events_bytes += event.cost();
        Ok(())
    }

    /// Queues a join or leave; the oldest ephemeral entries make room. Answers how many.
    pub fn push_passing(&mut self, sub: SubId, event: &Arc<Event>) -> u32 {
        self.push_ephemeral(Entry { sub: Some(sub), what: Outgoing::Event(event.clone()), cost: Event::COST })
    }

    /// Offers what a reader that stands at `reached` has not of `batch`.
    pub fn offer(
        &mut self,
        sub: SubId,
        lane: Lane,
        batch: &Arc<Batch>,
        reached: impl Into<Reached>,
    ) -> Offered {
        let reached = reached.into();
        if lane == Lane::Ephemeral {
            return self.offer_ephemeral(sub, batch);
        }
        let cost = batch.cost();
        if !self.has_room(cost) {
            return Offered::Rewind(self.take_back(sub).unwrap_or(reached.after));
        }
        self.bytes += cost;
        let entry = Entry { sub: Some(sub), what: reached.rest_of(batch), cost };
        match lane {
            Lane::Run => self.run.push_back(entry),
            _ => self.durable.push_back(entry),
        }
        Offered::Queued
    }

    /// Forgets every record, join and leave of a subscription that ended or lost its right. Replies stay: every command is answered.
    pub fn purge(&mut self, sub: SubId) {
        let mut freed = 0;
        let mut keep = |entry: &Entry| {
            let goes = entry.sub == Some(sub);
            freed += if goes { entry.cost } else { 0 };
            !goes
        };
        self.durable.retain(&mut keep);
        self.run.retain(&mut keep);
        self.current = self.current.take().filter(&mut keep);
        self.bytes = self.bytes.saturating_sub(freed);
        self.ephemeral.retain(|entry| entry.sub != Some(sub));
        self.missed.retain(|missed| missed.sub != sub);
        self.ephemeral_bytes = self.ephemeral.iter().map(|entry| entry.cost).sum();
    }

    /// What to hand to the link next, and whether more follows. Stays the same until [`Outbox::taken`], save that control goes first.
    pub fn peek(&mut self) -> Option<(&Outgoing, bool)> {
        if self.current.is_none() {
            self.current = self.next();
        }
        let more = !(self.control.is_empty() && self.no_lane_has_records());
        self.current.as_ref().map(|entry| (&entry.what, more))
    }

    /// The link has taken what was peeked at.
    pub fn taken(&mut self) {
        if let Some(entry) = self.current.take() {
            self.bytes = self.bytes.saturating_sub(entry.cost);
            if let (None, Outgoing::Event(event)) = (entry.sub, &entry.what) {
                self.events -= 1;
                self.events_bytes -= event.cost();
            }
        }
        if self.is_empty() {
            self.give_back();
        }
    }

    fn next(&mut self) -> Option<Entry> {
        if let Some(event) = self.control.pop_front() {
            return Some(Entry { sub: None, what: Outgoing::Event(event), cost: 0 });
        }
        if let Some(entry) = self.durable.pop_front() {
            return Some(entry);
        }
        if let Some(entry) = self.run.pop_front() {
            return Some(self.merge_with_rest(entry));
        }
        // Whatever was dropped is older than what is left.
        if let Some(Missed { sub, channel, entries }) = self.missed.pop() {
            let what = Outgoing::Event(Arc::new(Event::Missed { channel, entries }));
            return Some(Entry { sub: Some(sub), what, cost: 0 });
        }
        let entry = self.ephemeral.pop_front()?;
        self.ephemeral_bytes -= entry.cost;
        Some(Entry { cost: 0, ..entry })
    }

    /// Joins everything that waits in the run lane for the same subscription into one entry.
    fn merge_with_rest(&mut self, first: Entry) -> Entry {
        let (Some(sub), Outgoing::Records { batch, after, .. }) = (first.sub, &first.what) else {
            return first;
        };
        let waiting = |entry: &Entry| match &entry.what {
            Outgoing::Records { batch, .. } if entry.sub == Some(sub) => Some(batch.clone()),
            _ => None,
        };
        let rest: Vec<_> = self.run.iter().filter_map(waiting).collect();
        if rest.is_empty() {
            return first;
        }
        let batches: Vec<&Batch> =
            std::iter::once(&**batch).chain(rest.iter().map(|batch| &**batch)).collect();
        let merged = run::merge(&batches, *after);
        let mut cost = first.cost;
        self.run.retain(|entry| {
            let joined = entry.sub == Some(sub);
            cost += if joined { entry.cost } else { 0 };
            !joined
        });
        Entry { sub: first.sub, what: Reached::from(*after).rest_of(&merged), cost }
    }

    /// Takes back the queued records of a subscription. Answers the offset before the first of them.
    ///
    /// A subscription's reply stands in the queue before its records, and what ends it after them, so everything found is newer than
    /// the last that the client was told of it.
    fn take_back(&mut self, sub: SubId) -> Option<u64> {
        let mut rewind = None;
        let mut freed = 0;
        let mut keep = |entry: &Entry| {
            if !entry.is_record_of(sub) {
                return true;
            }
            freed += entry.cost;
            if let Outgoing::Records { after, .. } = &entry.what {
                // Never `batch.first() - 1`: the first record of a merged batch bears the last offset of the deltas in it.
                rewind = Some(rewind.map_or(*after, |known: u64| known.min(*after)));
            }
            false
        };
        self.current = self.current.take().filter(&mut keep);
        self.durable.retain(&mut keep);
        self.run.retain(&mut keep);
        self.bytes = self.bytes.saturating_sub(freed);
        rewind
    }

    fn offer_ephemeral(&mut self, sub: SubId, batch: &Arc<Batch>) -> Offered {
        let mut dropped = 0;
        let is_single = batch.records.len() == 1;
        for record in &batch.records {
            let one = match is_single {
                true => batch.clone(),
                false => {
                    let proposal = ProposalId::default();
                    Batch::new(batch.channel.clone(), batch.epoch, proposal, proposal, vec![record.clone()])
                }
            };
            if record.conflate.is_some() {
                dropped += self.replace_older(sub, &one);
            }
            let cost = one.cost();
            let what = Reached::from(0).rest_of(&one);
            dropped += self.push_ephemeral(Entry { sub: Some(sub), what, cost });
        }
        if dropped == 0 { Offered::Queued } else { Offered::Dropped(dropped) }
    }

    /// A later record with the same conflation key of the same author replaces what waits.
    fn replace_older(&mut self, sub: SubId, newer: &Arc<Batch>) -> u32 {
        let newer = &newer.records[0];
        let before = self.ephemeral.len();
        self.ephemeral.retain(|entry| match &entry.what {
            Outgoing::Records { batch, .. } if entry.sub == Some(sub) => {
                let older = &batch.records[0];
                older.conflate != newer.conflate || producer(older) != producer(newer)
            }
            _ => true,
        });
        self.ephemeral_bytes = self.ephemeral.iter().map(|entry| entry.cost).sum();
        (before - self.ephemeral.len()) as u32
    }

    fn push_ephemeral(&mut self, entry: Entry) -> u32 {
        self.ephemeral_bytes += entry.cost;
        self.ephemeral.push_back(entry);
        let mut dropped = 0;
        while self.ephemeral_bytes > self.bytes_max / 4 && self.ephemeral.len() > 1 {
            if let Some(oldest) = self.ephemeral.pop_front() {
                self.ephemeral_bytes -= oldest.cost;
                self.miss(&oldest);
                dropped += 1;
            }
        }
        dropped
    }

    fn miss(&mut self, entry: &Entry) {
        let (Some(sub), Some(channel)) = (entry.sub, entry.what.channel()) else { return };
        match self.missed.iter_mut().find(|missed| missed.sub == sub) {
            Some(missed) => missed.entries += 1,
            None => self.missed.push(Missed { sub, channel: channel.clone(), entries: 1 }),
        }
    }

    /// An idle session holds no buffers.
    fn give_back(&mut self) {
        self.control.shrink_to(0);
        self.durable.shrink_to(0);
        self.run.shrink_to(0);
        self.ephemeral.shrink_to(0);
        self.missed.shrink_to(0);
    }
}

/// Who a conflation key belongs to: the user; of those without one, the session.
fn producer(record: &Record) -> Option<&str> {
    let author = record.author.as_ref()?;
    Some(if author.user.is_empty() { &author.client } else { &author.user })
}

#[cfg(test)]
mod tests;
