//! The server's half of the WebSocket framing of RFC 6455 and RFC 7692: bytes in, messages out, and the reverse. Knows no socket.

use std::borrow::Cow;

use super::deflate;

/// Bytes of the longest header that a server writes: nothing is masked.
pub const HEADER_BYTES_MAX: usize = 10;
/// Bytes of the longest payload of a control frame (RFC 6455 §5.5).
pub const CONTROL_BYTES_MAX: usize = 125;
/// Bytes of the longest reason in a close frame: the code takes two.
pub const REASON_BYTES_MAX: usize = CONTROL_BYTES_MAX - 2;

/// Bytes of the longest header that a client writes.
const CLIENT_HEADER_BYTES_MAX: usize = 14;

/// What one message may cost us before it is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageLimits {
    /// Bytes of a message, as sent and again after inflating.
    pub bytes_max: usize,
    /// Frames that a message may be cut into.
    pub fragments_max: u32,
    /// Time from a message's first byte to its last, in ms; looked at whenever bytes arrive.
    pub ms_max: u64,
    /// How many times its compressed size a message may inflate to. The first 4 KiB are free.
    pub inflate_ratio_max: usize,
}

impl MessageLimits {
    /// What a server on the internet grants.
    pub const PRODUCTION: MessageLimits =
        MessageLimits { bytes_max: 80 * 1024, fragments_max: 256, ms_max: 30_000, inflate_ratio_max: 64 };
}

/// What a message holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// UTF-8.
    Text,
    /// Anything.
    Binary,
}

/// What the client sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A whole message. The payload of text is valid UTF-8.
    Message {
        /// Text or binary.
        kind: Kind,
        /// The bytes, unmasked and inflated.
        payload: Cow<'a, [u8]>,
    },
    /// It wants a pong with these bytes.
    Ping(Cow<'a, [u8]>),
    /// An answer to a ping of ours, or a heartbeat of its own.
    Pong,
    /// It closes, perhaps saying why.
    Close(Option<u16>),
}

/// How a client broke the rules: the close code and a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// 1002, 1007, 1008 or 1009 (RFC 6455 §7.4.1).
    pub code: u16,
    /// One sentence.
    pub reason: &'static str,
}

impl Fault {
    pub(super) const fn broken(reason: &'static str) -> Self {
        Fault { code: 1002, reason }
    }

    pub(super) const fn invalid(reason: &'static str) -> Self {
        Fault { code: 1007, reason }
    }

    pub(super) const fn too_slow(reason: &'static str) -> Self {
        Fault { code: 1008, reason }
    }

    pub(super) const fn too_big(reason: &'static str) -> Self {
        Fault { code: 1009, reason }
    }
}

/// Turns a client's bytes into items, however they are cut. Between messages it owns no heap.
#[derive(Debug, Default)]
pub struct Decoder {
    partial: Option<Box<Partial>>,
    deflate: bool,
}

impl Decoder {
    /// A decoder at the start of a connection. With `deflate`, permessage-deflate was negotiated.
    pub fn new(deflate: bool) -> Self {
        Decoder { partial: None, deflate }
    }

    /// Reads on: how many bytes of `input` were used, and the item they completed. Call again with what is left until
    /// all of it is used. `input` is unmasked in place. `now_ms` is a clock that never goes back, asked only while a message
    /// is incomplete.
    ///
    /// # Errors
    /// The client broke the protocol or a limit. The decoder is then of no further use.
    pub fn next<'a>(
        &mut self,
        input: &'a mut [u8],
        limits: &MessageLimits,
        now_ms: impl FnOnce() -> u64,
    ) -> Result<(usize, Option<Item<'a>>), Fault> {
        if input.is_empty() {
            return Ok((0, None));
        }
        // The usual case: one frame, all of it here, one message. Nothing is copied.
        if self.partial.is_none()
            && let Some(header) = Header::parse(input, self.deflate)?
            && header.is_alone()
        {
            header.fits(limits, 0)?;
            if let Ok(len) = usize::try_from(header.payload)
                && len <= input.len() - header.size
            {
                let payload = &mut input[header.size..header.size + len];
                unmask(payload, header.mask);
                return Ok((header.size + len, Some(whole(&header, payload, limits)?)));
            }
        }
        self.next_in_parts(input, limits, now_ms())
    }

    /// True while a message or a header is incomplete.
    pub fn is_amid(&self) -> bool {
        self.partial.is_some()
    }

    fn next_in_parts(
        &mut self,
        input: &mut [u8],
        limits: &MessageLimits,
        now_ms: u64,
    ) -> Result<(usize, Option<Item<'static>>), Fault> {
        let deflate = self.deflate;
        let partial = self.partial.get_or_insert_with(|| Box::new(Partial::begun(now_ms)));
        if now_ms.saturating_sub(partial.begun_ms) > limits.ms_max {
            return Err(Fault::too_slow("message takes too long"));
        }
        let mut used = 0;
        let item = loop {
            if partial.frame.is_none() {
                used += partial.take_header(&input[used..], deflate, limits)?;
            }
            let Some(frame) = &partial.frame else { break None };
            let missing = usize::try_from(frame.missing).unwrap_or(usize::MAX);
            let there = missing.min(input.len() - used);
            partial.take_payload(&mut input[used..used + there])?;
            used += there;
            if there < missing {
                break None;
            }
            if let Some(item) = partial.end_frame(limits)? {
                break Some(item);
            }
        };
        if partial.is_done() {
            self.partial = None;
        }
        Ok((used, item))
    }
}

/// What is known of a message, or of a header, that is not whole yet.
#[derive(Debug)]
struct Partial {
    begun_ms: u64,
    header: [u8; CLIENT_HEADER_BYTES_MAX],
    header_len: u8,
    frame: Option<Frame>,
    control: Vec<u8>,
    message: Option<Message>,
}

/// The frame whose payload is arriving.
#[derive(Debug)]
struct Frame {
    opcode: Opcode,
    fin: bool,
    mask: [u8; 4],
    missing: u64,
}

/// The message whose frames are arriving.
#[derive(Debug)]
struct Message {
    kind: Kind,
    compressed: bool,
    fragments: u32,
    bytes: Vec<u8>,
    /// How much of `bytes` is known to be UTF-8.
    checked: usize,
}

impl Partial {
    fn begun(now_ms: u64) -> Self {
        Partial {
            begun_ms: now_ms,
            header: [0; CLIENT_HEADER_BYTES_MAX],
            header_len: 0,
            frame: None,
            control: Vec::new(),
            message: None,
        }
    }

    fn is_done(&self) -> bool {
        self.frame.is_none() && self.header_len == 0 && self.message.is_none()
    }

    /// Gathers a header, and opens its frame once it is whole. Returns how many bytes belong to it.
    fn take_header(&mut self, input: &[u8], deflate: bool, limits: &MessageLimits) -> Result<usize, Fault> {
        let had = usize::from(self.header_len);
        let there = input.len().min(CLIENT_HEADER_BYTES_MAX - had);
        self.header[had..had + there].copy_from_slice(&input[..there]);
        let Some(header) = Header::parse(&self.header[..had + there], deflate)? else {
            self.header_len = (had + there) as u8;
            return Ok(there);
        };
        self.header_len = 0;
        self.open_frame(&header, limits)?;
        Ok(header.size - had)
    }

    fn open_frame(&mut self, header: &Header, limits: &MessageLimits) -> Result<(), Fault> {
        match (header.opcode, &mut self.message) {
            (Opcode::Continuation, None) => return Err(Fault::broken("nothing to continue")),
            (Opcode::Text | Opcode::Binary, Some(_)) => {
                return Err(Fault::broken("message inside a message"));
            }
            (Opcode::Continuation, Some(message)) => {
                header.fits(limits, message.bytes.len())?;
                message.fragments += 1;
                if message.fragments > limits.fragments_max {
                    return Err(Fault::too_big("too many fragments"));
                }
            }
            (Opcode::Text | Opcode::Binary, empty) => {
                header.fits(limits, 0)?;
                let kind = if header.opcode == Opcode::Text { Kind::Text } else { Kind::Binary };
                let message = Message {
                    kind,
                    compressed: header.compressed,
                    fragments: 1,
                    bytes: Vec::new(),
                    checked: 0,
                };
                *empty = Some(message);
            }
            (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => {}
        }
        self.frame = Some(Frame {
            opcode: header.opcode,
            fin: header.fin,
            mask: header.mask,
            missing: header.payload,
        });
        Ok(())
    }

    /// Takes masked payload of the open frame, at most what is missing of it.
    fn take_payload(&mut self, chunk: &mut [u8]) -> Result<(), Fault> {
        let Some(frame) = &mut self.frame else { return Ok(()) };
        unmask(chunk, frame.mask);
        frame.mask.rotate_left(chunk.len() % 4);
        frame.missing -= chunk.len() as u64;
        if frame.opcode.is_control() {
            self.control.extend_from_slice(chunk);
        } else if let Some(message) = &mut self.message {
            message.bytes.extend_from_slice(chunk);
            if message.kind == Kind::Text && !message.compressed {
                message.checked += utf8_so_far(&message.bytes[message.checked..])?;
            }
        }
        Ok(())
    }

    fn end_frame(&mut self, limits: &MessageLimits) -> Result<Option<Item<'static>>, Fault> {
        let Some(frame) = self.frame.take() else { return Ok(None) };
        if frame.opcode.is_control() {
            let payload = std::mem::take(&mut self.control);
            return control(frame.opcode, Cow::Owned(payload)).map(Some);
        }
        if !frame.fin {
            return Ok(None);
        }
        let Some(message) = self.message.take() else { return Ok(None) };
        let payload = if message.compressed {
            inflated(&message.bytes, message.kind, limits)?
        } else if message.kind == Kind::Text && message.checked < message.bytes.len() {
            return Err(Fault::invalid("text is not UTF-8"));
        } else {
            message.bytes
        };
        Ok(Some(Item::Message { kind: message.kind, payload: Cow::Owned(payload) }))
    }
}

/// A client's frame header, checked.
#[derive(Clone, Copy, Debug)]
struct Header {
    opcode: Opcode,
    fin: bool,
    compressed: bool,
    mask: [u8; 4],
    payload: u64,
    size: usize,
}

impl Header {
    /// Reads a header; `None` if more bytes are needed. What can be refused by the first two bytes is refused by them.
    fn parse(bytes: &[u8], deflate: bool) -> Result<Option<Header>, Fault> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        let opcode = Opcode::parse(first & 0x0f).ok_or(Fault::broken("reserved opcode"))?;
        let fin = first & 0x80 != 0;
        let compressed = first & 0x40 != 0;
        if first & 0x30 != 0 || compressed && !(deflate && opcode.is_data_start()) {
            return Err(Fault::broken("reserved bit"));
        }
        if opcode.is_control() && !fin {
            return Err(Fault::broken("fragmented control frame"));
        }
        let Some(&second) = bytes.get(1) else { return Ok(None) };
        if second & 0x80 == 0 {
            return Err(Fault::broken("frame without a mask"));
        }
        let short = second & 0x7f;
        if opcode.is_control() && usize::from(short) > CONTROL_BYTES_MAX {
            return Err(Fault::broken("control frame too long"));
        }
        let (payload, mask_at) = match short {
            126 => match bytes.get(2..4) {
                Some(&[a, b]) => (u64::from(u16::from_be_bytes([a, b])), 4),
                _ => return Ok(None),
            },
            127 => match bytes.get(2..10).and_then(|long| long.try_into().ok()) {
                Some(long) => (u64::from_be_bytes(long), 10),
                None => return Ok(None),
            },
            short => (u64::from(short), 2),
        };
        // RFC 6455 §5.2: the minimal number of bytes, and the most significant bit of a 64-bit length is 0.
        if mask_at == 4 && payload < 126 || mask_at == 10 && (payload <= 0xffff || payload >> 63 != 0) {
            return Err(Fault::broken("malformed length"));
        }
        let Some(&[a, b, c, d]) = bytes.get(mask_at..mask_at + 4) else { return Ok(None) };
        Ok(Some(Header { opcode, fin, compressed, mask: [a, b, c, d], payload, size: mask_at + 4 }))
    }

    /// True if the frame is an item by itself.
    fn is_alone(&self) -> bool {
        self.fin && self.opcode != Opcode::Continuation
    }

    /// Refuses a length before anything is kept for it.
    fn fits(&self, limits: &MessageLimits, before: usize) -> Result<(), Fault> {
        if self.payload > limits.bytes_max.saturating_sub(before) as u64 {
            return Err(Fault::too_big("message too big"));
        }
        Ok(())
    }
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opcode {
    /// More of the message before.
    Continuation = 0,
    /// A text message begins.
    Text = 1,
    /// A binary message begins.
    Binary = 2,
    /// The end.
    Close = 8,
    /// Are you there?
    Ping = 9,
    /// Yes.
    Pong = 10,
}

impl Opcode {
    fn parse(bits: u8) -> Option<Opcode> {
        Some(match bits {
            0 => Opcode::Continuation,
            1 => Opcode::Text,
            2 => Opcode::Binary,
            8 => Opcode::Close,
            9 => Opcode::Ping,
            10 => Opcode::Pong,
            _ => return None,
        })
    }

    fn is_control(self) -> bool {
        self as u8 & 8 != 0
    }

    fn is_data_start(self) -> bool {
        matches!(self, Opcode::Text | Opcode::Binary)
    }
}

/// The item of an unmasked frame that is alone.
fn whole<'a>(header: &Header, payload: &'a [u8], limits: &MessageLimits) -> Result<Item<'a>, Fault> {
    let kind = match header.opcode {
        Opcode::Text => Kind::Text,
        Opcode::Binary => Kind::Binary,
        opcode => return control(opcode, Cow::Borrowed(payload)),
    };
    if header.compressed {
        return Ok(Item::Message { kind, payload: Cow::Owned(inflated(payload, kind, limits)?) });
    }
    if kind == Kind::Text && simdutf8::basic::from_utf8(payload).is_err() {
        return Err(Fault::invalid("text is not UTF-8"));
    }
    Ok(Item::Message { kind, payload: Cow::Borrowed(payload) })
}

fn control(opcode: Opcode, payload: Cow<'_, [u8]>) -> Result<Item<'_>, Fault> {
    match opcode {
        Opcode::Ping => Ok(Item::Ping(payload)),
        Opcode::Pong => Ok(Item::Pong),
        _ => closing(&payload).map(Item::Close),
    }
}

/// Reads the payload of a close frame (RFC 6455 §5.5.1, §7.4).
fn closing(payload: &[u8]) -> Result<Option<u16>, Fault> {
    let (code, reason) = match payload {
        [] => return Ok(None),
        [_] => return Err(Fault::broken("close frame of one byte")),
        [a, b, reason @ ..] => (u16::from_be_bytes([*a, *b]), reason),
    };
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Fault::broken("invalid close code"));
    }
    if std::str::from_utf8(reason).is_err() {
        return Err(Fault::invalid("close reason is not UTF-8"));
    }
    Ok(Some(code))
}

fn inflated(compressed: &[u8], kind: Kind, limits: &MessageLimits) -> Result<Vec<u8>, Fault> {
    let payload = deflate::inflate(compressed, limits)?;
    if kind == Kind::Text && simdutf8::basic::from_utf8(&payload).is_err() {
        return Err(Fault::invalid("text is not UTF-8"));
    }
    Ok(payload)
}

/// How much of `bytes` is whole characters, if it can still become UTF-8.
fn utf8_so_far(bytes: &[u8]) -> Result<usize, Fault> {
    match simdutf8::compat::from_utf8(bytes) {
        Ok(_) => Ok(bytes.len()),
        Err(error) if error.error_len().is_none() => Ok(error.valid_up_to()),
        Err(_) => Err(Fault::invalid("text is not UTF-8")),
    }
}

/// Removes a client's mask, eight bytes at a time.
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= key;
    }
}

// ------------------------------------------------------------------------------------------------------------- Writing

/// Appends one whole frame.
pub fn write_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    let (header, len) = header(opcode, false, payload.len());
    out.extend_from_slice(&header[..len]);
    out.extend_from_slice(payload);
}

/// Appends one whole message, compressed if that was negotiated and pays.
pub fn write_message(out: &mut Vec<u8>, kind: Kind, payload: &[u8], deflate: bool) {
    let opcode = if kind == Kind::Text { Opcode::Text } else { Opcode::Binary };
    if deflate && let Some(compressed) = deflate::deflate(payload) {
        let (header, len) = header(opcode, true, compressed.len());
        out.extend_from_slice(&header[..len]);
        out.extend_from_slice(&compressed);
        return;
    }
    write_frame(out, opcode, payload);
}

/// Appends a close frame. The reason is cut to what fits, at a character.
pub fn write_close(out: &mut Vec<u8>, code: Option<u16>, reason: &str) {
    let mut payload = Vec::new();
    if let Some(code) = code {
        payload.extend_from_slice(&code.to_be_bytes());
        payload.extend_from_slice(&reason.as_bytes()[..reason.floor_char_boundary(REASON_BYTES_MAX)]);
    }
    write_frame(out, Opcode::Close, &payload);
}

fn header(opcode: Opcode, compressed: bool, payload: usize) -> ([u8; HEADER_BYTES_MAX], usize) {
    let mut header = [0; HEADER_BYTES_MAX];
    header[0] = 0x80 | opcode as u8 | if compressed { 0x40 } else { 0 };
    if payload < 126 {
        header[1] = payload as u8;
        (header, 2)
    } else if let Ok(payload) = u16::try_from(payload) {
        header[1] = 126;
        header[2..4].copy_from_slice(&payload.to_be_bytes());
        (header, 4)
    } else {
        header[1] = 127;
        header[2..10].copy_from_slice(&(payload as u64).to_be_bytes());
        (header, 10)
    }
}

#[cfg(test)]
mod tests;
