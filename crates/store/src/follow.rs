//! Following everything that is committed, group by group, for whoever derives something of it (facts for a backend).
//!
//! The follower's owner keeps the sequence that it has dealt with among what it derives, so that both are one write. Until it says
//! so ([`Store::passed`]), the segments behind which that sequence lies are neither compacted nor given back: what was decided is
//! found where it was decided, once, and copies are not mistaken for news.

use std::sync::Arc;

use bytes::Bytes;
use fireside_core::Batch;

use crate::disk::read_exact;
use crate::format;
use crate::group::{EntryKind, HEADER, Header, entries, stride};
use crate::segment::{SEGMENT_HEADER, Scan, Segment};
use crate::store::{Store, StoreFault, lock, read_lock};

/// A place in the sequence of all commit groups.
#[derive(Clone, Debug)]
pub struct Follower {
    passed: u64,
    /// The segment that it reads, and where the next group begins there. None until it is found by `passed`.
    place: Option<(u32, u64)>,
}

/// What follows a place.
#[derive(Clone, Debug, Default)]
pub struct Followed {
    /// Records in the order of their decision. What was erased or trimmed since is among them as it was written.
    pub batches: Vec<Arc<Batch>>,
    /// The sequence of the last group looked at: where to follow from after a restart, once all of `batches` is dealt with.
    pub sequence: u64,
    /// How many groups could not be read whole. The report of the store's opening names whose records those were.
    pub damaged: u64,
}

impl Follower {
    /// Follows from the first group after `sequence` on that is still there; 0 is before all.
    pub fn after(sequence: u64) -> Follower {
        Follower { passed: sequence, place: None }
    }

    /// The next groups, as far as they are synced: whole ones until their entries have `bytes_max` bytes, and at least one. If there
    /// is none, `sequence` is where it was. After a fault the same groups come again.
    ///
    /// # Errors
    /// The disk cannot be read.
    pub fn next(&mut self, store: &Store, bytes_max: usize) -> Result<Followed, StoreFault> {
        store.healthy()?;
        let durable = store.durable();
        let (mut at, mut bytes) = (self.clone(), 0);
        let mut followed = Followed { sequence: self.passed, ..Followed::default() };
        while bytes < bytes_max.max(1) {
            let Some((segment, place)) = at.find(store) else { break };
            let Some(header) = at.header(&segment, place, &mut followed)? else { continue };
            if header.sequence > durable {
                break;
            }
            at.place = Some((segment.number, place + stride(header.length)));
            if header.sequence <= at.passed {
                continue;
            }
            at.passed = header.sequence;
            bytes += header.length as usize;
            read_group(&segment, place, &header, &mut followed)?;
        }
        followed.sequence = at.passed;
        *self = at;
        Ok(followed)
    }

    /// Where the next group begins; none if nothing more is written.
    fn find(&mut self, store: &Store) -> Option<(Arc<Segment>, u64)> {
        loop {
            let (segment, later) = {
                let state = lock(&store.state);
                let first = self.place.map_or(0, |(number, _)| number);
                let mut from = state.segments.range(first..).map(|(_, segment)| segment.clone());
                // Where its segment is gone, as nobody asked to keep it, it goes on with what is left.
                (from.next()?, from.next())
            };
            let place = match self.place {
                Some((number, place)) if number == segment.number => place,
                _ => SEGMENT_HEADER,
            };
            self.place = Some((segment.number, place));
            // Read after it was seen that a later segment was begun: then this one does not grow any more.
            let seal = read_lock(&segment.index).seal();
            if place < u64::from(seal.end) && seal.last_sequence > self.passed {
                return Some((segment, place));
            }
            self.place = Some((later?.number, SEGMENT_HEADER));
        }
    }

    /// The header at `place`. None if there is no good one: then it stands before the next that is.
    fn header(
        &mut self,
        segment: &Segment,
        place: u64,
        followed: &mut Followed,
    ) -> Result<Option<Header>, StoreFault> {
        let bytes = read_exact(&*segment.file, place, HEADER).map_err(StoreFault::reading)?;
        match Header::decode(&bytes).filter(|(header, _)| header.segment == segment.number) {
            Some((header, _)) => Ok(Some(header)),
            None => {
                followed.damaged += 1;
                let scan = Scan::read(&*segment.file, segment.number).map_err(StoreFault::reading)?;
                let next = scan.groups.iter().map(|group| group.at).find(|at| *at > place);
                let end = u64::from(read_lock(&segment.index).seal().end);
                self.place = Some((segment.number, next.unwrap_or(end)));
                Ok(None)
            }
        }
    }
}

/// Adds the batches that were decided in this group. Copies were decided earlier.
fn read_group(
    segment: &Segment,
    place: u64,
    header: &Header,
    followed: &mut Followed,
) -> Result<(), StoreFault> {
    let body = read_exact(&*segment.file, place + HEADER as u64, header.length as usize);
    let body = Bytes::from(body.map_err(StoreFault::reading)?);
    let (found, mut whole) = entries(&body);
    for entry in found {
        let head = entry.head;
        if head.kind != EntryKind::Batch || head.copy {
            continue;
        }
        let from = entry.at + head.size();
        let content = body.slice(from..from + head.body_len as usize);
        match format::decode_batch(&head.channel, head.epoch, head.first, head.last, content) {
            Ok(batch) if entry.whole => followed.batches.push(batch),
            _ => whole = false,
        }
    }
    followed.damaged += u64::from(!whole);
    Ok(())
}

impl Store {
    /// From now on, and until it is said again with a higher sequence, segments with anything after `sequence` are neither compacted
    /// nor given back. Said before the first step of maintenance, with the sequence that stands durably among what was derived; then
    /// whenever that has moved. A follower that never moves lets the disk fill up.
    pub fn passed(&self, sequence: u64) {
        lock(&self.maintenance).keep_after(sequence);
    }
}
