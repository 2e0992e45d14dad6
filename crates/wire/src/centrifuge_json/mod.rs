//! The Centrifuge client protocol, version 2, in JSON: stream subscriptions.
//!
//! Authority: `client.proto` of the protocol's own repository; where it is silent, what the two big SDKs do. One message is a
//! compact object with snake_case names and without zero values; numbers of 64 bits are JSON numbers; bodies are embedded.

mod decode;

use fireside_core::{Batch, Disconnect, Event, Request};

use crate::Protocol;
use crate::centrifuge::encode;
use crate::object::object;

pub(crate) use crate::centrifuge::encode::{author, publication};

/// The protocol as a value.
#[derive(Clone, Copy, Debug, Default)]
pub struct CentrifugeJson;

impl Protocol for CentrifugeJson {
    fn name(&self) -> &'static str {
        "centrifuge-json"
    }

    fn slot(&self) -> usize {
        0
    }

    fn is_text(&self) -> bool {
        true
    }

    fn decode(&self, frame: &[u8], out: &mut Vec<Request>) -> Result<(), Disconnect> {
        decode::frame(frame, out)
    }

    fn event(&self, event: &Event, out: &mut Vec<u8>) {
        object(out, |o| encode::event(event, o));
    }

    fn records(&self, batch: &Batch, after: u64, out: &mut Vec<u8>) {
        for (n, record) in batch.after(after).iter().enumerate() {
            if n > 0 {
                out.push(b'\n');
            }
            object(out, |o| encode::record(batch, record, o));
        }
    }

    fn patched(&self, batch: &Batch, after: u64, from: u64, out: &mut Vec<u8>) {
        for (n, (record, base)) in encode::on_bases(batch, after, from).enumerate() {
            if n > 0 {
                out.push(b'\n');
            }
            object(out, |o| encode::patched(batch, record, base, o));
        }
    }

    fn disconnect(&self, why: &Disconnect, out: &mut Vec<u8>) {
        object(out, |o| encode::disconnect(why, o));
    }

    fn separator(&self) -> &'static [u8] {
        b"\n"
    }
}
