//! Opening: what is there, what is torn, what is damaged, and which epochs change because of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock};

use fireside_core::{ChannelName, Durability, Epoch};

use crate::cache::Cache;
use crate::chain::Hole;
use crate::compact::Maintenance;
use crate::disk::{Disk, File, is_full, read_exact, read_up_to};
use crate::group::{EntryHead, EntryKind, HEADER, entries};
use crate::hash::Id;
use crate::index::{IndexEntry, OpenIndex, SegmentIndex, read_index};
use crate::meta::{META, Meta};
use crate::segment::{
    FoundGroup, SEGMENT_HEADER, Scan, Segment, SegmentHeader, index_name, is_zero, parse_name, segment_name,
};
use crate::slots::Slots;
use crate::store::{Options, Start, State, Store, StoreFault, lock};
use crate::walk::{Found, Piece, Walk, next_end};
use crate::write::Writer;

/// What opening found.
#[derive(Clone, Debug, Default)]
pub struct OpenReport {
    /// True if there was no log yet.
    pub fresh: bool,
    /// Groups that were read.
    pub groups: u64,
    /// The sequence of the last good group.
    pub sequence: u64,
    /// What was cut off the end: written, but never said to be durable.
    pub torn: Option<Torn>,
    /// What is lost although it was durable.
    pub damage: Vec<Damage>,
    /// Degrees all of whose channels got new epochs, and why.
    pub new_epochs: Vec<(Durability, &'static str)>,
}

/// A torn tail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torn {
    /// The segment in which the log was cut.
    pub segment: u32,
    /// Where.
    pub at: u64,
    /// The sequence of the first group that is gone.
    pub sequence: u64,
    /// Whole groups after it that are gone too, because nothing may follow a hole.
    pub whole_groups: u64,
}

/// Something durable that is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The segment.
    pub segment: u32,
    /// Where in it, as far as known.
    pub at: u64,
    /// The channel; `None` if nobody knows which.
    pub channel: Option<ChannelName>,
    /// Its lost records `first ..= last`, if it was records.
    pub records: Option<(u64, u64)>,
    /// In words.
    pub what: &'static str,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "segment {} at {}: {}", self.segment, self.at, self.what)?;
        if let Some(channel) = &self.channel {
            write!(f, ", channel {channel}")?;
        }
        if let Some((first, last)) = self.records {
            write!(f, ", records {first} to {last}")?;
        }
        Ok(())
    }
}

pub(crate) fn open(
    disk: Arc<dyn Disk>,
    mut options: Options,
    start: Start,
) -> Result<(Store, OpenReport), StoreFault> {
    options.segment_bytes = options.segment_bytes.clamp(4 << 10, 1 << 30);
    let mut report = OpenReport::default();
    let Directory { mut pieces, mut prepared, next_segment, mut slots, forgotten, mut losses, orphans } =
        find(&*disk, &mut report)?;
    let (mut meta, known) = meta(&*disk, &start, &pieces, &mut report)?;
    forgotten.iter().for_each(|(bucket, epoch)| meta.forgot(*bucket, *epoch));
    let mut walk = Walk::new(&pieces, meta.synced);
    walk.run(&pieces, &mut report);
    if report.torn.is_some() {
        cut(&*disk, &mut pieces, &walk)?;
    }
    report.sequence = walk.last.map_or(0, |(sequence, _)| sequence);
    let segments = index(&pieces, &walk, &mut meta, &options, &mut slots, &mut losses, &mut report)?;
    settle_epochs(&mut meta, known, &start, &walk, &mut report);
    let damaged: BTreeSet<u32> =
        report.damage.iter().flat_map(|d| [d.segment.saturating_sub(1), d.segment]).collect();
    make_durable(&*disk, &pieces)?;
    let durable = report.sequence;
    (meta.boot, meta.clean, meta.synced) = (start.boot_id.clone(), false, durable);
    write_meta(&*disk, &meta, &mut prepared)?;
    let (sequence, previous) = walk.last.unwrap_or((0, 0));
    let last = segments.values().next_back().cloned();
    let active = last.filter(|s| matches!(&*crate::store::read_lock(&s.index), SegmentIndex::Open(_)));
    let writer = Writer {
        len: active.as_ref().map_or(Ok(0), |s| s.file.len()).map_err(StoreFault::reading)?,
        active,
        at: walk.end.max(SEGMENT_HEADER),
        next: sequence + 1,
        previous,
        marked: walk.marked,
        filled: walk.filled,
        unsynced: Vec::new(),
        buffer: Vec::new(),
    };
    let store = Store {
        salt: meta.salt,
        life: start.life,
        writer: Mutex::new(writer),
        state: Mutex::new(State {
            segments,
            prepared,
            next_segment,
            slots,
            awake: BTreeMap::new(),
            loading: BTreeMap::new(),
            meta,
            meta_dirty: false,
            full: false,
            trimmed: 0,
        }),
        cache: Mutex::new(Cache::new(options.cache_bytes)),
        syncing: Mutex::new(()),
        maintenance: Mutex::new(Maintenance::default()),
        written: AtomicU64::new(sequence),
        durable: AtomicU64::new(durable),
        poison: OnceLock::new(),
        disk,
        options,
    };
    store.note_losses(&losses)?;
    store.sync()?;
    store.seal_damaged(&damaged)?;
    for number in orphans {
        // What it could tell is noted; an index without its segment has no other use.
        store.disk.remove(&index_name(number)).map_err(|fault| StoreFault::at("opening", &fault))?;
    }
    Ok((store, report))
}

type Prepared = BTreeMap<u32, Arc<dyn File>>;

/// What is in the directory.
#[derive(Default)]
struct Directory {
    pieces: Vec<Piece>,
    prepared: Prepared,
    next_segment: u32,
    /// Of the sealed segments.
    slots: Slots,
    forgotten: Vec<(u16, Epoch)>,
    losses: Vec<Loss>,
    /// Indexes without a segment.
    orphans: Vec<u32>,
}

/// Lists and reads all segments; blank ones are spares.
fn find(disk: &dyn Disk, report: &mut OpenReport) -> Result<Directory, StoreFault> {
    let (mut logs, mut indexes) = (BTreeSet::new(), BTreeSet::new());
    for name in disk.list().map_err(StoreFault::reading)? {
        match parse_name(&name) {
            Some((number, false)) => logs.insert(number),
            Some((number, true)) => indexes.insert(number),
            // What a replacement left behind that never happened.
            None if name.ends_with(".new") => {
                disk.remove(&name).map(|()| false).map_err(StoreFault::reading)?
            }
            None => false,
        };
    }
    let next_segment = logs.iter().chain(&indexes).max().map_or(1, |n| n + 1);
    let mut found = Directory { next_segment, ..Directory::default() };
    for number in &logs {
        let file = disk.open(&segment_name(*number)).map_err(StoreFault::reading)?;
        if indexes.contains(number)
            && let Some((content, kept)) = read_index(disk, *number).map_err(StoreFault::reading)?
        {
            for entry in &content.entries {
                found.slots.add(entry.id.slot, *number);
                found.forgotten.extend(forgotten(entry));
            }
            found.forgotten.shrink_to_fit();
            found.pieces.push(Piece { number: *number, file, found: Found::Sealed(kept) });
            continue;
        }
        let scan = Scan::read(&*file, *number).map_err(StoreFault::reading)?;
        if scan.is_blank() && is_zero(&scan.content) {
            found.prepared.insert(*number, file);
            continue;
        }
        report.groups += scan.groups.len() as u64;
        let end = scan.groups.last().map_or(SEGMENT_HEADER, FoundGroup::end);
        let junk = scan.content.get(end as usize..).is_some_and(|rest| !is_zero(rest));
        let scanned = Found::Scanned { header: scan.header, groups: scan.groups, junk };
        found.pieces.push(Piece { number: *number, file, found: scanned });
    }
    for number in indexes.difference(&logs) {
        lost_segment(disk, *number, &mut found, report)?;
    }
    Ok(found)
}

fn forgotten(entry: &IndexEntry) -> Option<(u16, Epoch)> {
    (entry.kind == EntryKind::Forget && entry.last == 1).then(|| (entry.id.bucket(), Epoch(entry.first)))
}

/// An index whose segment is not there: it still says what was in it.
fn lost_segment(
    disk: &dyn Disk,
    number: u32,
    found: &mut Directory,
    report: &mut OpenReport,
) -> Result<(), StoreFault> {
    found.orphans.push(number);
    let what = "the segment is missing";
    let Some((index, kept)) = read_index(disk, number).map_err(StoreFault::reading)? else {
        report.damage.push(Damage { segment: number, at: 0, channel: None, records: None, what });
        return Ok(());
    };
    let names: BTreeMap<Id, ChannelName> = index.names.into_iter().collect();
    for entry in &index.entries {
        found.forgotten.extend(forgotten(entry));
        let channel = names.get(&entry.id).cloned();
        if entry.kind != EntryKind::Batch {
            continue;
        }
        if let Some(channel) = &channel {
            let epoch = Epoch(kept.seal.epoch_max);
            found.losses.push(Loss { head: entry.head(channel.clone(), epoch) });
        }
        let (at, records) = (u64::from(entry.place), Some((entry.first, entry.last)));
        report.damage.push(Damage { segment: number, at, channel, records, what });
    }
    Ok(())
}

/// The store's memory, and whether it can be believed.
fn meta(
    disk: &dyn Disk,
    start: &Start,
    pieces: &[Piece],
    report: &mut OpenReport,
) -> Result<(Meta, bool), StoreFault> {
    let there = disk.list().map_err(StoreFault::reading)?.iter().any(|name| name == META);
    if there && let Some(meta) = Meta::read(disk).map_err(StoreFault::reading)? {
        return Ok((meta, true));
    }
    report.fresh = pieces.is_empty() && !there;
    // The indexes are keyed with the salt that the segments bear.
    let mut salt = start.life.to_le_bytes();
    for piece in pieces.iter().rev() {
        let head = read_exact(&*piece.file, 0, SEGMENT_HEADER as usize).map_err(StoreFault::reading)?;
        if let Some(header) = SegmentHeader::decode(&head) {
            salt = header.salt;
            break;
        }
    }
    Ok((Meta::fresh(salt, start.now_ms), report.fresh))
}

/// Removes everything from the torn group on: zeros in the last segment that stays, and no later one. Durable before anything is
/// appended.
fn cut(disk: &dyn Disk, pieces: &mut Vec<Piece>, walk: &Walk) -> Result<(), StoreFault> {
    let failed = |fault: std::io::Error| StoreFault::at("cutting a torn tail", &fault);
    for later in pieces.drain(walk.last_piece.map_or(0, |p| p + 1)..).rev() {
        disk.remove(&segment_name(later.number)).map_err(failed)?;
    }
    disk.sync_dir().map_err(failed)?;
    let Some(piece) = pieces.last_mut() else { return Ok(()) };
    let Found::Scanned { groups, .. } = &mut piece.found else { return Ok(()) };
    groups.retain(|g| g.at < walk.end);
    let len = piece.file.len().map_err(failed)?;
    let mut buf = vec![0; 1 << 20];
    let mut at = walk.end;
    while at < len {
        let want = buf.len().min((len - at) as usize);
        let got = read_up_to(&*piece.file, &mut buf[..want], at).map_err(failed)?;
        if got == 0 {
            break;
        }
        if !is_zero(&buf[..got]) {
            piece.file.write_at(&vec![0; got], at).map_err(failed)?;
        }
        at += got as u64;
    }
    piece.file.sync().map_err(failed)
}

/// A loss of which the channel is known.
pub(crate) struct Loss {
    head: EntryHead,
}

/// Builds the index of everything that is good, and names what is not.
fn index(
    pieces: &[Piece],
    walk: &Walk,
    meta: &mut Meta,
    options: &Options,
    slots: &mut Slots,
    losses: &mut Vec<Loss>,
    report: &mut OpenReport,
) -> Result<BTreeMap<u32, Arc<Segment>>, StoreFault> {
    let mut segments = BTreeMap::new();
    // Everything up to here is durable for certain; what follows is written once more, because a former process may have seen a
    // sync fail, after which the same bytes count as clean without being on the disk.
    let certain = walk.evidence.values().max().copied().unwrap_or(0).max(walk.synced);
    for (p, piece) in pieces.iter().enumerate() {
        let index = match &piece.found {
            Found::Sealed(index) => {
                meta.saw(Epoch(index.seal.epoch_max));
                SegmentIndex::Sealed(index.clone())
            }
            Found::Scanned { header, groups, .. } => {
                let scan = Scan::read(&*piece.file, piece.number).map_err(StoreFault::reading)?;
                let begins = header.as_ref().map(|h| (h.first_sequence, h.previous));
                // What was missing before is settled now: the chain goes on from what there is.
                let (first_sequence, previous) = walk.begins.get(&p).copied().or(begins).unwrap_or((1, 0));
                let mut open = OpenIndex::begin(first_sequence, previous);
                let mut epoch_max = 0;
                for (g, group) in groups.iter().enumerate() {
                    let body = group.body(&scan.content);
                    let base = group.at as u32 + HEADER as u32;
                    let broken = walk.broken.contains(&(p, g));
                    if !broken && walk.good.binary_search(&(p, g)).is_err() {
                        continue;
                    }
                    let (found, complete) = entries(body);
                    for f in found {
                        meta.saw(f.head.epoch);
                        epoch_max = epoch_max.max(f.head.epoch.0);
                        if f.whole {
                            let id = Id::of(&meta.salt, f.head.channel.as_str(), options.hash_mask);
                            let entry = IndexEntry::of(&f.head, id, base + f.at as u32);
                            slots.add(id.slot, piece.number);
                            if let Some((bucket, epoch)) = forgotten(&entry) {
                                meta.forgot(bucket, epoch);
                            }
                            open.push(entry);
                        } else {
                            report.damage.push(named(piece.number, u64::from(base) + f.at as u64, &f.head));
                            losses.push(Loss { head: f.head });
                        }
                    }
                    let end = if broken { next_end(groups, g) } else { group.end() };
                    open.group(group.header.sequence, group.crc, end, epoch_max);
                    if broken && !complete {
                        report.damage.push(Damage {
                            segment: piece.number,
                            at: group.at,
                            channel: None,
                            records: None,
                            what: "a group is damaged beyond telling what was in it",
                        });
                    }
                }
                if let Some(next) = pieces.get(p + 1).filter(|next| next.number == piece.number + 1)
                    && let Found::Sealed(sealed) = &next.found
                {
                    (open.seal.last_sequence, open.seal.last_crc) =
                        (sealed.seal.first_sequence.saturating_sub(1), sealed.seal.previous);
                }
                let salt = meta.salt;
                let header = SegmentHeader { number: piece.number, first_sequence, previous, salt };
                rewrite(piece, header, groups, certain, &scan)?;
                SegmentIndex::Open(open)
            }
        };
        let (number, file) = (piece.number, piece.file.clone());
        segments.insert(number, Arc::new(Segment { number, file, index: index.into() }));
    }
    Ok(segments)
}

fn named(segment: u32, at: u64, head: &EntryHead) -> Damage {
    let records = (head.kind == EntryKind::Batch).then_some((head.first, head.last));
    let what = match head.kind {
        EntryKind::Batch => "records are damaged",
        EntryKind::Checkpoint => "a checkpoint is damaged",
        EntryKind::Erase | EntryKind::Forget | EntryKind::Hole => "a note is damaged",
    };
    Damage { segment, at, channel: Some(head.channel.clone()), records, what }
}

fn rewrite(
    piece: &Piece,
    header: SegmentHeader,
    groups: &[FoundGroup],
    certain: u64,
    scan: &Scan,
) -> Result<(), StoreFault> {
    let failed = |fault: std::io::Error| StoreFault::at("writing the tail again", &fault);
    let first = groups.iter().find(|g| g.header.sequence > certain);
    if first.is_some() || scan.header.is_none() {
        piece.file.write_at(&scan.header.unwrap_or(header).encode(), 0).map_err(failed)?;
    }
    let Some(first) = first else { return Ok(()) };
    let end = groups.last().map_or(first.at, FoundGroup::end).min(scan.content.len() as u64) as usize;
    if let Some(bytes) = scan.content.get(first.at as usize..end) {
        piece.file.write_at(bytes, first.at).map_err(failed)?;
    }
    Ok(())
}

/// Which channels get new epochs as a whole.
fn settle_epochs(meta: &mut Meta, known: bool, start: &Start, walk: &Walk, report: &mut OpenReport) {
    let beyond = report.damage.iter().any(|d| d.channel.is_none());
    if !known || walk.unknown || beyond {
        let why = if known { "it is not known what is lost" } else { "the store's memory is lost" };
        for degree in [Durability::Fsync, Durability::Os] {
            meta.lost(degree, start.now_ms);
            report.new_epochs.push((degree, why));
        }
        return;
    }
    let same_boot = !start.boot_id.is_empty() && start.boot_id == meta.boot;
    if !report.fresh && !same_boot && !meta.clean {
        meta.lost(Durability::Os, start.now_ms);
        report.new_epochs.push((Durability::Os, "the machine ended without an orderly shutdown"));
    } else if report.torn.is_some_and(|t| t.whole_groups > 0) {
        meta.lost(Durability::Os, start.now_ms);
        report.new_epochs.push((Durability::Os, "written groups are lost"));
    }
}

/// Nothing is shown that a power cut could still take back.
fn make_durable(disk: &dyn Disk, pieces: &[Piece]) -> Result<(), StoreFault> {
    let failed = |fault: std::io::Error| StoreFault::at("syncing what was found", &fault);
    for piece in pieces.iter().filter(|p| matches!(p.found, Found::Scanned { .. })) {
        piece.file.sync().map_err(failed)?;
    }
    disk.sync_dir().map_err(failed)
}

/// On a full disk, a spare gives its place.
fn write_meta(disk: &dyn Disk, meta: &Meta, prepared: &mut Prepared) -> Result<(), StoreFault> {
    loop {
        match meta.write(disk) {
            Ok(()) => return Ok(()),
            Err(fault) if is_full(&fault) => {
                let Some((number, _)) = prepared.pop_last() else { return Err(StoreFault::Full) };
                disk.remove(&segment_name(number)).map_err(|f| StoreFault::at("opening", &f))?;
            }
            Err(fault) => return Err(StoreFault::at("opening", &fault)),
        }
    }
}

impl Store {
    /// Writes down what opening found lost: those channels are in new epochs.
    fn note_losses(&self, losses: &[Loss]) -> Result<(), StoreFault> {
        for Loss { head } in losses.iter().filter(|l| l.head.kind == EntryKind::Batch) {
            let loaded = self.load(&head.channel, head.degree, u64::MAX)?;
            if head.order <= loaded.summary.since || head.last < loaded.summary.oldest {
                continue;
            }
            let (mut first, mut last) = (head.first, head.last);
            if let Some(hole) = loaded.hole {
                (first, last) = (first.min(hole.first), last.max(hole.last));
            }
            let floor = lock(&self.state).meta.floor(head.degree);
            let epoch = Epoch(loaded.summary.tip.epoch.max(head.epoch).0 + 1).max(floor);
            self.note_hole(&head.channel, head.degree, Hole { first, last, epoch })?;
        }
        Ok(())
    }

    /// A damaged segment is sealed as it is, so that the next open does not find the same damage again and move epochs once more.
    fn seal_damaged(&self, numbers: &BTreeSet<u32>) -> Result<(), StoreFault> {
        for number in numbers {
            let Some(segment) = lock(&self.state).segments.get(number).cloned() else { continue };
            let mut writer = lock(&self.writer);
            if self.seal(&segment)? && writer.active.as_ref().is_some_and(|s| s.number == *number) {
                writer.active = None;
            }
        }
        Ok(())
    }
}
