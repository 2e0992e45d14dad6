//! The Centrifuge client protocol, version 2, in Protobuf: stream subscriptions.
//!
//! Authority: `client.proto` of the protocol's own repository. Each message of a frame stands behind its length, be it alone there. Bodies are
//! bytes to the protocol and JSON to us: what is no JSON is refused like a malformed one of the JSON form.

mod decode;
mod reader;
mod writer;

use fireside_core::{Batch, Disconnect, Event, Request};

use crate::Protocol;
use crate::centrifuge::encode;

/// The protocol as a value.
#[derive(Clone, Copy, Debug, Default)]
pub struct CentrifugeProtobuf;

impl Protocol for CentrifugeProtobuf {
    fn name(&self) -> &'static str {
        "centrifuge-protobuf"
    }

    fn slot(&self) -> usize {
        1
    }

    fn is_text(&self) -> bool {
        false
    }

    fn decode(&self, frame: &[u8], out: &mut Vec<Request>) -> Result<(), Disconnect> {
        decode::frame(frame, out)
    }

    fn event(&self, event: &Event, out: &mut Vec<u8>) {
        writer::message(out, |message| encode::event(event, message));
    }

    fn records(&self, batch: &Batch, after: u64, out: &mut Vec<u8>) {
        for record in batch.after(after) {
            writer::message(out, |message| encode::record(batch, record, message));
        }
    }

    fn patched(&self, batch: &Batch, after: u64, from: u64, out: &mut Vec<u8>) {
        for (record, base) in encode::on_bases(batch, after, from) {
            writer::message(out, |message| encode::patched(batch, record, base, message));
        }
    }

    fn disconnect(&self, why: &Disconnect, out: &mut Vec<u8>) {
        writer::message(out, |message| encode::disconnect(why, message));
    }

    fn separator(&self) -> &'static [u8] {
        b""
    }

    fn cut(&self, payload: &[u8], bytes: usize) -> Option<(usize, usize)> {
        let mut rest = payload;
        while !rest.is_empty() && payload.len() - rest.len() <= bytes {
            reader::delimited(&mut rest).ok()?;
        }
        let at = payload.len() - rest.len();
        (!rest.is_empty()).then_some((at, at))
    }
}
