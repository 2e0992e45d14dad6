//! A channel out of its entries: the last checkpoint, what follows it, and what is missing.

use std::sync::Arc;

use bytes::Bytes;
use fireside_core::{Batch, ChannelName, Checkpoint, Durability, Epoch, KnownKey, ProposalId};

use crate::disk::read_exact;
use crate::format;
use crate::group::{EntryHead, EntryKind, Order};
use crate::hash::Id;
use crate::index::{Ask, IndexEntry};
use crate::segment::Segment;
use crate::store::{Store, StoreFault, lock, read_lock};

/// Where a channel's log ends, by which appends are admitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tip {
    /// True if it has a checkpoint or a record.
    pub exists: bool,
    /// Its epoch.
    pub epoch: Epoch,
    /// Its newest offset.
    pub newest: u64,
    /// Who wrote it.
    pub proposal: ProposalId,
    /// The epoch that was forgotten last, as far as that is known.
    pub forgot: Epoch,
}

/// What is kept in memory of an awake channel.
#[derive(Clone, Debug, Default)]
pub(crate) struct Summary {
    pub tip: Tip,
    /// Only later entries count.
    pub since: Order,
    /// Oldest offset that the store answers for.
    pub oldest: u64,
    /// Once this sequence is durable, an oldest offset that a checkpoint trimmed to.
    pub trimming: Option<(u64, u64)>,
    /// Erased offsets.
    pub erased: Vec<u64>,
}

impl Summary {
    /// Oldest offset that the store answers for while everything up to `durable` is.
    pub fn oldest_at(&self, durable: u64) -> u64 {
        match self.trimming {
            Some((sequence, oldest)) if sequence <= durable => oldest.max(self.oldest),
            _ => self.oldest,
        }
    }

    /// A checkpoint of `sequence` trims to `oldest`.
    pub fn trim(&mut self, sequence: u64, oldest: u64, durable: u64) {
        self.oldest = self.oldest_at(durable);
        self.trimming = Some((sequence, oldest));
    }
}

/// A channel as it stands on disk.
pub(crate) struct Loaded {
    pub summary: Summary,
    pub checkpoint: Option<Checkpoint>,
    pub tail: Vec<Arc<Batch>>,
    /// The sequence of the latest entry that was looked at.
    pub latest: u64,
    /// Records that should be there and are not, and that no entry says so yet.
    pub hole: Option<Hole>,
}

/// Lost records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hole {
    pub first: u64,
    pub last: u64,
    /// The channel's epoch from now on.
    pub epoch: Epoch,
}

/// Why an entry cannot be had.
pub(crate) enum EntryFault {
    /// It is not what was written.
    Damaged,
    /// The disk failed.
    Disk(std::io::Error),
}

/// An entry and where it is.
#[derive(Clone)]
pub(crate) struct Located {
    pub segment: Arc<Segment>,
    pub entry: IndexEntry,
}

impl Store {
    /// The segments that contain something of a channel.
    pub(crate) fn segments_of(&self, id: Id) -> Vec<Arc<Segment>> {
        let state = lock(&self.state);
        state.slots.get(id.slot).iter().filter_map(|n| state.segments.get(n).cloned()).collect()
    }

    /// What is not a batch, in the order of its decision, copies once.
    pub(crate) fn controls(&self, segments: &[Arc<Segment>], id: Id) -> Result<Vec<Located>, StoreFault> {
        let mut found = Vec::new();
        let mut entries = Vec::new();
        for segment in segments {
            entries.clear();
            read_lock(&segment.index).controls(id, &mut entries).map_err(StoreFault::reading)?;
            found.extend(entries.iter().map(|e| Located { segment: segment.clone(), entry: *e }));
        }
        found.sort_by_key(|l| l.entry.order);
        found.dedup_by_key(|l| l.entry.order);
        Ok(found)
    }

    /// The batches that are asked for, in the order of their decision, copies once; complete up to `ask.max`.
    pub(crate) fn batches(
        &self,
        segments: &[Arc<Segment>],
        id: Id,
        ask: Ask,
    ) -> Result<Vec<Located>, StoreFault> {
        let mut found = Vec::new();
        for segment in segments {
            let entries = read_lock(&segment.index).batches(id, ask).map_err(StoreFault::reading)?;
            found.extend(entries.into_iter().map(|entry| Located { segment: segment.clone(), entry }));
        }
        found.sort_by_key(|l| l.entry.order);
        found.dedup_by_key(|l| l.entry.order);
        found.truncate(ask.max);
        Ok(found)
    }

    /// Reads an entry and proves that it is the one that the index means.
    pub(crate) fn entry(&self, at: &Located) -> Result<(EntryHead, Bytes), EntryFault> {
        let bytes = match read_exact(&*at.segment.file, u64::from(at.entry.place), at.entry.len as usize) {
            Ok(bytes) => bytes,
            Err(fault) if fault.kind() == std::io::ErrorKind::UnexpectedEof => {
                return Err(EntryFault::Damaged);
            }
            Err(fault) => return Err(EntryFault::Disk(fault)),
        };
        let head = EntryHead::decode(&bytes).map_err(|_| EntryFault::Damaged)?;
        let body = Bytes::from(bytes).slice(head.size()..);
        let right = head.order == at.entry.order
            && head.kind == at.entry.kind
            && self.id(&head.channel) == at.entry.id
            && body.len() == head.body_len as usize
            && crc32c::crc32c(&body) == head.body_crc;
        if right { Ok((head, body)) } else { Err(EntryFault::Damaged) }
    }

    /// Reads a batch, through the cache.
    pub(crate) fn batch(&self, channel: &ChannelName, at: &Located) -> Result<Arc<Batch>, EntryFault> {
        let key = crate::cache::key(at.segment.number, at.entry.place);
        if let Some(batch) = lock(&self.cache).get(key).filter(|b| b.channel == *channel) {
            return Ok(batch);
        }
        let (head, body) = self.entry(at)?;
        if head.channel != *channel {
            return Err(EntryFault::Damaged);
        }
        let batch = format::decode_batch(channel, head.epoch, head.first, head.last, body)
            .map_err(|_| EntryFault::Damaged)?;
        lock(&self.cache).put(key, &batch);
        Ok(batch)
    }

    /// Puts a channel together from what was decided up to sequence `limit`.
    pub(crate) fn load(
        &self,
        channel: &ChannelName,
        degree: Durability,
        limit: u64,
    ) -> Result<Loaded, StoreFault> {
        let id = self.id(channel);
        let segments = self.segments_of(id);
        let mut controls = self.controls(&segments, id)?;
        // What is lost is lost, whether the note of it is durable yet or not.
        controls.retain(|l| l.entry.order.0 <= limit || l.entry.kind == EntryKind::Hole);
        let mut fold = Fold::begin(&controls);
        for at in controls.iter().rev().filter(|l| l.entry.order > fold.summary.since) {
            if at.entry.kind != EntryKind::Checkpoint {
                continue;
            }
            match self.entry(at) {
                Ok((head, body)) if head.channel == *channel => {
                    if let Ok(checkpoint) = format::decode_checkpoint(body) {
                        fold.checkpoint(checkpoint, at.entry.order);
                        break;
                    }
                }
                Err(EntryFault::Disk(fault)) => return Err(StoreFault::reading(fault)),
                // An older one with a longer tail says the same, if all of that is there; if not, the fold finds the gap.
                Ok(_) | Err(EntryFault::Damaged) => {}
            }
        }
        self.holes(&controls, &mut fold)?;
        let ask = Ask {
            later_than: fold.summary.since,
            after: fold.summary.tip.newest,
            until: u64::MAX,
            max: usize::MAX,
        };
        for at in self.batches(&segments, id, ask)?.iter().filter(|l| l.entry.order.0 <= limit) {
            match self.batch(channel, at) {
                Ok(batch) => fold.batch(batch, at.entry.order),
                Err(EntryFault::Damaged) => fold.gap(at.entry.first, at.entry.last),
                Err(EntryFault::Disk(fault)) => return Err(StoreFault::reading(fault)),
            }
        }
        let floor = lock(&self.state).meta.floor(degree);
        Ok(fold.end(floor))
    }

    fn holes(&self, controls: &[Located], fold: &mut Fold) -> Result<(), StoreFault> {
        let since = fold.summary.since;
        for at in controls.iter().filter(|l| l.entry.kind == EntryKind::Hole && l.entry.order > since) {
            match self.entry(at) {
                Ok((head, _)) => fold.hole(&head),
                Err(EntryFault::Damaged) => fold.gap(at.entry.first, at.entry.last),
                Err(EntryFault::Disk(fault)) => return Err(StoreFault::reading(fault)),
            }
        }
        Ok(())
    }
}

/// A channel under construction.
struct Fold {
    summary: Summary,
    base: Option<Checkpoint>,
    base_order: Order,
    tail: Vec<Arc<Batch>>,
    latest: u64,
    missing: Option<(u64, u64)>,
}

impl Fold {
    fn begin(controls: &[Located]) -> Fold {
        let mut summary = Summary { oldest: 1, ..Summary::default() };
        for l in controls.iter().filter(|l| l.entry.kind == EntryKind::Forget) {
            summary.since = l.entry.order;
            summary.tip.forgot = Epoch(l.entry.first);
        }
        let erased = controls.iter().filter(|l| l.entry.kind == EntryKind::Erase);
        summary.erased = erased.filter(|l| l.entry.order > summary.since).map(|l| l.entry.first).collect();
        let latest = controls.iter().map(|l| l.entry.order.0).max().unwrap_or(0);
        Fold { summary, base: None, base_order: (0, 0), tail: Vec::new(), latest, missing: None }
    }

    fn checkpoint(&mut self, checkpoint: Checkpoint, order: Order) {
        self.base_order = order;
        self.summary.oldest = checkpoint.oldest.max(1);
        let tip = &mut self.summary.tip;
        (tip.exists, tip.epoch) = (true, checkpoint.epoch);
        (tip.newest, tip.proposal) = (checkpoint.newest, checkpoint.proposal);
        self.base = Some(checkpoint);
    }

    /// A loss that an entry tells of. One that the checkpoint already knows of changes nothing.
    fn hole(&mut self, head: &EntryHead) {
        if head.order > self.base_order {
            self.lose(head.first, head.last);
            let epoch = self.summary.tip.epoch.max(head.epoch);
            self.set_epoch(epoch);
        }
    }

    /// A loss that is only noticed now.
    fn gap(&mut self, first: u64, last: u64) {
        if last < self.summary.oldest {
            return;
        }
        let known = self.missing.unwrap_or((first, last));
        self.missing = Some((known.0.min(first), known.1.max(last)));
        self.lose(first, last);
    }

    /// The channel is readable after `last`; what it knows beyond its records, it keeps, except keys of what is lost.
    fn lose(&mut self, first: u64, last: u64) {
        let mut base = self
            .base
            .take()
            .unwrap_or_else(|| Checkpoint { epoch: self.summary.tip.epoch, ..Checkpoint::default() });
        for batch in self.tail.drain(..) {
            base.time_ms = base.time_ms.max(batch.records[batch.records.len() - 1].time_ms);
            base.newest = batch.last();
            base.proposal = batch.proposal;
            base.keys.extend(batch.records.iter().filter_map(|r| {
                let mark = r.key?;
                Some(KnownKey {
                    id: mark.id,
                    body: mark.body,
                    offset: r.offset,
                    time_ms: r.time_ms,
                    run: None,
                })
            }));
        }
        base.keys.retain(|k| k.offset < first || k.offset > last);
        base.marks.retain(|m| m.offset > last);
        base.oldest = base.oldest.max(last + 1);
        if base.newest <= last {
            (base.newest, base.proposal, base.bytes) = (last, ProposalId(0), 0);
        }
        self.summary.oldest = base.oldest;
        let tip = &mut self.summary.tip;
        (tip.exists, tip.newest, tip.proposal) = (true, base.newest, base.proposal);
        self.base = Some(base);
    }

    fn batch(&mut self, batch: Arc<Batch>, order: Order) {
        let tip = self.summary.tip;
        if batch.first() <= tip.newest && batch.first() == 1 && batch.epoch > tip.epoch {
            // The note that the channel was forgotten is lost, but this can only be its next life.
            self.summary = Summary { since: self.summary.since, oldest: 1, ..Summary::default() };
            (self.base, self.missing) = (None, None);
            self.tail.clear();
        } else if batch.last() <= tip.newest {
            return;
        } else if batch.first() > tip.newest + 1 {
            self.gap(tip.newest + 1, batch.first() - 1);
            // What follows a hole tells who wrote the last lost record.
            if let Some(base) = &mut self.base {
                base.proposal = batch.previous;
            }
        }
        let epoch = self.summary.tip.epoch.max(batch.epoch);
        self.set_epoch(epoch);
        let tip = &mut self.summary.tip;
        (tip.exists, tip.newest, tip.proposal) = (true, batch.last(), batch.proposal);
        self.latest = self.latest.max(order.0);
        self.tail.push(batch);
    }

    fn set_epoch(&mut self, epoch: Epoch) {
        self.summary.tip.epoch = epoch;
        if let Some(base) = &mut self.base {
            base.epoch = epoch;
        }
    }

    fn end(mut self, floor: Epoch) -> Loaded {
        let stored = self.summary.tip.epoch;
        let mut hole = None;
        if self.summary.tip.exists {
            let mut epoch = stored.max(floor);
            if let Some((first, last)) = self.missing {
                epoch = epoch.max(Epoch(stored.0 + 1));
                hole = Some(Hole { first, last, epoch });
            }
            self.set_epoch(epoch);
        }
        let oldest = self.summary.oldest;
        self.summary.erased.retain(|offset| *offset >= oldest);
        let (epoch, erased) = (self.summary.tip.epoch, &self.summary.erased);
        let tail = self.tail.iter().map(|b| format::shown(b, epoch, erased)).collect();
        Loaded { tail, checkpoint: self.base, summary: self.summary, latest: self.latest, hole }
    }
}
