//! The records that were appended together: the unit of commit, of news, of encoding and of writing.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::name::ChannelName;
use crate::position::{Epoch, Position};
use crate::record::{Kind, Record};

/// How many encoded variants (protocol × framing × compression or patches) a batch can keep.
pub const SLOTS: usize = 10;

/// The random id of a proposal, by which an append of unknown outcome is recognised. 0 is "none".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ProposalId(pub u128);

/// Records `first ..= last` of one channel, committed once and shared by everybody who carries them.
#[derive(Debug)]
pub struct Batch {
    /// The channel.
    pub channel: ChannelName,
    /// The life of the log the offsets count in.
    pub epoch: Epoch,
    /// The proposal that put these records there.
    pub proposal: ProposalId,
    /// The proposal of the record before `first`; equal offsets alone do not prove equal logs.
    pub previous: ProposalId,
    /// At least one record, offsets ascending (dense as stored; with holes once merged for a slow reader).
    pub records: Box<[Record]>,
    /// The record before `first`, where it is known and a patch may build on it.
    base: OnceLock<Record>,
    cost: usize,
    slots: [OnceLock<Bytes>; SLOTS],
}

impl Batch {
    /// Wraps records that belong together. `records` must not be empty.
    pub fn new(
        channel: ChannelName,
        epoch: Epoch,
        proposal: ProposalId,
        previous: ProposalId,
        records: Vec<Record>,
    ) -> Arc<Self> {
        assert!(!records.is_empty(), "a batch has at least one record");
        let cost = records.iter().map(Record::cost).sum();
        Arc::new(Batch {
            channel,
            epoch,
            proposal,
            previous,
            records: records.into_boxed_slice(),
            base: OnceLock::new(),
            cost,
            slots: Default::default(),
        })
    }

    /// Offset of the first record; 0 in a channel without history.
    pub fn first(&self) -> u64 {
        self.records[0].offset
    }

    /// Offset of the last record.
    pub fn last(&self) -> u64 {
        self.records[self.records.len() - 1].offset
    }

    /// The position of a reader that has all of it.
    pub fn end(&self) -> Position {
        Position::new(self.epoch, self.last())
    }

    /// The same batch with the records at these offsets as tombstones; itself if there are none of them.
    pub fn erased(self: &Arc<Self>, offsets: &[u64]) -> Arc<Batch> {
        if !offsets.iter().any(|offset| (self.first()..=self.last()).contains(offset)) {
            return self.clone();
        }
        let shown = |record: &Record| match offsets.contains(&record.offset) {
            true => record.tombstone(),
            false => record.clone(),
        };
        let records = self.records.iter().map(shown).collect();
        Batch::new(self.channel.clone(), self.epoch, self.proposal, self.previous, records)
    }

    /// The records after `offset`.
    pub fn after(&self, offset: u64) -> &[Record] {
        let from = self.records.partition_point(|r| r.offset <= offset && r.offset != 0);
        &self.records[from..]
    }

    /// Tells it the batch before it, so that its first record can be told as a patch of that one's last.
    pub fn follows(&self, earlier: &Batch) {
        let last = &earlier.records[earlier.records.len() - 1];
        if earlier.epoch == self.epoch && last.offset + 1 == self.first() && last.kind != Kind::Tombstone {
            // Whoever said it first said the same, unless the record was erased meanwhile: see `builds_on`.
            let _ = self.base.set(last.clone());
        }
    }

    /// True if what a patch of its first record builds on is what `earlier` ends with, as it stands there now.
    pub fn builds_on(&self, earlier: &Batch) -> bool {
        self.base.get() == earlier.records.last()
    }

    /// The record before `first`, if it is known.
    pub fn base(&self) -> Option<&Record> {
        self.base.get()
    }

    /// What it counts for in every byte budget, fixed at creation.
    pub fn cost(&self) -> usize {
        self.cost
    }

    /// The bytes of variant `slot`, made by the first who asks and shared by the others. Core and node never look inside.
    pub fn encoded(&self, slot: usize, encode: impl FnOnce(&Batch) -> Bytes) -> &Bytes {
        self.slots[slot].get_or_init(|| encode(self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(offset: u64, kind: Kind) -> Arc<Batch> {
        let record = Record {
            offset,
            time_ms: 1,
            kind,
            author: None,
            key: None,
            conflate: None,
            tags: Vec::new(),
            body: Bytes::from_static(b"1"),
        };
        let name = ChannelName::parse("a").unwrap();
        Batch::new(name, Epoch(1), ProposalId(1), ProposalId(0), vec![record])
    }

    #[test]
    fn nothing_builds_on_a_record_that_was_erased() {
        let (first, erased) = (batch(1, Kind::Plain), batch(1, Kind::Tombstone));
        let told = batch(2, Kind::Plain);
        told.follows(&first);
        assert!(told.builds_on(&first) && !told.builds_on(&erased), "erased after it was told");
        let late = batch(2, Kind::Plain);
        late.follows(&erased);
        assert!(late.base().is_none() && !late.builds_on(&erased), "erased before");
        let far = batch(3, Kind::Plain);
        far.follows(&first);
        assert!(far.base().is_none(), "one is missing between them");
    }
}
