//! A node's link over a WebSocket: requests in through a protocol, batches and events out, encoded once for all who share a variant.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use fireside_core::{Batch, Disconnect, Outgoing, Request};
use fireside_node::ports::{Link, LinkClosed, Sent, Sink, Source};
use fireside_wire::Protocol;

use super::duplex::Duplex;
use super::frame::{Kind, write_message};
use super::websocket::{Receiver, Sender};
use super::{Frames, websocket_slot};

/// Bytes after which the records of one batch go on in another frame: clients bound what they take at once, the strictest at 1 MiB.
const FRAME_BYTES_SOFT: usize = 256 * 1024;

thread_local! {
    static PAYLOAD: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static FRAMES: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static REQUESTS: RefCell<Vec<Request>> = const { RefCell::new(Vec::new()) };
}

/// Makes a link of an open WebSocket.
pub fn link<D: Duplex>(
    halves: (Receiver<D>, Sender<D>),
    protocol: Arc<dyn Protocol>,
    kind: &'static str,
) -> Link {
    let (receiver, sender) = halves;
    let source = WsSource { receiver, protocol: Arc::clone(&protocol), requests: VecDeque::new() };
    Link { source: Box::new(source), sink: Arc::new(WsSink { sender, protocol }), kind }
}

/// Brings requests.
pub struct WsSource<D: Duplex> {
    receiver: Receiver<D>,
    protocol: Arc<dyn Protocol>,
    /// What came in the same frame as the last request.
    requests: VecDeque<Request>,
}

impl<D: Duplex> Source for WsSource<D> {
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Request, Disconnect>>> {
        loop {
            if let Some(request) = self.requests.pop_front() {
                if self.requests.is_empty() {
                    self.requests = VecDeque::new();
                }
                return Poll::Ready(Some(Ok(request)));
            }
            let (protocol, requests) = (&*self.protocol, &mut self.requests);
            let decoded =
                ready!(self.receiver.poll_message(cx, |_, payload| decode(protocol, payload, requests)));
            match decoded {
                Some(Ok(Ok(Some(request)))) => return Poll::Ready(Some(Ok(request))),
                Some(Ok(Ok(None))) => {}
                Some(Ok(Err(why))) => return Poll::Ready(Some(Err(why))),
                Some(Err(fault)) => {
                    return Poll::Ready(Some(Err(Disconnect::fixed(fault.code, fault.reason))));
                }
                None => return Poll::Ready(None),
            }
        }
    }
}

/// Decodes a frame: its first request, and the others into `rest`. Nothing is allocated for a frame of one command.
fn decode(
    protocol: &dyn Protocol,
    payload: &[u8],
    rest: &mut VecDeque<Request>,
) -> Result<Option<Request>, Disconnect> {
    REQUESTS.with_borrow_mut(|requests| {
        requests.clear();
        let decoded = protocol.decode(payload, requests);
        let mut all = requests.drain(..);
        let first = all.next();
        rest.extend(all);
        // Commands before a broken one are not carried out: who sent them is told that the frame was.
        decoded.inspect_err(|_| rest.clear()).map(|()| first)
    })
}

/// Takes what the client is told.
pub struct WsSink<D: Duplex> {
    sender: Sender<D>,
    protocol: Arc<dyn Protocol>,
}

impl<D: Duplex> Sink for WsSink<D> {
    fn try_send(&self, entry: &Outgoing, more: bool) -> Sent {
        match entry {
            Outgoing::Records { batch, after, patches_from } => {
                let write = |batch: &Batch, frames: &mut Vec<u8>| {
                    self.write_records(batch, *after, *patches_from, frames)
                };
                match self.shared(batch, *after, *patches_from) {
                    Some(kind) => {
                        let slot = websocket_slot(self.protocol.slot(), kind);
                        let frames = batch.encoded(slot, |batch| {
                            let mut frames = Vec::new();
                            write(batch, &mut frames);
                            Bytes::from(frames)
                        });
                        self.sender.send_shared(frames, more)
                    }
                    None => self.send_own(more, |frames| write(batch, frames)),
                }
            }
            Outgoing::Event(event) => self.send_own(more, |frames| {
                PAYLOAD.with_borrow_mut(|payload| {
                    payload.clear();
                    self.protocol.event(event, payload);
                    write_message(frames, self.kind(), payload, self.sender.deflate());
                    give_back(payload);
                });
            }),
        }
    }

    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), LinkClosed>> {
        self.sender.poll_ready(cx)
    }

    fn close(&self, why: &Disconnect) {
        self.sender.close(why.code, &why.reason);
    }
}

impl<D: Duplex> WsSink<D> {
    /// Which of the frames that readers share a reader gets that stands there; `None` if it must get its own.
    fn shared(&self, batch: &Batch, after: u64, patches_from: Option<u64>) -> Option<Frames> {
        if after >= batch.first() && batch.first() != 0 {
            return None;
        }
        match (patches_from, self.sender.deflate()) {
            (None, false) => Some(Frames::Plain),
            (None, true) => Some(Frames::Deflated),
            (Some(_), true) => None,
            (Some(from), false) if from + 1 < batch.first() => Some(Frames::Patched),
            (Some(_), false) => Some(Frames::PatchedBehindFirst),
        }
    }

    fn kind(&self) -> Kind {
        if self.protocol.is_text() { Kind::Text } else { Kind::Binary }
    }

    fn send_own(&self, more: bool, write: impl FnOnce(&mut Vec<u8>)) -> Sent {
        FRAMES.with_borrow_mut(|frames| {
            frames.clear();
            write(frames);
            let sent = self.sender.send_own(frames, more);
            give_back(frames);
            sent
        })
    }

    /// Appends the records as whole frames, cut between two messages where one frame would be very long.
    fn write_records(&self, batch: &Batch, after: u64, patches_from: Option<u64>, frames: &mut Vec<u8>) {
        PAYLOAD.with_borrow_mut(|payload| {
            payload.clear();
            match patches_from {
                None => self.protocol.records(batch, after, payload),
                Some(from) => self.protocol.patched(batch, after, from, payload),
            }
            frames.reserve(payload.len() + 16);
            let mut rest = payload.as_slice();
            while let Some((end, next)) = self.protocol.cut(rest, FRAME_BYTES_SOFT) {
                write_message(frames, self.kind(), &rest[..end], self.sender.deflate());
                rest = &rest[next..];
            }
            write_message(frames, self.kind(), rest, self.sender.deflate());
            give_back(payload);
        });
    }
}

/// A burst's memory is not kept for ever.
fn give_back(scratch: &mut Vec<u8>) {
    if scratch.capacity() > FRAME_BYTES_SOFT {
        *scratch = Vec::new();
    }
}

#[cfg(test)]
mod tests;
