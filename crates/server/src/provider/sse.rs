//! Server-sent events as a client reads them: bytes split anywhere in, events out, bounded in line and event.
//!
//! The rules are those of the WHATWG HTML standard, §9.2.6 "Interpreting an event stream". Ids and retry times are ignored: a
//! generation cannot be resumed by them.

use bytes::{Buf, Bytes};

/// Bytes of one line at most.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of one event's data at most.
pub const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// One event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SseEvent {
    /// Its `event` field; empty if it has none.
    pub name: String,
    /// Its `data` lines, joined by LF.
    pub data: String,
}

/// A line or an event is longer than its bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SseTooLong;

/// Reads one stream. Push bytes, then take events until there is none.
#[derive(Debug, Default)]
pub struct SseReader {
    /// What was pushed and not yet looked at. Every byte is looked at once.
    fresh: Bytes,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    /// The last line ended in CR: an LF that follows belongs to it, even if it comes a minute later.
    after_cr: bool,
    /// The first line is over: a byte order mark may no longer come.
    begun: bool,
    name: String,
    data: String,
    has_data: bool,
}

impl SseReader {
    /// Takes the next bytes of the stream. Everything pushed before must have been read: `next_event` has said `None`.
    pub fn push(&mut self, bytes: Bytes) {
        debug_assert!(self.fresh.is_empty(), "pushed before the last bytes were read");
        self.fresh = bytes;
    }

    /// The next whole event; `None` when more bytes are needed. An event that the stream's end cuts off is never given.
    ///
    /// # Errors
    /// A line or an event is too long; the stream cannot be read on.
    pub fn next_event(&mut self) -> Result<Option<SseEvent>, SseTooLong> {
        while let Some(line) = self.next_line()? {
            if line.is_empty() {
                let name = std::mem::take(&mut self.name);
                let data = std::mem::take(&mut self.data);
                if std::mem::take(&mut self.has_data) {
                    return Ok(Some(SseEvent { name, data }));
                }
                continue;
            }
            self.take_field(&line)?;
        }
        Ok(None)
    }

    fn next_line(&mut self) -> Result<Option<Vec<u8>>, SseTooLong> {
        if self.after_cr && !self.fresh.is_empty() {
            self.after_cr = false;
            if self.fresh[0] == b'\n' {
                self.fresh.advance(1);
            }
        }
        let end = self.fresh.iter().position(|b| matches!(b, b'\r' | b'\n'));
        let taken = self.fresh.split_to(end.unwrap_or(self.fresh.len()));
        if self.line.len() + taken.len() > LINE_BYTES_MAX {
            return Err(SseTooLong);
        }
        self.line.extend_from_slice(&taken);
        if end.is_none() {
            return Ok(None);
        }
        self.after_cr = self.fresh[0] == b'\r';
        self.fresh.advance(1);
        let mut line = std::mem::take(&mut self.line);
        if !std::mem::replace(&mut self.begun, true) && line.starts_with(b"\xef\xbb\xbf") {
            line.drain(..3);
        }
        Ok(Some(line))
    }

    fn take_field(&mut self, line: &[u8]) -> Result<(), SseTooLong> {
        let (field, value) = match line.iter().position(|b| *b == b':') {
            Some(0) => return Ok(()), // a comment: a keep-alive, and no progress
            Some(at) => (&line[..at], line[at + 1..].strip_prefix(b" ").unwrap_or(&line[at + 1..])),
            None => (line, &b""[..]),
        };
        let value = String::from_utf8_lossy(value);
        match field {
            b"data" => {
                if self.data.len() + value.len() + 1 > EVENT_BYTES_MAX {
                    return Err(SseTooLong);
                }
                if self.has_data {
                    self.data.push('\n');
                }
                self.data.push_str(&value);
                self.has_data = true;
            }
            b"event" => self.name = value.into_owned(),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_in_pieces(stream: &[u8], piece: usize) -> Vec<(String, String)> {
        let mut reader = SseReader::default();
        let mut events = Vec::new();
        for bytes in stream.chunks(piece) {
            reader.push(Bytes::copy_from_slice(bytes));
            while let Some(event) = reader.next_event().unwrap() {
                events.push((event.name, event.data));
            }
        }
        events
    }

    #[test]
    fn every_line_ending_and_every_split_reads_the_same() {
        let stream = "\u{feff}data: one\r\ndata: more\r\n\r\n: hello\nevent: error\rdata:two\rdata:  three\r\rid: 7\ndata\n\n\
                      retry: 5\n\ndata: é\n\ndata: cut off";
        let expected = [("", "one\nmore"), ("error", "two\n three"), ("", ""), ("", "é")]
            .map(|(name, data)| (name.to_owned(), data.to_owned()));
        for piece in 1..=stream.len() {
            assert_eq!(read_in_pieces(stream.as_bytes(), piece), expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn an_event_is_given_as_soon_as_its_carriage_return_is_there() {
        let mut reader = SseReader::default();
        reader.push(Bytes::from_static(b"data: a\r\r"));
        assert_eq!(reader.next_event().unwrap().unwrap().data, "a");
        assert_eq!(reader.next_event(), Ok(None));
        reader.push(Bytes::from_static(b"\ndata: b\r\n\r\n"));
        assert_eq!(reader.next_event().unwrap().unwrap().data, "b");
    }

    #[test]
    fn a_byte_order_mark_later_on_is_no_mark() {
        assert_eq!(read_in_pieces("data: a\n\n\u{feff}data: b\n\ndata: c\n\n".as_bytes(), 3).len(), 2);
    }

    #[test]
    fn i8_lines_and_events_are_bounded() {
        let mut reader = SseReader::default();
        let mut outcome = Ok(None);
        let mut pushed = 0;
        while outcome == Ok(None) && pushed < 4 * LINE_BYTES_MAX {
            reader.push(Bytes::from(vec![b'x'; 64 * 1024]));
            pushed += 64 * 1024;
            outcome = reader.next_event();
        }
        assert_eq!((outcome, pushed), (Err(SseTooLong), LINE_BYTES_MAX + 64 * 1024));

        let mut reader = SseReader::default();
        let line = [&b"data: "[..], &[b'y'; 64 * 1024], b"\n"].concat();
        let mut outcome = Ok(None);
        let mut lines = 0;
        while outcome == Ok(None) && lines < 64 {
            reader.push(Bytes::from(line.clone()));
            lines += 1;
            outcome = reader.next_event();
        }
        assert_eq!((outcome, lines), (Err(SseTooLong), 16));
    }
}
