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

/// The slot of a batch for whole WebSocket frames of a protocol: after the protocols' own slots, two each.
fn websocket_slot(protocol_slot: usize, deflate: bool) -> usize {
    assert!(protocol_slot < PROTOCOL_SLOTS, "a protocol's slot is one of the first");
    let slot = PROTOCOL_SLOTS + 2 * protocol_slot + usize::from(deflate);
    debug_assert!(slot < SLOTS);
    slot
}
