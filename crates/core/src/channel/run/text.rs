//! The text of a run, part by part: what may be added to it, what a change makes of it, and how much it may still grow.

use bytes::Bytes;

use super::{Body, Part, json};
use crate::record::{Kind, Record};

/// The kinds of parts. Only `text` is for the reader; it alone makes the `text` of `run.end`.
pub const KINDS: [&str; 6] = ["text", "reasoning", "tool", "source", "file", "data"];

/// A change to the text: one record of the run's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// More text.
    Delta {
        /// The part's number.
        part: u32,
        /// The part's kind, one of [`KINDS`].
        kind: String,
        /// The UTF-16 unit of the part at which the text stands.
        at: u64,
        /// The text.
        text: String,
    },
    /// Text taken back: everything from this place on, later parts included.
    Reset {
        /// The part's number.
        part: u32,
        /// UTF-16 units of it that stay; 0 takes back the part itself.
        to: u64,
    },
}

impl Change {
    /// The record's kind.
    pub fn kind(&self) -> Kind {
        match self {
            Change::Delta { .. } => Kind::RunDelta,
            Change::Reset { .. } => Kind::RunReset,
        }
    }

    /// The record's body.
    pub fn body(&self) -> Bytes {
        json(&match self.clone() {
            Change::Delta { part, kind, at, text } => Body::Delta { part, kind, at, text },
            Change::Reset { part, to } => Body::Reset { part, to },
        })
    }

    /// Bytes of text in it.
    pub fn bytes(&self) -> usize {
        match self {
            Change::Delta { text, .. } => text.len(),
            Change::Reset { .. } => 0,
        }
    }

    /// The change that a record of a run's log is; `None` for its other records.
    pub fn read(record: &Record) -> Option<Change> {
        if !matches!(record.kind, Kind::RunDelta | Kind::RunReset) {
            return None;
        }
        match serde_json::from_slice(&record.body).ok()? {
            Body::Delta { part, kind, at, text } => Some(Change::Delta { part, kind, at, text }),
            Body::Reset { part, to } => Some(Change::Reset { part, to }),
            _ => None,
        }
    }
}

/// Where the text ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// The last part's number; 0 while there is none.
    pub part: u32,
    /// UTF-16 units of it.
    pub at: u64,
}

/// Why a change is none that the text can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// It begins beyond the end.
    Gap,
    /// Other text stands there already, or the part is of another kind, or a later part has begun.
    Contradicts,
    /// It cuts a character in two (RFC 3629 has no lone surrogates).
    Splits,
}

/// The text of a run so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Text {
    parts: Vec<Part>,
    /// UTF-16 units of the last part.
    units: u64,
}

impl Text {
    /// Takes one record of the run's log. Its deltas are adjacent by construction.
    pub fn push(&mut self, record: &Record) {
        if let Some(change) = Change::read(record) {
            self.apply(change);
        }
    }

    /// Takes a change that fits.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Delta { part, kind, text, .. } => {
                let units = units(&text);
                match self.parts.last_mut().filter(|last| last.part == part) {
                    Some(last) => {
                        last.text.push_str(&text);
                        self.units += units;
                    }
                    None => {
                        self.parts.push(Part { part, kind, text });
                        self.units = units;
                    }
                }
            }
            Change::Reset { part, to } => {
                self.parts.truncate(part as usize + usize::from(to > 0));
                let cut = self.parts.last_mut().filter(|last| last.part == part);
                if let Some(last) = cut
                    && let Some(bytes) = bytes_of(&last.text, to)
                {
                    last.text.truncate(bytes);
                }
                self.units = self.parts.last().map_or(0, |last| units(&last.text));
            }
        }
    }

    /// Where it ends.
    pub fn end(&self) -> End {
        End { part: self.parts.last().map_or(0, |last| last.part), at: self.units }
    }

    /// The parts.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// What was written.
    pub fn into_parts(self) -> Vec<Part> {
        self.parts
    }

    /// What of a change is new: `None` if all of it is there already, else what is still to be done. A part that is over takes no more,
    /// and a new one begins with its first text.
    ///
    /// # Errors
    /// The change does not fit what is there.
    pub fn news(&self, change: &Change) -> Result<Option<Change>, Misfit> {
        match change {
            Change::Reset { part, to } => self.news_of_reset(*part, *to),
            Change::Delta { text, .. } if text.is_empty() => Ok(None),
            Change::Delta { part, kind, at, text } => {
                let Some(known) = self.parts.get(*part as usize) else {
                    let is_next = *part as usize == self.parts.len() && *at == 0;
                    return if is_next { Ok(Some(change.clone())) } else { Err(Misfit::Gap) };
                };
                let is_last = *part as usize + 1 == self.parts.len();
                if known.kind != *kind {
                    return Err(Misfit::Contradicts);
                }
                if is_last && *at == self.units {
                    return Ok(Some(change.clone()));
                }
                let there = units(&known.text);
                if *at > there {
                    return Err(if is_last { Misfit::Gap } else { Misfit::Contradicts });
                }
                let from = bytes_of(&known.text, *at).ok_or(Misfit::Splits)?;
                match known.text[from..].strip_prefix(text.as_str()) {
                    Some(_) => Ok(None),
                    None => {
                        let more = text.strip_prefix(&known.text[from..]).filter(|_| is_last);
                        let text = more.ok_or(Misfit::Contradicts)?.to_owned();
                        Ok(Some(Change::Delta { part: *part, kind: kind.clone(), at: there, text }))
                    }
                }
            }
        }
    }

    fn news_of_reset(&self, part: u32, to: u64) -> Result<Option<Change>, Misfit> {
        let Some(known) = self.parts.get(part as usize) else {
            let is_end = part as usize == self.parts.len() && to == 0;
            return if is_end { Ok(None) } else { Err(Misfit::Gap) };
        };
        let there = units(&known.text);
        if to > there {
            return Err(Misfit::Gap);
        }
        bytes_of(&known.text, to).ok_or(Misfit::Splits)?;
        let is_end = part as usize + 1 == self.parts.len() && to == there;
        Ok((!is_end).then_some(Change::Reset { part, to }))
    }
}

fn units(text: &str) -> u64 {
    text.chars().map(|char| char.len_utf16() as u64).sum()
}

/// The bytes of the first `at` UTF-16 units. `None`: there are fewer, or the last one is half a character.
fn bytes_of(text: &str, at: u64) -> Option<usize> {
    let mut units = 0;
    for (bytes, char) in text.char_indices() {
        if units >= at {
            return (units == at).then_some(bytes);
        }
        units += char.len_utf16() as u64;
    }
    (units == at).then_some(text.len())
}

/// How much a run may still hold: by its own bound, and by what its text makes of `run.end`, where it stands escaped.
#[derive(Clone, Copy, Debug)]
pub struct Room {
    text: usize,
    end: usize,
}

/// What `run.end` holds beside its texts, and each of its parts beside its own: with these it fits a quarter of an outbox.
const ENVELOPE_BYTES: usize = 8 * 1024;
const PART_BYTES: usize = 64;

impl Room {
    /// Room for `text_bytes_max` bytes of text, in a `run.end` of at most a quarter of an outbox.
    pub fn new(text_bytes_max: usize, outbox_bytes_max: usize) -> Room {
        let quarter = outbox_bytes_max / 4;
        Room { text: text_bytes_max, end: quarter - ENVELOPE_BYTES.min(quarter / 8) }
    }

    /// Takes room for as much of `text` as fits, and answers how many bytes of it do.
    pub fn take(&mut self, kind: &str, is_new_part: bool, text: &str) -> usize {
        let Some(mut end) = self.end.checked_sub(if is_new_part { PART_BYTES } else { 0 }) else {
            return 0;
        };
        // Once in its part; what is for the reader, in the whole text too.
        let times = if kind == "text" { 2 } else { 1 };
        let mut fits = 0;
        for char in text.chars() {
            let bytes = times * escaped_bytes(char);
            if fits + char.len_utf8() > self.text || bytes > end {
                break;
            }
            end -= bytes;
            fits += char.len_utf8();
        }
        (self.text, self.end) = (self.text - fits, end);
        fits
    }

    /// Takes room for a reset, which makes its run's log longer though its text shorter; what it takes back is not given again. False
    /// if there is none.
    pub fn take_reset(&mut self) -> bool {
        let left = self.text.checked_sub(PART_BYTES);
        self.text = left.unwrap_or(self.text);
        left.is_some()
    }

    /// Takes room for what a run's log bears already.
    pub fn take_written(&mut self, change: &Change) {
        match change {
            Change::Delta { kind, at, text, .. } => drop(self.take(kind, *at == 0, text)),
            Change::Reset { .. } => drop(self.take_reset()),
        }
    }
}

/// What JSON makes of a character (RFC 8259 §7), as our encoder writes it.
fn escaped_bytes(char: char) -> usize {
    match char {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        _ => char.len_utf8(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delta(part: u32, at: u64, text: &str) -> Change {
        Change::Delta { part, kind: "text".to_owned(), at, text: text.to_owned() }
    }

    fn text(changes: &[Change]) -> Text {
        let mut text = Text::default();
        changes.iter().for_each(|change| text.apply(change.clone()));
        text
    }

    #[test]
    fn what_is_there_is_not_news_and_what_goes_on_from_it_is() {
        let so_far = text(&[delta(0, 0, "Once 🔥"), delta(1, 0, "upon")]);
        assert_eq!(so_far.end(), End { part: 1, at: 4 });
        for (change, news) in [
            (delta(1, 4, " a"), Ok(Some(delta(1, 4, " a")))),
            (delta(1, 2, "on a"), Ok(Some(delta(1, 4, " a")))),
            (delta(1, 0, "upon"), Ok(None)),
            (delta(1, 1, "po"), Ok(None)),
            (delta(1, 4, ""), Ok(None)),
            (delta(0, 5, "🔥"), Ok(None)),
            (delta(2, 0, "a"), Ok(Some(delta(2, 0, "a")))),
            (delta(1, 5, "a"), Err(Misfit::Gap)),
            (delta(2, 1, "a"), Err(Misfit::Gap)),
            (delta(3, 0, "a"), Err(Misfit::Gap)),
            (delta(1, 2, "off"), Err(Misfit::Contradicts)),
            (delta(0, 5, "🔥!"), Err(Misfit::Contradicts)),
            (delta(0, 7, "!"), Err(Misfit::Contradicts)),
            (delta(0, 6, "x"), Err(Misfit::Splits)),
            (
                Change::Delta { part: 1, kind: "tool".to_owned(), at: 4, text: "x".to_owned() },
                Err(Misfit::Contradicts),
            ),
        ] {
            assert_eq!(so_far.news(&change), news, "{change:?}");
        }
    }

    #[test]
    fn a_reset_takes_back_what_follows_and_cuts_no_character() {
        let so_far = text(&[delta(0, 0, "a🔥b"), delta(1, 0, "later")]);
        let reset = |part, to| Change::Reset { part, to };
        for (change, news) in [
            (reset(1, 5), Ok(None)),
            (reset(2, 0), Ok(None)),
            (reset(0, 4), Ok(Some(reset(0, 4)))),
            (reset(0, 2), Err(Misfit::Splits)),
            (reset(1, 6), Err(Misfit::Gap)),
            (reset(2, 1), Err(Misfit::Gap)),
        ] {
            assert_eq!(so_far.news(&change), news, "{change:?}");
        }
        for (change, left, end) in [
            (reset(0, 3), vec!["a🔥"], End { part: 0, at: 3 }),
            (reset(0, 0), vec![], End { part: 0, at: 0 }),
            (reset(1, 0), vec!["a🔥b"], End { part: 0, at: 4 }),
        ] {
            let mut cut = so_far.clone();
            cut.apply(change);
            assert_eq!(cut.parts().iter().map(|part| part.text.as_str()).collect::<Vec<_>>(), left);
            assert_eq!(cut.end(), end);
        }
    }

    #[test]
    fn i8_bounded_room_is_for_text_as_it_is_escaped_and_a_reset_gives_none_back() {
        let mut room = Room::new(8, 1024 * 1024);
        assert_eq!(room.take("text", true, "ab🔥cdef"), 8, "the character that does not fit is not cut");
        assert_eq!(room.take("text", false, "x"), 0);
        assert!(!room.take_reset());
        let mut room = Room::new(1024 * 1024, 64 * 1024);
        let control = "\u{1}".repeat(16 * 1024);
        assert_eq!(room.take("text", true, &control), (14 * 1024 - PART_BYTES) / 12);
        let mut room = Room::new(200, 64 * 1024);
        assert!((0..3).all(|_| room.take_reset()));
        assert!(!room.take_reset());
    }
}
