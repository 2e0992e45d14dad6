//! What a segment contains, by channel: in memory while it is written, in a sorted file once it is sealed.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use fireside_core::{ChannelName, Durability, Epoch};

use crate::codec::Put;
use crate::disk::{Disk, File, read_exact, replace};
use crate::group::{EntryHead, EntryKind, Order, le32, le64};
use crate::hash::{Hashed, Id};
use crate::segment::{SEGMENT_HEADER, index_name};

/// Where an entry stands and what it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// The channel.
    pub id: Id,
    /// What it is.
    pub kind: EntryKind,
    /// Its degree.
    pub degree: Durability,
    /// True if compaction put it here.
    pub copy: bool,
    /// When it was decided.
    pub order: Order,
    /// See [`EntryKind`].
    pub first: u64,
    /// See [`EntryKind`].
    pub last: u64,
    /// Where its head begins in the segment.
    pub place: u32,
    /// Bytes of head and body.
    pub len: u32,
}

const ENTRY: usize = 56;
/// Entries per block: one block is read for most questions.
const BLOCK: usize = 128;
const HEADER: usize = 64;
const MAGIC: [u8; 8] = *b"FIndex01";

impl IndexEntry {
    /// The index's view of an entry whose head begins at `place`.
    pub fn of(head: &EntryHead, id: Id, place: u32) -> IndexEntry {
        IndexEntry {
            id,
            kind: head.kind,
            degree: head.degree,
            copy: head.copy,
            order: head.order,
            first: head.first,
            last: head.last,
            place,
            len: head.size() as u32 + head.body_len,
        }
    }

    /// The head of the entry, as far as the index knows it.
    pub fn head(&self, channel: ChannelName, epoch: Epoch) -> EntryHead {
        EntryHead {
            kind: self.kind,
            degree: self.degree,
            copy: self.copy,
            order: self.order,
            epoch,
            first: self.first,
            last: self.last,
            body_len: 0,
            body_crc: 0,
            channel,
        }
    }

    fn key(&self) -> (Id, bool, Order) {
        (self.id, self.kind == EntryKind::Batch, self.order)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.put_u64(self.id.slot);
        out.put_u64(self.id.check);
        out.put_u64(self.order.0);
        out.put_u64(self.first);
        out.put_u64(self.last);
        out.put_u32(self.place);
        out.put_u32(self.len);
        out.put_u32(self.order.1);
        out.put_u8(self.kind as u8);
        out.put_u8(u8::from(self.degree == Durability::Os) | u8::from(self.copy) << 1);
        out.extend_from_slice(&[0; 2]);
    }

    fn decode(bytes: &[u8]) -> IndexEntry {
        IndexEntry {
            id: Id { slot: le64(bytes, 0), check: le64(bytes, 8) },
            order: (le64(bytes, 16), le32(bytes, 48)),
            first: le64(bytes, 24),
            last: le64(bytes, 32),
            place: le32(bytes, 40),
            len: le32(bytes, 44),
            // Whoever calls this has verified the checksum of the file, so other numbers do not occur.
            kind: match bytes[52] {
                2 => EntryKind::Checkpoint,
                3 => EntryKind::Erase,
                4 => EntryKind::Forget,
                5 => EntryKind::Hole,
                _ => EntryKind::Batch,
            },
            degree: if bytes[53] & 1 != 0 { Durability::Os } else { Durability::Fsync },
            copy: bytes[53] & 2 != 0,
        }
    }
}

/// A question for the batches of one channel.
#[derive(Clone, Copy, Debug)]
pub struct Ask {
    /// Only what was decided later.
    pub later_than: Order,
    /// The last offset that is not wanted.
    pub after: u64,
    /// The last offset that is wanted.
    pub until: u64,
    /// At most so many, the lowest first.
    pub max: usize,
}

/// The index of a segment.
pub enum SegmentIndex {
    /// Still written to, or not sealed yet.
    Open(OpenIndex),
    /// Sealed.
    Sealed(SealedIndex),
}

impl SegmentIndex {
    /// What the segment is, so far.
    pub fn seal(&self) -> Seal {
        match self {
            SegmentIndex::Open(index) => index.seal,
            SegmentIndex::Sealed(index) => index.seal,
        }
    }

    /// Appends all entries of the channel that are not batches.
    ///
    /// # Errors
    /// The index file cannot be read.
    pub fn controls(&self, id: Id, out: &mut Vec<IndexEntry>) -> io::Result<()> {
        match self {
            SegmentIndex::Open(index) => {
                out.extend(index.of_channel(id).filter(|e| e.kind != EntryKind::Batch));
                Ok(())
            }
            SegmentIndex::Sealed(index) => index.walk(
                |e| e.id >= id,
                |e| (e.id == id && e.kind != EntryKind::Batch).then(|| out.push(*e)).is_some(),
            ),
        }
    }

    /// The batches that are asked for, ascending. Within the asked-for life of the channel, offsets ascend with the order.
    ///
    /// # Errors
    /// The index file cannot be read.
    pub fn batches(&self, id: Id, ask: Ask) -> io::Result<Vec<IndexEntry>> {
        let mut out = Vec::new();
        if ask.max == 0 {
            return Ok(out);
        }
        match self {
            SegmentIndex::Open(index) => {
                for e in index.of_channel(id).filter(|e| e.kind == EntryKind::Batch) {
                    if e.order > ask.later_than && e.last > ask.after && e.first <= ask.until {
                        out.push(e);
                    } else if !e.copy && (e.order <= ask.later_than || e.last <= ask.after) {
                        // Whatever stands before an original here was decided earlier.
                        break;
                    }
                }
                out.sort_unstable_by_key(|e| e.order);
                out.truncate(ask.max);
            }
            SegmentIndex::Sealed(index) => {
                let begins = |e: &IndexEntry| {
                    e.id > id
                        || (e.id == id
                            && e.kind == EntryKind::Batch
                            && e.order > ask.later_than
                            && e.last > ask.after)
                };
                index.walk(begins, |e| {
                    let wanted = e.id == id && e.first <= ask.until && out.len() < ask.max;
                    if wanted {
                        out.push(*e);
                    }
                    wanted
                })?;
            }
        }
        Ok(out)
    }

    /// All entries, in no particular order.
    ///
    /// # Errors
    /// The index file cannot be read.
    pub fn all(&self) -> io::Result<Vec<IndexEntry>> {
        match self {
            SegmentIndex::Open(index) => Ok(index.entries.clone()),
            SegmentIndex::Sealed(index) => {
                let bytes = read_exact(&*index.file, HEADER as u64, index.count * ENTRY)?;
                Ok(bytes.chunks_exact(ENTRY).map(IndexEntry::decode).collect())
            }
        }
    }
}

/// The index of a segment that is not sealed: entries in the order in which they were written, linked per channel.
#[derive(Default)]
pub struct OpenIndex {
    entries: Vec<IndexEntry>,
    /// For each entry the one before it of the same slot, plus one; 0 for none.
    before: Vec<u32>,
    newest: HashMap<u64, u32, Hashed>,
    /// What the segment is so far.
    pub seal: Seal,
}

impl OpenIndex {
    /// The index of a segment that begins with `first_sequence` after a group with checksum `previous`.
    pub fn begin(first_sequence: u64, previous: u32) -> OpenIndex {
        let seal = Seal {
            first_sequence,
            last_sequence: first_sequence.saturating_sub(1),
            previous,
            last_crc: previous,
            end: SEGMENT_HEADER as u32,
            epoch_max: 0,
        };
        OpenIndex { seal, ..OpenIndex::default() }
    }

    /// A group was written.
    pub fn group(&mut self, sequence: u64, crc: u32, end: u64, epoch_max: u64) {
        (self.seal.last_sequence, self.seal.last_crc) = (sequence, crc);
        self.seal.end = end as u32;
        self.seal.epoch_max = self.seal.epoch_max.max(epoch_max);
    }

    /// All entries as they were written.
    pub fn entries(&self) -> &[IndexEntry] {
        &self.entries
    }

    /// Adds an entry.
    pub fn push(&mut self, entry: IndexEntry) {
        let number = self.entries.len() as u32 + 1;
        let before = self.newest.insert(entry.id.slot, number).unwrap_or(0);
        self.entries.push(entry);
        self.before.push(before);
    }

    /// The channel's entries, newest place first.
    fn of_channel(&self, id: Id) -> impl Iterator<Item = IndexEntry> + '_ {
        let mut next = self.newest.get(&id.slot).copied().unwrap_or(0);
        std::iter::from_fn(move || {
            let at = next.checked_sub(1)? as usize;
            next = self.before[at];
            Some(self.entries[at])
        })
        .filter(move |e| e.id == id)
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<IndexEntry>()
            + self.before.capacity() * 4
            + self.newest.capacity() * 14
    }
}

/// What an index file says about its segment besides the entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seal {
    /// The sequence of the first group, and of the last.
    pub first_sequence: u64,
    /// The sequence of the last group.
    pub last_sequence: u64,
    /// What the first group names as its previous.
    pub previous: u32,
    /// The checksum of the last group's header.
    pub last_crc: u32,
    /// Where the last group ends.
    pub end: u32,
    /// The highest epoch in it.
    pub epoch_max: u64,
}

/// The index of a sealed segment, of which only every 128th key is in memory.
#[derive(Clone)]
pub struct SealedIndex {
    file: Arc<dyn File>,
    count: usize,
    fences: Vec<IndexEntry>,
    /// What the segment is.
    pub seal: Seal,
}

/// A whole index file.
pub struct IndexFile {
    /// All entries, sorted.
    pub entries: Vec<IndexEntry>,
    /// The name of every channel in it.
    pub names: Vec<(Id, ChannelName)>,
    /// What the segment is.
    pub seal: Seal,
}

impl SealedIndex {
    /// Calls `each` for the entries from the first on for which `begins` holds (it must be monotone), while it returns true.
    fn walk(
        &self,
        begins: impl Fn(&IndexEntry) -> bool,
        mut each: impl FnMut(&IndexEntry) -> bool,
    ) -> io::Result<()> {
        let mut block = self.fences.partition_point(|e| !begins(e)).saturating_sub(1);
        while block * BLOCK < self.count {
            let from = block * BLOCK;
            let n = BLOCK.min(self.count - from);
            let bytes = read_exact(&*self.file, (HEADER + from * ENTRY) as u64, n * ENTRY)?;
            for entry in bytes.chunks_exact(ENTRY).map(IndexEntry::decode).filter(|e| begins(e)) {
                if !each(&entry) {
                    return Ok(());
                }
            }
            block += 1;
        }
        Ok(())
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        self.fences.capacity() * size_of::<IndexEntry>()
    }
}

/// Writes the index file of a segment and returns it, sealed.
///
/// # Errors
/// The disk is full or fails; nothing changed.
pub fn write_index(disk: &dyn Disk, number: u32, mut content: IndexFile) -> io::Result<SealedIndex> {
    content.entries.sort_unstable_by_key(IndexEntry::key);
    let mut out = vec![0; HEADER];
    for entry in &content.entries {
        entry.encode(&mut out);
    }
    for (id, name) in &content.names {
        out.put_u64(id.slot);
        out.put_u64(id.check);
        out.put_u8(name.as_str().len() as u8);
        out.extend_from_slice(name.as_str().as_bytes());
    }
    let seal = content.seal;
    let (body_len, body_crc) = (out.len() - HEADER, crc32c::crc32c(&out[HEADER..]));
    let mut head = Vec::with_capacity(HEADER);
    head.extend_from_slice(&MAGIC);
    head.put_u32(number);
    head.put_u32(content.entries.len() as u32);
    head.put_u64(body_len as u64);
    head.put_u64(seal.first_sequence);
    head.put_u64(seal.last_sequence);
    head.put_u32(seal.previous);
    head.put_u32(seal.last_crc);
    head.put_u32(seal.end);
    head.put_u64(seal.epoch_max);
    head.put_u32(body_crc);
    debug_assert_eq!(head.len(), HEADER);
    out[..HEADER].copy_from_slice(&head);
    // One checksum for all: the body's is in the header, and the header's own is the last word of the file.
    let crc = crc32c::crc32c(&head);
    out.put_u32(crc);
    replace(disk, &index_name(number), &out)?;
    let file = disk.open(&index_name(number))?;
    Ok(SealedIndex { file, count: content.entries.len(), fences: fences(&content.entries), seal })
}

/// Reads an index file whole, and what is kept of it. `None` if it is damaged.
///
/// # Errors
/// The file cannot be read.
pub fn read_index(disk: &dyn Disk, number: u32) -> io::Result<Option<(IndexFile, SealedIndex)>> {
    let file = disk.open(&index_name(number))?;
    let len = usize::try_from(file.len()?).map_err(|_| io::ErrorKind::FileTooLarge)?;
    let bytes = read_exact(&*file, 0, len)?;
    let Some(content) = decode_index(number, &bytes) else { return Ok(None) };
    let kept = SealedIndex {
        file,
        count: content.entries.len(),
        fences: fences(&content.entries),
        seal: content.seal,
    };
    Ok(Some((content, kept)))
}

fn fences(entries: &[IndexEntry]) -> Vec<IndexEntry> {
    entries.iter().step_by(BLOCK).copied().collect()
}

fn decode_index(number: u32, bytes: &[u8]) -> Option<IndexFile> {
    if bytes.len() < HEADER + 4 || bytes[..8] != MAGIC || le32(bytes, 8) != number {
        return None;
    }
    let count = le32(bytes, 12) as usize;
    let body_len = usize::try_from(le64(bytes, 16)).ok()?;
    let body = bytes.get(HEADER..HEADER.checked_add(body_len)?)?;
    let tail = bytes.get(HEADER + body_len..HEADER + body_len + 4)?;
    if le32(tail, 0) != crc32c::crc32c(&bytes[..HEADER]) || le32(bytes, 60) != crc32c::crc32c(body) {
        return None;
    }
    let entries =
        body.get(..count.checked_mul(ENTRY)?)?.chunks_exact(ENTRY).map(IndexEntry::decode).collect();
    let mut names = Vec::new();
    let mut rest = &body[count * ENTRY..];
    while !rest.is_empty() {
        let len = usize::from(*rest.get(16)?);
        let name = std::str::from_utf8(rest.get(17..17 + len)?).ok()?;
        let id = Id { slot: le64(rest, 0), check: le64(rest, 8) };
        names.push((id, ChannelName::parse(name).ok()?));
        rest = &rest[17 + len..];
    }
    let seal = Seal {
        first_sequence: le64(bytes, 24),
        last_sequence: le64(bytes, 32),
        previous: le32(bytes, 40),
        last_crc: le32(bytes, 44),
        end: le32(bytes, 48),
        epoch_max: le64(bytes, 52),
    };
    Some(IndexFile { entries, names, seal })
}
