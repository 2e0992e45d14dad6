//! What a carrier needs of a connection: readiness, and reads and writes that never wait. Plain TCP today; TLS and others later.

use std::io::{self, IoSlice};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use socket2::SockRef;
use tokio::net::TcpStream;

/// Bytes both ways. All methods take `&self`: one task reads while another one writes.
pub trait Duplex: Send + Sync + 'static {
    /// Ready when a read may find something. One waker is kept.
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Reads what is there; 0 is the end, `WouldBlock` is "not yet".
    ///
    /// # Errors
    /// `WouldBlock`, or what happened to the connection.
    fn try_read(&self, into: &mut [u8]) -> io::Result<usize>;
    /// Ready when a write may go on. One waker is kept.
    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
    /// Writes what fits.
    ///
    /// # Errors
    /// `WouldBlock`, or what happened to the connection.
    fn try_writev(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize>;
    /// Says that nothing more is written. What was written still arrives.
    fn end(&self);
    /// Ends both directions, whatever was written.
    fn abort(&self);
}

/// A plain TCP connection, and its place among the connections that the server may have.
pub struct Plain {
    stream: TcpStream,
    place: Place,
}

impl Plain {
    /// Wraps a connection.
    pub fn new(stream: TcpStream, place: Place) -> Self {
        Plain { stream, place }
    }

    /// The connection itself.
    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Takes it apart.
    pub fn into_parts(self) -> (TcpStream, Place) {
        (self.stream, self.place)
    }
}

impl Duplex for Plain {
    fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_read_ready(cx)
    }

    fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        self.stream.try_read(into)
    }

    fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.poll_write_ready(cx)
    }

    fn try_writev(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        match pieces {
            [one] => self.stream.try_write(one),
            many => self.stream.try_write_vectored(many),
        }
    }

    fn end(&self) {
        // An error here means that the peer is gone, which is what we wanted.
        let _ = SockRef::from(&self.stream).shutdown(Shutdown::Write);
    }

    fn abort(&self) {
        let _ = SockRef::from(&self.stream).shutdown(Shutdown::Both);
    }
}

/// How many connections there may be.
#[derive(Clone, Debug)]
pub struct Places {
    taken: Arc<AtomicUsize>,
    max: usize,
}

impl Places {
    /// Room for `max` connections.
    pub fn new(max: usize) -> Self {
        Places { taken: Arc::default(), max }
    }

    /// A place, if one is free. It is free again when the value is dropped.
    pub fn take(&self) -> Option<Place> {
        self.taken
            .try_update(Ordering::Relaxed, Ordering::Relaxed, |taken| (taken < self.max).then_some(taken + 1))
            .ok()
            .map(|_| Place(Arc::clone(&self.taken)))
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }
}

/// One connection's place.
#[derive(Debug)]
pub struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
pub mod scripted {
    //! A connection whose other end is a test: what it sends, how much it takes, and when it ends.

    use std::sync::{Arc, Mutex};
    use std::task::Waker;

    use super::*;

    /// The test's end.
    #[derive(Clone, Default)]
    pub struct Peer(Arc<Mutex<Wire>>);

    #[derive(Default)]
    struct Wire {
        sent: Vec<u8>,
        closed: bool,
        taken: Vec<u8>,
        room: usize,
        writes: usize,
        ended: bool,
        aborted: bool,
        reader: Option<Waker>,
        writer: Option<Waker>,
    }

    /// The server's end.
    pub struct Scripted(Peer);

    impl Peer {
        /// A peer that takes `room` bytes before it stops reading.
        pub fn new(room: usize) -> (Peer, Scripted) {
            let peer = Peer::default();
            peer.0.lock().unwrap().room = room;
            (peer.clone(), Scripted(peer))
        }

        /// The peer sends bytes.
        pub fn send(&self, bytes: &[u8]) {
            let mut wire = self.0.lock().unwrap();
            wire.sent.extend_from_slice(bytes);
            if let Some(waker) = wire.reader.take() {
                waker.wake();
            }
        }

        /// The peer ends its direction.
        pub fn end(&self) {
            let mut wire = self.0.lock().unwrap();
            wire.closed = true;
            if let Some(waker) = wire.reader.take() {
                waker.wake();
            }
        }

        /// The peer reads on: so many bytes more.
        pub fn make_room(&self, bytes: usize) {
            let mut wire = self.0.lock().unwrap();
            wire.room += bytes;
            if let Some(waker) = wire.writer.take() {
                waker.wake();
            }
        }

        /// What the peer got since it last looked.
        pub fn take(&self) -> Vec<u8> {
            std::mem::take(&mut self.0.lock().unwrap().taken)
        }

        /// How many writes reached it.
        pub fn writes(&self) -> usize {
            self.0.lock().unwrap().writes
        }

        /// The server said that it writes no more.
        pub fn is_ended(&self) -> bool {
            self.0.lock().unwrap().ended
        }

        /// The server ended both directions.
        pub fn is_aborted(&self) -> bool {
            self.0.lock().unwrap().aborted
        }
    }

    impl Duplex for Scripted {
        fn poll_read_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            let mut wire = self.0.0.lock().unwrap();
            if wire.sent.is_empty() && !wire.closed {
                wire.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(Ok(()))
        }

        fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
            let mut wire = self.0.0.lock().unwrap();
            if wire.sent.is_empty() && !wire.closed {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            let len = wire.sent.len().min(into.len());
            into[..len].copy_from_slice(&wire.sent[..len]);
            wire.sent.drain(..len);
            Ok(len)
        }

        fn poll_write_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            let mut wire = self.0.0.lock().unwrap();
            if wire.room == 0 {
                wire.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(Ok(()))
        }

        fn try_writev(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
            let mut wire = self.0.0.lock().unwrap();
            if wire.ended || wire.aborted {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let all: Vec<u8> = pieces.iter().flat_map(|piece| piece.iter().copied()).collect();
            let len = all.len().min(wire.room);
            if len == 0 {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            wire.room -= len;
            wire.writes += 1;
            wire.taken.extend_from_slice(&all[..len]);
            Ok(len)
        }

        fn end(&self) {
            self.0.0.lock().unwrap().ended = true;
        }

        fn abort(&self) {
            self.0.0.lock().unwrap().aborted = true;
        }
    }
}
