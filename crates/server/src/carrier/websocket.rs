//! An open WebSocket: the half that receives messages and the half that sends frames. Between messages neither owns a buffer.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fireside_node::ports::{LinkClosed, Sent};

use super::duplex::Duplex;
use super::frame::{self, Decoder, Fault, Item, Kind, MessageLimits, Opcode};

/// Pieces that share one write.
const SLICES_MAX: usize = 64;
/// Bytes that are held back for a shared write.
const CORK_BYTES_MAX: usize = 256 * 1024;
/// Bytes read at once, per thread and not per connection.
const SCRATCH_BYTES: usize = 64 * 1024;
/// Bytes that are read and forgotten after a close, for the peer to hear why.
const DRAIN_BYTES_MAX: usize = 1024 * 1024;
/// The window in which control frames are counted, in s.
const CONTROL_WINDOW_S: u64 = 10;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into());
}

/// What holds for every connection of one listener.
#[derive(Clone, Copy, Debug)]
pub struct SocketLimits {
    /// What one message may cost.
    pub message: MessageLimits,
    /// Pings and pongs of the client in ten seconds.
    pub controls_max: u32,
    /// How long a closed connection may take to hear why, in ms.
    pub close_ms_max: u64,
}

impl SocketLimits {
    /// What a server on the internet grants.
    pub const PRODUCTION: SocketLimits =
        SocketLimits { message: MessageLimits::PRODUCTION, controls_max: 64, close_ms_max: 5_000 };

    /// The same where a record's body may have so many bytes: a command's other parts get 16 KiB on top. Made once per listener,
    /// and kept as long as the process lives: connections share it without counting.
    pub fn for_records(record_bytes_max: usize) -> &'static SocketLimits {
        const ENVELOPE_BYTES: usize = 16 * 1024;
        let bytes_max = record_bytes_max.saturating_add(ENVELOPE_BYTES);
        let message = MessageLimits { bytes_max, ..MessageLimits::PRODUCTION };
        Box::leak(Box::new(SocketLimits { message, ..SocketLimits::PRODUCTION }))
    }
}

/// Opens both halves over a connection whose handshake is done. `early` is what the client sent right behind it.
pub fn open<D: Duplex>(
    duplex: D,
    limits: &'static SocketLimits,
    deflate: bool,
    early: Vec<u8>,
) -> (Receiver<D>, Sender<D>) {
    let shared = Arc::new(Shared { duplex, limits, deflate, out: Mutex::new(Out::new()) });
    let receiver = Receiver {
        shared: Arc::clone(&shared),
        decoder: Decoder::new(deflate),
        rest: early,
        rest_at: 0,
        controls: 0,
        window: 0,
    };
    (receiver, Sender { shared })
}

/// What both halves hold.
struct Shared<D> {
    duplex: D,
    limits: &'static SocketLimits,
    deflate: bool,
    out: Mutex<Out>,
}

/// What waits to be written.
struct Out {
    state: State,
    /// The socket took no more; only `poll_ready` finds out when it does.
    blocked: bool,
    /// Bytes of the first piece that are written.
    begun: usize,
    bytes: usize,
    queue: VecDeque<Bytes>,
    /// The answer to the latest ping (RFC 6455 §5.5.3 lets older ones go).
    pong: Option<Bytes>,
    /// The task that waits for messages, to be told of a close.
    reader: Option<Waker>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    /// A close frame is queued, and nothing comes after it.
    Closing,
    Closed,
}

/// What a flush came to.
enum Flushed {
    All,
    Blocked,
    Broken,
}

// ----------------------------------------------------------------------------------------------------------- Receiving

/// The half that receives. Polled by one task.
pub struct Receiver<D: Duplex> {
    shared: Arc<Shared<D>>,
    decoder: Decoder,
    /// Bytes behind the last message, read with it.
    rest: Vec<u8>,
    rest_at: usize,
    controls: u32,
    window: u32,
}

/// What bytes came to.
enum Step<R> {
    More,
    Message(R),
    End,
}

impl<D: Duplex> Receiver<D> {
    /// The next message, lent to `take`. `None`: closed by either side. Pings and closes are answered on the way.
    pub fn poll_message<R>(
        &mut self,
        cx: &mut Context<'_>,
        mut take: impl FnMut(Kind, &[u8]) -> R,
    ) -> Poll<Option<Result<R, Fault>>> {
        loop {
            if !self.shared.is_open_for(cx) {
                return Poll::Ready(None);
            }
            let outcome = if self.rest.is_empty() {
                // A pong that waits for the socket is nobody else's to write.
                let _ = self.shared.poll_blocked_pong(cx);
                if ready!(self.shared.duplex.poll_read_ready(cx)).is_err() {
                    self.shared.end_at_once();
                    return Poll::Ready(None);
                }
                self.read_on(&mut take)
            } else {
                let mut rest = std::mem::take(&mut self.rest);
                let (used, outcome) = self.decode(&mut rest[self.rest_at..], &mut take);
                self.rest_at += used;
                if self.rest_at < rest.len() {
                    self.rest = rest;
                }
                outcome
            };
            match outcome {
                Ok(Step::More) => {}
                Ok(Step::Message(message)) => return Poll::Ready(Some(Ok(message))),
                Ok(Step::End) => return Poll::Ready(None),
                Err(fault) => {
                    self.shared.close(Some(fault.code), fault.reason);
                    return Poll::Ready(Some(Err(fault)));
                }
            }
        }
    }

    /// Reads once into this thread's scratch and decodes up to the first message; keeps only what is behind it.
    fn read_on<R>(&mut self, take: &mut impl FnMut(Kind, &[u8]) -> R) -> Result<Step<R>, Fault> {
        SCRATCH.with_borrow_mut(|scratch| match self.shared.duplex.try_read(scratch) {
            Ok(0) => {
                // Its end is also ours: without a close frame there is nothing to wait for.
                self.shared.end_at_once();
                self.shared.duplex.end();
                Ok(Step::End)
            }
            Ok(len) => {
                let (used, outcome) = self.decode(&mut scratch[..len], take);
                if used < len {
                    self.rest = scratch[used..len].to_vec();
                    self.rest_at = 0;
                }
                outcome
            }
            Err(error) if would_block(&error) => Ok(Step::More),
            Err(_) => {
                self.shared.end_at_once();
                Ok(Step::End)
            }
        })
    }

    /// Decodes up to the first message; says how many bytes that took.
    fn decode<R>(
        &mut self,
        input: &mut [u8],
        take: &mut impl FnMut(Kind, &[u8]) -> R,
    ) -> (usize, Result<Step<R>, Fault>) {
        let mut used = 0;
        while used < input.len() {
            let (more, item) =
                match self.decoder.next(&mut input[used..], &self.shared.limits.message, monotonic_ms) {
                    Ok(read) => read,
                    Err(fault) => return (input.len(), Err(fault)),
                };
            used += more;
            match item {
                None => {}
                Some(Item::Message { kind, payload }) => {
                    return (used, Ok(Step::Message(take(kind, &payload))));
                }
                Some(Item::Close(code)) => {
                    self.shared.answer_close(code);
                    return (input.len(), Ok(Step::End));
                }
                Some(Item::Ping(payload)) => {
                    self.shared.pong(&payload);
                    if let Err(fault) = self.count_control() {
                        return (input.len(), Err(fault));
                    }
                }
                Some(Item::Pong) => {
                    if let Err(fault) = self.count_control() {
                        return (input.len(), Err(fault));
                    }
                }
            }
        }
        (used, Ok(Step::More))
    }

    fn count_control(&mut self) -> Result<(), Fault> {
        let window = (monotonic_ms() / (CONTROL_WINDOW_S * 1000)) as u32;
        if window != self.window {
            (self.window, self.controls) = (window, 0);
        }
        self.controls += 1;
        if self.controls > self.shared.limits.controls_max {
            return Err(Fault::too_slow("too many control frames"));
        }
        Ok(())
    }
}

// ------------------------------------------------------------------------------------------------------------- Sending

/// The half that sends. Calls do not wait and may come from any task.
pub struct Sender<D: Duplex> {
    shared: Arc<Shared<D>>,
}

impl<D: Duplex> Clone for Sender<D> {
    fn clone(&self) -> Self {
        Sender { shared: Arc::clone(&self.shared) }
    }
}

impl<D: Duplex> Sender<D> {
    /// True if messages may be compressed.
    pub fn deflate(&self) -> bool {
        self.shared.deflate
    }

    /// Sends whole frames that are shared with other connections: nothing is copied.
    pub fn send_shared(&self, frames: &Bytes, more: bool) -> Sent {
        self.shared.send(frames, more, Bytes::clone)
    }

    /// Sends whole frames that are this connection's own: copied only if the socket does not take them now.
    pub fn send_own(&self, frames: &[u8], more: bool) -> Sent {
        self.shared.send(frames, more, Bytes::copy_from_slice)
    }

    /// Writes what waits; ready when all of it is written. Only one task may wait here.
    pub fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<Result<(), LinkClosed>> {
        if self.shared.lock().state != State::Open {
            return Poll::Ready(Err(LinkClosed));
        }
        self.shared.poll_flush(cx)
    }

    /// Sends a close frame behind what waits, and ends the connection once the peer has it, at the latest after
    /// [`SocketLimits::close_ms_max`]. Returns at once.
    pub fn close(&self, code: u16, reason: &str) {
        self.shared.close(Some(code), reason);
    }
}

impl<D: Duplex> Shared<D> {
    fn lock(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False after a close; else the task of `cx` is told of one.
    fn is_open_for(&self, cx: &Context<'_>) -> bool {
        let mut out = self.lock();
        if !out.reader.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            out.reader = Some(cx.waker().clone());
        }
        out.state == State::Open
    }

    fn send<P>(&self, piece: &P, more: bool, keep: impl FnOnce(&P) -> Bytes) -> Sent
    where
        P: AsRef<[u8]> + ?Sized,
    {
        let mut out = self.lock();
        if out.state != State::Open {
            return Sent::Closed;
        }
        if out.blocked {
            return Sent::Full;
        }
        let len = piece.as_ref().len();
        if more && out.queue.len() + 1 < SLICES_MAX && out.bytes + len <= CORK_BYTES_MAX {
            out.push(keep(piece));
            return Sent::Sent;
        }
        if !out.queue.is_empty() || out.pong.is_some() {
            out.push(keep(piece));
            return match out.flush(&self.duplex) {
                Flushed::All => Sent::Sent,
                // What has not begun goes back to where it may still be merged or read again.
                Flushed::Blocked if out.queue.len() > 1 => {
                    out.pop();
                    Sent::Full
                }
                Flushed::Blocked => Sent::Partial,
                Flushed::Broken => Sent::Closed,
            };
        }
        match self.duplex.try_writev(&[IoSlice::new(piece.as_ref())]) {
            Ok(written) if written == len => Sent::Sent,
            Ok(written) => {
                out.push(keep(piece));
                (out.begun, out.bytes, out.blocked) = (written, len - written, true);
                Sent::Partial
            }
            Err(error) if would_block(&error) => {
                out.blocked = true;
                Sent::Full
            }
            Err(_) => {
                out.end();
                Sent::Closed
            }
        }
    }

    /// Sends a pong, or keeps it as the one to send.
    fn pong(&self, payload: &[u8]) {
        let mut out = self.lock();
        if out.state != State::Open {
            return;
        }
        let mut pong = Vec::with_capacity(2 + payload.len());
        frame::write_frame(&mut pong, Opcode::Pong, payload);
        out.pong = Some(pong.into());
        if !out.blocked {
            out.flush(&self.duplex);
        }
    }

    fn poll_blocked_pong(&self, cx: &mut Context<'_>) -> Poll<Result<(), LinkClosed>> {
        if self.lock().blocked { self.poll_flush(cx) } else { Poll::Ready(Ok(())) }
    }

    fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<Result<(), LinkClosed>> {
        loop {
            {
                let mut out = self.lock();
                if out.state == State::Closed {
                    return Poll::Ready(Err(LinkClosed));
                }
                if !out.blocked {
                    match out.flush(&self.duplex) {
                        Flushed::All => return Poll::Ready(Ok(())),
                        Flushed::Blocked => {}
                        Flushed::Broken => return Poll::Ready(Err(LinkClosed)),
                    }
                }
            }
            if ready!(self.duplex.poll_write_ready(cx)).is_err() {
                self.end_at_once();
                return Poll::Ready(Err(LinkClosed));
            }
            self.lock().blocked = false;
        }
    }

    /// The peer is gone.
    fn end_at_once(&self) {
        self.lock().end();
    }

    /// Answers the peer's close frame with its own code and ends our direction.
    fn answer_close(self: &Arc<Self>, code: Option<u16>) {
        self.close(code, "");
    }

    /// Queues the close frame, and leaves the rest to a task of its own.
    fn close(self: &Arc<Self>, code: Option<u16>, reason: &str) {
        let reader = {
            let mut out = self.lock();
            if out.state != State::Open {
                return;
            }
            out.state = State::Closing;
            out.pong = None;
            let mut close = Vec::new();
            frame::write_close(&mut close, code, reason);
            out.push(close.into());
            if !out.blocked {
                out.flush(&self.duplex);
            }
            out.reader.take()
        };
        if let Some(reader) = reader {
            reader.wake();
        }
        let shared = Arc::clone(self);
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(shared.linger())),
            Err(_) => shared.finish(),
        }
    }

    /// Lets the peer hear why. A socket closed over unread bytes is reset, and what it was told last may be lost with it: so the
    /// last bytes are written, our direction is ended, and what still comes is read until the peer ends its own.
    async fn linger(self: Arc<Self>) {
        let patience = Duration::from_millis(self.limits.close_ms_max);
        let mut ended = false;
        let mut drained = 0;
        // Out of patience or not, it ends.
        let _ = tokio::time::timeout(patience, poll_fn(|cx| self.poll_linger(cx, &mut ended, &mut drained)))
            .await;
        self.finish();
    }

    fn poll_linger(&self, cx: &mut Context<'_>, ended: &mut bool, drained: &mut usize) -> Poll<()> {
        if !*ended {
            match self.poll_flush(cx) {
                Poll::Ready(Ok(())) => {
                    self.duplex.end();
                    *ended = true;
                }
                Poll::Ready(Err(LinkClosed)) => return Poll::Ready(()),
                Poll::Pending => {}
            }
        }
        loop {
            if ready!(self.duplex.poll_read_ready(cx)).is_err() {
                return Poll::Ready(());
            }
            match SCRATCH.with_borrow_mut(|scratch| self.duplex.try_read(scratch)) {
                Ok(0) => return Poll::Ready(()),
                Ok(len) => *drained += len,
                Err(error) if would_block(&error) => {}
                Err(_) => return Poll::Ready(()),
            }
            if *drained > DRAIN_BYTES_MAX {
                return Poll::Ready(());
            }
        }
    }

    fn finish(&self) {
        self.lock().end();
        self.duplex.abort();
    }
}

impl Out {
    fn new() -> Self {
        Out {
            state: State::Open,
            blocked: false,
            begun: 0,
            bytes: 0,
            queue: VecDeque::new(),
            pong: None,
            reader: None,
        }
    }

    fn push(&mut self, piece: Bytes) {
        self.bytes += piece.len();
        self.queue.push_back(piece);
    }

    fn pop(&mut self) {
        if let Some(piece) = self.queue.pop_back() {
            self.bytes -= piece.len();
        }
    }

    fn end(&mut self) {
        *self = Out { state: State::Closed, reader: self.reader.take(), ..Out::new() };
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Writes until all is written or the socket takes no more. Frees what it kept.
    fn flush<D: Duplex>(&mut self, duplex: &D) -> Flushed {
        loop {
            if let Some(pong) = self.pong.take() {
                // Between frames: behind the piece that has begun, before the others.
                self.bytes += pong.len();
                self.queue.insert(usize::from(self.begun > 0).min(self.queue.len()), pong);
            }
            if self.queue.is_empty() {
                self.queue = VecDeque::new();
                return Flushed::All;
            }
            match self.write_once(duplex) {
                Ok(written) => self.written(written),
                Err(error) if would_block(&error) => {
                    self.blocked = true;
                    return Flushed::Blocked;
                }
                Err(_) => {
                    self.end();
                    return Flushed::Broken;
                }
            }
        }
    }

    fn write_once<D: Duplex>(&self, duplex: &D) -> io::Result<usize> {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let mut count = 0;
        for (slice, piece) in slices.iter_mut().zip(&self.queue) {
            let from = if count == 0 { self.begun } else { 0 };
            *slice = IoSlice::new(&piece[from..]);
            count += 1;
        }
        duplex.try_writev(&slices[..count])
    }

    fn written(&mut self, mut written: usize) {
        self.bytes -= written;
        while let Some(first) = self.queue.front() {
            let missing = first.len() - self.begun;
            if written < missing {
                self.begun += written;
                return;
            }
            written -= missing;
            self.begun = 0;
            self.queue.pop_front();
        }
    }
}

fn would_block(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Milliseconds since the first call.
fn monotonic_ms() -> u64 {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_millis() as u64
}

#[cfg(test)]
mod tests;
