//! Verifying everything: every checksum, the chain of groups, every index, and each channel's offsets.

use std::collections::BTreeMap;
use std::io;

use fireside_core::{ChannelName, Epoch, ProposalId};

use crate::disk::Disk;
use crate::format;
use crate::group::{EntryHead, EntryKind, Order, entries};
use crate::index::{IndexEntry, read_index};
use crate::meta::Meta;
use crate::repair::{Damage, Torn};
use crate::segment::{FoundGroup, SEGMENT_HEADER, Scan, parse_name, segment_name};
use crate::store::{Store, StoreFault, lock};

/// What a check found.
#[derive(Clone, Debug, Default)]
pub struct CheckReport {
    /// Segments with something in them.
    pub segments: usize,
    /// Segments made in advance.
    pub spares: usize,
    /// Commit groups.
    pub groups: u64,
    /// Entries of groups.
    pub entries: u64,
    /// Channels that have anything.
    pub channels: usize,
    /// Records that can be read.
    pub records: u64,
    /// Bytes in use.
    pub bytes: u64,
    /// A tail that the next open would cut; in a running store, a group that is being written.
    pub torn: Option<Torn>,
    /// What is wrong.
    pub faults: Vec<Damage>,
}

impl CheckReport {
    /// True if nothing is wrong. A torn tail is not wrong.
    pub fn is_sound(&self) -> bool {
        self.faults.is_empty()
    }
}

/// One entry, as far as the density of offsets is concerned.
struct Seen {
    order: Order,
    kind: EntryKind,
    epoch: Epoch,
    first: u64,
    last: u64,
    proposals: Option<(ProposalId, ProposalId)>,
}

#[derive(Default)]
struct Check {
    report: CheckReport,
    channels: BTreeMap<ChannelName, Vec<Seen>>,
    salt: Option<[u8; 16]>,
    /// Number, last sequence and checksum of the segment before.
    before: Option<(u32, u64, u32)>,
}

impl Store {
    /// Verifies the store while it runs. Nothing is given back meanwhile.
    ///
    /// # Errors
    /// The disk cannot be read.
    pub fn check(&self) -> Result<CheckReport, StoreFault> {
        let _quiet = lock(&self.maintenance);
        check(&*self.disk).map_err(StoreFault::reading)
    }
}

/// Verifies everything in a directory. A store of another process may run on it meanwhile; what that gives back during the check
/// can look like a fault then.
///
/// # Errors
/// The disk cannot be read.
pub fn check(disk: &dyn Disk) -> io::Result<CheckReport> {
    let mut check = Check::default();
    match Meta::read(disk) {
        Ok(Some(meta)) => check.salt = Some(meta.salt),
        Ok(None) => check.fault(0, 0, None, None, "the meta file is damaged"),
        Err(fault) if fault.kind() == io::ErrorKind::NotFound => {
            check.fault(0, 0, None, None, "the meta file is missing");
        }
        Err(fault) => return Err(fault),
    }
    let mut done = 0;
    // What was begun during the check is checked too: copies may have gone there.
    while let Some(next) = segments(disk)?.into_iter().find(|n| *n > done) {
        check.segment(disk, next)?;
        done = next;
    }
    check.orphans(disk)?;
    check.density();
    Ok(check.report)
}

fn segments(disk: &dyn Disk) -> io::Result<Vec<u32>> {
    let mut numbers: Vec<u32> = disk
        .list()?
        .iter()
        .filter_map(|n| parse_name(n))
        .filter(|(_, index)| !index)
        .map(|(n, _)| n)
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

impl Check {
    fn fault(
        &mut self,
        segment: u32,
        at: u64,
        channel: Option<ChannelName>,
        records: Option<(u64, u64)>,
        what: &'static str,
    ) {
        self.report.faults.push(Damage { segment, at, channel, records, what });
    }

    fn segment(&mut self, disk: &dyn Disk, number: u32) -> io::Result<()> {
        let file = match disk.open(&segment_name(number)) {
            Ok(file) => file,
            // Given back since the directory was listed.
            Err(fault) if fault.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(fault) => return Err(fault),
        };
        let scan = Scan::read(&*file, number)?;
        if scan.is_blank() {
            self.report.spares += 1;
            return Ok(());
        }
        self.report.segments += 1;
        match scan.header {
            None => self.fault(number, 0, None, None, "the segment's header is damaged"),
            Some(header) if self.salt.is_some_and(|salt| salt != header.salt) => {
                self.fault(number, 0, None, None, "the segment belongs to another store");
            }
            Some(_) => {}
        }
        let sealed = read_index(disk, number).ok().flatten().map(|(content, _)| content);
        let found = self.groups(number, &scan, sealed.is_none());
        if let Some(index) = sealed {
            self.index(number, &index.entries, &found);
        } else if disk.list()?.contains(&crate::segment::index_name(number)) {
            self.fault(number, 0, None, None, "the segment's index is damaged");
        }
        Ok(())
    }

    /// Follows the chain through a segment, and returns where its entries stand.
    fn groups(&mut self, number: u32, scan: &Scan, may_be_torn: bool) -> Vec<(u32, EntryHead)> {
        let follows = self.before.filter(|b| b.0 + 1 == number).map(|b| (b.1 + 1, b.2));
        let mut expected = follows.or(scan.header.map(|h| (h.first_sequence, h.previous)));
        let mut found = Vec::new();
        let synced = scan.groups.iter().map(|g| g.header.synced).max().unwrap_or(0);
        let mut end = SEGMENT_HEADER;
        for group in &scan.groups {
            let here = (group.header.sequence, group.header.previous);
            let chained = expected.is_none_or(|e| e == here);
            if !(group.whole && chained) {
                let first = expected.map_or(here.0, |e| e.0);
                if may_be_torn && first > synced {
                    let whole_groups =
                        scan.groups.iter().filter(|g| g.at >= group.at && g.whole).count() as u64;
                    self.report.torn = Some(Torn { segment: number, at: end, sequence: first, whole_groups });
                    return found;
                }
                let what =
                    if group.whole { "groups before this place are missing" } else { "a group is damaged" };
                self.fault(number, group.at, None, None, what);
            }
            self.report.groups += 1;
            self.entries(number, scan, group, &mut found);
            expected = Some((here.0 + 1, group.crc));
            self.before = Some((number, here.0, group.crc));
            end = group.end();
        }
        self.report.bytes += end;
        let rest = scan.content.get(end as usize..).unwrap_or(&[]);
        if rest.iter().any(|b| *b != 0) {
            let sequence = expected.map_or(0, |e| e.0);
            if may_be_torn {
                self.report.torn = Some(Torn { segment: number, at: end, sequence, whole_groups: 0 });
            } else {
                self.fault(number, end, None, None, "something follows the last group");
            }
        }
        found
    }

    fn entries(&mut self, number: u32, scan: &Scan, group: &FoundGroup, found: &mut Vec<(u32, EntryHead)>) {
        let body = group.body(&scan.content);
        let (all, complete) = entries(body);
        if !complete || all.len() as u32 != group.header.entries {
            self.fault(number, group.at, None, None, "a group's entries cannot be told apart");
        }
        let bytes = bytes::Bytes::copy_from_slice(body);
        for f in all {
            self.report.entries += 1;
            let head = f.head;
            let place = group.at as u32 + crate::group::HEADER as u32 + f.at as u32;
            let from = f.at + head.size();
            let content = bytes.slice(from..from + head.body_len as usize);
            let mut proposals = None;
            let sound = f.whole
                && match head.kind {
                    EntryKind::Batch => {
                        let batch =
                            format::decode_batch(&head.channel, head.epoch, head.first, head.last, content);
                        proposals = batch.as_ref().ok().map(|b| (b.previous, b.proposal));
                        batch.is_ok()
                    }
                    EntryKind::Checkpoint => format::decode_checkpoint(content).is_ok(),
                    EntryKind::Erase | EntryKind::Forget | EntryKind::Hole => true,
                };
            if sound {
                let (order, kind, epoch, first, last) =
                    (head.order, head.kind, head.epoch, head.first, head.last);
                let seen = Seen { order, kind, epoch, first, last, proposals };
                self.channels.entry(head.channel.clone()).or_default().push(seen);
            } else {
                let records = (head.kind == EntryKind::Batch).then_some((head.first, head.last));
                let channel = Some(head.channel.clone());
                self.fault(number, u64::from(place), channel, records, "an entry is damaged");
            }
            found.push((place, head));
        }
    }

    fn index(&mut self, number: u32, index: &[IndexEntry], found: &[(u32, EntryHead)]) {
        let mut indexed: Vec<_> = index.iter().map(|e| (e.place, e.order, e.kind, e.first, e.last)).collect();
        indexed.sort_unstable();
        let there: Vec<_> = found.iter().map(|(at, h)| (*at, h.order, h.kind, h.first, h.last)).collect();
        if indexed != there {
            self.fault(number, 0, None, None, "the index says something else than the segment");
        }
        let Some(salt) = self.salt else { return };
        let places: BTreeMap<u32, u64> = index.iter().map(|e| (e.place, e.id.check)).collect();
        for (place, head) in found {
            let check = crate::hash::Id::of(&salt, head.channel.as_str(), u64::MAX).check;
            if places.get(place).is_some_and(|c| *c != check) {
                self.fault(
                    number,
                    u64::from(*place),
                    Some(head.channel.clone()),
                    None,
                    "the index names another channel",
                );
            }
        }
    }

    fn orphans(&mut self, disk: &dyn Disk) -> io::Result<()> {
        let names = disk.list()?;
        for (number, _) in names.iter().filter_map(|n| parse_name(n)).filter(|(_, index)| *index) {
            if !names.contains(&segment_name(number)) {
                self.fault(number, 0, None, None, "the segment is missing");
            }
        }
        Ok(())
    }

    fn density(&mut self) {
        self.report.channels = self.channels.len();
        for (channel, mut seen) in std::mem::take(&mut self.channels) {
            seen.sort_by_key(|s| s.order);
            seen.dedup_by_key(|s| s.order);
            match dense(&seen) {
                Ok(records) => self.report.records += records,
                Err((records, what)) => self.fault(0, 0, Some(channel), records, what),
            }
        }
    }
}

type Gap = (Option<(u64, u64)>, &'static str);

/// Counts the readable records of a channel, or says where offsets, epochs or proposals do not continue.
fn dense(seen: &[Seen]) -> Result<u64, Gap> {
    let forget = seen.iter().rposition(|s| s.kind == EntryKind::Forget).map_or(0, |at| at + 1);
    let life = &seen[forget..];
    let checkpoint = life.iter().rev().find(|s| s.kind == EntryKind::Checkpoint);
    let hole = life.iter().filter(|s| s.kind == EntryKind::Hole).map(|s| s.last).max().unwrap_or(0);
    let oldest = checkpoint.map_or(1, |c| c.first.max(1)).max(hole + 1);
    let newest = checkpoint.map_or(0, |c| c.last).max(hole);
    let (mut next, mut epoch, mut proposal) = (oldest, Epoch(0), None);
    let readable = life.iter().filter(|s| s.kind == EntryKind::Batch && s.last >= oldest);
    for batch in readable {
        if batch.first > next {
            return Err((Some((next, batch.first - 1)), "records are missing"));
        }
        if proposal.is_some() && batch.first != next {
            return Err((Some((batch.first, batch.last)), "records are there twice"));
        }
        if batch.epoch < epoch {
            return Err((Some((batch.first, batch.last)), "an epoch goes back"));
        }
        if let (Some(before), Some((previous, _))) = (proposal, batch.proposals)
            && before != previous
        {
            return Err((Some((batch.first, batch.last)), "a batch does not continue the one before"));
        }
        (next, epoch) = (batch.last + 1, batch.epoch);
        proposal = batch.proposals.map(|(_, own)| own);
    }
    if next <= newest && newest >= oldest {
        return Err((Some((next, newest)), "records are missing"));
    }
    Ok(next - oldest)
}
