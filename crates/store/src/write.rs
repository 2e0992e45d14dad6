//! Writing: one commit group for all channels, and what makes it durable.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use fireside_core::{Batch, ChannelName, Checkpoint, Durability, Epoch, Kind, ProposalId};

use crate::chain::{Hole, Tip};
use crate::disk::is_full;
use crate::format;
use crate::group::{EntryHead, EntryKind, HEADER, Header, stride};
use crate::index::{IndexEntry, SegmentIndex};
use crate::segment::{SEGMENT_HEADER, Segment};
use crate::store::{Committed, Entry, Outcome, Store, StoreFault, lock, write_lock};

/// Entries share a group up to this size; one that is larger has a group to itself.
const GROUP_BYTES: usize = 4 << 20;

/// Where the log ends. Held by whoever writes.
pub(crate) struct Writer {
    /// The segment that is written to; none if the next group begins a new one.
    pub active: Option<Arc<Segment>>,
    /// Where the next group begins.
    pub at: u64,
    /// Length of the active segment's file.
    pub len: u64,
    /// The sequence of the next group.
    pub next: u64,
    /// The checksum of the last header.
    pub previous: u32,
    /// The highest watermark that a header bears.
    pub marked: u64,
    /// The sequence of the last group that has entries.
    pub filled: u64,
    /// Segments that are full but not synced.
    pub unsynced: Vec<Arc<Segment>>,
    /// The group under construction: room for its header, then entries.
    pub buffer: Vec<u8>,
}

/// A group under construction.
#[derive(Default)]
struct Group {
    /// Which of the caller's entries are in it.
    members: Vec<usize>,
    /// Their places are counted from the begin of the group.
    index: Vec<IndexEntry>,
    tips: BTreeMap<ChannelName, Tip>,
    /// May use the reserve.
    privileged: bool,
    /// Where it was written.
    segment: u32,
    epoch_max: u64,
}

pub(crate) enum WriteFault {
    Full,
    Fault(StoreFault),
}

impl From<StoreFault> for WriteFault {
    fn from(fault: StoreFault) -> Self {
        WriteFault::Fault(fault)
    }
}

impl Store {
    /// Writes entries as one group (as several if they are very large), in order. Each is checked and answered for itself. Called
    /// by one thread at a time; it blocks for the write and not for a sync.
    ///
    /// # Errors
    /// The disk fails. Then nothing of the last group was written, or the store is poisoned.
    pub fn commit(&self, entries: &[Entry]) -> Result<Committed, StoreFault> {
        self.healthy()?;
        let mut writer = lock(&self.writer);
        let mut outcomes = vec![Outcome::Full; entries.len()];
        let list: Vec<usize> = (0..entries.len()).collect();
        self.run(&mut writer, entries, &list, false, &mut outcomes)?;
        Ok(Committed { sequence: writer.next - 1, outcomes })
    }

    /// Makes everything durable that was written before this call, and says up to which sequence that is. Called by one thread,
    /// while another commits.
    ///
    /// # Errors
    /// A sync failed: a second one could succeed without the data, so the store is poisoned and the process must end.
    pub fn sync(&self) -> Result<u64, StoreFault> {
        let _one = lock(&self.syncing);
        self.healthy()?;
        let (target, files, active) = {
            let writer = lock(&self.writer);
            let active = writer.active.as_ref().map(|s| s.number);
            (
                writer.next - 1,
                writer.unsynced.iter().chain(&writer.active).cloned().collect::<Vec<_>>(),
                active,
            )
        };
        if target == self.durable() {
            return Ok(target);
        }
        for segment in files {
            segment.file.sync().map_err(|fault| self.poisoned("sync", &fault))?;
        }
        self.healthy()?;
        lock(&self.writer).unsynced.retain(|s| active.is_some_and(|a| s.number >= a));
        self.durable.fetch_max(target, Ordering::AcqRel);
        Ok(target)
    }

    /// Before idling or closing, after a sync: writes down that everything is synced, if nothing says so yet, so that a later
    /// damage of the last group cannot pass for a torn tail. Itself not synced. True if it wrote.
    ///
    /// # Errors
    /// The disk fails.
    pub fn mark(&self) -> Result<bool, StoreFault> {
        self.healthy()?;
        let mut writer = lock(&self.writer);
        if writer.marked >= writer.filled || self.durable() < writer.filled {
            return Ok(false);
        }
        self.write_mark(&mut writer, false)
    }

    /// Makes sure that something durable on disk says that everything up to `sequence` is durable. False if there is no room.
    pub(crate) fn prove(&self, sequence: u64) -> Result<bool, StoreFault> {
        self.sync()?;
        {
            let mut writer = lock(&self.writer);
            if writer.marked < sequence && !self.write_mark(&mut writer, true)? {
                return Ok(false);
            }
        }
        self.sync()?;
        Ok(true)
    }

    pub(crate) fn write_mark(&self, writer: &mut Writer, privileged: bool) -> Result<bool, StoreFault> {
        let mut group = Group { privileged, ..Group::default() };
        writer.begin();
        match self.flush(writer, &mut group) {
            Ok(()) => Ok(true),
            Err(WriteFault::Full) => Ok(false),
            Err(WriteFault::Fault(fault)) => Err(fault),
        }
    }

    fn run(
        &self,
        writer: &mut Writer,
        entries: &[Entry],
        list: &[usize],
        full: bool,
        outcomes: &mut [Outcome],
    ) -> Result<(), StoreFault> {
        let mut full = full;
        let mut group = Group::default();
        writer.begin();
        for &i in list {
            let entry = &entries[i];
            if full && !is_privileged(entry) {
                outcomes[i] = Outcome::Full;
                continue;
            }
            let begin = writer.buffer.len();
            let before = group.tips.get(channel_of(entry)).copied();
            outcomes[i] = self.add(writer, &mut group, entry, i)?;
            if begin > HEADER && writer.buffer.len() > begin.max(GROUP_BYTES.min(self.entry_max())) {
                // It goes into the next group, where it is checked again after what went before.
                writer.buffer.truncate(begin);
                group.members.pop();
                group.index.pop();
                match before {
                    Some(tip) => group.tips.insert(channel_of(entry).clone(), tip),
                    None => group.tips.remove(channel_of(entry)),
                };
                full |= self.settle(writer, entries, &mut group, full, outcomes)?;
                if full && !is_privileged(entry) {
                    outcomes[i] = Outcome::Full;
                    continue;
                }
                outcomes[i] = self.add(writer, &mut group, entry, i)?;
            }
        }
        self.settle(writer, entries, &mut group, full, outcomes)?;
        Ok(())
    }

    /// Writes the group and begins the next. True if the disk is full; then what may use the reserve was tried once more.
    fn settle(
        &self,
        writer: &mut Writer,
        entries: &[Entry],
        group: &mut Group,
        full: bool,
        outcomes: &mut [Outcome],
    ) -> Result<bool, StoreFault> {
        let mut done = std::mem::take(group);
        if done.members.is_empty() {
            writer.begin();
            return Ok(full);
        }
        done.privileged = full;
        let written = self.flush(writer, &mut done);
        writer.begin();
        match written {
            Ok(()) => {
                self.settled(entries, &done);
                Ok(full)
            }
            Err(WriteFault::Fault(fault)) => Err(fault),
            Err(WriteFault::Full) => {
                done.members.iter().for_each(|i| outcomes[*i] = Outcome::Full);
                if !full {
                    let again: Vec<usize> =
                        done.members.iter().copied().filter(|i| is_privileged(&entries[*i])).collect();
                    self.run(writer, entries, &again, true, outcomes)?;
                }
                Ok(true)
            }
        }
    }

    /// What a written group changes in memory.
    fn settled(&self, entries: &[Entry], group: &Group) {
        let mut state = lock(&self.state);
        for (channel, tip) in &group.tips {
            state.meta.saw(tip.epoch);
            let state = &mut *state;
            if let Some(summary) = state.awake.get_mut(channel) {
                if !tip.exists {
                    state.trimmed += (summary.tip.newest + 1).saturating_sub(summary.oldest);
                }
                summary.tip = *tip;
            } else if let Some((_, touched)) = state.loading.get_mut(channel) {
                *touched = true;
            }
        }
        for (i, at) in group.members.iter().zip(&group.index) {
            let state = &mut *state;
            match &entries[*i] {
                Entry::Batch { batch, .. } => {
                    lock(&self.cache).put(crate::cache::key(group.segment, at.place), batch);
                }
                Entry::Checkpoint { channel, checkpoint, .. } => {
                    // The checkpoint before it died, and whatever it trimmed.
                    state.trimmed += 1;
                    if let Some(summary) = state.awake.get_mut(channel) {
                        let oldest = checkpoint.oldest.max(1);
                        let durable = self.durable();
                        state.trimmed += oldest.saturating_sub(summary.oldest_at(u64::MAX));
                        summary.trim(at.order.0, oldest, durable);
                        summary.erased.retain(|o| *o >= summary.oldest);
                    }
                }
                Entry::Erase { channel, offset, .. } => {
                    if let Some(summary) = state.awake.get_mut(channel) {
                        summary.erased.push(*offset);
                    }
                }
                Entry::Forget { channel, .. } => {
                    state.trimmed += 2;
                    if at.last == 1 {
                        state.meta.forgot(at.id.bucket(), Epoch(at.first));
                        state.meta_dirty = true;
                    }
                    if let Some(summary) = state.awake.get_mut(channel) {
                        (summary.since, summary.oldest, summary.trimming) = (at.order, 1, None);
                        summary.erased.clear();
                    }
                }
            }
        }
    }

    /// Checks one entry against where its channel ends and adds it to the group.
    fn add(
        &self,
        writer: &mut Writer,
        group: &mut Group,
        entry: &Entry,
        i: usize,
    ) -> Result<Outcome, StoreFault> {
        let channel = channel_of(entry);
        let degree = degree_of(entry);
        let tip = match group.tips.get(channel) {
            Some(tip) => *tip,
            None => match self.tip(channel, degree)? {
                Some(tip) => tip,
                None => return Ok(Outcome::Conflict),
            },
        };
        let order = (writer.next, group.index.len() as u32);
        let head = |kind, epoch, first, last| EntryHead {
            kind,
            degree,
            copy: false,
            order,
            epoch,
            first,
            last,
            body_len: 0,
            body_crc: 0,
            channel: channel.clone(),
        };
        let (head, body, next) = match entry {
            Entry::Batch { batch, .. } => {
                if !self.admits(&tip, batch, degree) {
                    return Ok(Outcome::Conflict);
                }
                let mut body = Vec::with_capacity(batch.cost() + 64);
                format::encode_batch(batch, &mut body);
                let next = Tip {
                    exists: true,
                    epoch: batch.epoch,
                    newest: batch.last(),
                    proposal: batch.proposal,
                    ..tip
                };
                (head(EntryKind::Batch, batch.epoch, batch.first(), batch.last()), body, next)
            }
            Entry::Checkpoint { checkpoint, .. } => {
                if !self.agrees(&tip, checkpoint, channel, degree) {
                    return Ok(Outcome::Conflict);
                }
                let mut body = Vec::new();
                format::encode_checkpoint(checkpoint, &mut body);
                let next = if tip.exists {
                    tip
                } else {
                    Tip { exists: true, epoch: checkpoint.epoch, newest: 0, proposal: ProposalId(0), ..tip }
                };
                (
                    head(EntryKind::Checkpoint, checkpoint.epoch, checkpoint.oldest, checkpoint.newest),
                    body,
                    next,
                )
            }
            Entry::Erase { epoch, offset, .. } => {
                if !tip.exists || tip.epoch != *epoch || *offset == 0 || *offset > tip.newest {
                    return Ok(Outcome::Conflict);
                }
                (head(EntryKind::Erase, *epoch, *offset, *offset), Vec::new(), tip)
            }
            Entry::Forget { .. } => {
                if !tip.exists {
                    return Ok(Outcome::Accepted);
                }
                // The ids of runs are never used again, so forgetting a run's log need not move a generation.
                let moves = u64::from(channel.run().is_none());
                let next = Tip { forgot: tip.epoch, ..Tip::default() };
                (head(EntryKind::Forget, tip.epoch, tip.epoch.0, moves), Vec::new(), next)
            }
        };
        if head.size() + body.len() > self.entry_max() {
            return Ok(Outcome::TooLarge);
        }
        self.push(writer, group, head, &body);
        group.members.push(i);
        group.tips.insert(channel.clone(), next);
        Ok(Outcome::Accepted)
    }

    fn push(&self, writer: &mut Writer, group: &mut Group, mut head: EntryHead, body: &[u8]) {
        head.body_len = body.len() as u32;
        head.body_crc = crc32c::crc32c(body);
        group.epoch_max = group.epoch_max.max(head.epoch.0);
        let place = writer.buffer.len() as u32;
        head.encode(body, &mut writer.buffer);
        group.index.push(IndexEntry::of(&head, self.id(&head.channel), place));
    }

    /// The largest entry, head included.
    fn entry_max(&self) -> usize {
        (self.options.segment_bytes - SEGMENT_HEADER - HEADER as u64 - 8) as usize
    }

    /// Where a channel ends, written or not yet durable. `None` if it has damage that the next wake must settle first.
    fn tip(&self, channel: &ChannelName, degree: Durability) -> Result<Option<Tip>, StoreFault> {
        if let Some(summary) = lock(&self.state).awake.get(channel) {
            return Ok(Some(summary.tip));
        }
        let loaded = self.load(channel, degree, u64::MAX)?;
        Ok(loaded.hole.is_none().then_some(loaded.summary.tip))
    }

    fn admits(&self, tip: &Tip, batch: &Batch, degree: Durability) -> bool {
        let dense = batch.records.iter().zip(batch.first()..).all(|(r, offset)| r.offset == offset);
        if !dense || batch.first() == 0 {
            return false;
        }
        if tip.exists {
            return batch.epoch == tip.epoch
                && batch.first() == tip.newest + 1
                && batch.previous == tip.proposal;
        }
        batch.first() == 1
            && batch.previous == ProposalId(0)
            && self.may_begin(tip, batch.epoch, &batch.channel, degree)
    }

    fn agrees(&self, tip: &Tip, checkpoint: &Checkpoint, channel: &ChannelName, degree: Durability) -> bool {
        if tip.exists {
            let newest = checkpoint.newest <= tip.newest
                && (checkpoint.newest < tip.newest || checkpoint.proposal == tip.proposal);
            return checkpoint.epoch == tip.epoch && newest && checkpoint.oldest <= checkpoint.newest + 1;
        }
        checkpoint.newest == 0 && self.may_begin(tip, checkpoint.epoch, channel, degree)
    }

    /// An awake channel keeps the generation that it answered with, though its bucket's may have moved since.
    fn may_begin(&self, tip: &Tip, epoch: Epoch, channel: &ChannelName, degree: Durability) -> bool {
        let state = lock(&self.state);
        let bucket = self.id(channel).bucket();
        epoch > tip.forgot
            && epoch >= state.meta.floor(degree)
            && epoch <= state.meta.generation(degree, bucket)
    }

    /// Writes down that records are lost and that the channel is in a new epoch. If there is no room for that, it will be found
    /// again, with the same epoch.
    pub(crate) fn note_hole(
        &self,
        channel: &ChannelName,
        degree: Durability,
        hole: Hole,
    ) -> Result<(), StoreFault> {
        let mut writer = lock(&self.writer);
        let mut group = Group { privileged: true, ..Group::default() };
        writer.begin();
        let head = EntryHead {
            kind: EntryKind::Hole,
            degree,
            copy: false,
            order: (writer.next, 0),
            epoch: hole.epoch,
            first: hole.first,
            last: hole.last,
            body_len: 0,
            body_crc: 0,
            channel: channel.clone(),
        };
        self.push(&mut writer, &mut group, head, &[]);
        let written = self.flush(&mut writer, &mut group);
        writer.begin();
        let mut state = lock(&self.state);
        state.meta.saw(hole.epoch);
        state.awake.remove(channel);
        match written {
            Ok(()) | Err(WriteFault::Full) => Ok(()),
            Err(WriteFault::Fault(fault)) => Err(fault),
        }
    }

    /// Writes entries of a segment that is to be given back again, as they were decided. False if there is no room.
    pub(crate) fn copy(&self, entries: &[(EntryHead, Vec<u8>)]) -> Result<bool, StoreFault> {
        self.healthy()?;
        let mut writer = lock(&self.writer);
        let mut group = Group { privileged: true, ..Group::default() };
        writer.begin();
        for (head, body) in entries {
            let copy = EntryHead { copy: true, ..head.clone() };
            self.push(&mut writer, &mut group, copy, body);
        }
        let written = self.flush(&mut writer, &mut group);
        writer.begin();
        match written {
            Ok(()) => Ok(true),
            Err(WriteFault::Full) => Ok(false),
            Err(WriteFault::Fault(fault)) => Err(fault),
        }
    }

    /// Writes the buffer as the next group.
    fn flush(&self, writer: &mut Writer, group: &mut Group) -> Result<(), WriteFault> {
        let length = (writer.buffer.len() - HEADER) as u32;
        let total = stride(length);
        if writer.active.is_none() || writer.at + total > writer.len {
            self.roll(writer, group.privileged)?;
        }
        let Some(segment) = writer.active.clone() else { return Err(WriteFault::Full) };
        group.segment = segment.number;
        let synced = self.durable();
        let header = Header {
            length,
            entries: group.index.len() as u32,
            life: self.life,
            segment: segment.number,
            sequence: writer.next,
            previous: writer.previous,
            synced,
            body_crc: crc32c::crc32c(&writer.buffer[HEADER..]),
        };
        let (bytes, crc) = header.encode();
        writer.buffer[..HEADER].copy_from_slice(&bytes);
        if let Err(fault) = segment.file.write_at(&writer.buffer, writer.at) {
            return Err(self.unwrite(&segment, writer.at, writer.buffer.len(), &fault));
        }
        {
            let mut index = write_lock(&segment.index);
            let SegmentIndex::Open(open) = &mut *index else {
                return Err(self.poisoned("write", &io::Error::other("the active segment is sealed")).into());
            };
            for entry in &mut group.index {
                entry.place += writer.at as u32;
                open.push(*entry);
            }
            open.group(writer.next, crc, writer.at + total, group.epoch_max);
        }
        let mut state = lock(&self.state);
        for entry in &group.index {
            state.slots.add(entry.id.slot, segment.number);
        }
        drop(state);
        if !group.index.is_empty() {
            writer.filled = writer.next;
        }
        self.written.store(writer.next, Ordering::Release);
        writer.marked = writer.marked.max(synced);
        writer.next += 1;
        writer.previous = crc;
        writer.at += total;
        Ok(())
    }

    /// After a failed write nobody knows what is there. A later open must not find what was refused now, nor a check its rest behind
    /// a shorter group that took its place: all of it is wiped, durably, or nothing more is written at all.
    fn unwrite(&self, segment: &Segment, at: u64, bytes: usize, fault: &io::Error) -> WriteFault {
        let wiped = segment.file.write_at(&vec![0; bytes], at).and_then(|()| segment.file.sync());
        match wiped {
            Err(second) => self.poisoned("write", &second).into(),
            Ok(()) if is_full(fault) => WriteFault::Full,
            Ok(()) => StoreFault::at("write", fault).into(),
        }
    }
}

impl Writer {
    fn begin(&mut self) {
        self.buffer.clear();
        self.buffer.resize(HEADER, 0);
        // Large allocations after a burst are given back.
        self.buffer.shrink_to(GROUP_BYTES);
    }
}

/// What may use the reserve, because it frees space or must not fail.
fn is_privileged(entry: &Entry) -> bool {
    match entry {
        Entry::Batch { batch, .. } => batch.records.iter().any(|r| r.kind == Kind::RunEnd),
        Entry::Checkpoint { .. } | Entry::Erase { .. } | Entry::Forget { .. } => true,
    }
}

fn channel_of(entry: &Entry) -> &ChannelName {
    match entry {
        Entry::Batch { batch, .. } => &batch.channel,
        Entry::Checkpoint { channel, .. } | Entry::Erase { channel, .. } | Entry::Forget { channel, .. } => {
            channel
        }
    }
}

fn degree_of(entry: &Entry) -> Durability {
    match entry {
        Entry::Batch { degree, .. }
        | Entry::Checkpoint { degree, .. }
        | Entry::Erase { degree, .. }
        | Entry::Forget { degree, .. } => *degree,
    }
}
