//! What both forms of the Centrifuge client protocol share: the rules of its envelope, and what its messages say.

pub(crate) mod encode;

use fireside_core::{Command, Disconnect, Request};

use crate::body::BodyFault;

/// Bytes of a client's name of itself, and of its version (the protocol's own bounds). The rest is cut: both serve metrics only.
const NAME_BYTES_MAX: usize = 16;
const VERSION_BYTES_MAX: usize = 64;

/// The bit of a subscription's `flag` by which a client wants an error in place of `recovered: false`.
pub(crate) const REJECT_UNRECOVERED: i64 = 2;

/// The only delta format that SDKs know.
pub(crate) const PATCHES: &str = "fossil";

/// The request that a command's envelope holds. Without a number it is a `send` or a pong, whatever else it bears (as in `client.go` of the
/// original); `command` answers `None` if it bears nothing that the protocol knows.
pub(crate) fn request(
    id: u32,
    is_send: bool,
    command: impl FnOnce() -> Result<Option<Command>, BodyFault>,
) -> Result<Request, Disconnect> {
    if id == 0 && !is_send {
        return Ok(Request { id, command: Command::Pong });
    }
    match command().unwrap_or_else(|fault| Some(Command::Malformed { why: fault.0 })) {
        // Nobody could be told what is wrong.
        Some(Command::Malformed { .. }) if id == 0 => Err(Disconnect::BAD_REQUEST),
        Some(command) => Ok(Request { id, command }),
        None => Err(Disconnect::BAD_REQUEST),
    }
}

/// What a client calls itself.
pub(crate) fn name(text: &str) -> String {
    cut(text, NAME_BYTES_MAX)
}

/// Which version of itself it says it is.
pub(crate) fn version(text: &str) -> String {
    cut(text, VERSION_BYTES_MAX)
}

fn cut(text: &str, bytes_max: usize) -> String {
    text[..text.floor_char_boundary(bytes_max)].to_owned()
}
