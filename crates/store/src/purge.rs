//! Giving back everything that is dead, when somebody asks for it and not when it is worth it: what was erased, trimmed or forgotten is
//! then on no disk any more.

use std::collections::BTreeSet;
use std::sync::Arc;

use fireside_core::Kind;

use crate::chain::{EntryFault, Located};
use crate::compact::{Job, Maintenance};
use crate::format;
use crate::index::{IndexEntry, SegmentIndex};
use crate::segment::{SEGMENT_HEADER, Segment};
use crate::store::{Store, StoreFault, lock, read_lock};

/// What a purge has still to look at.
#[derive(Default)]
pub(crate) struct Purge {
    left: BTreeSet<u32>,
    failed: bool,
}

/// How far a purge has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purged {
    /// Maintenance has still to do some of it.
    NotYet,
    /// Nothing that was dead when it was asked for is on the disk.
    Done,
    /// There was no room for copies, or a segment is damaged: some of it is still there.
    InPart,
}

impl Store {
    /// Asks maintenance to give back all that is dead by now, whatever it costs. The segment under way is closed for that.
    ///
    /// # Errors
    /// The disk fails, or has no room for the next segment.
    pub fn purge(&self) -> Result<(), StoreFault> {
        let mut maintenance = lock(&self.maintenance);
        self.healthy()?;
        {
            let mut writer = lock(&self.writer);
            if writer.active.is_some() && writer.at > SEGMENT_HEADER {
                writer.len = writer.at;
                if !self.write_mark(&mut writer, true)? {
                    return Err(StoreFault::Full);
                }
            }
        }
        self.sync()?;
        let mut left: BTreeSet<u32> = lock(&self.state).segments.keys().copied().collect();
        left.pop_last();
        // What was alive when the job under way looked may be dead now; what it has copied already is in a segment to be looked at.
        maintenance.job = None;
        maintenance.purge = Purge { left, failed: false };
        Ok(())
    }

    /// How far the last purge has come.
    pub fn purged(&self) -> Purged {
        let maintenance = lock(&self.maintenance);
        match (maintenance.purge.left.is_empty(), maintenance.purge.failed) {
            (false, _) => Purged::NotYet,
            (true, false) => Purged::Done,
            (true, true) => Purged::InPart,
        }
    }

    /// The next segment of a purge that may be looked at. What somebody has still to follow waits.
    pub(crate) fn next_to_purge(&self, maintenance: &mut Maintenance) -> Option<Arc<Segment>> {
        let state = lock(&self.state);
        // What maintenance gave back by itself is done.
        maintenance.purge.left.retain(|number| state.segments.contains_key(number));
        let segments = maintenance.purge.left.iter().filter_map(|number| state.segments.get(number));
        let is_sealed = |s: &&Arc<Segment>| matches!(&*read_lock(&s.index), SegmentIndex::Sealed(_));
        segments.filter(is_sealed).find(|s| maintenance.may_go(s)).cloned()
    }

    /// Nothing more can be done now, save for what somebody has still to follow.
    pub(crate) fn give_up_purging(&self, maintenance: &mut Maintenance) {
        let state = lock(&self.state);
        let waits = |number: &u32| state.segments.get(number).is_some_and(|s| !maintenance.may_go(s));
        let left: BTreeSet<u32> = maintenance.purge.left.iter().copied().filter(waits).collect();
        maintenance.purge.failed |= left.len() < maintenance.purge.left.len();
        maintenance.purge.left = left;
    }

    /// True if some of an entry that is to be copied was erased and is still there.
    pub(crate) fn bears_erased(
        &self,
        job: &Job,
        entry: &IndexEntry,
        erased: &[u64],
    ) -> Result<bool, StoreFault> {
        if erased.is_empty() {
            return Ok(false);
        }
        let at = Located { segment: job.segment.clone(), entry: *entry };
        let (head, body) = match self.entry(&at) {
            Ok(found) => found,
            // Copying it will fail, and that is told.
            Err(EntryFault::Damaged) => return Ok(true),
            Err(EntryFault::Disk(fault)) => return Err(StoreFault::reading(fault)),
        };
        let batch = format::decode_batch(&head.channel, head.epoch, head.first, head.last, body);
        let is_there = |batch: Arc<fireside_core::Batch>| {
            batch.records.iter().any(|r| erased.contains(&r.offset) && r.kind != Kind::Tombstone)
        };
        Ok(batch.map_or(true, is_there))
    }
}

impl Purge {
    /// This segment needs nothing more; `failed` if it could not be given back though it should.
    pub(crate) fn done(&mut self, segment: u32, failed: bool) {
        self.failed |= self.left.remove(&segment) && failed;
    }
}
