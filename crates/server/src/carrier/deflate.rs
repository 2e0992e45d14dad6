//! permessage-deflate (RFC 7692) without context takeover: state is pooled per thread, and what a message may inflate to is bounded.

use std::cell::RefCell;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

use super::frame::{Fault, MessageLimits};

/// Messages below this many bytes go out as they are: compressing them costs more than it saves.
pub const DEFLATE_BYTES_MIN: usize = 256;

/// What ends a flushed deflate stream and is not sent (RFC 7692 §7.2.1).
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];
/// What a message may inflate to whatever its ratio, in bytes.
const INFLATE_BYTES_FREE: usize = 4 * 1024;
/// The step in which room is made, in bytes.
const STEP_BYTES: usize = 4 * 1024;

thread_local! {
    static INFLATER: RefCell<Decompress> = RefCell::new(Decompress::new(false));
    // Level 1 of zlib-rs does not shrink short JSON at all.
    static DEFLATER: RefCell<Compress> = RefCell::new(Compress::new(Compression::new(2), false));
}

/// Inflates one message.
///
/// # Errors
/// 1007 if it is not deflate, 1009 if it would grow past the limits; memory grows only with what really comes out.
pub fn inflate(compressed: &[u8], limits: &MessageLimits) -> Result<Vec<u8>, Fault> {
    let by_ratio = compressed.len().saturating_mul(limits.inflate_ratio_max).max(INFLATE_BYTES_FREE);
    let bytes_max = limits.bytes_max.min(by_ratio);
    INFLATER.with_borrow_mut(|inflater| {
        inflater.reset(false);
        let mut out = Vec::new();
        let ended = inflate_part(inflater, compressed, &mut out, bytes_max)?;
        if !ended {
            inflate_part(inflater, &TAIL, &mut out, bytes_max)?;
        }
        Ok(out)
    })
}

/// Inflates `input` whole; true if it bore the last block of its stream.
fn inflate_part(
    inflater: &mut Decompress,
    input: &[u8],
    out: &mut Vec<u8>,
    bytes_max: usize,
) -> Result<bool, Fault> {
    let mut rest = input;
    loop {
        if out.len() == out.capacity() {
            // One byte more than allowed, so that the limit is seen to be passed.
            out.reserve_exact(STEP_BYTES.max(out.len()).min((bytes_max + 1).saturating_sub(out.len())));
        }
        let (before_in, before_out) = (inflater.total_in(), out.len());
        let status = inflater
            .decompress_vec(rest, out, FlushDecompress::Sync)
            .map_err(|_| Fault::invalid("malformed compressed message"))?;
        let taken = (inflater.total_in() - before_in) as usize;
        rest = &rest[taken..];
        if out.len() > bytes_max {
            return Err(Fault::too_big("message inflates to too much"));
        }
        if status == Status::StreamEnd {
            // A client may end the stream; RFC 7692 §7.2.3.4 then lets one empty byte follow.
            return if rest.is_empty() || rest == [0] {
                Ok(true)
            } else {
                Err(Fault::invalid("bytes after the end of a compressed message"))
            };
        }
        if rest.is_empty() && out.len() < out.capacity() {
            return Ok(false);
        }
        if taken == 0 && out.len() == before_out && out.len() < out.capacity() {
            return Err(Fault::invalid("malformed compressed message"));
        }
    }
}

/// Deflates one message; `None` if that does not pay.
pub fn deflate(payload: &[u8]) -> Option<Vec<u8>> {
    if payload.len() < DEFLATE_BYTES_MIN {
        return None;
    }
    DEFLATER.with_borrow_mut(|deflater| {
        deflater.reset();
        let mut out = Vec::with_capacity(payload.len() / 2 + 64);
        let mut rest = payload;
        loop {
            let before = deflater.total_in();
            deflater.compress_vec(rest, &mut out, FlushCompress::Sync).ok()?;
            rest = &rest[(deflater.total_in() - before) as usize..];
            if out.len() >= payload.len() {
                return None;
            }
            if rest.is_empty() && out.len() < out.capacity() {
                break;
            }
            out.reserve(STEP_BYTES);
        }
        out.ends_with(&TAIL).then(|| {
            out.truncate(out.len() - TAIL.len());
            out
        })
    })
}
