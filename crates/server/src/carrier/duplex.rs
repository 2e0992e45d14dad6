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
