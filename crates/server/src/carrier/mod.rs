//! Carriers: what moves frames both ways for one client. A carrier is written once, over a small [`duplex::Duplex`].

use fireside_core::batch::SLOTS;

pub mod deflate;
pub mod duplex;
pub mod frame;
pub mod handshake;
pub mod link;
pub mod websocket;

/// Slots that protocols number by themselves, for bytes without framing.
const PROTOCOL_SLOTS: usize = 2;

/// What the records of a batch are made into, beside the protocol: WebSocket frames, and
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Frames {
    /// nothing else;
    Plain,
    /// deflated;
    Deflated,
    /// told as patches, the first as one of the record before the batch;
    Patched,
    /// told as patches, the first one whole.
    PatchedBehindFirst,
}

/// The slot of a batch for whole WebSocket frames of a protocol: after the protocols' own slots.
fn websocket_slot(protocol_slot: usize, frames: Frames) -> usize {
    assert!(protocol_slot < PROTOCOL_SLOTS, "a protocol's slot is one of the first");
    let slot = PROTOCOL_SLOTS * (1 + frames as usize) + protocol_slot;
    debug_assert!(slot < SLOTS);
    slot
}
