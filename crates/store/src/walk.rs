//! The chain of groups over all segments: which are good, where the log ends, and what is missing although it was durable.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::disk::File;
use crate::index::{Seal, SealedIndex};
use crate::repair::{Damage, OpenReport, Torn};
use crate::segment::{FoundGroup, SEGMENT_HEADER, SegmentHeader};

/// A segment as it was found.
pub(crate) struct Piece {
    pub number: u32,
    pub file: Arc<dyn File>,
    pub found: Found,
}

pub(crate) enum Found {
    Sealed(SealedIndex),
    Scanned { header: Option<SegmentHeader>, groups: Vec<FoundGroup>, junk: bool },
}

/// Follows the chain of groups over all segments.
pub(crate) struct Walk {
    /// For each piece and group, in order: the highest sequence that it and what follows it say was synced.
    pub evidence: BTreeMap<(usize, usize), u64>,
    /// A sequence that was synced, from the store's own memory.
    pub synced: u64,
    /// Good groups: piece and number in it.
    pub good: Vec<(usize, usize)>,
    /// Groups whose header is good and whose entries are not.
    pub broken: Vec<(usize, usize)>,
    /// True if something durable is lost of which nobody knows what it was.
    pub unknown: bool,
    /// Sequence and checksum of the last good group.
    pub last: Option<(u64, u32)>,
    /// The piece with that group, or one that was begun after it.
    pub last_piece: Option<usize>,
    /// Where the last good group ends in its segment.
    pub end: u64,
    pub marked: u64,
    pub filled: u64,
    /// For each scanned piece, what its first group had to be.
    pub begins: BTreeMap<usize, (u64, u32)>,
}

impl Walk {
    pub fn new(pieces: &[Piece], synced: u64) -> Walk {
        let mut evidence = BTreeMap::new();
        let mut highest = synced;
        for (p, piece) in pieces.iter().enumerate().rev() {
            match &piece.found {
                Found::Sealed(index) => {
                    highest = highest.max(index.seal.last_sequence);
                    evidence.insert((p, 0), highest);
                }
                Found::Scanned { groups, .. } => {
                    for (g, group) in groups.iter().enumerate().rev() {
                        highest = highest.max(group.header.synced);
                        evidence.insert((p, g), highest);
                    }
                    // An empty one tells what follows it.
                    evidence.entry((p, 0)).or_insert(highest);
                }
            }
        }
        Walk {
            evidence,
            synced,
            good: Vec::new(),
            broken: Vec::new(),
            unknown: false,
            last: None,
            last_piece: None,
            end: 0,
            marked: 0,
            filled: 0,
            begins: BTreeMap::new(),
        }
    }

    pub fn run(&mut self, pieces: &[Piece], report: &mut OpenReport) {
        let mut number_before = None;
        for (p, piece) in pieces.iter().enumerate() {
            // Where segments were given back the chain has an end; elsewhere it goes on.
            let follows = number_before == Some(piece.number.wrapping_sub(1));
            number_before = Some(piece.number);
            let continues = match &piece.found {
                Found::Sealed(index) => self.sealed(p, piece, index.seal, follows, report),
                Found::Scanned { header, groups, .. } => {
                    self.scanned(p, piece, header.as_ref(), groups, follows, report)
                }
            };
            if !continues {
                return;
            }
        }
        self.after_the_end(pieces, report);
    }

    fn sealed(
        &mut self,
        p: usize,
        piece: &Piece,
        seal: Seal,
        follows: bool,
        report: &mut OpenReport,
    ) -> bool {
        let chained = self.last.is_none_or(|(s, crc)| (seal.first_sequence, seal.previous) == (s + 1, crc));
        if follows && !chained {
            self.lose(report, piece.number, SEGMENT_HEADER, "groups before this segment are missing");
        }
        self.last = Some((seal.last_sequence, seal.last_crc));
        (self.last_piece, self.end) = (Some(p), u64::from(seal.end));
        (self.marked, self.filled) = (seal.last_sequence, seal.last_sequence);
        true
    }

    fn scanned(
        &mut self,
        p: usize,
        piece: &Piece,
        header: Option<&SegmentHeader>,
        groups: &[FoundGroup],
        follows: bool,
        report: &mut OpenReport,
    ) -> bool {
        let mut expected = match (self.last, header) {
            (_, Some(header)) if !follows => Some((header.first_sequence, header.previous)),
            (Some((s, crc)), _) => Some((s + 1, crc)),
            (None, _) => None,
        };
        if let (false, Some((s, _)), Some((first, _))) = (follows, self.last, expected)
            && first > s + 1
            && !self.problem(p, piece, 0, first - 1, groups, report)
        {
            // Segments are given back only after something on disk says that they were synced; these were lost instead.
            return false;
        }
        if header.is_none() && groups.is_empty() {
            // Junk where a header should be.
            if !self.problem(p, piece, 0, expected.map_or(1, |e| e.0), groups, report) {
                return false;
            }
            self.lose(report, piece.number, 0, "nothing in this segment can be read");
        }
        if let (None, Some(first)) = (expected, groups.first())
            && (first.at, first.header.sequence) != (SEGMENT_HEADER, 1)
        {
            // Nothing says with which group this segment began.
            if !self.problem(p, piece, 0, first.header.sequence.saturating_sub(1).max(1), groups, report) {
                return false;
            }
            if first.at > SEGMENT_HEADER {
                self.lose(report, piece.number, SEGMENT_HEADER, "the begin of this segment is damaged");
            }
        }
        if let Some(expected) = expected {
            self.begins.insert(p, expected);
        }
        if groups.is_empty() {
            (self.last_piece, self.end) = (Some(p), SEGMENT_HEADER);
            self.last = expected.map(|(s, crc)| (s.saturating_sub(1), crc));
        }
        for (g, group) in groups.iter().enumerate() {
            let here = (group.header.sequence, group.header.previous);
            let chained = expected.is_none_or(|e| e == here);
            if !(group.whole && chained) {
                let first = expected.map_or(here.0, |e| e.0);
                if !self.problem(p, piece, g, first, groups, report) {
                    return false;
                }
                if here.0 < first {
                    continue;
                }
                if here.0 > first || (group.whole && !chained) {
                    self.lose(report, piece.number, group.at, "groups before this place are missing");
                }
            }
            if group.whole {
                self.good.push((p, g));
            } else {
                self.broken.push((p, g));
            }
            self.last = Some((here.0, group.crc));
            (self.last_piece, self.end) =
                (Some(p), if group.whole { group.end() } else { next_end(groups, g) });
            self.marked = self.marked.max(group.header.synced);
            if group.header.entries > 0 {
                self.filled = here.0;
            }
            expected = Some((here.0 + 1, group.crc));
        }
        true
    }

    /// Group `first` is bad or missing: damage if anything says that it was synced, else the log ends before it. False in the
    /// latter case.
    fn problem(
        &mut self,
        p: usize,
        piece: &Piece,
        g: usize,
        first: u64,
        groups: &[FoundGroup],
        report: &mut OpenReport,
    ) -> bool {
        let synced = self.evidence.get(&(p, g)).copied().unwrap_or(self.synced);
        if first <= synced {
            return true;
        }
        let at = if self.last_piece == Some(p) { self.end } else { 0 };
        let whole_groups = groups[g.min(groups.len())..].iter().filter(|f| f.whole).count() as u64;
        report.torn = Some(Torn { segment: piece.number, at, sequence: first, whole_groups });
        false
    }

    /// After the last group with a good header there may be one without.
    fn after_the_end(&mut self, pieces: &[Piece], report: &mut OpenReport) {
        let sequence = self.last.map_or(0, |(s, _)| s);
        if sequence < self.synced {
            let number = pieces.last().map_or(0, |p| p.number);
            self.lose(report, number, self.end, "the log ends before what was synced");
        }
        if let Some(piece) = self.last_piece.and_then(|p| pieces.get(p))
            && let Found::Scanned { junk: true, .. } = &piece.found
        {
            report.torn.get_or_insert(Torn {
                segment: piece.number,
                at: self.end,
                sequence: sequence + 1,
                whole_groups: 0,
            });
        }
    }

    fn lose(&mut self, report: &mut OpenReport, segment: u32, at: u64, what: &'static str) {
        self.unknown = true;
        report.damage.push(Damage { segment, at, channel: None, records: None, what });
    }
}

/// Where one may go on writing after a broken group: nothing between it and the next is used again.
pub(crate) fn next_end(groups: &[FoundGroup], g: usize) -> u64 {
    groups.get(g + 1).map_or(groups[g].end(), |next| next.at)
}
