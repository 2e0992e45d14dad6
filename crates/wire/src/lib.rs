//! How it is said: frames in, [`Request`]s out; [`Event`]s and [`Batch`]es in, bytes out. Pure: no runtime, clock or I/O.
//!
//! | look for | in |
//! |---|---|
//! | what every protocol can do | [`Protocol`] |
//! | the Centrifuge client protocol v2 in JSON | [`centrifuge_json`] |
//! | the same in Protobuf | [`centrifuge_protobuf`] |
//! | our own rpc methods: `fireside.publish`, `ai.start`, `ai.cancel` | [`rpc`] |
//! | the shapes of the HTTP API | [`api`] |
//! | the shapes of hooks | [`hook`] |
//! | what a body must be | [`body`] |

use fireside_core::{Batch, Disconnect, Event, Request};

pub mod api;
pub mod body;
mod centrifuge;
pub mod centrifuge_json;
pub mod centrifuge_protobuf;
mod fields;
mod form;
mod fossil;
pub mod hook;
mod object;
pub mod rpc;

/// Gives frames meaning. A protocol version is a value of its own, never a flag.
pub trait Protocol: Send + Sync + 'static {
    /// Its name in facts and metrics, such as `centrifuge-json`.
    fn name(&self) -> &'static str;

    /// The slot of a [`Batch`] that holds exactly what `records(batch, 0, …)` writes, without a carrier's framing. Whoever knows
    /// all pairs of carrier and protocol gives the framed variants the other slots.
    fn slot(&self) -> usize;

    /// True if frames are UTF-8 text.
    fn is_text(&self) -> bool;

    /// Decodes one frame of commands and appends them to `out`, at most
    /// [`FRAME_COMMANDS_MAX`](fireside_core::limits::FRAME_COMMANDS_MAX). On an error `out` may have got the commands before it.
    ///
    /// # Errors
    /// The frame breaks the protocol: nothing else that comes from this client can be trusted to mean what it says.
    fn decode(&self, frame: &[u8], out: &mut Vec<Request>) -> Result<(), Disconnect>;

    /// Appends one message, without a separator; where messages bear their length, with it.
    fn event(&self, event: &Event, out: &mut Vec<u8>);

    /// Appends the records of `batch` after offset `after`, separated as this protocol separates the messages of one frame. A
    /// batch without offsets is appended whole.
    fn records(&self, batch: &Batch, after: u64, out: &mut Vec<u8>);

    /// The same for a reader that takes patches and has every record after `from` up to `after`: a record that is shorter as a patch of the one
    /// before it is told so, if the reader has that one. A protocol without patches tells records whole.
    fn patched(&self, batch: &Batch, after: u64, from: u64, out: &mut Vec<u8>) {
        let _ = from;
        self.records(batch, after, out);
    }

    /// Appends the message that says why the session ends, for carriers that have no close frame.
    fn disconnect(&self, why: &Disconnect, out: &mut Vec<u8>);

    /// What stands between two messages of one frame; empty where messages bear their length.
    fn separator(&self) -> &'static [u8];

    /// Where a payload of several messages may be cut in two: the end of the first message that reaches past `bytes`, and the beginning of
    /// the next. `None`: there is no next.
    fn cut(&self, payload: &[u8], bytes: usize) -> Option<(usize, usize)> {
        let separator = self.separator();
        let tail = payload.get(bytes..).filter(|_| !separator.is_empty())?;
        let at = bytes + tail.windows(separator.len()).position(|window| window == separator)?;
        Some((at, at + separator.len()))
    }
}
