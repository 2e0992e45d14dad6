//! Segment files: their names, their header, and reading all groups of one.

use std::io;
use std::sync::{Arc, RwLock};

use crate::disk::{File, read_up_to};
use crate::group::{ALIGN, HEADER, Header, le32, le64, stride};
use crate::index::SegmentIndex;

/// Bytes of a segment's header; the first group begins after it.
pub const SEGMENT_HEADER: u64 = 64;

const MAGIC: [u8; 8] = *b"FSegmnt1";

/// A segment in use.
pub struct Segment {
    /// Its number: later segments have greater ones, and none is ever used twice.
    pub number: u32,
    /// Its file.
    pub file: Arc<dyn File>,
    /// What is in it, by channel.
    pub index: RwLock<SegmentIndex>,
}

/// What stands at the begin of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Its number.
    pub number: u32,
    /// The sequence of its first group.
    pub first_sequence: u64,
    /// What its first group names as its previous.
    pub previous: u32,
    /// The salt of the store, which also proves that the file belongs to it.
    pub salt: [u8; 16],
}

impl SegmentHeader {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; SEGMENT_HEADER as usize] {
        let mut out = [0; SEGMENT_HEADER as usize];
        out[0..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&self.number.to_le_bytes());
        out[12..20].copy_from_slice(&self.first_sequence.to_le_bytes());
        out[20..24].copy_from_slice(&self.previous.to_le_bytes());
        out[24..40].copy_from_slice(&self.salt);
        let crc = crc32c::crc32c(&out[..60]);
        out[60..64].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header; `None` if these bytes are not one.
    pub fn decode(bytes: &[u8]) -> Option<SegmentHeader> {
        let bytes: &[u8; SEGMENT_HEADER as usize] = bytes.get(..SEGMENT_HEADER as usize)?.try_into().ok()?;
        if bytes[..8] != MAGIC || crc32c::crc32c(&bytes[..60]) != le32(bytes, 60) {
            return None;
        }
        Some(SegmentHeader {
            number: le32(bytes, 8),
            first_sequence: le64(bytes, 12),
            previous: le32(bytes, 20),
            salt: bytes[24..40].try_into().ok()?,
        })
    }
}

/// The name of segment `number`.
pub fn segment_name(number: u32) -> String {
    format!("segment-{number:08x}.log")
}

/// The name of its index.
pub fn index_name(number: u32) -> String {
    format!("segment-{number:08x}.index")
}

/// The number in a segment's or an index's name, and whether it is an index.
pub fn parse_name(name: &str) -> Option<(u32, bool)> {
    let rest = name.strip_prefix("segment-")?;
    let (digits, index) = match rest.strip_suffix(".log") {
        Some(digits) => (digits, false),
        None => (rest.strip_suffix(".index")?, true),
    };
    let number = u32::from_str_radix(digits, 16).ok()?;
    (digits.len() == 8 && format!("{number:08x}") == digits).then_some((number, index))
}

/// A group found in a segment.
#[derive(Clone, Debug)]
pub struct FoundGroup {
    /// Where its header begins.
    pub at: u64,
    /// Its header.
    pub header: Header,
    /// The header's checksum.
    pub crc: u32,
    /// True if its entries have their checksum.
    pub whole: bool,
}

impl FoundGroup {
    /// Where the next group begins.
    pub fn end(&self) -> u64 {
        self.at + stride(self.header.length)
    }

    /// Its entries' bytes.
    pub fn body<'a>(&self, content: &'a [u8]) -> &'a [u8] {
        let from = self.at as usize + HEADER;
        content.get(from..from + self.header.length as usize).unwrap_or(&[])
    }
}

/// All that is in a segment.
pub struct Scan {
    /// The file's bytes.
    pub content: Vec<u8>,
    /// Its header, unless it is bad or was never written.
    pub header: Option<SegmentHeader>,
    /// Every group whose header is good, ascending.
    pub groups: Vec<FoundGroup>,
}

impl Scan {
    /// Reads a segment whole.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(file: &dyn File, number: u32) -> io::Result<Scan> {
        let mut content = vec![0; usize::try_from(file.len()?).map_err(|_| io::ErrorKind::FileTooLarge)?];
        let got = read_up_to(file, &mut content, 0)?;
        content.truncate(got);
        let header = SegmentHeader::decode(&content).filter(|h| h.number == number);
        let groups = find_groups(&content, number);
        Ok(Scan { content, header, groups })
    }

    /// True if nothing was ever written: a spare.
    pub fn is_blank(&self) -> bool {
        self.header.is_none() && self.groups.is_empty()
    }
}

const ZEROS: [u8; 4096] = [0; 4096];

/// True if nothing but zeros is here.
pub fn is_zero(bytes: &[u8]) -> bool {
    let pages = bytes.chunks_exact(ZEROS.len());
    pages.remainder().iter().all(|b| *b == 0) && pages.into_iter().all(|page| page == ZEROS)
}

/// From a good header one steps to the next group; where there is none, every aligned place is tried, so that what follows a damaged
/// header is found. A record's body cannot pose as a group: the header bears raw numbers that no JSON text contains.
fn find_groups(content: &[u8], number: u32) -> Vec<FoundGroup> {
    let mut groups = Vec::new();
    let mut at = SEGMENT_HEADER as usize;
    while at + HEADER <= content.len() {
        let found = Header::decode(&content[at..]).filter(|(h, _)| h.segment == number);
        let Some((header, crc)) = found else {
            // What was allocated and never written is skipped by the page.
            let blank = content.get(at..at + ZEROS.len()).is_some_and(|page| page == ZEROS);
            at += if blank { ZEROS.len() } else { ALIGN as usize };
            continue;
        };
        let mut group = FoundGroup { at: at as u64, header, crc, whole: false };
        let body = group.body(content);
        group.whole = body.len() == header.length as usize && crc32c::crc32c(body) == header.body_crc;
        at += if group.whole { stride(header.length) as usize } else { HEADER };
        groups.push(group);
    }
    groups
}
