//! Maintenance in bounded steps: spare segments, indexes of what is full, and giving back what is dead.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use fireside_core::ChannelName;

use crate::chain::{EntryFault, Located};
use crate::disk::is_full;
use crate::format;
use crate::group::{EntryHead, EntryKind, Order};
use crate::hash::Id;
use crate::index::{Ask, IndexEntry, IndexFile, SegmentIndex, write_index};
use crate::purge::Purge;
use crate::segment::{Scan, Segment, index_name, segment_name};
use crate::store::{Store, StoreFault, lock, read_lock, write_lock};

/// Channels that one step looks at.
const CHANNELS: usize = 4096;

/// What one step of maintenance did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Maintained {
    /// Nothing; nothing more can be done now.
    Idle,
    /// A segment was made in advance.
    Spare,
    /// A full segment got its index file.
    Sealed {
        /// Which.
        segment: u32,
    },
    /// A part of a segment was looked at.
    Examined {
        /// Which.
        segment: u32,
    },
    /// Something alive was copied forward out of a segment.
    Copied {
        /// Which.
        segment: u32,
        /// How much.
        bytes: usize,
    },
    /// A segment was given back.
    GivenBack {
        /// Which.
        segment: u32,
    },
}

/// Where maintenance stands.
#[derive(Default)]
pub(crate) struct Maintenance {
    pub job: Option<Job>,
    /// For each segment: how much had been trimmed when it was last examined, and how many entries were alive.
    examined: BTreeMap<u32, (u64, u64)>,
    /// What was decided after this sequence stays where it is; `None` if nobody follows.
    kept_after: Option<u64>,
    pub purge: Purge,
}

impl Maintenance {
    /// See [`Store::passed`]. A segment that is being emptied but must stay now is examined again later.
    pub fn keep_after(&mut self, sequence: u64) {
        self.kept_after = Some(sequence);
        self.job = self.job.take().filter(|job| self.may_go(&job.segment));
    }

    pub fn may_go(&self, segment: &Segment) -> bool {
        self.kept_after.is_none_or(|kept| read_lock(&segment.index).seal().last_sequence <= kept)
    }
}

/// One segment under examination, then perhaps being emptied.
pub(crate) struct Job {
    pub segment: Arc<Segment>,
    began: u64,
    /// Sorted by channel; what is left to look at.
    left: Vec<IndexEntry>,
    alive: Vec<Alive>,
    total: u64,
    /// It is looked at for a purge, and something dead was found in it.
    purging: bool,
    dirty: bool,
}

struct Alive {
    entry: IndexEntry,
    erased: Vec<u64>,
}

impl Store {
    /// One bounded step of maintenance. Called by one thread at a time, again at once as long as it is not idle; it may sync.
    ///
    /// # Errors
    /// The disk fails. A full disk is no error.
    pub fn maintain(&self) -> Result<Maintained, StoreFault> {
        let mut maintenance = lock(&self.maintenance);
        self.healthy()?;
        if self.prepare_spare()? {
            return Ok(Maintained::Spare);
        }
        if let Some(segment) = self.seal_one()? {
            return Ok(Maintained::Sealed { segment });
        }
        if maintenance.job.is_none() {
            maintenance.job = match self.next_to_purge(&mut maintenance) {
                Some(segment) => Some(self.job(segment, true)?),
                None => self.next_job(&maintenance)?,
            };
        }
        let Some(mut job) = maintenance.job.take() else {
            self.give_up_purging(&mut maintenance);
            return Ok(Maintained::Idle);
        };
        let segment = job.segment.number;
        if !job.left.is_empty() {
            self.examine(&mut job)?;
            if job.left.is_empty() && !self.worth(&job) {
                maintenance.examined.insert(segment, (job.began, job.alive.len() as u64));
                if job.purging {
                    maintenance.purge.done(segment, false);
                }
            } else {
                maintenance.job = Some(job);
            }
            return Ok(Maintained::Examined { segment });
        }
        if !job.alive.is_empty() {
            return match self.copy_some(&mut job)? {
                Some(bytes) => {
                    maintenance.job = Some(job);
                    Ok(Maintained::Copied { segment, bytes })
                }
                None => {
                    // No room for copies, or something in it is damaged: it stays as it is.
                    maintenance.examined.insert(segment, (job.began, job.total));
                    maintenance.purge.done(segment, job.purging);
                    Ok(Maintained::Examined { segment })
                }
            };
        }
        if !self.give_back(&job)? {
            maintenance.examined.insert(segment, (job.began, 0));
            maintenance.purge.done(segment, job.purging);
            return Ok(Maintained::Examined { segment });
        }
        maintenance.examined.remove(&segment);
        maintenance.purge.done(segment, false);
        Ok(Maintained::GivenBack { segment })
    }

    /// Writes the index of a segment that is full and synced.
    fn seal_one(&self) -> Result<Option<u32>, StoreFault> {
        let busy: Vec<u32> = {
            let writer = lock(&self.writer);
            writer.unsynced.iter().chain(&writer.active).map(|s| s.number).collect()
        };
        let candidate = lock(&self.state)
            .segments
            .values()
            .find(|s| !busy.contains(&s.number) && matches!(&*read_lock(&s.index), SegmentIndex::Open(_)))
            .cloned();
        let Some(segment) = candidate else { return Ok(None) };
        Ok(self.seal(&segment)?.then_some(segment.number))
    }

    /// Writes the index of a segment that nobody writes to. False if it has one, or if there is no room.
    pub(crate) fn seal(&self, segment: &Segment) -> Result<bool, StoreFault> {
        let (entries, seal) = match &*read_lock(&segment.index) {
            SegmentIndex::Open(index) => (index.entries().to_vec(), index.seal),
            SegmentIndex::Sealed(_) => return Ok(false),
        };
        let scan = Scan::read(&*segment.file, segment.number).map_err(StoreFault::reading)?;
        let mut names: BTreeMap<Id, ChannelName> = BTreeMap::new();
        for entry in &entries {
            if let Some(bytes) = scan.content.get(entry.place as usize..)
                && let Ok(head) = EntryHead::decode(bytes)
            {
                names.entry(entry.id).or_insert(head.channel);
            }
        }
        let content = IndexFile { entries, names: names.into_iter().collect(), seal };
        match write_index(&*self.disk, segment.number, content) {
            Ok(sealed) => {
                *write_lock(&segment.index) = SegmentIndex::Sealed(sealed);
                Ok(true)
            }
            Err(fault) if is_full(&fault) => Ok(false),
            Err(fault) => Err(StoreFault::at("sealing a segment", &fault)),
        }
    }

    /// The segment of which most may have died since it was last examined.
    fn next_job(&self, maintenance: &Maintenance) -> Result<Option<Job>, StoreFault> {
        let examined = &maintenance.examined;
        let segment = {
            let state = lock(&self.state);
            // The last segment stays: it alone says which sequence is next. And it must have proven itself.
            let Some(last) = state.segments.values().next_back() else { return Ok(None) };
            if self.durable() < read_lock(&last.index).seal().first_sequence {
                return Ok(None);
            }
            let sealed = state.segments.values().filter(|s| {
                s.number != last.number
                    && matches!(&*read_lock(&s.index), SegmentIndex::Sealed(_))
                    && maintenance.may_go(s)
            });
            let due = sealed.filter(|s| match examined.get(&s.number) {
                None => true,
                Some((then, alive)) => {
                    let since = state.trimmed - then;
                    since > if state.full { 0 } else { alive / 4 }
                }
            });
            let since = |s: &Arc<Segment>| examined.get(&s.number).map_or(u64::MAX, |e| state.trimmed - e.0);
            // The oldest of those that are equally promising.
            let Some(segment) = due.max_by_key(|s| (since(s), u32::MAX - s.number)) else { return Ok(None) };
            segment.clone()
        };
        Ok(Some(self.job(segment, false)?))
    }

    fn job(&self, segment: Arc<Segment>, purging: bool) -> Result<Job, StoreFault> {
        let began = lock(&self.state).trimmed;
        let mut left = read_lock(&segment.index).all().map_err(StoreFault::reading)?;
        left.sort_unstable_by_key(|e| (e.id, e.order));
        let total = left.len() as u64;
        Ok(Job { segment, began, left, alive: Vec::new(), total, purging, dirty: false })
    }

    fn examine(&self, job: &mut Job) -> Result<(), StoreFault> {
        for _ in 0..CHANNELS {
            let Some(last) = job.left.last() else { break };
            let id = last.id;
            let from = job.left.partition_point(|e| e.id < id);
            let mine = job.left.split_off(from);
            self.judge(id, &mine, job)?;
        }
        Ok(())
    }

    /// Which of a channel's entries in this segment are alive.
    fn judge(&self, id: Id, mine: &[IndexEntry], job: &mut Job) -> Result<(), StoreFault> {
        let segments = self.segments_of(id);
        let controls = self.controls(&segments, id)?;
        let last = |kind| controls.iter().rev().find(move |l| l.entry.kind == kind).map(|l| l.entry);
        let forget = last(EntryKind::Forget).map_or((0, 0), |e| e.order);
        let checkpoint = last(EntryKind::Checkpoint).filter(|e| e.order > forget);
        let oldest = checkpoint.map_or(0, |e| e.first);
        let erased: Vec<u64> = controls
            .iter()
            .filter(|l| l.entry.kind == EntryKind::Erase && l.entry.order > forget)
            .map(|l| l.entry.first)
            .collect();
        for entry in mine {
            let later = entry.order > forget;
            let alive = match entry.kind {
                EntryKind::Batch => later && entry.last >= oldest,
                EntryKind::Checkpoint => checkpoint.is_some_and(|c| c.order == entry.order),
                EntryKind::Erase => later && entry.first >= oldest,
                EntryKind::Hole => later && checkpoint.is_none_or(|c| c.order < entry.order),
                EntryKind::Forget => {
                    entry.order == forget
                        && self.older_elsewhere(id, &segments, job.segment.number, forget)?
                }
            };
            if !alive {
                job.dirty |= entry.kind == EntryKind::Batch;
            } else {
                let within =
                    |o: &u64| entry.kind == EntryKind::Batch && (entry.first..=entry.last).contains(o);
                let erased: Vec<u64> = erased.iter().copied().filter(within).collect();
                job.dirty |= job.purging && !job.dirty && self.bears_erased(job, entry, &erased)?;
                job.alive.push(Alive { entry: *entry, erased });
            }
        }
        Ok(())
    }

    /// A note that a channel was forgotten must live as long as anything that it forgets.
    fn older_elsewhere(
        &self,
        id: Id,
        segments: &[Arc<Segment>],
        here: u32,
        forget: Order,
    ) -> Result<bool, StoreFault> {
        let ask = Ask { later_than: (0, 0), after: 0, until: u64::MAX, max: 1 };
        for segment in segments.iter().filter(|s| s.number != here) {
            let index = read_lock(&segment.index);
            let mut found = index.batches(id, ask).map_err(StoreFault::reading)?;
            index.controls(id, &mut found).map_err(StoreFault::reading)?;
            if found.iter().any(|e| e.order < forget) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// True if emptying the segment gives back enough for what it costs.
    fn worth(&self, job: &Job) -> bool {
        if job.purging {
            return job.dirty;
        }
        let alive: u64 = job.alive.iter().map(|a| u64::from(a.entry.len)).sum();
        let end = u64::from(read_lock(&job.segment.index).seal().end);
        let full = lock(&self.state).full;
        if full { alive * 10 <= end * 9 } else { alive * 4 <= end }
    }

    /// Copies as much as one step may. `None` if nothing can be copied.
    fn copy_some(&self, job: &mut Job) -> Result<Option<usize>, StoreFault> {
        let mut bytes = 0;
        let mut entries = Vec::new();
        while let Some(alive) = job.alive.last() {
            if bytes > 0 && bytes + alive.entry.len as usize > self.options.copy_bytes {
                break;
            }
            let at = Located { segment: job.segment.clone(), entry: alive.entry };
            let (head, body) = match self.entry(&at) {
                Ok(found) => found,
                Err(EntryFault::Damaged) => return Ok(None),
                Err(EntryFault::Disk(fault)) => return Err(StoreFault::reading(fault)),
            };
            let body = if alive.erased.is_empty() {
                body.to_vec()
            } else {
                let batch = format::decode_batch(&head.channel, head.epoch, head.first, head.last, body);
                let Ok(batch) = batch else { return Ok(None) };
                let mut out = Vec::new();
                format::encode_batch(&format::shown(&batch, head.epoch, &alive.erased), &mut out);
                out
            };
            bytes += alive.entry.len as usize;
            entries.push((head, body));
            job.alive.pop();
        }
        Ok(self.copy(&entries)?.then_some(bytes))
    }

    /// Removes an empty segment, after everything is durable by which it is empty. False if there is no room for what must be
    /// remembered of it.
    fn give_back(&self, job: &Job) -> Result<bool, StoreFault> {
        let sequence = read_lock(&job.segment.index).seal().last_sequence;
        if !self.prove(sequence)? || !self.remember_generations()? {
            return Ok(false);
        }
        let number = job.segment.number;
        let entries = read_lock(&job.segment.index).all().map_err(StoreFault::reading)?;
        {
            let mut state = lock(&self.state);
            state.segments.remove(&number);
            for entry in &entries {
                state.slots.remove(entry.id.slot, number);
            }
        }
        lock(&self.cache).forget_segment(number);
        // The index first: an index without its segment counts as damage. And durably, before another segment goes: what one
        // says to forget must not outlive what the other says.
        let removed = self
            .disk
            .remove(&index_name(number))
            .and_then(|()| self.disk.remove(&segment_name(number)))
            .and_then(|()| self.disk.sync_dir());
        removed.map_err(|fault: io::Error| self.poisoned("giving back a segment", &fault))?;
        Ok(true)
    }

    /// The notes of forgotten channels may go once the generations that they moved stand in the store's memory.
    fn remember_generations(&self) -> Result<bool, StoreFault> {
        let mut meta = {
            let mut state = lock(&self.state);
            if !std::mem::take(&mut state.meta_dirty) {
                return Ok(true);
            }
            state.meta.clone()
        };
        meta.synced = self.durable();
        match meta.write(&*self.disk) {
            Ok(()) => Ok(true),
            Err(fault) => {
                lock(&self.state).meta_dirty = true;
                if is_full(&fault) { Ok(false) } else { Err(StoreFault::at("writing the meta file", &fault)) }
            }
        }
    }
}
