//! The unit on disk: a commit group, its header, and the entries of all channels in it.

use fireside_core::{ChannelName, Durability, Epoch};

use crate::codec::Malformed;

/// Bytes of a group's header. Groups begin at multiples of [`ALIGN`].
pub const HEADER: usize = 64;
/// Groups begin at multiples of this within a segment.
pub const ALIGN: u64 = 8;

/// No offset, epoch or sequence of ours is above this: a stored one that is was made by somebody else, and could not be counted on from.
pub(crate) const NUMBER_MAX: u64 = 1 << 62;

const MAGIC: [u8; 4] = *b"FGr1";

/// What stands before a group's entries. The whole has its own checksum, which is also what the next group names as its previous.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of all entries.
    pub length: u32,
    /// Number of entries; 0 in a mark.
    pub entries: u32,
    /// The random id of the process that wrote it.
    pub life: u128,
    /// The segment it was written to.
    pub segment: u32,
    /// Its number: one more than the group before.
    pub sequence: u64,
    /// The checksum of the header before: groups form a chain.
    pub previous: u32,
    /// The highest sequence that was synced when this was written: everything up to it cannot be torn, only damaged.
    pub synced: u64,
    /// Checksum of the entries.
    pub body_crc: u32,
}

impl Header {
    /// The header's bytes and its checksum.
    pub fn encode(&self) -> ([u8; HEADER], u32) {
        let mut out = [0; HEADER];
        out[0..4].copy_from_slice(&MAGIC);
        out[4..8].copy_from_slice(&self.length.to_le_bytes());
        out[8..12].copy_from_slice(&self.entries.to_le_bytes());
        out[12..28].copy_from_slice(&self.life.to_le_bytes());
        out[28..32].copy_from_slice(&self.segment.to_le_bytes());
        out[32..40].copy_from_slice(&self.sequence.to_le_bytes());
        out[40..44].copy_from_slice(&self.previous.to_le_bytes());
        out[44..52].copy_from_slice(&self.synced.to_le_bytes());
        out[52..56].copy_from_slice(&self.body_crc.to_le_bytes());
        let crc = crc32c::crc32c(&out[..60]);
        out[60..64].copy_from_slice(&crc.to_le_bytes());
        (out, crc)
    }

    /// Reads a header and its checksum; `None` if these bytes are not one.
    pub fn decode(bytes: &[u8]) -> Option<(Header, u32)> {
        let bytes: &[u8; HEADER] = bytes.get(..HEADER)?.try_into().ok()?;
        if bytes[..4] != MAGIC {
            return None;
        }
        let crc = le32(bytes, 60);
        if crc32c::crc32c(&bytes[..60]) != crc {
            return None;
        }
        let header = Header {
            length: le32(bytes, 4),
            entries: le32(bytes, 8),
            life: u128::from(le64(bytes, 12)) | u128::from(le64(bytes, 20)) << 64,
            segment: le32(bytes, 28),
            sequence: le64(bytes, 32),
            previous: le32(bytes, 40),
            synced: le64(bytes, 44),
            body_crc: le32(bytes, 52),
        };
        Some((header, crc))
    }
}

/// Where the group after one of `length` bytes of entries begins, counted from its own begin.
pub fn stride(length: u32) -> u64 {
    (HEADER as u64 + u64::from(length)).next_multiple_of(ALIGN)
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum EntryKind {
    /// Records.
    Batch = 1,
    /// The channel's state; `first` is its oldest readable offset, `last` its newest.
    Checkpoint = 2,
    /// Record `first` is erased wherever it stands.
    Erase = 3,
    /// Nothing before this counts; `first` is the epoch that ended, `last` is 1 if the bucket's generation moved on.
    Forget = 4,
    /// Records `first ..= last` are lost; the channel is readable after them, in `epoch`.
    Hole = 5,
}

impl EntryKind {
    fn from_stored(n: u8) -> Option<EntryKind> {
        Some(match n {
            1 => EntryKind::Batch,
            2 => EntryKind::Checkpoint,
            3 => EntryKind::Erase,
            4 => EntryKind::Forget,
            5 => EntryKind::Hole,
            _ => return None,
        })
    }
}

/// When an entry was decided: its group's sequence and its place in that group. A copy keeps it, and a channel's state is
/// ordered by it, never by where things stand.
pub type Order = (u64, u32);

/// What stands before an entry's body. It has a checksum of its own, so that a damaged body can still be named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryHead {
    /// What it is.
    pub kind: EntryKind,
    /// The degree of durability that it was written with.
    pub degree: Durability,
    /// True if compaction put it here.
    pub copy: bool,
    /// When it was decided.
    pub order: Order,
    /// The channel's epoch in it.
    pub epoch: Epoch,
    /// See [`EntryKind`].
    pub first: u64,
    /// See [`EntryKind`].
    pub last: u64,
    /// Bytes of its body.
    pub body_len: u32,
    /// Checksum of its body.
    pub body_crc: u32,
    /// The channel.
    pub channel: ChannelName,
}

const FIXED: usize = 52;

impl EntryHead {
    /// Bytes of this head.
    pub fn size(&self) -> usize {
        head_len(self.channel.as_str().len())
    }

    /// Appends the head and the body that it describes.
    pub fn encode(&self, body: &[u8], out: &mut Vec<u8>) {
        let begin = out.len();
        let name = self.channel.as_str().as_bytes();
        out.push(self.kind as u8);
        out.push(u8::from(self.degree == Durability::Os) | u8::from(self.copy) << 1);
        // A name has at most 255 bytes (core's limit), so its length always fits.
        out.push(name.len() as u8);
        out.push(0);
        out.extend_from_slice(&self.body_len.to_le_bytes());
        out.extend_from_slice(&self.body_crc.to_le_bytes());
        out.extend_from_slice(&self.order.0.to_le_bytes());
        out.extend_from_slice(&self.order.1.to_le_bytes());
        out.extend_from_slice(&self.epoch.0.to_le_bytes());
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&self.last.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(name);
        let crc = crc32c::crc32c(&out[begin..]);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(body);
    }

    /// Reads the head of the entry that begins at `bytes`.
    ///
    /// # Errors
    /// These bytes are not the head of an entry.
    pub fn decode(bytes: &[u8]) -> Result<EntryHead, Malformed> {
        const BAD: Malformed = Malformed("entry head");
        let fixed = bytes.get(..FIXED).ok_or(BAD)?;
        let name_len = usize::from(fixed[2]);
        let end = head_len(name_len);
        let whole = bytes.get(..end).ok_or(BAD)?;
        if crc32c::crc32c(&whole[..end - 4]) != le32(whole, end - 4) {
            return Err(BAD);
        }
        let name = std::str::from_utf8(&whole[FIXED..FIXED + name_len]).map_err(|_| BAD)?;
        if [12, 24, 32, 40].iter().any(|at| le64(fixed, *at) > NUMBER_MAX) {
            return Err(BAD);
        }
        Ok(EntryHead {
            kind: EntryKind::from_stored(fixed[0]).ok_or(BAD)?,
            degree: if fixed[1] & 1 != 0 { Durability::Os } else { Durability::Fsync },
            copy: fixed[1] & 2 != 0,
            body_len: le32(fixed, 4),
            body_crc: le32(fixed, 8),
            order: (le64(fixed, 12), le32(fixed, 20)),
            epoch: Epoch(le64(fixed, 24)),
            first: le64(fixed, 32),
            last: le64(fixed, 40),
            channel: ChannelName::parse(name).map_err(|_| BAD)?,
        })
    }
}

fn head_len(name_len: usize) -> usize {
    FIXED + name_len + 4
}

/// An entry found in a group.
#[derive(Clone, Debug)]
pub struct FoundEntry {
    /// Its head.
    pub head: EntryHead,
    /// Where the head begins, counted from the begin of the entries.
    pub at: usize,
    /// True if the body has its checksum.
    pub whole: bool,
}

/// Walks the entries of a group. The second part is true if the walk reached the end, so that nothing is unknown.
pub fn entries(body: &[u8]) -> (Vec<FoundEntry>, bool) {
    let mut found = Vec::new();
    let mut at = 0;
    while at < body.len() {
        let Ok(head) = EntryHead::decode(&body[at..]) else { return (found, false) };
        let from = at + head.size();
        let Some(content) = from.checked_add(head.body_len as usize).and_then(|to| body.get(from..to)) else {
            return (found, false);
        };
        let whole = crc32c::crc32c(content) == head.body_crc;
        let next = from + content.len();
        found.push(FoundEntry { head, at, whole });
        at = next;
    }
    (found, true)
}

pub(crate) fn le32(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().rev().fold(0, |n, b| n << 8 | u32::from(*b))
}

pub(crate) fn le64(bytes: &[u8], at: usize) -> u64 {
    bytes[at..at + 8].iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))
}
